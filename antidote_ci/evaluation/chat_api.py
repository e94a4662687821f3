"""A client for OpenAI-compatible chat APIs: https://platform.openai.com/docs/api-reference/chat

Responses are untrusted. Error messages contain the status or the name of a missing field, never text of a response.
"""

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from antidote_ci import http_limits
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model.conversations import Conversation
from antidote_ci.model.generation import GeneratedAnswer
from antidote_ci.records import Scalar

if TYPE_CHECKING:
    import httpx2

THREADS = 8
TIMEOUT = 600.0
"""Seconds for one request, including the time that it waits behind other requests on the server."""
ATTEMPTS = 4
RETRIED_STATUSES = (429, 500, 502, 503, 504)
MAX_PAUSE = 60.0
MAX_RESPONSE_BYTES = 16 * 2**20
MAX_CHARACTERS_PER_TOKEN = 256
"""Twice the longest tokens of published tokenizers, which are runs of spaces or of lines."""
MAX_BYTES_PER_CHARACTER = 12
"""JSON may escape a character as two surrogates."""
MAX_OVERHEAD_BYTES = 2**20
"""For everything in a response but its answer."""
POLL_SECONDS = 0.5

STATUS_CAUSES = {
    400: (
        "the model is unknown, the prompt exceeds its context length, or chat_template_kwargs is not supported",
        "check the name of the model",
    ),
    401: ("the API key is missing or invalid", "check the API key"),
    403: ("the API key does not give access to this model", "check the API key"),
    404: ("the path or the model does not exist", "the address must end in /v1; check the name of the model"),
    422: ("the server rejects a field of the request", "read the log of the server"),
    429: ("the rate limit was reached", "try again later"),
}


@dataclass(frozen=True)
class ChatRequest:
    """One request for an answer. Temperature 0 means greedy decoding."""

    conversation: Conversation
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    template_arguments: dict[str, Scalar] = field(default_factory=dict)
    """Sent as `chat_template_kwargs`, which vLLM, SGLang and llama.cpp accept."""


@dataclass(frozen=True)
class ChatApi:
    """One model on one server."""

    address: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    is_running: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)
    """Whether the server can still answer: False ends waiting and retries at once."""

    def stream_answers(self, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, GeneratedAnswer]]:
        """Yield (index of the request, answer) as answers arrive, with up to THREADS requests in parallel.

        Raises InfrastructureError when a request fails; answers that were yielded before remain valid.
        """
        waiting: queue.SimpleQueue[tuple[int, ChatRequest]] = queue.SimpleQueue()
        results: queue.SimpleQueue[tuple[int, GeneratedAnswer | Exception]] = queue.SimpleQueue()
        for item in enumerate(requests):
            waiting.put(item)
        stopped = threading.Event()

        def work(client: "httpx2.Client") -> None:
            while not stopped.is_set():
                try:
                    index, request = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    results.put((index, self._request_answer(client, request)))
                except Exception as error:  # noqa: BLE001 - raised again in the calling thread
                    results.put((index, error))

        with _open_client(self.address, self.key, self.timeout) as client:
            # An executor joins its threads: Ctrl-C would then wait for the slowest request.
            for _ in range(min(THREADS, len(requests))):
                threading.Thread(target=work, args=(client,), daemon=True).start()
            try:
                for _ in requests:
                    index, result = self._wait_for_result(results)
                    if isinstance(result, Exception):
                        raise result
                    yield index, result
            finally:
                stopped.set()

    def _wait_for_result(
        self, results: "queue.SimpleQueue[tuple[int, GeneratedAnswer | Exception]]"
    ) -> tuple[int, GeneratedAnswer | Exception]:
        while True:
            try:
                return results.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if not self.is_running():
                    raise InfrastructureError(
                        f"{redact_address(self.address)} has ended", hint="read the log of the server"
                    ) from None

    def _request_answer(self, client: "httpx2.Client", request: ChatRequest) -> GeneratedAnswer:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [asdict(message) for message in request.conversation],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
        }
        if request.temperature > 0:
            body["top_p"] = 1.0
        if request.template_arguments:
            body["chat_template_kwargs"] = request.template_arguments
        max_characters = MAX_CHARACTERS_PER_TOKEN * request.max_tokens
        response = _send_request(
            client,
            self.address,
            "POST",
            "/chat/completions",
            self.timeout,
            body,
            max_bytes=min(MAX_RESPONSE_BYTES, MAX_OVERHEAD_BYTES + MAX_BYTES_PER_CHARACTER * max_characters),
        )
        answer = _parse_answer(response, self.address)
        if (characters := len(answer.thought) + len(answer.text)) > max_characters:
            raise InfrastructureError(
                f"{redact_address(self.address)} sent {characters:,} characters for {request.max_tokens} tokens",
                cause="it ignores max_tokens",
                hint="use a server that limits its answers",
            )
        return answer


