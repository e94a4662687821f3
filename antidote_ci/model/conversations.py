"""Conversations, and their text in a model's own chat template.

A chat template is untrusted code. transformers renders it in jinja2's sandbox, which hides Python's objects from it but
does not stop `9**(9**9)` or nested loops. So it is rendered in a fork with limits of time, memory and output.
"""

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Never, Self

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import Tokenizer
from antidote_ci.model.template_effects import find_template_effects
from antidote_ci.model.text_comparison import Chat, TextDecides, require_same_treatment
from antidote_ci.records import TemplateEffects
from antidote_ci.resource_limits import LimitExceeded, WorkFailed, run_limited

SECONDS = 3
"""Processor time for any number of conversations. Real templates take a millisecond for one."""
CHATS_PER_SECOND = 50
"""One more second for each so many conversations. A thousand real ones take a second."""
MEMORY = 1 << 30
"""Bytes that rendering may allocate."""
CHARACTERS = 100_000
"""The most that a template may add to one conversation. A long system prompt has ten thousand."""
Date = tuple[int, int, int]
FIXED_DATE: Date = (2024, 7, 26)
"""The date for templates that write the current one: answers and scores must not change from day to day.

`checkpoint.templates` refuses a template that does more with the date than print it.
"""
OTHER_DATE = (2031, 12, 5)
"""Shows whether a template writes the date. No part of it is one of FIXED_DATE."""
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
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    add_generation_prompt: bool = True,
    date: Date = FIXED_DATE,
) -> list[str]:
    """The text of each conversation in the model's own template. Raises the errors of `render_template`."""
    chats = [[dataclasses.asdict(message) for message in conversation] for conversation in conversations]
    return render_template(tokenizer, chats, add_generation_prompt, date=date)


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of rendered texts. No special tokens are added: the template writes them."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def render_template(
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Mapping[str, Any]]],
    add_generation_prompt: bool,
    seconds: int | None = None,
    date: Date = FIXED_DATE,
) -> list[str]:
    """Each chat in the tokenizer's template, rendered in a fork with limits.

    Raises ConfigurationError when the template raises; UnsafeCheckpoint when it exceeds a limit, reads attributes of
    Python objects or treats some prompts differently from others. The errors do not quote the template.
    """

    def render_all() -> list[str]:
        render = partial(_create_renderer(tokenizer, date), add_generation_prompt=add_generation_prompt)
        texts = [render(chat) for chat in chats]
        require_same_treatment(render, chats, texts)
        return texts

    texts: list[str] = _render_limited(tokenizer, render_all, seconds or time_limit(len(chats)))
    return texts


def describe_template(tokenizer: Tokenizer) -> TemplateEffects:
    """What the tokenizer's template does with what no measurement has: a system message, tools and further turns.

    Raises the errors of `render_template`.
    """

    def compare() -> dict[str, Any]:
        renderers = _create_renderer(tokenizer), _create_renderer(tokenizer, OTHER_DATE)
        tokens = [token for token in (*tokenizer.get_added_vocab(), tokenizer.bos_token or "") if token.strip()]
        return dataclasses.asdict(find_template_effects(*renderers, tokens))

    return TemplateEffects(**_render_limited(tokenizer, compare, SECONDS))


def time_limit(chats: int) -> int:
    """Seconds of processor time for so many conversations."""
    return SECONDS + chats // CHATS_PER_SECOND


def _render_limited(tokenizer: Tokenizer, work: Callable[[], object], limit: int) -> Any:  # noqa: ANN401 - JSON
    model = display_name(Path(tokenizer.name_or_path))
    try:
        return run_limited(work, limit, MEMORY)
    except WorkFailed as error:
        match error.kind:
            case TextDecides.__name__:
                raise UnsafeCheckpoint(
                    f"the chat template of {model} treats some prompts differently from others",
                    cause="the measured prompts could get another prompt than the same model's users",
                    hint=f"{HINT}: it may strip a message, and must not test, cut or change its words",
                ) from error
            case "SecurityError":
                raise UnsafeCheckpoint(
                    f"the chat template of {model} reads attributes of Python objects that no template needs",
                    cause="through them a template can run code, or change the conversation that is rendered",
                    hint=HINT,
                ) from error
        raise ConfigurationError(
            f"the chat template of {model} cannot be used: it raises {error.kind}",
            cause="the template has a mistake, or rejects a conversation with one user message",
            hint=HINT,
        ) from error
    except LimitExceeded as error:
        raise UnsafeCheckpoint(
            f"the chat template of {model} does not end within {limit} s, {MEMORY >> 20:,} MiB and "
            f"{CHARACTERS:,} characters",
            cause="real templates take a millisecond; this one may be meant to exhaust the machine",
            hint=HINT,
        ) from error


def _create_renderer(tokenizer: Tokenizer, date: Date = FIXED_DATE) -> Callable[..., str]:
    """A function that renders one chat with the given options of `apply_chat_template`. Call it in a fork only."""

    def render(chat: Chat, **options: object) -> str:
        _restrict_rendering(date)
        try:
            text: str = tokenizer.apply_chat_template(list(chat), tokenize=False, **options)
        except RecursionError:
            raise LimitExceeded from None
        if len(text) > len(json.dumps([*chat, options])) + CHARACTERS:
            raise LimitExceeded
        return text

    return render


def _restrict_rendering(date: Date) -> None:
    from jinja2.sandbox import SandboxedEnvironment
    from transformers.utils import chat_template_utils

    _FixedDate.today_is = date
    chat_template_utils.datetime = _FixedDate
    # By default an unsafe attribute is undefined, and only templates that use it any further raise an error.
    SandboxedEnvironment.unsafe_undefined = _refuse_access  # type: ignore[method-assign, assignment]


class _FixedDate(datetime.datetime):
    today_is = FIXED_DATE

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls(*cls.today_is, tzinfo=tz)


def _refuse_access(_environment: object, _object: object, _attribute: str) -> Never:
    from jinja2.exceptions import SecurityError

    raise SecurityError
