"""A repaired checkpoint, written so that nobody ever sees a part of it.

Everything goes into `<destination>.partial`, is flushed to the disk, read again and hashed; the manifest comes last,
and then one rename puts the folder in its place. A process stopped at any moment leaves the old destination or the
new, and a journal in the partial folder from which the same call continues.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.checkpoint.copying import FileCopier, TensorEdit
from antidote_ci.checkpoint.files import is_report_file, list_files, sha256_file
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.journal import JOURNAL_FILE, FinishedFile, append_to_journal, read_journal, start_journal
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.checkpoint.swap import (
    MANIFEST_FILE,
    commit_swap,
    fsync_path,
    partial_folder,
    recover_swap,
    require_disjoint_folders,
    require_replaceable,
    rollback_on_error,
)
from antidote_ci.errors import InfrastructureError
from antidote_ci.records import OnProgress, Progress, WeightFile

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class WrittenCheckpoint:
    """A complete partial folder, but for its manifest."""

    files: list[WeightFile]
    changed: dict[str, int]
    """Entries whose value is another, by edited tensor."""


def write_checkpoint(
    layout: CheckpointLayout,
    destination: Path,
    edited: Container[str],
    edit: TensorEdit,
    key: str,
    progress: OnProgress,
) -> WrittenCheckpoint:
    """Write the checkpoint beside `destination`, its `edited` tensors as `edit` has them; `publish_in_place` puts
    it in place.

    `edit` sees each of them once, must leave its argument as it is, and returns a tensor of the same dtype and shape;
    all other bytes are copied. Files that are no weights come along unchanged, save an earlier run's `antidote` folder.

    On an error nothing is left. A kill or a signal leaves what is finished, and a call with the same `key` takes it
    over where its bytes, and the source's, are still the same.

    Raises ConfigurationError for a destination that holds something else or is being written with another key, and
    InfrastructureError when the disk is full or fails.
    """
    require_disjoint_folders(layout.folder, destination)
    require_replaceable(destination)
    partial = partial_folder(destination)
    names = _list_copied_files(layout)
    sizes = {name: (layout.folder / name).stat().st_size for name in names}
    earlier = [each for each in read_journal(partial, key) if each.file.path in sizes]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("bytes written", done, sum(sizes.values())))

    with rollback_on_error(destination):
        recover_swap(destination)
        partial.mkdir(parents=True, exist_ok=True)
        finished = {}
        for each in earlier:
            if _is_unchanged(each.file, layout.folder, partial):
                finished[each.file.path] = each
                advance(sizes[each.file.path])
        _remove_others({*finished, JOURNAL_FILE}, partial)
        left = [name for name in names if name not in finished]
        _require_room(destination, sum(sizes[name] for name in left))
        start_journal(partial, key, finished.values())
        # While one file is flushed and read again the next is already being written.
        with ThreadPoolExecutor(1) as closing, ThreadPoolExecutor(2) as hashing:
            pending: Future[FinishedFile] | None = None
            for name in left:
                with _explain_disk_full(name, sizes[name]):
                    meant = _write_file(layout, partial, name, edited, edit, hashing, advance)
                if pending:
                    _record_finished(finished, pending)
                pending = closing.submit(_finish_file, partial, meant, sizes[name])
            if pending:
                _record_finished(finished, pending)
        in_order = [finished[name] for name in names]
        changed = {name: count for each in in_order for name, count in each.changed.items()}
        return WrittenCheckpoint([each.file for each in in_order], changed)


def publish_in_place(destination: Path, manifest: str) -> None:
    """Add the manifest, a JSON text, to what `write_checkpoint` wrote, and put the whole in place of `destination`."""
    partial = partial_folder(destination)
    with rollback_on_error(destination):
        data = manifest.encode()
        target = partial / MANIFEST_FILE
        target.parent.mkdir(exist_ok=True)
        with _explain_disk_full(MANIFEST_FILE, len(data)):
            _temporary_path(target).write_bytes(data)
            _sync_and_verify(target, hashlib.sha256(data).hexdigest())
        (partial / JOURNAL_FILE).unlink()
        fsync_path(partial)
        commit_swap(destination)


def _list_copied_files(layout: CheckpointLayout) -> list[str]:
    """The shards and every allowed file that speaks of them; other weights would come along unrepaired."""
    return [
        name for name in list_files(layout.folder) if name not in layout.unused_weights and not is_report_file(name)
    ]


def _is_unchanged(file: WeightFile, source: Path, partial: Path) -> bool:
    before, after = source / file.path, partial / file.path
    return (
        before.is_file()
        and after.is_file()
        and sha256_file(before) == file.sha256_in
        and sha256_file(after) == file.sha256_out
    )


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
) -> FinishedFile:
    """Write one file under a name of its own that passes; the hashes are of what was read and what was meant."""
    header, target = layout.headers.get(name), partial / name
    target.parent.mkdir(exist_ok=True)
    changed = {}
    with (layout.folder / name).open("rb") as source, _temporary_path(target).open("xb") as file:
        copy = FileCopier(source, file, pool, advance)
        if header is not None:
            if read_header(layout.folder / name) != header:
                raise _source_changed_error(name)
            for tensor, info in header.tensors.items():
                if tensor in edited:
                    copy.copy_until(header.data_start + info.start)
                    changed[tensor] = copy.write_edited(tensor, info, edit)
        copy.copy_until(None)
    return FinishedFile(WeightFile(name, copy.read.hexdigest(), copy.meant.hexdigest()), changed)


def _finish_file(partial: Path, meant: FinishedFile, size: int) -> FinishedFile:
    """Give a written file its name, once the disk has it and gives it back as it was meant."""
    target = partial / meant.file.path
    with _explain_disk_full(meant.file.path, size):
        _sync_and_verify(target, meant.file.sha256_out)
        append_to_journal(partial, meant)
    return meant


def _sync_and_verify(target: Path, sha256: str) -> None:
    temporary = _temporary_path(target)
    fsync_path(temporary)
    if sha256_file(temporary) != sha256:
        raise InfrastructureError(
            f"{target.name} reads back otherwise than it was written",
            cause="the disk is failing",
            hint="run again, on another disk if it happens twice",
        )
    temporary.replace(target)
    fsync_path(target.parent)


def _record_finished(finished: dict[str, FinishedFile], pending: Future[FinishedFile]) -> None:
    each = pending.result()
    finished[each.file.path] = each


def _temporary_path(target: Path) -> Path:
    return target.with_name(target.name + ".tmp")


def _require_room(destination: Path, needed: int) -> None:
    """Told now rather than after most of a large model is written."""
    free = shutil.disk_usage(partial_folder(destination)).free
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


def _source_changed_error(name: str) -> InfrastructureError:
    return InfrastructureError(
        f"{name} changed since it was looked at",
        cause="something else writes to it",
        hint="run again when nothing does",
    )


def _disk_full_error(name: str, needed: int, cause: str) -> InfrastructureError:
    return InfrastructureError(
        f"no disk space for {name}, which needs {needed:,} bytes",
        cause=cause,
        hint="free some space, or choose an output folder on a larger disk",
    )