def connect(
    address: str,
    key: str | None = None,
    model: str | None = None,
    *,
    is_running: Callable[[], bool] = lambda: True,
) -> ChatApi:
    """Return the API at `address`, which ends in /v1. Without `model`, use the only model that the server lists.

    Raises ConfigurationError for an invalid address or key and when the server lists several models, and
    InfrastructureError when its list of models cannot be read.
    """
    _check_address(address)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "the API key contains characters that are not printable ASCII", hint="remove quotes and line ends"
        )
    if model is None:
        model = _only_model(list_models(address, key), address)
    return ChatApi(address, model, key, is_running=is_running)


def list_models(
    address: str, key: str | None = None, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> list[str]:
    """Return the names of the models on the server. Raises InfrastructureError."""
    with _open_client(address, key, timeout) as client:
        response = _send_request(client, address, "GET", "/models", timeout, attempts=attempts)
    entries = _require_field(response, address, "data", list)
    names = [_require_field(entry, address, "data[].id") for entry in entries]
    # Names are printed and recorded.
    return [name for name in names if name.isprintable() and len(name) <= 256]


def redact_address(address: str) -> str:
    """Return the address without user, password, query and fragment."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        shown = "" if set(address) & set("@?#") else f": {address}"
        raise ConfigurationError(
            f"not an address of a server{shown}", hint="an address looks like http://127.0.0.1:8000/v1"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"the address of {parts.hostname} contains a user name or a password",
            cause="addresses are printed and recorded",
            hint="pass the API key in its environment variable",
        )


def _only_model(names: Sequence[str], address: str) -> str:
    server = redact_address(address)
    if not names:
        raise InfrastructureError(
            f"{server} lists no models",
            cause="some servers list only models that they downloaded",
            hint="name the model explicitly",
        )
    if len(names) > 1:
        raise ConfigurationError(f"{server} serves {len(names)} models", hint=f"name one: {', '.join(names[:5])}")
    return names[0]


def _open_client(address: str, key: str | None, timeout: float) -> "httpx2.Client":
    import httpx2

    return http_limits.create_client(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx2.Timeout(timeout, connect=min(timeout, 30)),
        follow_redirects=False,
        # Proxies from the environment do not apply to this machine.
        trust_env=urlsplit(address).hostname not in ("127.0.0.1", "localhost", "::1"),
    )


def _send_request(
    client: "httpx2.Client",
    address: str,
    method: str,
    path: str,
    timeout: float,
    body: Mapping[str, object] | None = None,
    *,
    attempts: int = ATTEMPTS,
    max_bytes: int = MAX_RESPONSE_BYTES,
) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON body of the response, with retries after transient failures. Raises InfrastructureError.

    `timeout` limits all attempts together.
    """
    import httpx2

    server = redact_address(address)
    deadline = time.monotonic() + timeout
    for attempt in range(attempts):
        pause = None
        try:
            with http_limits.limit_waiting(deadline - time.monotonic()):
                response, content = _send_once(client, address, method, path, body, max_bytes)
        except httpx2.ConnectTimeout:
            failure = _unreachable_error(
                server, "no connection in time", "a firewall drops the request, or the address is wrong"
            )
        except httpx2.TimeoutException:
            raise InfrastructureError(
                f"{server} did not answer within {timeout:g} s",
                cause="it is overloaded, or too slow for this many tokens",
                hint="lower max_new_tokens, or use a faster server",
            ) from None
        except httpx2.TransportError as error:
            failure = _unreachable_error(
                server, type(error).__name__, "no server listens there, or it closed the connection"
            )
        except httpx2.RequestError:
            raise _format_error(server, "a readable body") from None
        else:
            if response.status_code == 200:
                try:
                    return json.loads(content)
                except (ValueError, RecursionError):
                    raise _format_error(server, "JSON") from None
            failure = _status_error(server, response.status_code)
            if response.status_code not in RETRIED_STATUSES:
                raise failure
            # The other form of this header is a date; servers rarely send it.
            value = response.headers.get("retry-after", "")
            pause = float(value) if value.isascii() and value.isdigit() else None
        jitter = random.SystemRandom().uniform(0, 0.5 * 2**attempt)
        pause = min(MAX_PAUSE, jitter if pause is None else pause + jitter / 4)
        if attempt + 1 == attempts or time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
    raise failure


def _send_once(
    client: "httpx2.Client", address: str, method: str, path: str, body: Mapping[str, object] | None, max_bytes: int
) -> tuple["httpx2.Response", bytes]:
    import httpx2

    url = httpx2.URL(address)
    content = bytearray()
    with client.stream(method, url.copy_with(path=url.path.rstrip("/") + path), json=body) as response:
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > max_bytes:
                raise InfrastructureError(
                    f"{redact_address(address)} sent more than {max_bytes:,} bytes",
                    cause="it ignores max_tokens, or it is not an OpenAI-compatible chat API",
                    hint="use a server that limits its answers",
                )
    return response, bytes(content)


def _unreachable_error(server: str, detail: str, cause: str) -> InfrastructureError:
    return InfrastructureError(
        f"{server} cannot be reached ({detail})", cause=cause, hint=f"check that it is running: curl {server}/models"
    )


def _status_error(server: str, status: int) -> InfrastructureError:
    cause, hint = STATUS_CAUSES.get(status, ("the server failed", "read the log of the server"))
    if 300 <= status < 400:
        cause, hint = "redirects are not followed", "use the address that it redirects to"
    return InfrastructureError(f"{server} answered with status {status}", cause=cause, hint=hint)


def _format_error(server: str, field_name: str) -> InfrastructureError:
    return InfrastructureError(
        f"{server} is not an OpenAI-compatible chat API: the response lacks {field_name}",
        cause="the address is wrong: it must end in /v1",
        hint=f"curl {server}/models",
    )


def _parse_answer(response: object, address: str) -> GeneratedAnswer:
    choices = _require_field(response, address, "choices", list)
    choice = choices[0] if choices else None
    message = _require_field(choice, address, "choices[0].message", dict)
    # The content is null when all tokens went into reasoning, and when a server reports a refusal in its own field.
    if message.get("content", "") is None:
        message = message | {"content": message.get("refusal") or ""}
    text: str = _require_field(message, address, "choices[0].message.content")
    is_cut = _require_field(choice, address, "choices[0].finish_reason") == "length"
    # The thought, where the server separates it: vLLM renamed the first of these fields to the second.
    thoughts = [message.get(name) for name in ("reasoning_content", "reasoning")]
    thought = next((thought for thought in thoughts if isinstance(thought, str) and thought.strip()), "")
    # Half of a surrogate pair cannot be encoded: not for a judge, nor in a file.
    text, thought = (value.encode("utf-8", "replace").decode() for value in (text, thought))
    return GeneratedAnswer(text, is_cut, thought, unfinished=bool(thought) and not text.strip())


def _require_field(value: object, address: str, path: str, kind: type = str) -> Any:  # noqa: ANN401
    """Return the last field of `path` in `value`. Raises InfrastructureError, naming the path, when it is missing."""
    content = value.get(path.rpartition(".")[2]) if isinstance(value, dict) else None
    if not isinstance(content, kind):
        raise _format_error(redact_address(address), path)
    return content
