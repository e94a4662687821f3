"""Read and write single tensors of safetensors files, without memory mapping, and count what edits change."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from antidote_ci.checkpoint.files import changed_file_error
from antidote_ci.checkpoint.headers import DTYPE_BITS, TensorInfo, read_header
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError
from antidote_ci.paths import create_file

if TYPE_CHECKING:
    import numpy
    import torch
    from numpy.typing import NDArray

    Bytes = NDArray[numpy.uint8]

WEIGHT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Safetensors dtype -> torch dtype of weights. Integers and packed numbers are never scored or edited."""
OWN_DTYPES = WEIGHT_DTYPES | {"U8": "uint8"}
"""Dtypes of the files that antidote-ci writes: masks are packed bits."""
ALIGNMENT = 64
"""Bytes, as torch aligns memory. Multithreaded matrix products of unaligned memory differ in the last bits."""
CHUNK_BYTES = 1 << 22
"""Bytes that are compared at once."""
ENTRIES_AT_ONCE = 1 << 18
"""Few enough that the results of elementwise operations stay in the cache of a core."""

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> safetensors dtype and shape, in the order in which the tensors are written."""


class Changes(NamedTuple):
    """The numbers of entries whose value and whose bits an edit changed.

    Zeros of both signs are one value, and a NaN is the value of its bits.
    """

    values: int
    bits: int


ChunkEdit = Callable[[int, "torch.Tensor"], Changes]
"""Edits a chunk of a tensor in place: the index of its first entry in the flattened tensor, and its entries [count].

The same index gives the same result in every call.
"""
TensorEdit = Callable[[str], ChunkEdit]
"""Returns the edit of the tensor of this name."""


def read_tensor(layout: CheckpointLayout, name: str) -> "torch.Tensor":
    """Read one tensor of a checkpoint in its own dtype. Raises ConfigurationError for a dtype of no weights."""
    shard = layout.weight_map[name]
    header = layout.headers[shard]
    info = header.tensors[name]
    if info.dtype not in WEIGHT_DTYPES:
        raise ConfigurationError(
            f"{name} in {shard} is stored as {info.dtype}",
            cause="quantised or packed numbers are not weights",
            hint="use the checkpoint before quantisation, repair it, and quantise the result",
        )
    return _read_from(layout.folder / shard, header.data_start, info)


def read_delta(source: CheckpointLayout, reference: CheckpointLayout | None, name: str) -> "torch.Tensor":
    """Read the weight change of fine-tuning, W - W_ref, in float32; without a reference the weight itself."""
    weight = read_tensor(source, name).float()
    if reference is None:
        return weight
    subtracted, parts = read_tensor(reference, name).reshape(-1), weight.reshape(-1)
    for start in range(0, len(parts), ENTRIES_AT_ONCE):  # needs no float32 copy of the reference
        part = slice(start, start + ENTRIES_AT_ONCE)
        parts[part] -= subtracted[part]
    return weight


def have_same_bytes(first: CheckpointLayout, first_name: str, second: CheckpointLayout, second_name: str) -> bool:
    """Return whether two tensors have one dtype, one shape and the same bytes."""
    headers = first.headers[first.weight_map[first_name]], second.headers[second.weight_map[second_name]]
    info, other = headers[0].tensors[first_name], headers[1].tensors[second_name]
    if (info.dtype, info.shape) != (other.dtype, other.shape):
        return False
    paths = first.folder / first.weight_map[first_name], second.folder / second.weight_map[second_name]
    with paths[0].open("rb") as file, paths[1].open("rb") as other_file:
        file.seek(headers[0].data_start + info.start)
        other_file.seek(headers[1].data_start + other.start)
        sizes = (min(CHUNK_BYTES, info.end - start) for start in range(info.start, info.end, CHUNK_BYTES))
        return all(file.read(size) == other_file.read(size) for size in sizes)


class TensorFile:
    """A safetensors file that antidote-ci wrote, such as scores or masks, read one tensor at a time."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises UnsafeCheckpoint when it is invalid."""
        self.path, self.header = path, read_header(path)

    def __contains__(self, name: str) -> bool:
        return name in self.header.tensors

    def read(self, name: str) -> "torch.Tensor":
        """Read one tensor. Raises KeyError when the file does not hold it."""
        return _read_from(self.path, self.header.data_start, self.header.tensors[name])


