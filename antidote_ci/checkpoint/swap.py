"""A folder that changes from old to complete new by renames alone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError

MANIFEST = "antidote/manifest.json"


def partial_of(destination: Path) -> Path:
    """Where a destination grows: beside it, so that a rename can put it in place."""
    return destination.with_name(destination.name + ".partial")


def require_apart(source: Path, destination: Path) -> None:
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
    if not is_folder or (any(destination.iterdir()) and not (destination / MANIFEST).is_file()):
        raise ConfigurationError(
            f"{destination} exists and is not the result of an earlier repair",
            cause="replacing it would delete files that are not this program's",
            hint="choose another output folder, or remove that one",
        )


def restore(destination: Path) -> None:
    """Undo or end a swap that was cut short: the old result is back, or gone where the new one is in its place."""
    aside = _aside(destination)
    if aside.exists():
        if destination.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(destination)


def put_in_place(destination: Path) -> None:
    """Rename the partial folder to `destination`; an old destination is moved aside first and removed last.

    A process killed between these two renames leaves nothing at `destination`, and `restore` brings the old one back:
    Python has no call that exchanges two folders in one step.
    """
    aside = _aside(destination)
    if destination.exists():
        destination.rename(aside)
    partial_of(destination).rename(destination)
    sync(destination.parent)
    if aside.exists():
        shutil.rmtree(aside)


@contextmanager
def nothing_left_on_error(destination: Path) -> Iterator[None]:
    """Whatever error is raised inside, no partial folder stays, and an old destination is back.

    A signal (KeyboardInterrupt, Terminated) is no error: like a kill it leaves the partial folder to be continued.
    """
    try:
        yield
    except BaseException as error:
        restore(destination)
        partial = partial_of(destination)
        if isinstance(error, Exception) and partial.exists():
            shutil.rmtree(partial)
        if isinstance(error, OSError):
            raise InfrastructureError(
                f"{destination} could not be written: {error.strerror or error}",
                cause="the disk or its permissions",
                hint="choose another output folder with --out",
            ) from error
        raise


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries such as a rename, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(destination: Path) -> Path:
    return destination.with_name(destination.name + ".replaced-by-antidote")
