"""The chat API client against real servers on loopback, both working and failing."""

import logging
import socket
import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as some

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation import chat_api
from antidote_ci.evaluation.chat_api import ChatApi, ChatRequest, connect, redact_address
from antidote_ci.model.conversations import Message, single_turn
from antidote_ci.model.generation import GeneratedAnswer
from tests.evaluation.small_server import SmallServer

KEY = "sk-secretOfTheOwner"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without long pauses."""
    monkeypatch.setattr(chat_api, "MAX_PAUSE", 0.01)


def ask(behaviour: str, count: int = 1, timeout: float = 30.0) -> list[GeneratedAnswer]:
    with SmallServer(behaviour) as server:
        api = ChatApi(server.address, "small", KEY, timeout)
        return answers(api, [f"Tell me {n}" for n in range(count)])


def answers(api: ChatApi, prompts: list[str]) -> list[GeneratedAnswer]:
    """Return the answers in the order of the prompts."""
    return [
        answer for _, answer in sorted(api.stream_answers([ChatRequest(single_turn(prompt), 16) for prompt in prompts]))
    ]


def test_answers_have_the_index_of_their_request() -> None:
    prompts = [str(n * 37 % 101) for n in range(50)]
    questions = [ChatRequest(single_turn(prompt), 16, temperature=1, seed=7) for prompt in prompts]
    with SmallServer() as server:
        answers_by_index = dict(connect(server.address + "/", KEY).stream_answers(questions))
    assert len(answers_by_index) == len(prompts)
    assert all(answers_by_index[position].text == f"{prompt} / 16 / 1 / 7" for position, prompt in enumerate(prompts))
    assert not any(answer.truncated for answer in answers_by_index.values())
    assert {headers["Authorization"] for headers in server.headers_seen} == {f"Bearer {KEY}"}


def test_request_body() -> None:
    conversation = [Message("system", "Be brief."), Message("user", "Hello")]
    with SmallServer() as server:
        api = connect(server.address, model="another")
        list(api.stream_answers([ChatRequest(conversation, 16)]))
        list(api.stream_answers([ChatRequest(conversation, 16, temperature=1, seed=3)]))
    greedy, drawn = server.asked
    assert greedy["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert (greedy["model"], greedy["temperature"], greedy["max_tokens"]) == ("another", 0, 16)
    # Without it the server uses the top_p of the repository's generation_config.
    assert (drawn["temperature"], drawn["seed"], drawn["top_p"]) == (1, 3, 1)
    assert "Authorization" not in server.headers_seen[0]


def test_no_requests_give_no_answers() -> None:
    assert ask("fine", 0) == []


@pytest.mark.parametrize("behaviour", ["busy", "failing", "reset"])
def test_transient_failures_are_retried(behaviour: str) -> None:
    assert [answer.text for answer in ask(behaviour, 3)] == [f"Tell me {n} / 16 / 0 / 0" for n in range(3)]


def test_finish_reason_length_is_truncation() -> None:
    assert [answer.truncated for answer in ask("length")] == [True]


def test_null_content_is_an_empty_answer_or_the_refusal() -> None:
    assert ask("null content") == [GeneratedAnswer("", False)]
    assert ask("refusal") == [GeneratedAnswer("I cannot do that.", False)]


def test_half_a_character_is_replaced() -> None:
    """It cannot be sent to a judge, nor written to a file."""
    assert ask("half a character") == [GeneratedAnswer("ok?", False, "why?")]


@pytest.mark.parametrize(
    ("behaviour", "lacks"),
    [
        ("no content", "choices[0].message.content"),
        ("no finish", "choices[0].finish_reason"),
        ("no message", "choices[0].message"),
        ("no choices", "choices[0].message"),
        ("a list", "choices"),
    ],
)
def test_invalid_response_error_names_the_missing_field(behaviour: str, lacks: str) -> None:
    with pytest.raises(InfrastructureError, match="OpenAI-compatible") as raised:
        ask(behaviour)
    assert str(raised.value).endswith(f"lacks {lacks}")
    assert "Tell me" not in repr(raised.value.__dict__)


@pytest.mark.parametrize(("status", "word"), [(400, "model"), (401, "key"), (404, "/v1"), (500, "log"), (501, "log")])
def test_error_contains_the_status_and_no_response_text(
    status: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InfrastructureError, match=f"status {status}") as raised:
        ask(str(status))
    error = raised.value
    message = f"{error.what} {error.cause} {error.hint}"
    assert word in message
    assert "127.0.0.1" in message
    assert not any(private in message + caplog.text for private in (KEY, "PRIVATE", "Tell me"))


def test_permanent_failures_are_not_retried() -> None:
    for status, requests in ((400, 1), (501, 1), (500, 4)):
        with SmallServer(str(status)) as server:
            with pytest.raises(InfrastructureError):
                answers(connect(server.address, model="small"), ["Hello"])
            assert len(server.asked) == requests, status


def test_redirects_are_not_followed() -> None:
    with pytest.raises(InfrastructureError, match="status 307") as raised:
        ask("redirect")
    assert "redirects" in str(raised.value.cause)


@pytest.mark.parametrize("behaviour", ["slow", "drip", "endless 103", "slow headers"])
def test_slow_server_reaches_the_time_limit(behaviour: str) -> None:
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"did not answer within 0\.3 s"):
        ask(behaviour, timeout=0.3)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("long", "sent more than"), ("longer than its tokens", "characters for 16 tokens")],
)
def test_answer_that_max_tokens_cannot_hold_is_refused(behaviour: str, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match=message) as raised:
        ask(behaviour)
    assert "word word" not in repr(raised.value.__dict__)
    assert time.monotonic() - started < 5


def test_server_that_has_ended_is_not_waited_for() -> None:
    started = time.monotonic()
    with SmallServer("slow") as server, pytest.raises(InfrastructureError, match="has ended"):
        answers(connect(server.address, model="small", is_running=lambda: False), ["Hello"])
    assert time.monotonic() - started < 3


def test_attempts_share_the_time_limit() -> None:
    """The server accepts connections and closes them shortly before the limit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    time.sleep(0.4)
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        api = ChatApi(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "small", timeout=0.5)
        # With a limit for each attempt, the last one would fail because the connection is closed.
        with pytest.raises(InfrastructureError, match="did not answer within"):
            answers(api, ["Hello"])


