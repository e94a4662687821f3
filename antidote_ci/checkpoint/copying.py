"""One file on its way into another: most bytes kept, some tensors edited, both sides hashed."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from io import BufferedReader, BufferedWriter
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.tensors import read_at, tensor_bytes

if TYPE_CHECKING:
    import torch

TensorEdit = Callable[[str, "torch.Tensor"], "torch.Tensor"]

CHUNK_BYTES = 4 << 20
ENTRIES_PER_COMPARISON = 1 << 18
"""Entries: few enough to stay in a core's cache."""


class FileCopier:
    """From `source` to `target`, hashed while it is written; the hashes' threads hold one piece at a time.

    Bytes that are kept are hashed as they were read, so that what is read again later is known to be the same.
    """

    def __init__(
        self, source: BufferedReader, target: BufferedWriter, pool: Executor, advance: Callable[[int], None]
    ) -> None:
        self.read = hashlib.sha256()
        self.meant = self.read
        """One and the same until something is edited: a third of the work of a file that is only copied."""
        self._source, self._target, self._pool, self._advance = source, target, pool, advance
        self._chunk = memoryview(bytearray(CHUNK_BYTES))

    def copy_until(self, end: int | None) -> None:
        """Keep everything up to byte `end`, or to the end of the file."""
        while end is None or self._source.tell() < end:
            wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - self._source.tell())
            count = self._source.readinto(self._chunk[:wanted])
            if not count:
                break
            self._write(self._update_hash(self._chunk[:count]), self._chunk[:count])

    def write_edited(self, name: str, info: TensorInfo, edit: TensorEdit) -> int:
        """Put the edited tensor in place of the next one; how many of its entries have another value."""
        before = read_at(self._source, info)
        if self.meant is self.read:
            self.meant = self.read.copy()
        hashed = self._update_hash(tensor_bytes(before))
        after = edit(name, before)
        if before._version:
            raise ValueError(f"the edit of {name} wrote into its argument")
        if after.dtype != before.dtype or after.shape != before.shape:
            raise ValueError(f"the edit of {name} changed its dtype or shape")
        changed = _count_changed(before, after)
        self._write(hashed, tensor_bytes(after if changed else before))
        return changed

    def _update_hash(self, data: memoryview) -> Future[None]:
        return self._pool.submit(self.read.update, data)

    def _write(self, hashed: Future[None], data: memoryview) -> None:
        hashes = [hashed]
        if self.meant is not self.read:
            hashes.append(self._pool.submit(self.meant.update, data))
        self._target.write(data)
        wait(hashes)
        self._advance(len(data))


def _count_changed(before: "torch.Tensor", after: "torch.Tensor") -> int:
    one, other = before.reshape(-1), after.reshape(-1)
    parts = (slice(at, at + ENTRIES_PER_COMPARISON) for at in range(0, len(one), ENTRIES_PER_COMPARISON))
    return sum(int((one[part] != other[part]).count_nonzero()) for part in parts)
