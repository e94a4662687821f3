"""Conversations, and their text in a model's own chat template.

A chat template is untrusted code. transformers renders it in jinja2's sandbox, which hides Python's objects from it but
does not stop `9**(9**9)` or nested loops. So it is rendered in a fork with limits of time, memory and output.
"""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never, Self

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import Tokenizer
from antidote_ci.sandbox.limits import LimitExceeded, WorkFailed, run_limited

SECONDS = 3
"""Processor time for any number of conversations. Real templates take a millisecond for one."""
CHATS_PER_SECOND = 50
"""One more second for each so many conversations. A thousand real ones take a second."""
MEMORY = 1 << 30
"""Bytes that rendering may allocate."""
CHARACTERS = 100_000
"""The most that a template may add to one conversation. A long system prompt has ten thousand."""
FIXED_DATE = (2024, 7, 26)
"""The date for templates that write the current one: answers and scores must not change from day to day."""
HINT = "correct chat_template.jinja, or chat_template in tokenizer_config.json"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str | list[dict[str, str]]
    """Text, or parts such as `{"type": "text", "text": ...}`, which the templates of some judge models need."""


Conversation = list[Message]


def single_turn(prompt: str) -> Conversation:
    """A conversation with one user message."""
    return [Message("user", prompt)]


def render_conversations(
    tokenizer: Tokenizer, conversations: Sequence[Conversation], add_generation_prompt: bool = True
) -> list[str]:
    """The text of each conversation in the model's own template. Raises the errors of `render_template`."""
    chats = [[dataclasses.asdict(message) for message in conversation] for conversation in conversations]
    return render_template(tokenizer, chats, add_generation_prompt)


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of rendered texts. No special tokens are added: the template writes them."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def render_template(
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Mapping[str, Any]]],
    add_generation_prompt: bool,
    seconds: int | None = None,
) -> list[str]:
    """Each chat in the tokenizer's template, rendered in a fork with limits.

    Raises ConfigurationError when the template raises; UnsafeCheckpoint when it exceeds a limit or reads attributes of
    Python objects. The errors do not quote the template.
    """
    limit = seconds or time_limit(len(chats))
    model = display_name(Path(tokenizer.name_or_path))
    try:
        texts: list[str] = run_limited(lambda: _render(tokenizer, chats, add_generation_prompt), limit, MEMORY)
    except WorkFailed as error:
        if error.kind != "SecurityError":
            raise ConfigurationError(
                f"the chat template of {model} cannot be used: it raises {error.kind}",
                cause="the template has a mistake, or rejects a conversation with one user message",
                hint=HINT,
            ) from error
        raise UnsafeCheckpoint(
            f"the chat template of {model} reads attributes of Python objects that no template needs",
            cause="through them a template can run code, or change the conversation that is rendered",
            hint=HINT,
        ) from error
    except LimitExceeded as error:
        raise UnsafeCheckpoint(
            f"the chat template of {model} does not end within {limit} s, {MEMORY >> 20:,} MiB and "
            f"{CHARACTERS:,} characters",
            cause="real templates take a millisecond; this one may be meant to exhaust the machine",
            hint=HINT,
        ) from error
    return texts


def time_limit(chats: int) -> int:
    """Seconds of processor time for so many conversations."""
    return SECONDS + chats // CHATS_PER_SECOND


def _render(
    tokenizer: Tokenizer, chats: Sequence[Sequence[Mapping[str, Any]]], add_generation_prompt: bool
) -> list[str]:
    from jinja2.sandbox import SandboxedEnvironment
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = _FixedDate
    # By default an unsafe attribute is undefined, and only templates that use it any further raise an error.
    SandboxedEnvironment.unsafe_undefined = _refuse_access  # type: ignore[method-assign, assignment]
    texts = []
    for chat in chats:
        try:
            text = tokenizer.apply_chat_template(
                list(chat), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except RecursionError:
            raise LimitExceeded from None
        if len(text) > len(json.dumps(list(chat))) + CHARACTERS:
            raise LimitExceeded
        texts.append(text)
    return texts


class _FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls(*FIXED_DATE, tzinfo=tz)


def _refuse_access(_environment: object, _object: object, _attribute: str) -> Never:
    from jinja2.exceptions import SecurityError

    raise SecurityError
