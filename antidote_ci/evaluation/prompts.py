"""Prompt sets: rows from a file, split by a seeded hash, proven disjoint."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import tables
from antidote_ci.records import PromptRow, PromptSetRecord

SELECTION_SHARE = 0.30
"""Of a user's file; the rest confirms the verdict."""
SHAPING_SHARE = 0.20
"""Of a user's file, taken first, when it also shapes the repair: as the realignment set, or as what is to be kept."""


def read_prompts(path: Path, response_field: str | None = None, with_choices: bool = False) -> list[PromptRow]:
    """The rows of a JSONL file, duplicates by wording dropped; of a task, which has `expected`, the same prompt again.

    `response_field` names the field that every row must hold beside `prompt`: `response` or `expected`;
    `with_choices`, that every row must hold `choices`, of which `expected` is one.
    Raises ConfigurationError naming the line and an example.
    """
    example = _example_row(response_field, with_choices)
    rows = {
        where: _parse_row(fields, where, response_field, with_choices, example)
        for where, fields in tables.read_json_lines(path, example)
    }
    if not rows:
        raise ConfigurationError(f"{path} holds no prompts", hint=example)
    return _drop_repeated_questions(rows) if response_field == "expected" else drop_duplicates(rows.values())


def drop_duplicates(rows: Iterable[PromptRow]) -> list[PromptRow]:
    """The rows without those whose wording stood before."""
    first: dict[str, PromptRow] = {}
    for row in rows:
        first.setdefault(wording_key(row.prompt), row)
    return list(first.values())


def _drop_repeated_questions(rows: Mapping[str, PromptRow]) -> list[PromptRow]:
    """A task's rows, by where they stand, without repeats: one character makes another question, as in `3 + 4`."""
    first: dict[str, str] = {}
    for where, row in rows.items():
        before = first.setdefault(row.prompt, where)
        if (row.response.strip(), row.choices) != (rows[before].response.strip(), rows[before].choices):
            raise ConfigurationError(
                f"{where} has the prompt of {before}, but not its expected answer or choices",
                cause="the same prompt gets the same answer, which cannot be right in both",
                hint="remove one of the two rows",
            )
    return [rows[where] for where in first.values()]


def _parse_row(
    fields: dict[str, Any], where: str, response_field: str | None, with_choices: bool, example: str
) -> PromptRow:
    prompt = tables.require_text(fields, "prompt", where, example)
    response = tables.require_text(fields, response_field, where, example) if response_field else ""
    return PromptRow(
        prompt=prompt,
        category=parse_category(fields.get("category"), where),
        response=response,
        choices=_parse_choices(fields, response, where, example) if with_choices else (),
    )


def parse_category(value: object, where: str) -> str:
    """A row's category as text on one line; none where the field is empty or missing."""
    return "" if value is None else tables.require_writable_text(" ".join(str(value).split()), "category", where)


def _parse_choices(fields: dict[str, Any], expected: str, where: str, example: str) -> tuple[str, ...]:
    given = fields.get("choices")
    if not isinstance(given, list) or len(given) < 2:
        raise ConfigurationError(f"{where} has no list of two or more texts in the field 'choices'", hint=example)
    choices = tuple(tables.require_text({"choices": each}, "choices", where, example) for each in given)
    bare = [each.strip() for each in choices]
    if expected.strip() not in bare:
        raise ConfigurationError(f"{where} does not have 'expected' among its choices", hint=example)
    if len(set(bare)) < len(bare):
        raise ConfigurationError(f"{where} has the same choice twice", hint=example)
    return choices


def _example_row(response_field: str | None, with_choices: bool) -> str:
    example: dict[str, object] = {"prompt": "How do I ...?"}
    if response_field:
        example[response_field] = "..."
    if with_choices:
        example |= {"expected": "yes", "choices": ["yes", "no"]}
    return f"one JSON object a line, such as {json.dumps(example)}"


def wording_key(prompt: str) -> str:
    """A prompt by its wording: the sha256 of its letters, marks, digits and symbols.

    Case, compatibility forms and ways to compose a letter are folded, spaces and punctuation collapsed, and what has
    no shape is left out.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prompt).casefold())
    words = " ".join(re.sub(r"[\W_]", _keep_character, folded).split())
    # What had no shape may have kept a letter from its mark.
    return _sha256(unicodedata.normalize("NFKC", words))


def _keep_character(found: re.Match[str]) -> str:
    kind = unicodedata.category(found[0])
    return "" if kind == "Cf" else found[0] if kind[0] in "MS" else " "


def prompt_id(prompt: str) -> str:
    """A prompt's id in reports and saved answers: the first 16 hex digits of its sha256."""
    return _sha256(prompt)[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def split_rows(rows: Sequence[PromptRow], share: float, seed: int) -> tuple[list[PromptRow], list[PromptRow]]:
    """About `share` of the rows, and the others; which side a prompt falls on depends on its wording and seed alone."""

    def drawn(row: PromptRow) -> bool:
        digest = hashlib.sha256(f"{seed}:{share}:{wording_key(row.prompt)}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    return [row for row in rows if drawn(row)], [row for row in rows if not drawn(row)]


def require_disjoint(sets: Mapping[str, Iterable[PromptRow]]) -> None:
    """Raises ConfigurationError naming both sets when a prompt stands in two of them."""
    owner: dict[str, str] = {}
    for name, rows in sets.items():
        for each in {wording_key(row.prompt) for row in rows}:
            if each in owner:
                raise ConfigurationError(
                    f"a prompt of the {name} set also stands in the {owner[each]} set (sha256 {each[:12]})",
                    cause="prompts that shape the repair must not measure it",
                    hint="remove it from one of the two files",
                )
            owner[each] = name


def describe_set(role: str, origin: str, rows: Sequence[PromptRow], licence: str | None = None) -> PromptSetRecord:
    """A set for the record: by what it says, whatever the file was called."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{_sha256(row.prompt)}:{':'.join((row.response, *row.choices))}\n".encode())
    return PromptSetRecord(role, origin, digest.hexdigest(), len(rows), licence)
