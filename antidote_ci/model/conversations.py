"""Conversations, and their text in a model's own chat template.

A chat template is untrusted code. transformers renders it in jinja2's sandbox, which hides Python's objects from it but
does not stop `9**(9**9)` or nested loops. So it is rendered in a fork with limits of time, memory and output.
"""

import dataclasses
import datetime
import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Never, Self

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.templates import find_arguments
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import Tokenizer
from antidote_ci.model.template_effects import find_template_effects
from antidote_ci.model.text_comparison import Chat, TextDecides, require_same_treatment
from antidote_ci.model.thoughts import THINK, ThoughtMarks, find_marks, find_mode
from antidote_ci.records import ChatSettings, Scalar, TemplateEffects
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
TemplateArguments = Mapping[str, Scalar]
NO_SETTINGS = ChatSettings()


def single_turn(prompt: str, system_prompt: str | None = None) -> Conversation:
    """A conversation with one user message, after a system message if there is one."""
    system = [] if system_prompt is None else [Message("system", system_prompt)]
    return [*system, Message("user", prompt)]


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[str], settings: ChatSettings) -> list[list[int]]:
    """Token ids of each prompt up to its answer. Raises the errors of `render_conversations`."""
    conversations = [single_turn(prompt, settings.system_prompt) for prompt in prompts]
    arguments = settings.template_arguments
    return encode_texts(tokenizer, render_conversations(tokenizer, conversations, template_arguments=arguments))


def render_conversations(
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    add_generation_prompt: bool = True,
    date: Date = FIXED_DATE,
    template_arguments: TemplateArguments = MappingProxyType({}),
    seconds: int | None = None,
) -> list[str]:
    """The text of each conversation in the model's own template, rendered in a fork with limits.

    Raises ConfigurationError when the template raises or does not read an argument; UnsafeCheckpoint when it exceeds a
    limit, reads attributes of Python objects or treats some prompts differently from others. The errors do not quote
    the template.
    """
    _require_arguments(tokenizer, template_arguments)
    chats = [[dataclasses.asdict(message) for message in conversation] for conversation in conversations]

    def render_all() -> list[str]:
        renderer = _create_renderer(tokenizer, date, template_arguments)
        render = partial(renderer, add_generation_prompt=add_generation_prompt)
        texts = [render(chat) for chat in chats]
        require_same_treatment(render, chats, texts)
        return texts

    texts: list[str] = _render_limited(tokenizer, render_all, seconds or time_limit(len(chats)))
    return texts


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of rendered texts. No special tokens are added: the template writes them."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    return ids


def describe_template(
    tokenizer: Tokenizer, template_arguments: TemplateArguments = MappingProxyType({})
) -> TemplateEffects:
    """What the tokenizer's template does with a system message, tools and further turns, and whether answers think.

    Raises the errors of `render_conversations`.
    """
    marks = find_marks(tokenizer, _read_template(tokenizer))

    def compare() -> dict[str, Any]:
        render, render_on_another_date = (
            _create_renderer(tokenizer, date, template_arguments) for date in (FIXED_DATE, OTHER_DATE)
        )
        tokens = [token for token in (*tokenizer.get_added_vocab(), tokenizer.bos_token or "") if token.strip()]
        return dataclasses.asdict(
            find_template_effects(render, render_on_another_date, tokens, partial(find_mode, marks))
        )

    return TemplateEffects(**_render_limited(tokenizer, compare, SECONDS))


def find_thought_marks(tokenizer: Tokenizer) -> ThoughtMarks:
    """The marks of the tokenizer's thoughts; `<think>` and `</think>` when it names none."""
    return find_marks(tokenizer, _read_template(tokenizer)) or THINK


def _read_template(tokenizer: Tokenizer) -> str:
    """The template that `apply_chat_template` uses; empty when it can use none."""
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        return ""


def _require_arguments(tokenizer: Tokenizer, arguments: TemplateArguments) -> None:
    """Raise ConfigurationError for an argument that the template does not read: it would silently have no effect."""
    known = find_arguments(_read_template(tokenizer)) if arguments else frozenset(arguments)
    for name in arguments:
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            raise ConfigurationError(
                f"the chat template of {display_name(Path(tokenizer.name_or_path))} does not read {name}",
                cause="[evaluation] chat_template_kwargs names it, and it would have no effect",
                hint=f"did you mean {similar[0]}?" if similar else "remove it from the policy",
            )


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
            cause="the template has a mistake, or rejects a conversation with one user message or a system message",
            hint=HINT,
        ) from error
    except LimitExceeded as error:
        raise UnsafeCheckpoint(
            f"the chat template of {model} does not end within {limit} s, {MEMORY >> 20:,} MiB and "
            f"{CHARACTERS:,} characters",
            cause="real templates take a millisecond; this one may be meant to exhaust the machine",
            hint=HINT,
        ) from error


def _create_renderer(tokenizer: Tokenizer, date: Date, arguments: TemplateArguments) -> Callable[..., str]:
    """A function that renders one chat with the given options of `apply_chat_template`. Call it in a fork only."""

    def render(chat: Chat, **options: object) -> str:
        _restrict_rendering(date)
        try:
            text: str = tokenizer.apply_chat_template(list(chat), tokenize=False, **arguments, **options)
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
