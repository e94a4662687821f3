"""A folder that changes from old to complete new by renames alone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError

MANIFEST_FILE = "antidote/manifest.json"


def partial_folder(destination: Path) -> Path:
    """Where a destination grows: beside it, so that a rename can put it in place."""
    return destination.with_name(destination.name + ".partial")


def require_disjoint_folders(source: Path, destination: Path) -> None:
    """Raise ConfigurationError where one of the two folders lies in the other, or they are one."""
    inside, target = source.resolve(), destination.resolve()
    if target.is_relative_to(inside) or inside.is_relative_to(target):
        raise ConfigurationError(
            f"{destination} and the checkpoint {source} lie in one another",
            cause="the source is never written to",
            hint="choose another output folder",
        )


def require_replaceable(destination: Path) -> None:
    """Raise ConfigurationError unless `destination` is new, empty, or holds the result of an earlier repair."""
    if not destination.exists() and not destination.is_symlink():
        return
    is_folder = destination.is_dir() and not destination.is_symlink()
    if not is_folder or (any(destination.iterdir()) and not (destination / MANIFEST_FILE).is_file()):
        raise ConfigurationError(
            f"{destination} exists and is not the result of an earlier repair",
            cause="replacing it would delete files that are not this program's",
            hint="choose another output folder, or remove that one",
        )


def recover_swap(destination: Path) -> None:
    """Undo or end a swap that was cut short: the old result is back, or gone where the new one is in its place."""
    aside = _backup_folder(destination)
    if aside.exists():
        if destination.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(destination)


def commit_swap(destination: Path) -> None:
    """Rename the partial folder to `destination`; an old destination is moved aside first and removed last.

    A process killed between these two renames leaves nothing at `destination`, and `recover_swap` brings the old
    one back: Python has no call that exchanges two folders in one step.
    """
    aside = _backup_folder(destination)
    if destination.exists():
        destination.rename(aside)
    partial_folder(destination).rename(destination)
    fsync_path(destination.parent)
    if aside.exists():
        shutil.rmtree(aside)


@contextmanager
def rollback_on_error(destination: Path) -> Iterator[None]:
    """Whatever error is raised inside, no partial folder stays, and an old destination is back.

    A signal (KeyboardInterrupt, Terminated) is no error: like a kill it leaves the partial folder to be continued.
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
                cause="the disk or its permissions",
                hint="choose another output folder with --out",
            ) from error
        raise


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries such as a rename, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _backup_folder(destination: Path) -> Path:
    return destination.with_name(destination.name + ".replaced-by-antidote")
