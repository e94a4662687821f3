"""Folders that a command writes, asked for before the work whose result is to lie there."""

import os
from pathlib import Path

from antidote_ci.errors import ConfigurationError

OUT = "name another --out"


def require_writable(folder: Path, hint: str = OUT) -> None:
    """Raise ConfigurationError where nothing can be written in `folder`, or made at its place. Makes nothing."""
    # Not Path.exists, which raises where a folder may not be looked into.
    there = next(each for each in (folder, *folder.absolute().parents) if os.access(each, os.F_OK))
    if not there.is_dir():
        raise _unwritable(folder, f"{there} is a file", hint)
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise _unwritable(folder, f"nothing may be written in {there}", hint)


def made(folder: Path, hint: str = OUT, mode: int = 0o777) -> Path:
    """`folder`, which is there now and can be written. Raises ConfigurationError where that cannot be."""
    require_writable(folder, hint)
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, str(error.strerror), hint) from None
    return folder


def _unwritable(folder: Path, cause: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"the folder {folder} cannot be written", cause=cause, hint=hint)
