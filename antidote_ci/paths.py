"""Paths that a user names, and folders that a command writes: permissions, disk space and file locks."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError

OUT_HINT = "name another --out"
UNSUPPORTED_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems without locks, such as some mounts of Lustre."""


def is_path(text: str) -> bool:
    """Whether `text` is written as a path: it starts with `./`, `../`, `/` or `~`, or is `.` or `..`.

    Everything else is a name, whether or not a folder of this name exists.
    """
    return text in (".", "..") or text.startswith(("./", "../", "/", "~"))


def write_as_path(path: Path) -> str:
    """`path` in a form for which `is_path` is true."""
    return str(path) if is_path(str(path)) else f"./{path}"


def is_folder(text: str) -> bool:
    """Whether a folder has this path, relative to the working directory. `~` has no special meaning."""
    return os.path.isdir(text)  # noqa: PTH112 - Path.is_dir raises for a long name


def find_folder(path: str) -> Path | None:
    """The folder at a path that a user wrote, absolute and without `~`, or None if there is none."""
    try:
        folder = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        # An unknown user after `~`, a loop of links, or characters that no path has.
        return None
    return folder if is_folder(str(folder)) else None


def require_writable(folder: Path, hint: str = OUT_HINT) -> None:
    """Raise ConfigurationError if `folder` cannot be written or created. Creates nothing."""
    parent = _existing_parent(folder)
    if not parent.is_dir():
        raise _unwritable_error(folder, f"{parent} is a file", hint)
    if not os.access(parent, os.R_OK | os.W_OK | os.X_OK):
        raise _unwritable_error(folder, f"permission denied in {parent}", hint)


def create_folder(folder: Path, hint: str = OUT_HINT, mode: int = 0o777) -> Path:
    """Create `folder` if it does not exist. Raises ConfigurationError if it cannot be written."""
    require_writable(folder, hint)
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable_error(folder, str(error.strerror), hint) from None
    return folder


def require_space(folder: Path, needed: int, setting: str) -> None:
    """Raise InfrastructureError unless `needed` bytes are free on the disk of `folder`.

    `setting`: the option or variable that chooses the folder, for the hint.
    """
    free = free_space(folder)
    if needed > free:
        raise InfrastructureError(
            f"not enough disk space: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            cause=f"the disk of {folder} is too small",
            hint=f"free some space, or choose a larger disk with {setting}",
        )


def free_space(folder: Path) -> int:
    """Free bytes on the disk of `folder`, which need not exist."""
    return shutil.disk_usage(_existing_parent(folder)).free


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, or return False if another process holds the lock.

    The kernel releases the lock when the process ends. Raises OSError if the file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_lock_if_supported(descriptor: int) -> bool:
    """Like `try_lock`, but return True if the file system does not support locks."""
    try:
        return try_lock(descriptor)
    except OSError as error:
        if error.errno in UNSUPPORTED_LOCKS:
            return True
        raise


def _existing_parent(folder: Path) -> Path:
    # Path.exists raises if a parent folder is not accessible.
    return next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))


def _unwritable_error(folder: Path, cause: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"the folder {folder} cannot be written", cause=cause, hint=hint)
