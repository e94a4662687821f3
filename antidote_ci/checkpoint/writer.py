"""A crash-safe writer of repaired checkpoints: a reader of the destination sees the old folder or the complete new one.

All files go into `<destination>.partial`, are flushed to disk, read back and hashed; the manifest comes last, and one
rename puts the folder in place. When the process is killed, the destination stays as it was, and the same call
continues from the journal in the partial folder.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import MappingProxyType

from antidote_ci.checkpoint import swap
from antidote_ci.checkpoint.file_copier import FileCopier
from antidote_ci.checkpoint.files import (
    FileIdentity,
    changed_file_error,
    identify_file,
    is_report_file,
    list_files,
    sha256_file,
)
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.tensors import TensorEdit
from antidote_ci.errors import InfrastructureError, UnsafeCheckpoint
from antidote_ci.paths import open_regular, require_space, write_file
from antidote_ci.records import OnProgress, Progress, WeightFile

BYTES_PER_FLUSH = 64 << 20
"""A multiple of the size of a page: only whole pages leave the page cache."""
BYTES_PER_READ = 1 << 20
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class HashedFile:
    """A file that was hashed: its sha256 holds for a file with this identity."""

    identity: FileIdentity
    sha256: str


@dataclass(frozen=True)
class WrittenCheckpoint:
    """A partial folder that is complete but for its manifest."""

    files: list[WeightFile]
    changed: dict[str, int]
    """Edited tensor -> number of entries whose value changed."""


def write_checkpoint(
    layout: CheckpointLayout,
    destination: Path,
    edited: Container[str],
    edit: TensorEdit,
    key: str,
    progress: OnProgress,
    hashed: Mapping[str, HashedFile] = MappingProxyType({}),
) -> WrittenCheckpoint:
    """Write a copy of the checkpoint, with `edit` applied to the `edited` tensors, to the partial folder.

    `complete_checkpoint` then puts it in place of `destination`. `edit` is called once for each edited tensor. All
    other bytes are copied, except for the `antidote` folder of an earlier repair and unused weights. Files of the
    source whose identity is that of `hashed` are not hashed again.

    An error removes the partial folder. A kill or a signal leaves the finished files, and a call with the same `key`
    reuses those whose bytes, and the source's, are unchanged.

    Raises ConfigurationError when the destination holds anything else or is being written with another key, and
    InfrastructureError when the disk is full or fails.
    """
    swap.require_disjoint_folders(layout.folder, destination)
    swap.require_replaceable(destination)
    partial = swap.partial_folder(destination)
    names = _list_copied_files(layout)
    sizes = {name: (layout.folder / name).stat().st_size for name in names}
    earlier = [entry for entry in swap.read_journal(partial, key) if entry.file.path in sizes]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("bytes written", done, sum(sizes.values())))

    with swap.rollback_on_error(destination):
        swap.recover_swap(destination)
        partial.mkdir(parents=True, exist_ok=True)
        finished = {}
        for entry in earlier:
            if _is_unchanged(entry.file, layout.folder, partial):
                finished[entry.file.path] = entry
                advance(sizes[entry.file.path])
        _remove_others({*finished, swap.JOURNAL_FILE}, partial)
        unfinished = [name for name in names if name not in finished]
        require_space(partial, sum(sizes[name] for name in unfinished), "--out")
        swap.start_journal(partial, key, finished.values())
        # The next file is written while the previous one is flushed and read back.
        with ThreadPoolExecutor(1) as closing, ThreadPoolExecutor(1) as hashing:
            pending: Future[None] | None = None
            for name in unfinished:
                read_back = ReadBack(_temporary_path(partial / name), closing)
                with _explain_disk_full(name, sizes[name]):
                    written = _write_file(layout, name, edited, edit, read_back, hashing, advance, hashed.get(name))
                if pending:
                    pending.result()
                pending = closing.submit(_finish_file, partial, written, read_back, sizes[name])
                finished[name] = written
            if pending:
                pending.result()
        changed = {name: count for path in names for name, count in finished[path].changed.items()}
        return WrittenCheckpoint([finished[path].file for path in names], changed)


def require_copy(layout: CheckpointLayout, destination: Path) -> None:
    """Check that a folder differs from the checkpoint in its weights and its manifest alone.

    The process that wrote it opened the checkpoint, which may have taken it over. Raises UnsafeCheckpoint for any other
    file, and for a missing or changed one.
    """
    copied = {name for name in _list_copied_files(layout) if name not in layout.shards}
    paths = {path.relative_to(destination).as_posix(): path.lstat() for path in destination.rglob("*")}
    written = {name for name, status in paths.items() if stat.S_ISREG(status.st_mode)}
    changed = {name for name, status in paths.items() if not stat.S_ISDIR(status.st_mode)} - written
    changed |= written ^ {*copied, *layout.shards, swap.MANIFEST_FILE}
    changed |= {name for name in copied & written if _differs(layout.folder / name, destination / name)}
    if changed:
        raise UnsafeCheckpoint(
            f"{min(changed)!r:.200} of the repaired checkpoint is not the file of the model that was repaired",
            cause="the model has taken over the process that repairs it, or another program changed the folder",
            hint="do not use this model or its repair unless you trust it",
        )


def _list_copied_files(layout: CheckpointLayout) -> list[str]:
    # Unused weights would be copied unrepaired.
    return [
        name for name in list_files(layout.folder) if name not in layout.unused_weights and not is_report_file(name)
    ]


def _differs(source: Path, copy: Path) -> bool:
    with source.open("rb") as expected, open_regular(copy) as file:
        size = os.fstat(expected.fileno()).st_size
        return os.fstat(file.fileno()).st_size != size or expected.read() != file.read(size)


def complete_checkpoint(destination: Path, manifest: str) -> None:
    """Add the manifest, a JSON text, to the partial folder, and rename the folder to `destination`."""
    partial = swap.partial_folder(destination)
    with swap.rollback_on_error(destination):
        data = manifest.encode()
        target = partial / swap.MANIFEST_FILE
        target.parent.mkdir(exist_ok=True)
        with _explain_disk_full(swap.MANIFEST_FILE, len(data)):
            write_file(_temporary_path(target), data)
            _verify_and_rename(target, ReadBack(_temporary_path(target)), hashlib.sha256(data).hexdigest())
        (partial / swap.JOURNAL_FILE).unlink()
        swap.fsync_path(partial)
        swap.commit_swap(destination)


def _is_unchanged(file: WeightFile, source: Path, partial: Path) -> bool:
    pairs = ((source / file.path, file.sha256_in), (partial / file.path, file.sha256_out))
    return all(path.is_file() and sha256_file(path) == sha256 for path, sha256 in pairs)


def _remove_others(names: Container[str], folder: Path) -> None:
    for path in list(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


class ReadBack:
    """Hashes a file as the disk holds it: flushed, dropped from the page cache, and read again."""

    def __init__(self, path: Path, thread: Executor | None = None) -> None:
        """`thread` reads back what is written, while the file grows."""
        self.path, self._thread = path, thread
        self._hash = hashlib.sha256()
        self._done = self._requested = 0
        self._pending: Future[None] | None = None

    def follow(self, file: BufferedWriter) -> None:
        """Start to read back what `file` holds, if it has grown by enough. At most one call is not finished."""
        end = file.tell() // BYTES_PER_FLUSH * BYTES_PER_FLUSH
        if self._thread and end > self._requested:
            file.flush()
            if self._pending:
                self._pending.result()
            self._requested, self._pending = end, self._thread.submit(self._continue_to, end)

    def finish(self) -> str:
        """Read back the rest, and return the sha256 of the file."""
        if self._pending:
            self._pending.result()
        self._continue_to(None)
        return self._hash.hexdigest()

    def _continue_to(self, end: int | None) -> None:
        buffer = memoryview(bytearray(BYTES_PER_READ))
        with self.path.open("rb", buffering=0) as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(
                    file.fileno(), self._done, 0 if end is None else end - self._done, os.POSIX_FADV_DONTNEED
                )
            file.seek(self._done)
            while count := file.readinto(buffer[: None if end is None else end - self._done]):
                self._hash.update(buffer[:count])
                self._done += count


def _write_file(
    layout: CheckpointLayout,
    name: str,
    edited: Container[str],
    edit: TensorEdit,
    read_back: ReadBack,
    hashing: Executor,
    advance: Callable[[int], None],
    hashed: HashedFile | None,
) -> swap.FinishedFile:
    """Write one file under a temporary name. The hashes are those of the bytes read and of the bytes intended."""
    header = layout.headers.get(name)
    read_back.path.parent.mkdir(exist_ok=True)
    changed = {}
    with (layout.folder / name).open("rb") as source, read_back.path.open("xb") as file:
        identity = identify_file(source.fileno())
        if hashed is not None and hashed.identity != identity:
            hashed = None

        def advance_and_read_back(count: int) -> None:
            advance(count)
            read_back.follow(file)

        copier = FileCopier(source, file, hashing, advance_and_read_back, hashed.sha256 if hashed else None)
        if header is not None:
            if read_header(layout.folder / name) != header:
                raise changed_file_error(name, "checked")
            for tensor, info in header.tensors.items():
                if tensor in edited:
                    copier.copy_until(header.data_start + info.start)
                    changed[tensor] = copier.write_edited(info, edit(tensor))
        copier.copy_until(None)
        if hashed is not None and identify_file(source.fileno()) != identity:
            raise changed_file_error(name, "hashed")
    return swap.FinishedFile(WeightFile(name, copier.hash_source(), copier.hash_target()), changed)


def _finish_file(partial: Path, written: swap.FinishedFile, read_back: ReadBack, size: int) -> None:
    """Flush and verify a written file, give it its final name, and record it in the journal."""
    with _explain_disk_full(written.file.path, size):
        _verify_and_rename(partial / written.file.path, read_back, written.file.sha256_out)
        swap.append_to_journal(partial, written)


def _verify_and_rename(target: Path, read_back: ReadBack, sha256: str) -> None:
    if read_back.finish() != sha256:
        raise InfrastructureError(
            f"{target.name} differs from what was written when it is read back",
            cause="the disk is failing",
            hint="run again, and use another disk if the error repeats",
        )
    read_back.path.replace(target)
    swap.fsync_path(target.parent)


def _temporary_path(target: Path) -> Path:
    return target.with_name(target.name + ".tmp")


@contextmanager
def _explain_disk_full(name: str, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise InfrastructureError(
                f"no disk space for {name}, which needs {size:,} bytes",
                cause=error.strerror or "",
                hint="free some space, or choose an output folder on a larger disk",
            ) from error
        raise
