"""Files of rows as people publish them, read as hostile input: CSV, JSON lines, and either of them in xz.

A row is its fields by name and the place it stands at, for errors.
"""

import csv
import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from antidote_ci.errors import ConfigurationError

MAX_FILE_BYTES = 64_000_000
"""Of a file, packed and unpacked."""
MAX_ROWS = 100_000
MAX_FIELD_CHARACTERS = 100_000
MAX_DECODER_BYTES = 256_000_000
"""Memory that an xz file may ask for."""

TableRows = Iterator[tuple[str, dict[str, Any]]]
"""Of each row: where it stands (`FILE, line N`), and its fields."""


def read_table(path: Path) -> TableRows:
    """The rows of a file whose name ends in .csv, .jsonl or .jsonl.xz.

    Raises ConfigurationError, at the latest when the row is reached, naming the file and the line.
    """
    return _read_csv(path) if path.suffix == ".csv" else read_json_lines(path)


def read_json_lines(path: Path, hint: str = "write one JSON object a line") -> TableRows:
    """One JSON value a line, empty lines skipped; a value that is no object is a row without fields."""
    # Not splitlines(): a text may hold the separators of Unicode as they are.
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        where = f"{path}, line {number}"
        if number > MAX_ROWS:
            raise _too_many_rows_error(path)
        if line.strip():
            try:
                document = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{where} is not JSON", cause=str(error), hint=hint) from None
            yield where, document if isinstance(document, dict) else {}


def require_text(fields: dict[str, Any], name: str, where: str, hint: str) -> str:
    """The field `name`, which must hold text that can be written down. Raises ConfigurationError."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{where} has no text in the field {name!r}", hint=hint)
    return require_writable_text(value, name, where)


def require_writable_text(value: str, name: str, where: str) -> str:
    """`value`, unless it is too long or holds half of a surrogate pair, which no file and no report can hold."""
    if len(value) > MAX_FIELD_CHARACTERS:
        raise ConfigurationError(f"{where} has more than {MAX_FIELD_CHARACTERS:,} characters in the field {name!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{where} has half a surrogate pair in the field {name!r}",
            cause=f"{value[error.start]!a} is no character by itself: the text was cut in the middle of one",
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
        if path.suffix == ".xz":
            decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DECODER_BYTES)
            content = decoder.decompress(content, MAX_FILE_BYTES + 1)
            if not decoder.eof and len(content) <= MAX_FILE_BYTES:
                raise lzma.LZMAError("it ends too early")
        if len(content) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} holds more than {MAX_FILE_BYTES // 1_000_000} MB")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line} is not UTF-8", cause=str(error)) from None
    except (OSError, lzma.LZMAError) as error:
        raise ConfigurationError(f"{path} cannot be read as text", cause=str(error)) from None


def _too_many_rows_error(path: Path) -> ConfigurationError:
    return ConfigurationError(f"{path} holds more than {MAX_ROWS:,} rows")
