"""Prompt sets: JSONL in, rows out, split by a seeded hash, proven disjoint."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from antidote_ci.errors import ConfigurationError
from antidote_ci.records import PromptFile, Row

SELECTION_SHARE = 0.30
"""Of a user's file; the rest confirms the verdict."""
CALIBRATION_SHARE = 0.20
"""Of a user's task or harmless prompts, taken first, when the repair must know what to keep."""
REALIGNMENT_SHARE = 0.20
"""Of a user's file, taken first, when the model's own answers are the realignment set."""


def read(path: Path, response_field: str | None = None) -> list[Row]:
    """The rows of a JSONL file, duplicates by wording dropped.

    `response_field` names the field that every row must hold beside `prompt`: `response` or `expected`.
    Raises ConfigurationError naming the line and an example.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as text", cause=str(error)) from None
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, f"{path}, line {number}", response_field)
            rows.setdefault(key(row.prompt), row)
    if not rows:
        raise ConfigurationError(f"{path} holds no prompts", hint=_example(response_field))
    return list(rows.values())


def _row(line: str, where: str, response_field: str | None) -> Row:
    needed = ["prompt", *([response_field] if response_field else [])]
    try:
        document = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not JSON", cause=str(error), hint=_example(response_field)) from None
    for name in needed:
        value = document.get(name) if isinstance(document, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(f"{where} has no text in the field {name!r}", hint=_example(response_field))
    return Row(
        prompt=document["prompt"],
        category=str(document.get("category", "")),
        response=document[response_field] if response_field else "",
    )


def _example(response_field: str | None) -> str:
    example = {"prompt": "How do I ...?"} | ({response_field: "..."} if response_field else {})
    return f"one JSON object a line, such as {json.dumps(example)}"


def key(prompt: str) -> str:
    """A prompt by its wording: the sha256 of its letters and digits, case folded, spaces and punctuation collapsed."""
    words = re.sub(r"[\W_]+", " ", prompt.casefold()).strip()
    return hashlib.sha256(words.encode()).hexdigest()


def take(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """About `share` of the rows, and the others; which side a prompt falls on depends on its wording and seed alone."""

    def drawn(row: Row) -> bool:
        digest = hashlib.sha256(f"{seed}:{share}:{key(row.prompt)}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    return [row for row in rows if drawn(row)], [row for row in rows if not drawn(row)]


def require_disjoint(sets: Mapping[str, Iterable[Row]]) -> None:
    """Raises ConfigurationError naming both sets when a prompt stands in two of them."""
    owner: dict[str, str] = {}
    for name, rows in sets.items():
        for each in {key(row.prompt) for row in rows}:
            if each in owner:
                raise ConfigurationError(
                    f"a prompt of the {name} set also stands in the {owner[each]} set (sha256 {each[:12]})",
                    cause="prompts that shape the repair must not measure it",
                    hint="remove it from one of the two files",
                )
            owner[each] = name


def described(role: str, origin: str, rows: Sequence[Row]) -> PromptFile:
    """A set for the record: by what it says, whatever the file was called."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{key(row.prompt)}:{row.response}\n".encode())
    return PromptFile(role, origin, digest.hexdigest(), len(rows))
