"""A strict reader of safetensors headers and of the index of a sharded checkpoint.

Format: https://huggingface.co/docs/safetensors/index#format. The reader refuses all that the `safetensors` library
refuses and applies further limits before a framework maps the file.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from antidote_ci.checkpoint.budget import Budget
from antidote_ci.checkpoint.files import MAX_BYTES
from antidote_ci.checkpoint.json_files import parse_object, read_object, shorten_value
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 50_000
"""Tensors in one file, so that its header is read within a second."""
VALUES_PER_TENSOR = 11
"""JSON values in a header for a matrix."""
MAX_VALUES = 15 * MAX_TENSORS
"""JSON values in a header: a tensor of five dimensions takes 14."""
MAX_ENTRIES = 1 << 56
"""Entries of one tensor: more than any real tensor has, and few enough that 64-bit arithmetic cannot overflow."""
MAX_DIMENSIONS = 64
"""The maximum of numpy."""
MAX_DIGITS = 19
"""Digits of one number: 19 digits always fit into 64 bits."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LENGTH_BYTES = 8

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_INDEX_VALUES = 600_000
"""JSON values in an index: two for each tensor."""

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
"""Bits per entry of each dtype."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. Its bytes are `start` to `end`, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A parsed header: the tensors in the order of their bytes, and the offset of the first data byte."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path, budget: Budget | None = None) -> Header:
    """Read the header of a safetensors file, check it against itself and the size of the file, and charge `budget`.

    Raises UnsafeCheckpoint when the header is invalid, ConfigurationError when the file is a Git LFS pointer.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ConfigurationError(
                    f"{path.name} is a Git LFS pointer and holds no weights",
                    cause="the repository was cloned without git-lfs",
                    hint="run `git lfs install && git lfs pull` in that folder",
                )
            file.seek(0)
            header = parse_header(file, size)
    except ValueError as error:
        raise UnsafeCheckpoint(
            f"{path.name} has a header that cannot be trusted: {error}",
            cause="the file is truncated, damaged, or crafted to mislead the program that opens it",
            hint="download it again, or save the checkpoint again with the safetensors library",
        ) from error
    if budget is not None:
        budget.charge(path.name, "bytes", header.data_start)
        budget.charge(path.name, "JSON values", VALUES_PER_TENSOR * len(header.tensors) + len(header.metadata))
        budget.charge(path.name, "tensors", len(header.tensors))
    return header


def parse_header(file: BinaryIO, size: int) -> Header:
    """Parse the header at the start of a file of `size` bytes. Raises ValueError when it is invalid."""
    prefix = file.read(LENGTH_BYTES)
    if len(prefix) < LENGTH_BYTES:
        raise ValueError("the file is too short to contain a header")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its length field says {length:,} bytes, and the limit is {MAX_HEADER_BYTES:,}")
    if LENGTH_BYTES + length > size:
        raise ValueError(f"its length field says {length:,} bytes, and the file has {size:,}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError("it does not start with a brace")
    entries = parse_object(text, MAX_VALUES, _parse_natural)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not an object")
    metadata = {key: _require_text(value) for key, value in metadata.items()}
    if len(entries) > MAX_TENSORS:
        raise ValueError(f"it lists {len(entries):,} tensors, more than {MAX_TENSORS:,}")
    tensors = {name: _parse_tensor(name, entry) for name, entry in entries.items()}
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    data_start = LENGTH_BYTES + len(text)
    _require_gapless(ordered, size - data_start)
    return Header(ordered, metadata, data_start)


def list_shards(index: Mapping[str, str], names: list[str]) -> tuple[str, ...]:
    """Return the shards that the index names.

    Raises UnsafeCheckpoint when one is missing among the files `names` or outside of the folder, and when the folder
    holds two checkpoints.
    """
    present, shards = set(names), sorted(set(index.values()))
    for shard in shards:
        if "/" in shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise _index_error(f"names {shorten_value(shard)}, which is not a safetensors file of this folder")
        if shard not in present:
            raise _index_error(f"names {shorten_value(shard)}, which is missing")
    if WEIGHTS_FILE in present and WEIGHTS_FILE not in shards:
        raise UnsafeCheckpoint(
            f"{INDEX_FILE} names other shards, but {WEIGHTS_FILE} exists too",
            cause="frameworks differ in which of the two they load: one could be tested and the other used",
            hint="remove the checkpoint that should not be used",
        )
    return tuple(shards)


def map_weights(headers: dict[str, Header]) -> dict[str, str]:
    """Map each tensor name to its shard.

    Raises UnsafeCheckpoint when two shards hold the same tensor.
    """
    weight_map: dict[str, str] = {}
    for shard, header in headers.items():
        for name in header.tensors:
            if name in weight_map:
                raise UnsafeCheckpoint(
                    f"{shard} and {weight_map[name]} both hold {shorten_value(name)}",
                    cause="frameworks differ in which of the two they load",
                )
            weight_map[name] = shard
    return weight_map


def require_index_holds(index: Mapping[str, str], weight_map: Mapping[str, str]) -> None:
    """Raise UnsafeCheckpoint unless the index lists exactly the tensors of its shards.

    Its `total_size` is not compared: programs differ in how they count tied weights, and none depends on it.
    """
    for name, shard in index.items():
        if weight_map.get(name) != shard:
            raise _index_error(f"says that {shard} holds {shorten_value(name)}, which it does not")
    for name, shard in weight_map.items():
        if name not in index:
            raise UnsafeCheckpoint(
                f"{INDEX_FILE} does not list {shorten_value(name)}, which {shard} holds",
                cause="frameworks differ in whether they load it: one model could be tested and another one used",
                hint="save the checkpoint again with transformers",
            )


def _parse_natural(digits: str) -> int:
    if digits.startswith("-"):
        raise ValueError(f"the number {shorten_value(digits)} is negative")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the number {shorten_value(digits)} has more than {MAX_DIGITS} digits")
    return int(digits)


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shorten_value(value)} must be a string")
    return value


