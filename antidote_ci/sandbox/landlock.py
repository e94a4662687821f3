"""Restrict the files that this process can open: https://docs.kernel.org/userspace-api/landlock.html

The rules hold for the calling thread and everything that it starts, and cannot be removed. A kernel without Landlock
restricts nothing.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
GET_VERSION = 1
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
"""Without the rights to create links, sockets, pipes and devices."""
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule for a single file may hold."""
ALL_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights that each version of Landlock knows."""
NETWORK_VERSION, TCP = 4, 0b11
SCOPE_VERSION, SCOPES = 6, 0b11
"""From this version on: no abstract Unix sockets and no signals to processes without these rules."""
PROCESSES = Path("/proc")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def find_version() -> int:
    """The version of Landlock in this kernel; 0 without Landlock."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION)))


def restrict_files(
    readable: Iterable[Path], writable: Iterable[Path], devices: Iterable[Path], *, network: bool
) -> bool:
    """Allow only these files, and everything beneath these folders. Paths that do not exist are left out.

    A writable path is readable as well. Without `network`, TCP connections are refused. Returns False when the kernel
    has no Landlock. Needs no_new_privs. Raises OSError when the kernel refuses a rule.
    """
    version = find_version()
    if version == 0:
        return False
    known = ALL_BY_VERSION[min(version, max(ALL_BY_VERSION))]
    ruleset = _Ruleset(known, 0 if network else TCP, SCOPES)
    # An older kernel does not know the later fields.
    size = 8 if version < NETWORK_VERSION else 16 if version < SCOPE_VERSION else 24
    descriptor = _call(CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    try:
        for paths, rights in ((readable, READ), (writable, READ | WRITE), (devices, DEVICE)):
            for path in paths:
                _add_rule(descriptor, path, rights & known)
        _call(RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)
    return True


def _add_rule(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        allowed = rights if path.is_dir() else rights & FILE
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(_PathBeneath(allowed, descriptor)), 0)
    finally:
        # A rule belongs to an inode. When memory is scarce, the kernel forgets those of /proc that no process has open,
        # and the next access finds a new one without a rule. So these stay open.
        if not path.is_relative_to(PROCESSES):
            os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: system call {number} failed")
    return result
