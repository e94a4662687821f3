"""A thin client of any OpenAI-compatible chat API: https://platform.openai.com/docs/api-reference/chat

What a server sends is hostile: no text of a response reaches an error, only its status or the field it lacks.
"""

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model.generation import Answer, Conversation
from antidote_ci.records import Progress

if TYPE_CHECKING:
    import httpx2

Report = Callable[[Progress], None]

THREADS = 8
ATTEMPTS = 4
RETRIED = (429, 500, 502, 503, 504)
LONGEST_PAUSE = 60.0
LARGEST_RESPONSE = 16 * 2**20
TIMEOUT = 600.0
"""Seconds for one request; a server that answers one at a time lets the others wait."""

CAUSES = {
    400: ("it does not serve that model, or the prompt is longer than the model's context", "check the model's name"),
    401: ("it wants a key, or another one", "check the API key"),
    403: ("the key may not use this model", "check the API key"),
    404: ("the path or the model does not exist there", "the address goes up to and with /v1; check the model's name"),
    422: ("it does not know a field of the request", "see the server's log"),
    429: ("too many requests for this key or server", "try later"),
}


@dataclass(frozen=True)
class Question:
    """One answer to ask for. Temperature 0 is greedy."""

    conversation: Conversation
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class ChatApi:
    """One model of one server."""

    address: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT

    def answers(
        self,
        conversations: Sequence[Conversation],
        max_tokens: int,
        report: Report,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Answer]:
        """One answer a conversation, in order. Raises InfrastructureError at the first that cannot be had."""
        asked = [Question(each, max_tokens, temperature, seed) for each in conversations]
        found: dict[int, Answer] = {}
        for position, answer in self.as_they_come(asked):
            found[position] = answer
            report(Progress("answers", len(found), len(asked)))
        return [found[position] for position in range(len(asked))]

    def as_they_come(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The position of a question with its answer, a few requests at a time.

        Raises InfrastructureError at the first answer that cannot be had; those given before stand.
        """
        waiting: queue.SimpleQueue[tuple[int, Question]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()
        for numbered in enumerate(questions):
            waiting.put(numbered)
        left = threading.Event()

        def work(client: "httpx2.Client") -> None:
            while not left.is_set():
                try:
                    position, question = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((position, self._ask(client, question)))
                except Exception as error:  # noqa: BLE001 - raised again by whoever waits
                    done.put((position, error))

        with _client(self.address, self.key, self.timeout) as client:
            # Not an executor: its threads are waited for, and a Ctrl-C would then last as long as the slowest request.
            for _ in range(min(THREADS, len(questions))):
                threading.Thread(target=work, args=(client,), daemon=True).start()
            try:
                for _ in questions:
                    position, answer = done.get()
                    if isinstance(answer, Exception):
                        raise answer
                    yield position, answer
            finally:
                left.set()

    def _ask(self, client: "httpx2.Client", question: Question) -> Answer:
        body = {
            "model": self.model,
            "messages": [asdict(message) for message in question.conversation],
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
            "seed": question.seed,
        }
        if question.temperature > 0:
            body["top_p"] = 1.0
        return _answer(_json(client, self.address, "POST", "/chat/completions", self.timeout, body), self.address)


def connect(address: str, key: str | None = None, model: str | None = None, *, timeout: float = TIMEOUT) -> ChatApi:
    """The API at `address`, which goes up to and with /v1; without `model`, the only one that it serves.

    Raises ConfigurationError for an address that cannot be used and for a choice of models, InfrastructureError when
    the server does not say which it has.
    """
    _check(address)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "the API key has characters that no key has", hint="give it without quotes or line ends"
        )
    if model is None:
        model = _only(models(address, key, timeout=timeout), address)
    return ChatApi(address, model, key, timeout)


def models(address: str, key: str | None = None, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS) -> list[str]:
    """The names of what the server has. Raises InfrastructureError."""
    with _client(address, key, timeout) as client:
        listing = _json(client, address, "GET", "/models", timeout, attempts=attempts)
    found = [_field(entry, address, "data[].id", "id") for entry in _field(listing, address, "data", "data", list)]
    # They are printed and recorded.
    return [name for name in found if name.isprintable() and len(name) <= 256]


def without_secrets(address: str) -> str:
    """The address without user, password, query and fragment."""
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _check(address: str) -> None:
    from urllib.parse import urlsplit

    example = "it looks like http://127.0.0.1:8000/v1"
    try:
        parts = urlsplit(address)
        fit = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fit = False
    if not fit:
        shown = "" if set(address) & set("@?#") else f": {address}"
        raise ConfigurationError(f"not an address of a server{shown}", hint=example)
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"the address of {parts.hostname} has a user or a password in it",
            cause="addresses are printed and recorded",
            hint="give the key by itself",
        )


def _only(names: Sequence[str], address: str) -> str:
    named = without_secrets(address)
    if not names:
        raise InfrastructureError(
            f"{named} names no model",
            cause="some servers list only what they downloaded",
            hint="name the model that it serves",
        )
    if len(names) > 1:
        raise ConfigurationError(
            f"{named} serves {len(names)} models", hint=f"name one of them: {', '.join(names[:5])}"
        )
    return names[0]


def _client(address: str, key: str | None, timeout: float) -> "httpx2.Client":
    from urllib.parse import urlsplit

    import httpx2

    return httpx2.Client(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx2.Timeout(timeout, connect=min(timeout, 30)),
        follow_redirects=False,
        # A proxy of the surroundings is for other machines.
        trust_env=urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1"),
    )


def _json(
    client: "httpx2.Client",
    address: str,
    method: str,
    path: str,
    timeout: float,
    body: Mapping[str, object] | None = None,
    attempts: int = ATTEMPTS,
) -> Any:  # noqa: ANN401 - any JSON
    """The response's body. Asks again only where another answer can be expected."""
    import httpx2

    named = without_secrets(address)
    for attempt in range(attempts):
        try:
            response, content = _received(client, address, method, path, timeout, body)
        except httpx2.TimeoutException:
            raise InfrastructureError(
                f"{named} did not answer within {timeout:g} s",
                cause="it is overloaded, or too slow for this many tokens",
                hint="fewer tokens, or a faster server",
            ) from None
        except httpx2.TransportError as error:
            failure = InfrastructureError(
                f"{named} cannot be reached ({type(error).__name__})",
                cause="no server listens there, or it broke off",
                hint=f"is it up? curl {named}/models",
            )
            pause = None
        except httpx2.RequestError:
            raise _other_format(named, "a readable body") from None
        else:
            if response.status_code == 200:
                try:
                    return json.loads(content)
                except (ValueError, RecursionError):
                    raise _other_format(named, "JSON") from None
            failure = _refusal(named, response.status_code)
            if response.status_code not in RETRIED:
                raise failure
            pause = _retry_after(response.headers.get("retry-after"))
        if attempt + 1 < attempts:
            jitter = random.SystemRandom().uniform(0, 0.5 * 2**attempt)
            time.sleep(min(LONGEST_PAUSE, jitter if pause is None else pause + jitter / 4))
    raise failure


def _received(
    client: "httpx2.Client",
    address: str,
    method: str,
    path: str,
    timeout: float,
    body: Mapping[str, object] | None,
) -> tuple["httpx2.Response", bytes]:
    import httpx2

    url = httpx2.URL(address)
    deadline = time.monotonic() + timeout
    content = bytearray()
    with client.stream(method, url.copy_with(path=url.path.rstrip("/") + path), json=body) as response:
        for chunk in response.iter_bytes():
            content += chunk
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout("the response drips in")
            if len(content) > LARGEST_RESPONSE:
                raise httpx2.DecodingError("the response does not end")
    return response, bytes(content)


def _retry_after(value: str | None) -> float | None:
    """Seconds; the header's other form, a date, is rare and treated as none."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


def _refusal(named: str, status: int) -> InfrastructureError:
    cause, hint = CAUSES.get(status, ("it failed by itself", "see the server's log"))
    if 300 <= status < 400:
        cause, hint = "redirects are not followed", "give the address it leads to"
    return InfrastructureError(f"{named} answered with status {status}", cause=cause, hint=hint)


def _answer(response: object, address: str) -> Answer:
    choices = _field(response, address, "choices", "choices", list)
    choice = choices[0] if choices else None
    message = _field(choice, address, "choices[0].message", "message", dict)
    # A null content is an empty answer: all tokens went into reasoning. Some servers move a refusal beside it.
    if message.get("content", "") is None:
        message = {"content": message.get("refusal") or ""}
    return Answer(
        _field(message, address, "choices[0].message.content", "content"),
        _field(choice, address, "choices[0].finish_reason", "finish_reason") == "length",
    )


def _field(value: object, address: str, where: str, name: str, kind: type = str) -> Any:  # noqa: ANN401
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise _other_format(without_secrets(address), where)
    return found


def _other_format(named: str, lacked: str) -> InfrastructureError:
    return InfrastructureError(
        f"{named} does not answer as an OpenAI-compatible chat API: the response lacks {lacked}",
        cause="the address leads elsewhere: it goes up to and with /v1",
        hint=f"curl {named}/models",
    )
