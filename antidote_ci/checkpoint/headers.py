"""A strict reader of safetensors headers: https://huggingface.co/docs/safetensors/index#format.

Whatever the `safetensors` library refuses is refused here, and some things more, before a framework maps the file.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from antidote_ci.checkpoint.json_files import parse_object, shorten_value
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 50_000
"""In one file, so that its header is read within a second."""
MAX_VALUES = 15 * MAX_TENSORS
"""Of the header: a tensor of five dimensions takes 14."""
MAX_ENTRIES = 1 << 56
"""Of one tensor: far below where 64-bit arithmetic wraps, far above any disk."""
MAX_DIMENSIONS = 64
"""As many as numpy has."""
MAX_DIGITS = 19
"""Of one number: what 64 bits hold in any case."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

TENSOR_FIELDS = {"dtype", "shape", "data_offsets"}
DTYPE_BITS = (
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


@dataclass(frozen=True, slots=True)
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

    Raises UnsafeCheckpoint naming the file and the lie, ConfigurationError for the pointer that git leaves without LFS.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ConfigurationError(
                    f"{path.name} holds no weights, but where they are",
                    cause="the repository was cloned without git-lfs",
                    hint="git lfs install && git lfs pull, there",
                )
            file.seek(0)
            return parse_header(file, size)
    except ValueError as error:
        raise UnsafeCheckpoint(
            f"{path.name} has a header that cannot be trusted: {error}",
            cause="the file was cut short, damaged, or made to mislead what opens it",
            hint="download it again, or save the checkpoint anew with the safetensors library",
        ) from error


def parse_header(file: BinaryIO, size: int) -> Header:
    """The header at the start of a file of `size` bytes. Raises ValueError saying what is wrong with it."""
    length = _header_length(file.read(LENGTH_BYTES), size)
    return _parse_tensors(file.read(length), size)


def _header_length(prefix: bytes, size: int) -> int:
    if len(prefix) < LENGTH_BYTES:
        raise ValueError("the file is too short to hold one")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"it claims {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    if LENGTH_BYTES + length > size:
        raise ValueError(f"it claims {length:,} bytes of a file of {size:,}")
    return int(length)


def _parse_tensors(text: bytes, size: int) -> Header:
    if not text.startswith(b"{"):
        raise ValueError("it does not start with a brace")
    entries = parse_object(text, MAX_VALUES, _parse_natural)
    metadata = _parse_metadata(entries.pop("__metadata__", {}))
    if len(entries) > MAX_TENSORS:
        raise ValueError(f"it lists {len(entries):,} tensors, more than {MAX_TENSORS:,}")
    tensors = {name: _parse_tensor(name, entry) for name, entry in entries.items()}
    in_order = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    data_start = LENGTH_BYTES + len(text)
    _require_gapless(in_order, size - data_start)
    return Header(in_order, metadata, data_start)


def _parse_natural(digits: str) -> int:
    if digits.startswith("-"):
        raise ValueError(f"the number {shorten_value(digits)} is negative")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the number {shorten_value(digits)} is larger than any disk")
    return int(digits)


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shorten_value(value)} stands where text belongs")
    return value


def _parse_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("its metadata is not an object")
    return {key: _require_text(text) for key, text in value.items()}


def _parse_tensor(name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != TENSOR_FIELDS:
        raise ValueError(f"{shorten_value(name)} has not just a dtype, a shape and data_offsets")
    dtype = _require_text(entry["dtype"])
    if dtype not in DTYPE_BITS:
        raise ValueError(f"{shorten_value(name)} has the unknown dtype {shorten_value(dtype)}")
    shape = _parse_numbers(name, entry["shape"])
    offsets = _parse_numbers(name, entry["data_offsets"])
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{shorten_value(name)} has the offsets {shorten_value(offsets)}")
    start, end = offsets
    # An empty dimension must not hide another that would wrap around in a reader of 64 bits.
    if math.prod(filter(None, shape)) > MAX_ENTRIES:
        raise ValueError(f"{shorten_value(name)} claims more entries than any disk holds")
    if math.prod(shape) * DTYPE_BITS[dtype] != 8 * (end - start):
        raise ValueError(
            f"{shorten_value(name)} has {end - start:,} bytes, not those of {dtype} {shorten_value(shape)}"
        )
    return TensorInfo(dtype, shape, start, end)


def _parse_numbers(name: str, value: object) -> tuple[int, ...]:
    # bool is an int to Python, and no number to JSON
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        raise ValueError(f"{shorten_value(name)} has a shape or offsets that are no whole numbers")
    if len(value) > MAX_DIMENSIONS:
        raise ValueError(f"{shorten_value(name)} has a shape or offsets of {len(value):,} numbers")
    return tuple(value)


def _require_gapless(tensors: dict[str, TensorInfo], data_bytes: int) -> None:
    """Tensors lie back to back and fill the file: nothing is shared, and nothing hides between or behind them."""
    reached = 0
    for name, info in tensors.items():
        if info.start != reached:
            fault = "overlaps another tensor" if info.start < reached else "leaves a hole before it"
            raise ValueError(f"{shorten_value(name)} {fault}, at byte {info.start:,}")
        reached = info.end
    if reached != data_bytes:
        raise ValueError(f"its tensors take {reached:,} bytes, and the file has {data_bytes:,}")
