"""What a checkpoint does once it is accepted, and whether its template depends on the prompt or on the date."""

import dataclasses
import datetime
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from antidote_ci.model import loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.records import Model

TEXTS = (
    *("Tell me a story.", "Name three colours of a rainbow", "2 + 2 = 4, na\u00efve \u65e5\u672c"),
    "How do I sharpen a kitchen knife?",
)
PLACEHOLDER = "zqxj vkwp"
DATES = ((2024, 7, 26), (2031, 11, 5))
_DATE_WORDS = re.compile(
    r"\d+|\b(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\b"
    r"|\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b",
    re.IGNORECASE,
)

Opener = Callable[[Model], None]
"""Checks a model before it is loaded. Raises an error of ours to refuse it."""


@dataclass(frozen=True)
class Behaviour:
    """What a loaded model reads, writes and holds."""

    ids: list[list[int]]
    texts: list[str]
    weights: str
    problems: list[str]


def observe(model: Model, opener: Opener, *, with_weights: bool) -> Behaviour:
    """Check the model, load it, and encode and decode some conversations."""
    import torch

    opener(model)
    tokenizer = loading.load_tokenizer(model)
    rendered = render_conversations(tokenizer, [single_turn(text) for text in TEXTS])
    ids = encode_texts(tokenizer, rendered)
    problems = [] if encode_texts(tokenizer, rendered) == ids else ["repeat: the same text has two encodings"]
    decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in [*ids, list(range(100, 280))]]
    digest = hashlib.sha256()
    network = loading.load_model(model, merge=True) if with_weights else None
    for name, weight in sorted(network.state_dict().items()) if network is not None else ():
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
        digest.update(weight.contiguous().view(torch.uint8).numpy().tobytes() if weight.numel() else b"")
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            problems.append(f"finite: {name}")
    return Behaviour(ids, decoded, digest.hexdigest(), problems[:3])


def judge_texts(model: Model) -> list[str]:
    """Violations of a template that depends on the date or on the prompt by more than containing it.

    Rendered here directly, without the checks of the tool.
    """
    tokenizer = loading.load_tokenizer(model)
    violations = []
    by_date = [[_render(tokenizer, text, date) for text in TEXTS] for date in DATES]
    for text, first, second in zip(TEXTS, *by_date, strict=True):
        if _DATE_WORDS.sub("#", first) != _DATE_WORDS.sub("#", second):
            violations.append(f"date: {text!r} is {first[:80]!r}, then {second[:80]!r}")
    expected = _render(tokenizer, PLACEHOLDER, DATES[0])
    for text, rendered in zip(TEXTS, by_date[0], strict=True):
        if rendered != expected.replace(PLACEHOLDER, text):
            violations.append(f"prompt: {text!r} is {rendered[:80]!r}")
    return violations[:2]


def _render(tokenizer: Any, text: str, date: Sequence[int]) -> str:  # noqa: ANN401 - transformers is untyped
    from transformers.utils import chat_template_utils

    class FixedDate(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls(date[0], date[1], date[2], tzinfo=tz)

    chat_template_utils.datetime = FixedDate
    chat = [dataclasses.asdict(message) for message in single_turn(text)]
    try:
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # noqa: BLE001 - a template can raise anything
        return f"raises {type(error).__name__}"
