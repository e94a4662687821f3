"""A crash-safe writer of repaired checkpoints: a reader of the destination sees the old folder or the complete new one.

All files go into `<destination>.partial`, are flushed to disk, read back and hashed; the manifest comes last, and one
rename puts the folder in place. When the process is killed, the destination stays as it was, and the same call
continues from the journal in the partial folder.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint import swap
from antidote_ci.checkpoint.files import is_report_file, list_files, sha256_file
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.tensors import FileCopier, TensorEdit
from antidote_ci.errors import InfrastructureError
from antidote_ci.paths import write_file
from antidote_ci.records import OnProgress, Progress, WeightFile

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
) -> WrittenCheckpoint:
    """Write a copy of the checkpoint, with `edit` applied to the `edited` tensors, to the partial folder.

    `complete_checkpoint` then puts it in place of `destination`. `edit` is called once for each edited tensor, must not
    change its argument, and returns a tensor of the same dtype and shape. All other bytes are copied, except for the
    `antidote` folder of an earlier repair and unused weights.

    An error removes the partial folder. A kill or a signal leaves the finished files, and a call with the same `key`
    reuses those whose bytes, and the source's, are unchanged.

    Raises ConfigurationError when the destination holds anything else or is being written with another key, and
    InfrastructureError when the disk is full or fails.
    """
    swap.require_disjoint_folders(layout.folder, destination)
    swap.require_replaceable(destination)
    partial = swap.partial_folder(destination)
    # Unused weights would be copied unrepaired.
    names = [
        name for name in list_files(layout.folder) if name not in layout.unused_weights and not is_report_file(name)
    ]
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
        _require_space(destination, sum(sizes[name] for name in unfinished))
        swap.start_journal(partial, key, finished.values())
        # The next file is written while the previous one is flushed and read back.
        with ThreadPoolExecutor(1) as closing, ThreadPoolExecutor(2) as hashing:
            pending: Future[None] | None = None
            for name in unfinished:
                with _explain_disk_full(name, sizes[name]):
                    written = _write_file(layout, partial, name, edited, edit, hashing, advance)
                if pending:
                    pending.result()
                pending = closing.submit(_finish_file, partial, written, sizes[name])
                finished[name] = written
            if pending:
                pending.result()
        changed = {name: count for path in names for name, count in finished[path].changed.items()}
        return WrittenCheckpoint([finished[path].file for path in names], changed)


def complete_checkpoint(destination: Path, manifest: str) -> None:
    """Add the manifest, a JSON text, to the partial folder, and rename the folder to `destination`."""
    partial = swap.partial_folder(destination)
    with swap.rollback_on_error(destination):
        data = manifest.encode()
        target = partial / swap.MANIFEST_FILE
        target.parent.mkdir(exist_ok=True)
        with _explain_disk_full(swap.MANIFEST_FILE, len(data)):
            write_file(_temporary_path(target), data)
            _sync_and_verify(target, hashlib.sha256(data).hexdigest())
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


def _write_file(
    layout: CheckpointLayout,
    partial: Path,
    name: str,
    edited: Container[str],
    edit: TensorEdit,
    pool: Executor,
    advance: Callable[[int], None],
) -> swap.FinishedFile:
    """Write one file under a temporary name. The hashes are those of the bytes read and of the bytes intended."""
    header, target = layout.headers.get(name), partial / name
    target.parent.mkdir(exist_ok=True)
    changed = {}
    with (layout.folder / name).open("rb") as source, _temporary_path(target).open("xb") as file:
        copier = FileCopier(source, file, pool, advance)
        if header is not None:
            if read_header(layout.folder / name) != header:
                raise InfrastructureError(
                    f"{name} changed since it was checked",
                    cause="another program writes to it",
                    hint="run again when no other program writes to it",
                )
            for tensor, info in header.tensors.items():
                if tensor in edited:
                    copier.copy_until(header.data_start + info.start)
                    changed[tensor] = copier.write_edited(tensor, info, edit)
        copier.copy_until(None)
    return swap.FinishedFile(WeightFile(name, copier.source_hash.hexdigest(), copier.target_hash.hexdigest()), changed)


def _finish_file(partial: Path, written: swap.FinishedFile, size: int) -> None:
    """Flush and verify a written file, give it its final name, and record it in the journal."""
    with _explain_disk_full(written.file.path, size):
        _sync_and_verify(partial / written.file.path, written.file.sha256_out)
        swap.append_to_journal(partial, written)


def _sync_and_verify(target: Path, sha256: str) -> None:
    temporary = _temporary_path(target)
    swap.fsync_path(temporary)
    if sha256_file(temporary) != sha256:
        raise InfrastructureError(
            f"{target.name} differs from what was written when it is read back",
            cause="the disk is failing",
            hint="run again, and use another disk if the error repeats",
        )
    temporary.replace(target)
    swap.fsync_path(target.parent)


def _temporary_path(target: Path) -> Path:
    return target.with_name(target.name + ".tmp")


def _require_space(destination: Path, needed: int) -> None:
    """Raise InfrastructureError before writing when the free disk space is less than `needed` bytes."""
    free = shutil.disk_usage(swap.partial_folder(destination)).free
    if needed > free:
        raise _disk_full_error(str(destination), needed, f"{free:,} bytes are free")


@contextmanager
def _explain_disk_full(name: str, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise _disk_full_error(name, size, error.strerror or "") from error
        raise


def _disk_full_error(name: str, needed: int, cause: str) -> InfrastructureError:
    return InfrastructureError(
        f"no disk space for {name}, which needs {needed:,} bytes",
        cause=cause,
        hint="free some space, or choose an output folder on a larger disk",
    )
