"""Read, write and edit single tensors of safetensors files, without memory mapping and with one tensor in memory."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.headers import DTYPE_BITS, TensorInfo, read_header
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.paths import create_file

if TYPE_CHECKING:
    import torch

WEIGHT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Safetensors dtype -> torch dtype of weights. Integers and packed numbers are never scored or edited."""
OWN_DTYPES = WEIGHT_DTYPES | {"U8": "uint8"}
"""Dtypes of the files that antidote-ci writes: masks are packed bits."""
ALIGNMENT = 64
"""Bytes, as torch aligns memory. Multithreaded matrix products of unaligned memory differ in the last bits."""
CHUNK_BYTES = 4 << 20
ENTRIES_PER_COMPARISON = 1 << 18
"""Few enough to stay in the cache of a core."""

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensor name -> safetensors dtype and shape, in the order in which the tensors are written."""
TensorEdit = Callable[[str, "torch.Tensor"], "torch.Tensor"]


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
    for start in range(0, len(parts), ENTRIES_PER_COMPARISON):  # needs no float32 copy of the reference
        part = slice(start, start + ENTRIES_PER_COMPARISON)
        parts[part] -= subtracted[part]
    return weight


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
                append(tensor_bytes(tensor))

            yield write
        if missing := [name for name, _ in order]:
            raise ValueError(f"{path.name} lacks {missing[0]}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class FileCopier:
    """Copies `source` to `target` with some tensors edited, and hashes both files while it writes.

    Copied bytes are hashed as they were read, so a later verification of the written file covers the reading too. Each
    hash has one chunk in memory.
    """

    def __init__(
        self, source: BufferedReader, target: BufferedWriter, pool: Executor, advance: Callable[[int], None]
    ) -> None:
        self.source_hash = hashlib.sha256()
        self.target_hash = self.source_hash
        """The same object until a tensor is edited, which saves a third of the work for a file that is only copied."""
        self._source, self._target, self._pool, self._advance = source, target, pool, advance
        self._chunk = memoryview(bytearray(CHUNK_BYTES))

    def copy_until(self, end: int | None) -> None:
        """Copy all bytes up to offset `end`, or to the end of the file."""
        while end is None or self._source.tell() < end:
            size = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - self._source.tell())
            count = self._source.readinto(self._chunk[:size])
            if not count:
                break
            self._write(self._hash_source(self._chunk[:count]), self._chunk[:count])

    def write_edited(self, name: str, info: TensorInfo, edit: TensorEdit) -> int:
        """Read the next tensor, write it edited, and return the number of entries whose value changed.

        Raises ValueError when `edit` writes into its argument, or changes the dtype or shape.
        """
        before = read_at(self._source, info)
        if self.target_hash is self.source_hash:
            self.target_hash = self.source_hash.copy()
        hashed = self._hash_source(tensor_bytes(before))
        after = edit(name, before)
        if before._version:
            raise ValueError(f"the edit of {name} wrote into its argument")
        if after.dtype != before.dtype or after.shape != before.shape:
            raise ValueError(f"the edit of {name} changed its dtype or shape")
        changed = _count_changed(before, after)
        self._write(hashed, tensor_bytes(after if changed else before))
        return changed

    def _hash_source(self, data: memoryview) -> Future[None]:
        return self._pool.submit(self.source_hash.update, data)

    def _write(self, hashed: Future[None], data: memoryview) -> None:
        hashes = [hashed]
        if self.target_hash is not self.source_hash:
            hashes.append(self._pool.submit(self.target_hash.update, data))
        self._target.write(data)
        wait(hashes)
        self._advance(len(data))


def read_at(file: BufferedReader, info: TensorInfo) -> "torch.Tensor":
    """Read a tensor from the current position. Raises InfrastructureError when the file ends before it."""
    import numpy
    import torch

    size = info.end - info.start
    # numpy requests huge pages, torch does not: small fresh pages take longer than the read itself.
    buffer = numpy.empty(size + ALIGNMENT, dtype=numpy.uint8)
    data = buffer[-buffer.ctypes.data % ALIGNMENT :][:size]
    if file.readinto(data.data) != size:
        raise InfrastructureError(
            f"{Path(file.name).name} was truncated while it was read",
            cause="another program writes to it",
            hint="run again when no other program writes to it",
        )
    return torch.from_numpy(data).view(getattr(torch, OWN_DTYPES[info.dtype])).reshape(info.shape)


def tensor_bytes(tensor: "torch.Tensor") -> memoryview:
    """Return the bytes that safetensors stores, without a copy when the tensor is contiguous."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _count_changed(before: "torch.Tensor", after: "torch.Tensor") -> int:
    before, after = before.reshape(-1), after.reshape(-1)
    parts = (slice(start, start + ENTRIES_PER_COMPARISON) for start in range(0, len(before), ENTRIES_PER_COMPARISON))
    return sum(int((before[part] != after[part]).count_nonzero()) for part in parts)


def _read_from(path: Path, data_start: int, info: TensorInfo) -> "torch.Tensor":
    with path.open("rb") as file:
        file.seek(data_start + info.start)
        return read_at(file, info)


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
