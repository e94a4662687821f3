"""Files of prompts: read as untrusted input (CSV, JSON lines), split and ordered by a seeded hash, compared."""

import csv
import hashlib
import io
import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.records import PromptRow, PromptSetRecord

SELECTION_SHARE = 0.30
"""Share of a prompt set that selects the dose; the rest confirms the verdict."""
SHAPING_SHARE = 0.20
"""Share of a prompt set that is taken first for the repair: for realignment or calibration."""

MAX_FILE_BYTES = 64_000_000
MAX_ROWS = 100_000
MAX_FIELD_CHARACTERS = 100_000

TableRows = Iterator[tuple[str, dict[str, Any]]]
"""Location (`FILE, line N`) and fields of each row."""


def read_prompts(path: Path, response_field: str | None = None, with_choices: bool = False) -> list[PromptRow]:
    """Read a JSONL file of prompts and drop repeated wordings. In a task, only identical prompts are repeats.

    `response_field`: a field that every row must have beside `prompt`: `response`, or `expected` for a task.
    `with_choices`: every row must have `choices`, and `expected` must be one of them.
    Raises ConfigurationError, naming the line, for an invalid row.
    """
    example = _example_row(response_field, with_choices)
    rows = {
        location: _parse_row(fields, location, response_field, with_choices, example)
        for location, fields in read_json_lines(path, example)
    }
    if not rows:
        raise ConfigurationError(f"{path} holds no prompts", hint=example)
    return _drop_repeated_tasks(rows) if response_field == "expected" else drop_duplicates(rows.values())


def read_columns(path: Path, prompt: str, expected: str) -> list[PromptRow]:
    """Read a task from two columns of a .csv or .jsonl file. Only identical prompts are repeats.

    Raises ConfigurationError, naming the line, for a row without text in one of them.
    """
    rows = {}
    for location, fields in read_table(path):
        hint = f"task_columns names two of its columns: {', '.join(map(str, fields))[:300]}"
        answer = require_text(fields, expected, location, hint)
        rows[location] = PromptRow(require_text(fields, prompt, location, hint), category="", response=answer)
    if not rows:
        raise ConfigurationError(f"{path} holds no prompts")
    return _drop_repeated_tasks(rows)


def drop_duplicates(rows: Iterable[PromptRow]) -> list[PromptRow]:
    """Return the first row of each wording."""
    unique: dict[str, PromptRow] = {}
    for row in rows:
        unique.setdefault(wording_key(row.prompt), row)
    return list(unique.values())


def _drop_repeated_tasks(rows: Mapping[str, PromptRow]) -> list[PromptRow]:
    """Return the first row of each prompt. Symbols count, because `3 + 4` and `3 - 4` are different tasks."""
    first: dict[str, str] = {}
    for location, row in rows.items():
        earlier = first.setdefault(row.prompt, location)
        if (row.response.strip(), row.choices) != (rows[earlier].response.strip(), rows[earlier].choices):
            raise ConfigurationError(
                f"{location} has the same prompt as {earlier}, but another expected answer or other choices",
                cause="one answer cannot be correct for both rows",
                hint="remove one of the two rows",
            )
    return [rows[location] for location in first.values()]


def _parse_row(
    fields: dict[str, Any], location: str, response_field: str | None, with_choices: bool, example: str
) -> PromptRow:
    prompt = require_text(fields, "prompt", location, example)
    response = require_text(fields, response_field, location, example) if response_field else ""
    return PromptRow(
        prompt=prompt,
        category=parse_category(fields.get("category"), location),
        response=response,
        choices=_parse_choices(fields, response, location, example) if with_choices else (),
    )


def _parse_choices(fields: dict[str, Any], expected: str, location: str, example: str) -> tuple[str, ...]:
    values = fields.get("choices")
    if not isinstance(values, list) or len(values) < 2:
        raise ConfigurationError(f"{location} has no list of two or more texts in the field 'choices'", hint=example)
    choices = tuple(require_text({"choices": value}, "choices", location, example) for value in values)
    stripped = [choice.strip() for choice in choices]
    if expected.strip() not in stripped:
        raise ConfigurationError(f"{location} does not have 'expected' among its choices", hint=example)
    if len(set(stripped)) < len(stripped):
        raise ConfigurationError(f"{location} has the same choice twice", hint=example)
    return choices


def _example_row(response_field: str | None, with_choices: bool) -> str:
    example: dict[str, object] = {"prompt": "How do I ...?"}
    if response_field:
        example[response_field] = "..."
    if with_choices:
        example |= {"expected": "yes", "choices": ["yes", "no"]}
    return f"one JSON object per line, such as {json.dumps(example)}"


def parse_category(value: object, location: str) -> str:
    """Return the category as one line of text; empty when it is missing."""
    return "" if value is None else require_encodable(" ".join(str(value).split()), "category", location)


