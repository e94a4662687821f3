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

from antidote_ci.checkpoint.copying import Copy, Edit
from antidote_ci.checkpoint.files import is_proof, listing, sha256_file
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.journal import JOURNAL, Finished, add_to_journal, begin_journal, read_journal
from antidote_ci.checkpoint.layout import Layout
from antidote_ci.checkpoint.swap import (
    MANIFEST,
    nothing_left_on_error,
    partial_of,
    put_in_place,
    require_apart,
    require_replaceable,
    restore,
    sync,
)
from antidote_ci.errors import InfrastructureError
from antidote_ci.records import OnProgress, Progress, WeightFile

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Written:
    """A complete partial folder, but for its manifest."""

    files: list[WeightFile]
    changed: dict[str, int]
    """Entries whose value is another, by edited tensor."""


def write_checkpoint(
    layout: Layout,
    destination: Path,
    edited: Container[str],
    edit: Edit,
    key: str,
    progress: OnProgress,
) -> Written:
    """Write the checkpoint beside `destination`, its `edited` tensors as `edit` has them; `finish` puts it in place.

    `edit` sees each of them once, must leave its argument as it is, and returns a tensor of the same dtype and shape;
    all other bytes are copied. Files that are no weights come along unchanged, save an earlier run's `antidote` folder.

    On an error nothing is left. A kill or a signal leaves what is finished, and a call with the same `key` takes it
    over where its bytes, and the source's, are still the same.

    Raises ConfigurationError for a destination that holds something else or is being written with another key, and
    InfrastructureError when the disk is full or fails.
    """
    require_apart(layout.folder, destination)
    require_replaceable(destination)
    partial = partial_of(destination)
    names = _carried(layout)
    sizes = {name: (layout.folder / name).stat().st_size for name in names}
    earlier = [each for each in read_journal(partial, key) if each.file.path in sizes]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("bytes written", done, sum(sizes.values())))

    with nothing_left_on_error(destination):
        restore(destination)
        partial.mkdir(parents=True, exist_ok=True)
        finished = {}
        for each in earlier:
            if _is_as_it_was(each.file, layout.folder, partial):
                finished[each.file.path] = each
                advance(sizes[each.file.path])
        _remove_all_but({*finished, JOURNAL}, partial)
        left = [name for name in names if name not in finished]
        _require_room(destination, sum(sizes[name] for name in left))
        begin_journal(partial, key, finished.values())
        # While one file is flushed and read again the next is already being written.
        with ThreadPoolExecutor(1) as closing, ThreadPoolExecutor(2) as hashing:
            pending: Future[Finished] | None = None
            for name in left:
                with _room_for(name, sizes[name]):
                    meant = _write(layout, partial, name, edited, edit, hashing, advance)
                if pending:
                    _keep(finished, pending)
                pending = closing.submit(_close, partial, meant, sizes[name])
            if pending:
                _keep(finished, pending)
        in_order = [finished[name] for name in names]
        changed = {name: count for each in in_order for name, count in each.changed.items()}
        return Written([each.file for each in in_order], changed)


def finish(destination: Path, manifest: str) -> None:
    """Add the manifest, a JSON text, to what `write_checkpoint` wrote, and put the whole in place of `destination`."""
    partial = partial_of(destination)
    with nothing_left_on_error(destination):
        data = manifest.encode()
        target = partial / MANIFEST
        target.parent.mkdir(exist_ok=True)
        with _room_for(MANIFEST, len(data)):
            _temporary(target).write_bytes(data)
            _settle(target, hashlib.sha256(data).hexdigest())
        (partial / JOURNAL).unlink()
        sync(partial)
        put_in_place(destination)


def _carried(layout: Layout) -> list[str]:
    """The shards and every allowed file that speaks of them; other weights would come along unrepaired."""
    return [name for name in listing(layout.folder) if name not in layout.unused_weights and not is_proof(name)]


def _is_as_it_was(file: WeightFile, source: Path, partial: Path) -> bool:
    before, after = source / file.path, partial / file.path
    return (
        before.is_file()
        and after.is_file()
        and sha256_file(before) == file.sha256_in
        and sha256_file(after) == file.sha256_out
    )


def _remove_all_but(names: Container[str], folder: Path) -> None:
    for path in list(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _write(
    layout: Layout,
    partial: Path,
    name: str,
    edited: Container[str],
    edit: Edit,
    pool: Executor,
    advance: Callable[[int], None],
) -> Finished:
    """Write one file under a name of its own that passes; the hashes are of what was read and what was meant."""
    header, target = layout.headers.get(name), partial / name
    target.parent.mkdir(exist_ok=True)
    changed = {}
    with (layout.folder / name).open("rb") as source, _temporary(target).open("xb") as file:
        copy = Copy(source, file, pool, advance)
        if header is not None:
            if read_header(layout.folder / name) != header:
                raise _changed(name)
            for tensor, info in header.tensors.items():
                if tensor in edited:
                    copy.until(header.data_start + info.start)
                    changed[tensor] = copy.edited(tensor, info, edit)
        copy.until(None)
    return Finished(WeightFile(name, copy.read.hexdigest(), copy.meant.hexdigest()), changed)


def _close(partial: Path, meant: Finished, size: int) -> Finished:
    """Give a written file its name, once the disk has it and gives it back as it was meant."""
    target = partial / meant.file.path
    with _room_for(meant.file.path, size):
        _settle(target, meant.file.sha256_out)
        add_to_journal(partial, meant)
    return meant


def _settle(target: Path, sha256: str) -> None:
    temporary = _temporary(target)
    sync(temporary)
    if sha256_file(temporary) != sha256:
        raise InfrastructureError(
            f"{target.name} reads back otherwise than it was written",
            cause="the disk is failing",
            hint="run again, on another disk if it happens twice",
        )
    temporary.replace(target)
    sync(target.parent)


def _keep(finished: dict[str, Finished], pending: Future[Finished]) -> None:
    each = pending.result()
    finished[each.file.path] = each


def _temporary(target: Path) -> Path:
    return target.with_name(target.name + ".tmp")


def _require_room(destination: Path, needed: int) -> None:
    """Told now rather than after most of a large model is written."""
    free = shutil.disk_usage(partial_of(destination)).free
    if needed > free:
        raise _no_room(str(destination), needed, f"{free:,} bytes are free")


@contextmanager
def _room_for(name: str, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(name, size, error.strerror or "") from error
        raise


def _changed(name: str) -> InfrastructureError:
    return InfrastructureError(
        f"{name} changed since it was looked at",
        cause="something else writes to it",
        hint="run again when nothing does",
    )


def _no_room(name: str, needed: int, cause: str) -> InfrastructureError:
    return InfrastructureError(
        f"no disk space for {name}, which needs {needed:,} bytes",
        cause=cause,
        hint="free some space, or choose an output folder on a larger disk",
    )
