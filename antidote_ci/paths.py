"""Folders that a command writes, asked for, and for room in them, before the work whose result is to lie there."""

import os
import shutil
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError

OUT_HINT = "name another --out"


def require_writable(folder: Path, hint: str = OUT_HINT) -> None:
    """Raise ConfigurationError where nothing can be written in `folder`, or made at its place. Makes nothing."""
    there = _existing_parent(folder)
    if not there.is_dir():
        raise _unwritable_error(folder, f"{there} is a file", hint)
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise _unwritable_error(folder, f"nothing may be written in {there}", hint)


def create_folder(folder: Path, hint: str = OUT_HINT, mode: int = 0o777) -> Path:
    """`folder`, which is there now and can be written. Raises ConfigurationError where that cannot be."""
    require_writable(folder, hint)
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable_error(folder, str(error.strerror), hint) from None
    return folder


def require_space(folder: Path, needed: int, setting: str) -> None:
    """Raise InfrastructureError unless `needed` bytes fit on the disk of `folder`, which `setting` chose."""
    free = free_space(folder)
    if needed > free:
        raise InfrastructureError(
            f"not enough disk space: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            cause=f"the disk of {folder} is too small",
            hint=f"free some space, or choose a larger disk with {setting}",
        )


def free_space(folder: Path) -> int:
    """Bytes free on the disk of `folder`, made or not."""
    return shutil.disk_usage(_existing_parent(folder)).free


def _existing_parent(folder: Path) -> Path:
    # Not Path.exists, which raises where a folder may not be looked into.
    return next(each for each in (folder, *folder.absolute().parents) if os.access(each, os.F_OK))


def _unwritable_error(folder: Path, cause: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"the folder {folder} cannot be written", cause=cause, hint=hint)