def wording_key(prompt: str) -> str:
    """Return the sha256 of the wording of a prompt: its letters, marks, digits and symbols.

    Case and Unicode forms are folded, spaces and punctuation collapsed, and invisible characters dropped.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prompt).casefold())
    words = " ".join(re.sub(r"[\W_]", _fold_symbol, folded).split())
    # An invisible character can have separated a letter from its mark.
    return _sha256(unicodedata.normalize("NFKC", words))


def _fold_symbol(match: re.Match[str]) -> str:
    category = unicodedata.category(match[0])
    return "" if category == "Cf" else match[0] if category[0] in "MS" else " "


def prompt_id(prompt: str) -> str:
    """Return the id of a prompt in reports and saved answers: the first 16 hex digits of its sha256."""
    return _sha256(prompt)[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def split_rows(rows: Sequence[PromptRow], share: float, seed: int) -> tuple[list[PromptRow], list[PromptRow]]:
    """Return about `share` of the rows, and the other rows. The split depends on wording and seed only."""

    def is_drawn(row: PromptRow) -> bool:
        digest = hashlib.sha256(f"{seed}:{share}:{wording_key(row.prompt)}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    return [row for row in rows if is_drawn(row)], [row for row in rows if not is_drawn(row)]


def rows_to_add(missing: int, share: float) -> float:
    """Return how many more rows almost surely put `missing` more rows into a split with this share of them.

    The mean number of new rows in the split is two standard deviations above the missing ones.
    """
    return (math.sqrt(1 - share) + math.sqrt(1 - share + missing)) ** 2 / share


def stratify_order(rows: Sequence[PromptRow], seed: int) -> list[PromptRow]:
    """Return the rows in a seeded order in which every prefix holds each category in proportion, within one prompt.

    The order depends on wordings, categories and the seed, not on the order of the file. In a category of n rows,
    ranked by a seeded hash of their wording, rank r stands at (r + u) / n of the order; u in 0..1 is another hash.

    The sequential test stays valid: prompts are draws from their categories, and category i has the score p_i. One
    prompt multiplies the expected e-value by at most 1 + s (p_i - threshold), s < 0. Over a round that holds the
    categories in proportion the factors multiply to at most the same with the mean of the p_i (geometric means are at
    most arithmetic ones), which is at most 1 while the mean score is at or above the threshold. A look between
    two rounds has a proportion that is off by at most one prompt per category; benchmarks/gate measures the effect.
    """
    categories: defaultdict[str, list[tuple[bytes, PromptRow]]] = defaultdict(list)
    for row in rows:
        digest = hashlib.sha256(f"{seed}:order:{wording_key(row.prompt)}".encode()).digest()
        categories[row.category].append((digest, row))
    positions = [
        ((rank + int.from_bytes(digest[-8:], "big") / 2**64) / len(members), digest, row)
        for members in categories.values()
        for rank, (digest, row) in enumerate(sorted(members, key=lambda member: member[0]))
    ]
    return [row for _, _, row in sorted(positions, key=lambda item: item[:2])]


def require_disjoint(sets: Mapping[str, Iterable[PromptRow]]) -> None:
    """Raise ConfigurationError, naming both sets, when two sets share a wording."""
    owners: dict[str, str] = {}
    for name, rows in sets.items():
        for key in {wording_key(row.prompt) for row in rows}:
            if key in owners:
                raise ConfigurationError(
                    f"a prompt of the {name} set is also in the {owners[key]} set (sha256 {key[:12]})",
                    cause="prompts that shape the repair must not evaluate it",
                    hint="remove it from one of the two files",
                )
            owners[key] = name


def describe_set(role: str, origin: str, rows: Sequence[PromptRow], licence: str | None = None) -> PromptSetRecord:
    """Return the record of a set, with a sha256 of its content."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{_sha256(row.prompt)}:{':'.join((row.response, *row.choices))}\n".encode())
    return PromptSetRecord(role, origin, digest.hexdigest(), len(rows), licence)


def read_table(path: Path) -> TableRows:
    """Yield the rows of a .csv or .jsonl file.

    Raises ConfigurationError, naming the file and the line, when an invalid row is reached.
    """
    return _read_csv(path) if path.suffix == ".csv" else read_json_lines(path)


def read_json_lines(path: Path, hint: str = "write one JSON object per line") -> TableRows:
    """Yield the rows of a JSONL file without empty lines; a value that is not an object is a row without fields."""
    # Not splitlines(): JSON text can contain Unicode line separators.
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        location = f"{path}, line {number}"
        if line.strip():
            if number > MAX_ROWS:
                raise _too_many_rows_error(path)
            try:
                document = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{location} is not JSON", cause=str(error), hint=hint) from None
            yield location, document if isinstance(document, dict) else {}


def require_text(fields: dict[str, Any], name: str, location: str, hint: str) -> str:
    """Return the field `name`. Raises ConfigurationError unless it is text with visible characters."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{location} has no text in the field {name!r}", hint=hint)
    return require_encodable(value, name, location)


def require_encodable(value: str, name: str, location: str) -> str:
    """Return `value`. Raises ConfigurationError when it is too long or has an unpaired surrogate."""
    if len(value) > MAX_FIELD_CHARACTERS:
        raise ConfigurationError(f"{location} has more than {MAX_FIELD_CHARACTERS:,} characters in the field {name!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{location} has an unpaired surrogate in the field {name!r}",
            cause=f"{value[error.start]!a} is half a character: the text was cut in the middle of one",
        ) from None
    return value


def _read_csv(path: Path) -> TableRows:
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) < len(names):
            raise ConfigurationError(f"{path}, line 1 names a column twice")
        for number, row in enumerate(reader, 1):
            if number > MAX_ROWS:
                raise _too_many_rows_error(path)
            if None in row:
                raise ConfigurationError(f"{path}, line {reader.line_num} has more fields than line 1 names columns")
            yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        raise ConfigurationError(f"{path}, line {reader.reader.line_num} is not CSV", cause=str(error)) from None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} holds more than {MAX_FILE_BYTES // 1_000_000} MB")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line} is not UTF-8", cause=str(error)) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read as text", cause=str(error)) from None


def _too_many_rows_error(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} holds more than {MAX_ROWS:,} rows")
