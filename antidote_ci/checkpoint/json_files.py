"""JSON from strangers, within bounds: of size, depth and values, every key once, finite numbers, Unicode text."""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antidote_ci.errors import UnsafeCheckpoint

MAX_BYTES = 1 << 20
"""Of a configuration file; real ones hold some kilobytes."""
MAX_DEPTH = 64
MAX_VALUES = 5_000_000
"""More than the largest tokenizer.json holds. 750,000 are read within half a second, in some 100 MB."""

_EXCERPT = reprlib.Repr()
_EXCERPT.maxstring = 100


def read_object(path: Path, max_bytes: int = MAX_BYTES, max_values: int = MAX_VALUES) -> dict[str, object]:
    """The object in a JSON file. Raises UnsafeCheckpoint naming the file and what is wrong with it."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UnsafeCheckpoint(
            f"{path.name} is larger than {max_bytes:,} bytes",
            cause="no real file of this kind is; it may be meant to exhaust what reads it",
        )
    try:
        return parse_object(data, max_values)
    except ValueError as error:
        raise UnsafeCheckpoint(
            f"{path.name} cannot be trusted: {error}",
            cause="it is damaged, or made so that two readers see two things",
            hint="download it again, or save the checkpoint anew",
        ) from error


def parse_object(
    data: bytes, max_values: int = MAX_VALUES, parse_int: Callable[[str], int] | None = None
) -> dict[str, object]:
    """The object in `data`, UTF-8. Raises ValueError saying what is wrong."""
    # Every value but the first follows one of these. Those within texts count too: no honest file has so many.
    if sum(map(data.count, (b"[", b",", b":"))) > max_values:
        raise ValueError(f"it may hold more than {max_values:,} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_reject_duplicate_keys,
            parse_constant=_reject_constant,
            parse_float=_parse_finite,
            parse_int=parse_int or _parse_integer,
        )
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos})") from error
    except RecursionError as error:
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    _require_depth(value)
    if b"\\u" in data:
        _require_valid_text(value)
    return value


def shorten_value(value: object) -> str:
    """The beginning and the end of `value`, for a sentence about it."""
    return _EXCERPT.repr(value)


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shorten_value(key)} stands twice")
    return found


def _reject_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _parse_integer(digits: str) -> int:
    _parse_finite(digits)
    return int(digits)


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {shorten_value(digits)} is out of range")
    return number


def _require_depth(value: object) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")


def _require_valid_text(value: object) -> None:
    # An escape can spell half a character, which no file or terminal takes.
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{shorten_value(error.object[error.start])} is not Unicode text") from error
