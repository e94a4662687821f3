"""Locks that the kernel lets go of when their process is gone, however it went."""

import fcntl


def taken(descriptor: int) -> bool:
    """Hold the lock of an open file until it is closed; False where another one holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
