"""Refuse system calls that no model needs: https://docs.kernel.org/userspace-api/seccomp_filter.html

The filter holds for the calling thread and everything that it starts, and cannot be removed.
"""

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterable

PR_SET_SECCOMP, MODE_FILTER = 22, 2
ALLOW, KILL_PROCESS, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of the classic BPF."""
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`. The lower half of an argument comes first on both architectures."""
X32_NUMBERS = 0x40000000
"""The numbers of x86-64's second set of system calls begin here."""
NEW_NAMESPACES = 0x7E020000
"""The flags of clone(2) that create namespaces."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

SOCKETS = {
    "x86_64": (41, 42, 43, 49, 50, 53, 288),
    "aarch64": (198, 203, 202, 200, 201, 199, 242),
}
"""socket, connect, accept, bind, listen, socketpair, accept4."""
OTHER_PROCESSES = {
    "x86_64": (101, 310, 311, 440, 434, 438, 424, 312, 298),
    "aarch64": (117, 270, 271, 440, 434, 438, 424, 272, 241),
}
"""ptrace, process_vm_readv, process_vm_writev, process_madvise, pidfd_open, pidfd_getfd, pidfd_send_signal, kcmp,
perf_event_open."""
SHARED_MEMORY = {"x86_64": (29, 64, 68, 240), "aarch64": (194, 190, 186, 180)}
"""shmget, semget, msgget, mq_open."""
LINKS = {"x86_64": (88, 266, 86, 265, 133, 259), "aarch64": (36, 37, 33)}
"""symlink, symlinkat, link, linkat, mknod, mknodat."""
KERNEL = {
    "x86_64": (
        *(425, 426, 427, 321, 323, 250, 248, 249, 165, 166, 155, 272, 308, 304, 303, 246, 320, 175, 313, 176),
        *(429, 428, 430, 431, 432, 433, 442, 179, 163, 167, 169, 170, 161, 300),
    ),
    "aarch64": (
        *(425, 426, 427, 280, 282, 219, 217, 218, 40, 39, 41, 97, 268, 265, 264, 104, 294, 105, 273, 106),
        *(429, 428, 430, 431, 432, 433, 442, 60, 89, 224, 142, 161, 51, 262),
    ),
}
"""io_uring_setup, io_uring_enter, io_uring_register, bpf, userfaultfd, keyctl, add_key, request_key, mount, umount2,
pivot_root, unshare, setns, open_by_handle_at, name_to_handle_at, kexec_load, kexec_file_load, init_module,
finit_module, delete_module; move_mount, open_tree, fsopen, fsconfig, fsmount, fspick, mount_setattr, quotactl, acct,
swapon, reboot, sethostname, chroot, fanotify_init."""
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
"""Its flags lie in memory that a filter cannot read. Where it does not exist, the C library uses clone."""
PRLIMIT = {"x86_64": 302, "aarch64": 261}

_Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def filter_system_calls(*, network: bool) -> bool:
    """Install the filter; with `network`, sockets and links stay allowed. Needs no_new_privs.

    Returns False on another architecture than x86-64 and 64-bit ARM, and when the kernel has no filters.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        return False
    refused = [*OTHER_PROCESSES[machine], *KERNEL[machine]]
    if not network:
        refused += [*SOCKETS[machine], *SHARED_MEMORY[machine], *LINKS[machine]]
    instructions = b"".join(struct.pack("HBBI", *instruction) for instruction in _build_program(machine, refused))
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return int(ctypes.CDLL(None).prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0)) == 0


def _build_program(machine: str, refused: Iterable[int]) -> list[_Instruction]:
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_AT_LEAST, 0, 1, X32_NUMBERS),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (JUMP_IF_EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, FAIL | errno.ENOSYS),
    ]
    for number in refused:
        program += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | errno.EPERM)]
    # Threads stay allowed, new namespaces do not.
    program += [
        (JUMP_IF_EQUAL, 0, 4, CLONE[machine]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_IF_ANY_BIT, 0, 1, NEW_NAMESPACES),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    # A process may change its own limits, not those of another.
    program += [
        (JUMP_IF_EQUAL, 0, 3, PRLIMIT[machine]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_IF_EQUAL, 1, 0, 0),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    return program
