"""Replace a folder by a complete new one: a partial folder with a journal of finished files, then renames.

The first line of the journal is the key of the request: only a run with the same key continues a partial folder. Every
further line is a finished file, which is flushed to disk before the next one is recorded.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.paths import write_file
from antidote_ci.records import WeightFile, from_json

MANIFEST_FILE = "antidote/manifest.json"
JOURNAL_FILE = "journal.jsonl"
"""Lies in the partial folder. A checkpoint never holds a file of this name."""


@dataclass(frozen=True)
class FinishedFile:
    """A file that has its final name, and the number of changed entries by edited tensor."""

    file: WeightFile
    changed: dict[str, int]


@dataclass(frozen=True)
class _JournalKey:
    key: str


def partial_folder(destination: Path) -> Path:
    """Return the folder that is filled before it is renamed to `destination`: its sibling, on the same disk."""
    return destination.with_name(destination.name + ".partial")


def require_disjoint_folders(source: Path, destination: Path) -> None:
    """Raise ConfigurationError when the two folders are the same, or one contains the other."""
    inside, target = source.resolve(), destination.resolve()
    if target.is_relative_to(inside) or inside.is_relative_to(target):
        raise ConfigurationError(
            f"{destination} and the checkpoint {source} lie in one another",
            cause="a checkpoint that is read is never written to",
            hint="choose another output folder",
        )


def require_replaceable(destination: Path) -> None:
    """Raise ConfigurationError unless `destination` is missing, empty, or the result of an earlier repair."""
    if not destination.exists() and not destination.is_symlink():
        return
    is_folder = destination.is_dir() and not destination.is_symlink()
    if not is_folder or (any(destination.iterdir()) and not (destination / MANIFEST_FILE).is_file()):
        raise ConfigurationError(
            f"{destination} exists and is not the result of an earlier repair",
            cause="replacing it would delete files that antidote-ci did not write",
            hint="choose another output folder, or remove that one",
        )


def recover_swap(destination: Path) -> None:
    """Undo or complete an interrupted `commit_swap`: restore the old result, or remove it when the new one exists."""
    backup = _backup_folder(destination)
    if backup.exists():
        if destination.exists():
            shutil.rmtree(backup)
        else:
            backup.rename(destination)


def commit_swap(destination: Path) -> None:
    """Rename the partial folder to `destination`. An old destination is renamed first and removed last.

    A process killed between the two renames leaves nothing at `destination`, and `recover_swap` restores the old
    folder: Python has no call that exchanges two folders in one step.
    """
    backup = _backup_folder(destination)
    if destination.exists():
        destination.rename(backup)
    partial_folder(destination).rename(destination)
    fsync_path(destination.parent)
    if backup.exists():
        shutil.rmtree(backup)


@contextmanager
def rollback_on_error(destination: Path) -> Iterator[None]:
    """Remove the partial folder and restore the old destination when the block raises an Exception.

    KeyboardInterrupt and Terminated are no Exception: like a kill they leave the partial folder to be continued. Raises
    InfrastructureError in place of an OSError.
    """
    try:
        yield
    except BaseException as error:
        recover_swap(destination)
        partial = partial_folder(destination)
        if isinstance(error, Exception) and partial.exists():
            shutil.rmtree(partial)
        if isinstance(error, OSError):
            raise InfrastructureError(
                f"{destination} could not be written: {error.strerror or error}",
                cause="the disk failed, or permissions are missing",
                hint="choose another output folder with --out",
            ) from error
        raise


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder such as a rename, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_journal(partial: Path, key: str) -> list[FinishedFile]:
    """Return the files that an earlier run with the same key finished; none without a valid first line.

    Raises ConfigurationError when the journal has another key.
    """
    path = partial / JOURNAL_FILE
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    try:
        journal_key = from_json(_JournalKey, lines[0]).key
    except (IndexError, ValueError):
        return []
    if journal_key != key:
        raise ConfigurationError(
            f"{partial} belongs to another repair",
            cause="that repair was interrupted, and had another model, method or dose",
            hint=f"repeat it to finish it, remove {partial}, or choose another output folder",
        )
    finished = []
    for line in lines[1:]:
        try:
            finished.append(from_json(FinishedFile, line))
        except ValueError:  # a kill cut the last line short
            break
    return finished


def start_journal(partial: Path, key: str, finished: Iterable[FinishedFile]) -> None:
    """Atomically replace the journal by one that lists the `finished` files of an earlier run."""
    temporary = partial / (JOURNAL_FILE + ".tmp")
    write_file(temporary, _to_line(_JournalKey(key)) + b"".join(map(_to_line, finished)))
    fsync_path(temporary)
    temporary.replace(partial / JOURNAL_FILE)
    fsync_path(partial)


def append_to_journal(partial: Path, finished: FinishedFile) -> None:
    """Record one more finished file, and flush the journal."""
    with (partial / JOURNAL_FILE).open("ab") as file:
        file.write(_to_line(finished))
        file.flush()
        os.fsync(file.fileno())


def _to_line(record: _JournalKey | FinishedFile) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"


def _backup_folder(destination: Path) -> Path:
    return destination.with_name(destination.name + ".replaced-by-antidote")
