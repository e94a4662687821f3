"""A bounded reader of untrusted JSON: limits of size, depth and values, unique keys, finite numbers, valid Unicode."""

import json
import math
import reprlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint.budget import Budget
from antidote_ci.errors import UnsafeCheckpoint

MAX_DEPTH = 64
MAX_VALUES = 5_000_000
"""More than the largest tokenizer.json holds. Reading 750,000 takes half a second and about 100 MB."""

_EXCERPT = reprlib.Repr()
_EXCERPT.maxstring = 100


def read_object(
    path: Path, max_bytes: int, max_values: int = MAX_VALUES, budget: Budget | None = None
) -> dict[str, object]:
    """Read the object in a JSON file, and charge `budget`. Raises UnsafeCheckpoint when it is too large or invalid."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise too_large_error(path.name, max_bytes)
    if budget is not None:
        budget.charge(path.name, "JSON values", count_values(data))
    try:
        return parse_object(data, max_values)
    except ValueError as error:
        raise UnsafeCheckpoint(
            f"{path.name} cannot be trusted: {error}",
            cause="the file is damaged, or crafted so that two programs read different values",
            hint="download it again, or save the checkpoint again",
        ) from error


def count_values(data: bytes) -> int:
    """Return at least the number of JSON values in `data`, without parsing it."""
    # Each value but the first follows one of these bytes. Those inside of texts count too: no real file has so many.
    return sum(map(data.count, (b"[", b",", b":")))


def parse_object(
    data: bytes, max_values: int = MAX_VALUES, parse_int: Callable[[str], int] | None = None
) -> dict[str, object]:
    """Parse a JSON object in UTF-8. Raises ValueError when it is larger than a limit, or invalid."""
    if count_values(data) > max_values:
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
    """Return `value` quoted for a message; of a long one the beginning and the end."""
    return _EXCERPT.repr(value)


def too_large_error(name: str, max_bytes: int) -> UnsafeCheckpoint:
    """Return the error for a file of more than `max_bytes`."""
    return UnsafeCheckpoint(
        f"{name} is larger than {max_bytes:,} bytes",
        cause="no real file of this kind is; it may be meant to exhaust memory",
    )


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shorten_value(key)} appears twice")
    return parsed


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
    # An escape can encode half of a character, which no file or terminal accepts.
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{shorten_value(error.object[error.start])} is not Unicode text") from error