def _parse_tensor(name: str, entry: object) -> TensorInfo:
    quoted = shorten_value(name)
    if not isinstance(entry, dict) or entry.keys() != TENSOR_FIELDS:
        raise ValueError(f"{quoted} must have exactly the fields dtype, shape and data_offsets")
    dtype = _require_text(entry["dtype"])
    if dtype not in DTYPE_BITS:
        raise ValueError(f"{quoted} has the unknown dtype {shorten_value(dtype)}")
    shape, offsets = _parse_numbers(quoted, entry["shape"]), _parse_numbers(quoted, entry["data_offsets"])
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{quoted} has the offsets {shorten_value(offsets)}")
    start, end = offsets
    # An empty dimension must not hide another one that would overflow in a 64-bit reader.
    if math.prod(filter(None, shape)) > MAX_ENTRIES:
        raise ValueError(f"{quoted} has a shape of more than {MAX_ENTRIES:,} entries")
    if math.prod(shape) * DTYPE_BITS[dtype] != 8 * (end - start):
        raise ValueError(f"{quoted} has {end - start:,} bytes, not those of {dtype} {shorten_value(shape)}")
    return TensorInfo(dtype, shape, start, end)


def _parse_numbers(quoted_name: str, value: object) -> tuple[int, ...]:
    # A JSON boolean is an int in Python.
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        raise ValueError(f"{quoted_name} has a shape or offsets whose entries must be integers")
    if len(value) > MAX_DIMENSIONS:
        raise ValueError(f"{quoted_name} has a shape or offsets of {len(value):,} numbers")
    return tuple(value)


def _require_gapless(tensors: dict[str, TensorInfo], data_bytes: int) -> None:
    """Raise ValueError unless the tensors, without gap or overlap, fill all `data_bytes` of the file."""
    reached = 0
    for name, info in tensors.items():
        if info.start != reached:
            fault = "overlaps another tensor" if info.start < reached else "leaves a gap before it"
            raise ValueError(f"{shorten_value(name)} {fault}, at byte {info.start:,}")
        reached = info.end
    if reached != data_bytes:
        raise ValueError(f"its tensors take {reached:,} bytes, and the file has {data_bytes:,}")


def read_index(folder: Path, budget: Budget | None = None) -> dict[str, str]:
    """Return the shard of each tensor in the index. Raises UnsafeCheckpoint when it is invalid."""
    weight_map = read_object(folder / INDEX_FILE, MAX_BYTES[".safetensors.index.json"], MAX_INDEX_VALUES, budget).get(
        "weight_map"
    )
    if not isinstance(weight_map, dict) or not weight_map:
        raise _index_error("has no weight_map")
    if any(not isinstance(shard, str) for shard in weight_map.values()):
        raise _index_error("has a weight_map with values that are not file names")
    return weight_map


def _index_error(problem: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{INDEX_FILE} {problem}",
        cause="the upload is incomplete, or the index is crafted to open other files",
        hint="download the repository again, or save the checkpoint again",
    )
