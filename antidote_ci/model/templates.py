"""A stranger's chat template, rendered where it can do no harm.

transformers renders it in a sandbox, which keeps it from our objects but not from `9**(9**9)` or from loops inside
loops. So it runs in a process of its own, forked for the purpose, that has so much time, memory and output.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Never, Self

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.sandbox.limits import run_limited

SECONDS = 3
"""Of computing, whatever is asked: real templates take a millisecond."""
CHATS_A_SECOND = 50
"""More time for more conversations; a thousand take one second."""
MEMORY = 1 << 30
"""Bytes beyond what the process has already."""
CHARACTERS = 100_000
"""That a template may add to one conversation; a long system prompt has ten thousand."""

FIXED_DATE = (2024, 7, 26)
"""What a template that writes the date is told on every day: answers and scores must not change with it."""

HINT = "correct chat_template.jinja, or chat_template in tokenizer_config.json"

TemplateChat = Sequence[Mapping[str, Any]]


def render_template(
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    chats: Sequence[TemplateChat],
    add_generation_prompt: bool,
    seconds: int | None = None,
) -> list[str]:
    """Each chat in the tokenizer's template.

    Raises ConfigurationError when the template raises, UnsafeCheckpoint when it does not end, grows without bounds or
    reaches for the attributes of Python's objects.
    """
    limit = seconds or time_limit(len(chats))
    reply = run_limited(lambda: _render_reply(tokenizer, chats, add_generation_prompt), limit, MEMORY)
    if reply is None or "texts" not in reply:
        raise _template_error(display_name(Path(tokenizer.name_or_path)), (reply or {}).get("raised"), limit)
    texts: list[str] = reply["texts"]
    return texts


def time_limit(chats: int) -> int:
    """Of computing."""
    return SECONDS + chats // CHATS_A_SECOND


def _template_error(model: str, raised: str | None, seconds: int) -> AntidoteError:
    # The error's own text may be the template's: a stranger's words.
    if raised == "SecurityError":
        return UnsafeCheckpoint(
            f"the chat template of {model} reaches for attributes that a template has no use for",
            cause="they lead from a text to everything that Python can do, or change what is rendered",
            hint=HINT,
        )
    if raised:
        return ConfigurationError(
            f"the chat template of {model} cannot be used: it raises {raised}",
            cause="it has a mistake, or refuses a conversation of one question",
            hint=HINT,
        )
    return UnsafeCheckpoint(
        f"the chat template of {model} does not end within {seconds} s, {MEMORY >> 20:,} MiB and "
        f"{CHARACTERS:,} characters",
        cause="real templates take a millisecond; it may be meant to exhaust what renders it",
        hint=HINT,
    )


def _render_reply(tokenizer: Any, chats: Sequence[TemplateChat], open_answer: bool) -> dict[str, Any]:  # noqa: ANN401
    from jinja2.sandbox import SandboxedEnvironment
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = _FixedDate
    # The sandbox would say so only to templates that go on to use what they reached for.
    SandboxedEnvironment.unsafe_undefined = _refuse_access  # type: ignore[method-assign, assignment]
    texts = []
    try:
        for chat in chats:
            text = tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=open_answer)
            if len(text) > len(json.dumps(list(chat))) + CHARACTERS:
                return {}
            texts.append(text)
    except (MemoryError, RecursionError):
        return {}
    except Exception as error:  # noqa: BLE001 - whatever a template can raise
        return {"raised": type(error).__name__}
    return {"texts": texts}


class _FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls(*FIXED_DATE, tzinfo=tz)


def _refuse_access(_environment: object, _object: object, _attribute: str) -> Never:
    from jinja2.exceptions import SecurityError

    raise SecurityError
