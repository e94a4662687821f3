"""A thin client of any OpenAI-compatible chat API: https://platform.openai.com/docs/api-reference/chat

As in `json_api`, no text of a response reaches an error, only the field it lacks.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.evaluation import json_api
from antidote_ci.evaluation.json_api import ATTEMPTS
from antidote_ci.model.conversations import Conversation
from antidote_ci.model.generation import GeneratedAnswer

if TYPE_CHECKING:
    import httpx2

THREADS = 8
TIMEOUT = 600.0
"""Seconds for one request; a server that answers one at a time lets the others wait."""


@dataclass(frozen=True)
class ChatRequest:
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

    def stream_answers(self, questions: Sequence[ChatRequest]) -> Iterator[tuple[int, GeneratedAnswer]]:
        """The position of a question with its answer, a few requests at a time.

        Raises InfrastructureError at the first answer that cannot be had; those given before stand.
        """
        waiting: queue.SimpleQueue[tuple[int, ChatRequest]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, GeneratedAnswer | Exception]] = queue.SimpleQueue()
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
                    done.put((position, self._request(client, question)))
                except Exception as error:  # noqa: BLE001 - raised again by whoever waits
                    done.put((position, error))

        with json_api.open_client(self.address, self.key, self.timeout) as client:
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

    def _request(self, client: "httpx2.Client", question: ChatRequest) -> GeneratedAnswer:
        body = {
            "model": self.model,
            "messages": [asdict(message) for message in question.conversation],
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
            "seed": question.seed,
        }
        if question.temperature > 0:
            body["top_p"] = 1.0
        return _parse_answer(
            json_api.send_request(client, self.address, "POST", "/chat/completions", self.timeout, body), self.address
        )


def connect(address: str, key: str | None = None, model: str | None = None, *, timeout: float = TIMEOUT) -> ChatApi:
    """The API at `address`, which goes up to and with /v1; without `model`, the only one that it serves.

    Raises ConfigurationError for an address that cannot be used and for a choice of models, InfrastructureError when
    the server does not say which it has.
    """
    _check_address(address)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "the API key has characters that no key has", hint="give it without quotes or line ends"
        )
    if model is None:
        model = _only_model(list_models(address, key, timeout=timeout), address)
    return ChatApi(address, model, key, timeout)


def list_models(
    address: str, key: str | None = None, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> list[str]:
    """The names of what the server has. Raises InfrastructureError."""
    with json_api.open_client(address, key, timeout) as client:
        listing = json_api.send_request(client, address, "GET", "/models", timeout, attempts=attempts)
    found = [
        _require_field(entry, address, "data[].id", "id")
        for entry in _require_field(listing, address, "data", "data", list)
    ]
    # They are printed and recorded.
    return [name for name in found if name.isprintable() and len(name) <= 256]


def _check_address(address: str) -> None:
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


def _only_model(names: Sequence[str], address: str) -> str:
    named = json_api.redact_address(address)
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


def _parse_answer(response: object, address: str) -> GeneratedAnswer:
    choices = _require_field(response, address, "choices", "choices", list)
    choice = choices[0] if choices else None
    message = _require_field(choice, address, "choices[0].message", "message", dict)
    # A null content is an empty answer: all tokens went into reasoning. Some servers move a refusal beside it.
    if message.get("content", "") is None:
        message = {"content": message.get("refusal") or ""}
    return GeneratedAnswer(
        _require_field(message, address, "choices[0].message.content", "content"),
        _require_field(choice, address, "choices[0].finish_reason", "finish_reason") == "length",
    )


def _require_field(value: object, address: str, where: str, name: str, kind: type = str) -> Any:  # noqa: ANN401
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise json_api.format_error(json_api.redact_address(address), where)
    return found
