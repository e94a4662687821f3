"""Locks that the kernel lets go of when their process is gone, however it went."""

import errno
import fcntl

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems answer that know none, such as Lustre as it is often mounted."""


def try_lock(descriptor: int) -> bool:
    """Hold the lock of an open file until it is closed; False where another one holds it.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_lock_if_supported(descriptor: int) -> bool:
    """As `try_lock`, but where there are no locks nobody holds one."""
    try:
        return try_lock(descriptor)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return True
        raise