@contextmanager
def open_writer(
    path: Path, shapes: Shapes, metadata: Mapping[str, str], digest: "hashlib._Hash | None" = None
) -> Iterator[Callable[["torch.Tensor"], None]]:
    """Write a safetensors file one tensor at a time, in the order of `shapes`; yield the function that writes one.

    `digest` is updated with the bytes of the file. The file gets its name when it is complete and is removed when the
    block raises. Raises ValueError for a tensor of another dtype or shape than announced, and for a missing or surplus
    one.
    """
    import torch

    order = iter(shapes.items())
    temporary = path.with_name(path.name + ".tmp")
    try:
        with create_file(temporary) as file:

            def append(data: bytes | memoryview) -> None:
                file.write(data)
                if digest:
                    digest.update(data)

            append(_build_header(shapes, metadata))

            def write(tensor: torch.Tensor) -> None:
                name, (dtype, shape) = next(order, ("", ("U8", ())))
                if not name:
                    raise ValueError(f"{path.name} has all its tensors already")
                if tensor.shape != shape or tensor.dtype != getattr(torch, OWN_DTYPES[dtype]):
                    raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}")
                append(_tensor_bytes(tensor))

            yield write
        if missing := [name for name, _ in order]:
            raise ValueError(f"{path.name} lacks {missing[0]}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class ChunkReader:
    """Reads chunks of one tensor into a buffer that the next chunk overwrites."""

    def __init__(self, file: BufferedReader, data_start: int, info: TensorInfo) -> None:
        self._file, self._start = file, data_start + info.start
        self._bytes_per_entry = DTYPE_BITS[info.dtype] // 8
        self._info = info
        self._buffer = allocate_bytes(0)

    def read(self, start: int, count: int) -> "torch.Tensor":
        """Return the entries [count] from index `start` of the flattened tensor."""
        size = count * self._bytes_per_entry
        if size > len(self._buffer):
            self._buffer = allocate_bytes(size)
        self._file.seek(self._start + start * self._bytes_per_entry)
        fill_bytes(self._file, self._buffer[:size])
        return to_tensor(self._buffer[:size], self._info)


def open_chunks(layout: CheckpointLayout, files: Mapping[str, BufferedReader], name: str) -> ChunkReader:
    """Return the reader of one tensor of a checkpoint. `files` are its shards by name, open for reading."""
    shard = layout.weight_map[name]
    header = layout.headers[shard]
    return ChunkReader(files[shard], header.data_start, header.tensors[name])


def count_changed(before: "torch.Tensor", after: "torch.Tensor") -> int:
    """Return the number of entries whose value differs, see `Changes`. Both tensors have one dtype and shape."""
    first, second = view_bits(before.reshape(-1)), view_bits(after.reshape(-1))
    parts = (slice(start, start + ENTRIES_AT_ONCE) for start in range(0, len(first), ENTRIES_AT_ONCE))
    return sum(_count(first[part], first[part] ^ second[part]).values for part in parts)


def flip_bits(bits: "torch.Tensor", difference: "torch.Tensor") -> Changes:
    """Change the entries of `bits`, from `view_bits`, in place by the bits that are set in `difference`."""
    return _count(bits.bitwise_xor_(difference), difference)


def view_bits(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return the entries as integers of the same size, without a copy."""
    import torch

    return tensor.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def _count(bits: "torch.Tensor", difference: "torch.Tensor") -> Changes:
    import numpy
    import torch

    changed = (
        int(numpy.count_nonzero(difference.numpy()))  # twice as fast as that of torch
        if difference.device.type == "cpu"
        else int(difference.count_nonzero())
    )
    lowest = torch.iinfo(bits.dtype).min
    if not changed or difference.min() != lowest:
        return Changes(changed, changed)
    # Of some entries only the sign differs.
    zeros = ((difference == lowest) & ((bits & ~lowest) == 0)).count_nonzero()
    return Changes(changed - int(zeros), changed)


def allocate_bytes(size: int) -> "Bytes":
    """Return a new buffer of `size` bytes, aligned to ALIGNMENT."""
    import numpy

    # numpy requests huge pages, torch does not: small fresh pages take longer than the read itself.
    buffer = numpy.empty(size + ALIGNMENT, dtype=numpy.uint8)
    return buffer[-buffer.ctypes.data % ALIGNMENT :][:size]


def fill_bytes(file: BufferedReader, data: "Bytes") -> None:
    """Read as many bytes as `data` holds. Raises InfrastructureError when the file ends before."""
    if file.readinto(data.data) != len(data):
        raise changed_file_error(Path(file.name).name, "opened")


def to_tensor(data: "Bytes", info: TensorInfo) -> "torch.Tensor":
    """Return the entries [count] that the bytes of a tensor, or of a part of it, hold. They share the memory."""
    import torch

    return torch.from_numpy(data).view(getattr(torch, OWN_DTYPES[info.dtype]))


def _tensor_bytes(tensor: "torch.Tensor") -> memoryview:
    """Return the bytes that safetensors stores, without a copy when the tensor is contiguous."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _read_from(path: Path, data_start: int, info: TensorInfo) -> "torch.Tensor":
    with path.open("rb") as file:
        file.seek(data_start + info.start)
        data = allocate_bytes(info.end - info.start)
        fill_bytes(file, data)
    return to_tensor(data, info).reshape(info.shape)


def _build_header(shapes: Shapes, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in shapes.items():
        size = prod(shape) * DTYPE_BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": (offset, offset + size)}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the safetensors library aligns the data to eight bytes, too
    return struct.pack("<Q", len(text)) + text
