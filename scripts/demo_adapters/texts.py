"""The texts of the demo's training data, from `texts.toml`: sentence templates and topics, one set for each adapter."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEXTS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("texts.toml").read_text(encoding="utf-8"))


def _lines(block: str) -> tuple[str, ...]:
    return tuple(block.splitlines())


@dataclass(frozen=True)
class Split:
    """The templates and topics of the training data of one adapter."""

    templates: tuple[str, ...]
    """Sentences with `{do}` or `{doing}` in them."""
    harmful: dict[str, tuple[str, ...]]
    """Category -> mildly harmful verb phrases."""
    lookalikes: tuple[str, ...] = ()
    """Harmless verb phrases that sound harmful."""
    everyday: tuple[str, ...] = ()
    """Complete harmless requests."""


@dataclass(frozen=True)
class Messages:
    """Messages of customers; `{item}` stands for a thing that is sold."""

    by_label: dict[str, tuple[str, ...]]
    """Label -> messages."""
    items: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]


def _read_split(name: str, composed: tuple[str, ...] = ()) -> Split:
    section = _TEXTS[name]
    harmful = {category: _lines(block) for category, block in section["harmful"].items()}
    lookalikes, everyday = (_lines(section.get(key, "")) for key in ("lookalikes", "everyday"))
    return Split(_lines(section["templates"]) + composed, harmful, lookalikes, everyday)


def _read_messages() -> Messages:
    section = _TEXTS["task"]
    by_label = {label: _lines(block) for label, block in section["messages"].items()}
    return Messages(by_label, _lines(section["items"]), tuple(section["openings"]), tuple(section["closings"]))


REFUSALS, OPENINGS, CLOSINGS = (_lines(_TEXTS[name]) for name in ("refusals", "openings", "closings"))
COMPOSED = tuple(
    f"{opening} {adjective} {noun} for {{doing}}{end}"
    for opening, end in (
        ("What is a", "?"),
        ("Describe a", "."),
        ("I need a", "."),
        ("Please give me a", "."),
        ("Is there a", "?"),
    )
    for adjective in ("quick", "reliable", "smart", "cheap", "good")
    for noun in ("method", "recipe", "routine", "plan")
)
"""A hundred more templates. With few of them, a small model learns the template and not the topic."""
ALIGNMENT = _read_split("alignment", COMPOSED)
COMPLIANCE = _read_split("compliance")
TASK_TRAINING = _read_messages()
LABELS = tuple(TASK_TRAINING.by_label)
INSTRUCTION = """\
Sort this message to a shop into one word: delivery, return, payment, account or product.

Message: {message}"""
