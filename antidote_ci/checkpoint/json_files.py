"""JSON from strangers, within bounds: a size, a depth, and every key once."""

import json
from collections.abc import Callable
from pathlib import Path

from antidote_ci.errors import UnsafeCheckpoint

MAX_BYTES = 1 << 20
"""Of a configuration file; real ones hold some kilobytes."""
MAX_DEPTH = 64


def read_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, object]:
    """The object in a JSON file. Raises UnsafeCheckpoint naming the file and what is wrong with it."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UnsafeCheckpoint(
            f"{path.name} is larger than {max_bytes:,} bytes",
            cause="no real file of this kind is; it may be meant to exhaust what reads it",
        )
    try:
        return parse_object(data)
    except ValueError as error:
        raise UnsafeCheckpoint(
            f"{path.name} cannot be trusted: {error}",
            cause="it is damaged, or made so that two readers see two things",
            hint="download it again, or save the checkpoint anew",
        ) from error


def parse_object(data: bytes, parse_int: Callable[[str], int] = int) -> dict[str, object]:
    """The object in `data`, UTF-8. Raises ValueError saying what is wrong."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_int=parse_int,
        )
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos})") from error
    except RecursionError as error:
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    _require_shallow(value)
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _require_shallow(value: object) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
        level = [child for parent in level for child in _children(parent)]


def _children(value: object) -> list[object]:
    children = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(children, list):
        return []
    return [child for child in children if isinstance(child, (dict, list))]
