"""Copy a safetensors file with some tensors edited, in chunks, and hash both files meanwhile."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from io import SEEK_CUR, BufferedReader, BufferedWriter
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.headers import DTYPE_BITS, TensorInfo
from antidote_ci.checkpoint.tensors import ChunkEdit, allocate_bytes, fill_bytes, to_tensor

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Bytes = NDArray[numpy.uint8]

CHUNK_BYTES = 1 << 20
"""A multiple of eight entries of every dtype, so that each chunk begins with a whole byte of its mask."""


@dataclass
class _Chunk:
    """A buffer, a copy of its bytes as they were read, and the hashes that still read both."""

    data: "Bytes"
    original: "Bytes"
    hashes: list[Future[None]] = field(default_factory=list)

    def wait(self) -> None:
        for future in self.hashes:
            future.result()
        self.hashes.clear()


class FileCopier:
    """Copies `source` to `target` with some tensors edited, and hashes both files meanwhile.

    Copied bytes are hashed as they were read, so a later verification of the written file covers the reading too. Two
    chunks are in memory: one is hashed while the other is read, edited and written.
    """

    def __init__(
        self,
        source: BufferedReader,
        target: BufferedWriter,
        hashing: Executor,
        advance: Callable[[int], None],
        source_sha256: str | None = None,
    ) -> None:
        """`hashing` has one thread, which keeps the order. With `source_sha256` the source is not hashed again."""
        self._source, self._target, self._hashing, self._advance = source, target, hashing, advance
        self._known = source_sha256
        self._target_hash = hashlib.sha256()
        self._source_hash = self._target_hash
        """The same object until a tensor is edited: a file that is only copied is hashed once."""
        self._chunks = [_Chunk(allocate_bytes(CHUNK_BYTES), allocate_bytes(CHUNK_BYTES)) for _ in range(2)]

    def copy_until(self, end: int | None) -> None:
        """Copy all bytes up to offset `end`, or to the end of the file."""
        while end is None or self._source.tell() < end:
            size = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - self._source.tell())
            chunk = self._next_chunk()
            count = self._source.readinto(chunk.data[:size].data)
            if not count:
                break
            self._write(chunk, chunk.data[:count], chunk.data[:count])

    def write_edited(self, info: TensorInfo, edit: ChunkEdit) -> int:
        """Read the next tensor, write it edited, and return the number of entries whose value changed.

        A tensor in which no value changed is written as it was read, also where a zero got another sign.
        """
        if self._source_hash is self._target_hash:
            self.wait()
            self._source_hash = self._target_hash.copy()
        end = self._source.tell() + info.end - info.start
        changed, is_changed = 0, False
        for start, size in _list_chunks(info):
            chunk = self._next_chunk()
            data = original = chunk.data[:size]
            fill_bytes(self._source, data)
            if self._known is None:
                original = chunk.original[:size]
                original[:] = data
            changes = edit(start, to_tensor(data, info))
            is_changed = is_changed or changes.values > 0
            if changes.bits and not is_changed:
                is_changed = self._changes_after(start, info, edit)
                if not is_changed:
                    self._source.seek(-size, SEEK_CUR)
                    self.copy_until(end)
                    return 0
            changed += changes.values
            self._write(chunk, original, data)
        return changed

    def wait(self) -> None:
        """Wait until everything that was written is hashed."""
        for chunk in self._chunks:
            chunk.wait()

    def hash_source(self) -> str:
        """Return the sha256 of the bytes that were read, or the known one of a source that was not hashed again."""
        self.wait()
        if self._source_hash is not self._target_hash and self._known is not None:
            return self._known
        return self._source_hash.hexdigest()

    def hash_target(self) -> str:
        """Return the sha256 of the bytes that were passed on for writing."""
        self.wait()
        return self._target_hash.hexdigest()

    def _next_chunk(self) -> _Chunk:
        self._chunks.reverse()
        self._chunks[0].wait()
        return self._chunks[0]

    def _write(self, chunk: _Chunk, original: "Bytes", data: "Bytes") -> None:
        chunk.hashes.append(self._hashing.submit(self._target_hash.update, data.data))
        if self._source_hash is not self._target_hash and self._known is None:
            chunk.hashes.append(self._hashing.submit(self._source_hash.update, original.data))
        self._target.write(data.data)
        self._advance(len(data))

    def _changes_after(self, index: int, info: TensorInfo, edit: ChunkEdit) -> bool:
        """Return whether the edit changes a value in a chunk of the tensor that follows the one at `index`.

        The source is left where it is, behind that chunk.
        """
        position, data = self._source.tell(), allocate_bytes(CHUNK_BYTES)
        try:
            for start, size in _list_chunks(info):
                if start > index:
                    fill_bytes(self._source, data[:size])
                    if edit(start, to_tensor(data[:size], info)).values:
                        return True
            return False
        finally:
            self._source.seek(position)


def _list_chunks(info: TensorInfo) -> Iterator[tuple[int, int]]:
    """Yield the index of the first entry and the number of bytes of each chunk."""
    size = info.end - info.start
    for start in range(0, size, CHUNK_BYTES):
        yield start * 8 // DTYPE_BITS[info.dtype], min(CHUNK_BYTES, size - start)