@pytest.mark.parametrize("wait", ["5", "9" * 50])
def test_requested_wait_beyond_the_time_limit_is_not_taken(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_api, "MAX_PAUSE", 60.0)
    started = time.monotonic()
    with SmallServer("busy") as server:
        server.wait = wait
        with pytest.raises(InfrastructureError, match="status 429"):
            answers(ChatApi(server.address, "small", timeout=3), ["Hello"])
    assert time.monotonic() - started < 3


def test_unreachable_server() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(InfrastructureError, match="cannot be reached") as raised:
            connect(f"http://127.0.0.1:{reserved.getsockname()[1]}/v1?key={KEY}", KEY)
    assert KEY not in repr(raised.value.__dict__)
    assert "curl" in str(raised.value.hint)


def test_html_response_is_refused() -> None:
    with SmallServer("html") as server, pytest.raises(InfrastructureError, match="lacks JSON"):
        connect(server.address)


def test_model_is_named_or_the_only_one() -> None:
    with SmallServer(models=("one",)) as server:
        assert connect(server.address).model == "one"
    with SmallServer(models=("one", "two")) as server:
        assert connect(server.address, model="two").model == "two"
        with pytest.raises(ConfigurationError, match="serves 2 models") as raised:
            connect(server.address)
        assert "one, two" in str(raised.value.hint)
    with SmallServer(models=()) as server, pytest.raises(InfrastructureError, match="lists no models"):
        connect(server.address)
    with SmallServer(models=("\x1b[31mred",)) as server, pytest.raises(InfrastructureError, match="lists no models"):
        connect(server.address)


@pytest.mark.parametrize(
    "address", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", "http://[::1/v1"]
)
def test_invalid_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="not an address") as raised:
        connect(address, model="small")
    assert "http://127.0.0.1:8000/v1" in str(raised.value.hint)


@pytest.mark.parametrize("address", [f"https://user:{KEY}@host/v1", f"https://{KEY}@host/v1", f"ftp://u:{KEY}@host/v1"])
def test_credentials_in_the_address_are_refused_and_hidden(address: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        connect(address, model="small")
    assert KEY not in repr(raised.value.__dict__)


@given(some.text("abcXYZ019-._~", min_size=1), some.text("abcXYZ019-._~", min_size=1))
def test_redacted_address_has_no_secrets(path: str, secret: str) -> None:
    shown = redact_address(f"https://{secret}:{secret}@host:1/{path}?key={secret}#{secret}")
    assert shown == f"https://host:1/{path}"


def test_invalid_key_is_not_shown() -> None:
    with SmallServer() as server, pytest.raises(ConfigurationError, match="characters") as raised:
        connect(server.address, f"{KEY}\n")
    assert KEY not in repr(raised.value.__dict__)
    assert KEY not in repr(ChatApi("http://host/v1", "small", KEY))


def test_interrupt_does_not_wait_for_requests() -> None:
    with SmallServer() as server:
        started = time.monotonic()
        questions = [ChatRequest(single_turn(prompt), 16) for prompt in ["Hello", *["wait"] * 7]]
        with suppress(KeyboardInterrupt):
            for _ in connect(server.address).stream_answers(questions):
                raise KeyboardInterrupt
        assert time.monotonic() - started < 3


def test_proxy_is_not_used_for_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert len(ask("fine")) == 1
