"""Paths that a user names, and what a command writes: permissions, space, locks, and files without links."""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

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


def is_file(text: str) -> bool:
    """Whether a file has this path, relative to the working directory. `~` has no special meaning."""
    return os.path.isfile(text)  # noqa: PTH113 - Path.is_file raises for a long name


def resolve_path(path: str) -> Path | None:
    """A path that a user wrote, absolute and without `~` and links, or None if it cannot be one."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        # An unknown user after `~`, a loop of links, or characters that no path has.
        return None


def find_folder(path: str) -> Path | None:
    """The folder at a path that a user wrote, absolute and without `~`, or None if there is none."""
    folder = resolve_path(path)
    return folder if folder is not None and is_folder(str(folder)) else None


def require_writable(folder: Path, hint: str = OUT_HINT) -> None:
    """Raise ConfigurationError if `folder` cannot be written or created. Creates nothing."""
    try:
        folder.stat()
    except FileNotFoundError:
        if folder.is_symlink():
            raise _unwritable_error(folder, "it is a link to nothing", hint) from None
    except (PermissionError, NotADirectoryError):
        pass  # the folder or file that prevents it is named below
    except OSError as error:
        raise _unwritable_error(folder, str(error.strerror), hint) from None
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


def create_file(path: Path, mode: int = 0o666) -> IO[bytes]:
    """Make `path` anew and open it for writing. A file or link that is there is removed, and its target stays as it is.

    Raises OSError, also when `path` is a folder.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    # O_EXCL does not follow a link that was created in the meantime.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")


def write_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Make `path` anew with `content`, see `create_file`. An OSError names `path`, also when the disk is full."""
    try:
        with create_file(path, mode) as file:
            file.write(content)
    except OSError as error:
        error.filename = str(path)
        raise


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading. Raises OSError for a link, a folder, a device and a pipe."""
    return open_below(path.parent, path.name)


def open_below(folder: Path, name: str) -> IO[bytes]:
    """Like `open_regular`, for a relative path: no folder below `folder` may be a link either."""
    *folders, file = Path(name).parts
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            os.close(parent)
            parent = inner
        # O_NONBLOCK: opening a pipe would wait for its writer.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(folder / name))
    return os.fdopen(descriptor, "rb")


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending. A link, and a file with another name elsewhere, is replaced by a new file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return create_file(path, 0o600)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return os.fdopen(descriptor, "ab")
    os.close(descriptor)
    return create_file(path, 0o600)


def open_lock(path: Path) -> int:
    """Open a lock file for `try_lock`, and return its descriptor. Raises OSError for a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def remove_path(path: Path) -> None:
    """Remove a file, a link or a complete folder, if it exists. Nothing behind a link is removed. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder, however deep it is: another program filled it. What cannot be removed stays."""
    pending = [folder]
    moved = 0
    with suppress(OSError):
        while pending:
            parent = pending[-1]
            parent.chmod(0o700)
            subfolders = []
            with os.scandir(parent) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        Path(entry).unlink()
                    elif parent == folder:
                        subfolders.append(Path(entry))
                    else:
                        # Moved up, so that no path and no recursion grows with the depth.
                        moved += 1
                        Path(entry).chmod(0o700)
                        subfolders.append(Path(entry).rename(folder / f"moved-{moved}"))
            if not subfolders:
                parent.rmdir()
                pending.pop()
            pending += subfolders


def require_real_folder(folder: Path, hint: str = OUT_HINT, mode: int = 0o777) -> Path:
    """Create `folder` if it does not exist; its parent must. Raises ConfigurationError for a link, and OSError."""
    folder.mkdir(mode=mode, exist_ok=True)
    if folder.is_symlink():
        raise _link_error(folder, hint)
    return folder


def require_no_links(folder: Path, hint: str = OUT_HINT, skipped: Callable[[str], bool] = lambda _: False) -> None:
    """Raise ConfigurationError for a link, a device or a pipe below `folder`. `folder` itself may be a link.

    `skipped` says which names in `folder` are not looked at.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if skipped(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                require_no_links(Path(entry.path), hint)
            elif not entry.is_file(follow_symlinks=False):
                raise _link_error(Path(entry.path), hint)


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


def _link_error(path: Path, hint: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is a link or a special file",
        cause="it could lead to a file that antidote-ci must not read or replace",
        hint=f"remove it, or {hint}",
    )


def _unwritable_error(folder: Path, cause: str, hint: str) -> ConfigurationError:
    return ConfigurationError(f"the folder {folder} cannot be written", cause=cause, hint=hint)
