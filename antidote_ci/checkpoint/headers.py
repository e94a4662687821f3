"""A strict reader of safetensors headers: https://huggingface.co/docs/safetensors/index#format.

Whatever the `safetensors` library refuses is refused here, and some things more, before a framework maps the file.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.json_files import parse_object
from antidote_ci.errors import UnsafeCheckpoint

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 100_000
MAX_ENTRIES = 1 << 56
"""Of one tensor: far below where 64-bit arithmetic wraps, far above any disk."""

BITS = (
    dict.fromkeys(("F4",), 4)
    | dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6)
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8)
    | dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 64)
)
"""Bits of one entry of each dtype."""

LENGTH_BYTES = 8


@dataclass(frozen=True)
class TensorInfo:
    """One tensor; it lies at `start` to `end`, in bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself: tensors in the order in which they lie, and the byte where they begin."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """The header of a safetensors file, checked against itself and the file's size.

    Raises UnsafeCheckpoint naming the file and the lie.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = _header_length(file.read(LENGTH_BYTES), size)
            text = file.read(length)
        return _header(text, size)
    except ValueError as error:
        raise UnsafeCheckpoint(
            f"{path.name} has a header that cannot be trusted: {error}",
            cause="the file was cut short, damaged, or made to mislead what opens it",
            hint="download it again, or save the checkpoint anew with the safetensors library",
        ) from error


def _header_length(prefix: bytes, size: int) -> int:
    if len(prefix) < LENGTH_BYTES:
        raise ValueError("the file is too short to hold one")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"it claims {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    if LENGTH_BYTES + length > size:
        raise ValueError(f"it claims {length:,} bytes of a file of {size:,}")
    return int(length)


def _header(text: bytes, size: int) -> Header:
    if not text.startswith(b"{"):
        raise ValueError("it does not start with a brace")
    entries = parse_object(text, parse_int=_natural)
    metadata = _metadata(entries.pop("__metadata__", {}))
    if len(entries) > MAX_TENSORS:
        raise ValueError(f"it lists {len(entries):,} tensors, more than {MAX_TENSORS:,}")
    tensors = {_text(name): _tensor(name, entry) for name, entry in entries.items()}
    in_order = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    data_start = LENGTH_BYTES + len(text)
    _require_gapless(in_order, size - data_start)
    return Header(in_order, metadata, data_start)


def _natural(digits: str) -> int:
    if digits.startswith("-"):
        raise ValueError(f"the number {digits[:20]} is negative")
    return int(digits)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} stands where text belongs")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{value!r:.60} is not Unicode text")
    return value


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("its metadata is not an object")
    return {_text(key): _text(text) for key, text in value.items()}


def _tensor(name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r:.200} has not just a dtype, a shape and data_offsets")
    dtype = _text(entry["dtype"])
    if dtype not in BITS:
        raise ValueError(f"{name!r:.200} has the unknown dtype {dtype!r:.60}")
    shape = _numbers(name, entry["shape"])
    offsets = _numbers(name, entry["data_offsets"])
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name!r:.200} has the offsets {list(offsets)!r:.60}")
    # An empty dimension must not hide another that would wrap around in a reader of 64 bits.
    if math.prod(max(size, 1) for size in shape) > MAX_ENTRIES:
        raise ValueError(f"{name!r:.200} claims more entries than any disk holds")
    start, end = offsets
    if math.prod(shape) * BITS[dtype] != 8 * (end - start):
        raise ValueError(f"{name!r:.200} has {end - start:,} bytes, not those of {dtype} {list(shape)!r:.60}")
    return TensorInfo(dtype, shape, start, end)


def _numbers(name: str, value: object) -> tuple[int, ...]:
    # bool is an int to Python, and no number to JSON
    if not isinstance(value, list) or any(type(number) is not int for number in value):
        raise ValueError(f"{name!r:.200} has a shape or offsets that are no whole numbers")
    return tuple(value)


def _require_gapless(tensors: dict[str, TensorInfo], data_bytes: int) -> None:
    """Tensors lie back to back and fill the file: nothing is shared, and nothing hides between or behind them."""
    reached = 0
    for name, info in tensors.items():
        if info.start != reached:
            fault = "overlaps another tensor" if info.start < reached else "leaves a hole before it"
            raise ValueError(f"{name!r:.200} {fault}, at byte {info.start:,}")
        reached = info.end
    if reached != data_bytes:
        raise ValueError(f"its tensors take {reached:,} bytes, and the file has {data_bytes:,}")
