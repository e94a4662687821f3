"""Refuse system calls that no model needs: https://docs.kernel.org/userspace-api/seccomp_filter.html

The filter holds for the calling thread and everything that it starts, and cannot be removed.
"""

import ctypes
import errno
import os
import platform
import signal
import stat
import struct
import sys

PR_SET_SECCOMP, MODE_FILTER = 22, 2
ALLOW, KILL_PROCESS, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, AND, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
"""Instructions of the classic BPF."""
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`. The lower half of an argument comes first on both architectures."""
X32_NUMBERS = 0x40000000
"""The numbers of x86-64's second set of system calls begin here."""
ALL_BITS = 0xFFFFFFFF
NEW_NAMESPACES, EXIT_SIGNAL = 0x7E020000, 0xFF
"""The flags of clone(2) that create namespaces, and those that hold the signal of the new process's end."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

SOCKETS = {
    "x86_64": (41, 42, 43, 49, 50, 53, 288),
    "aarch64": (198, 203, 202, 200, 201, 199, 242),
}
"""socket, connect, accept, bind, listen, socketpair, accept4."""
OTHER_PROCESSES = {
    "x86_64": (101, 310, 311, 440, 434, 438, 424, 312, 298, 448, 274, 141, 251, 142, 144, 314, 256, 279),
    "aarch64": (117, 270, 271, 440, 434, 438, 424, 272, 241, 448, 100, 140, 30, 118, 119, 274, 238, 239),
}
"""ptrace, process_vm_readv, process_vm_writev, process_madvise, pidfd_open, pidfd_getfd, pidfd_send_signal, kcmp,
perf_event_open, process_mrelease, get_robust_list, setpriority, ioprio_set, sched_setparam, sched_setscheduler,
sched_setattr, migrate_pages, move_pages."""
SUPERVISION = {"x86_64": (109, 112, 222), "aarch64": (154, 157, 107)}
"""setpgid, setsid, timer_create. A process stops and ends with its group, and a timer could continue it."""
METADATA = {
    "x86_64": (90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 197, 198, 199, 132, 235, 261, 280),
    "aarch64": (52, 53, 452, 55, 54, 5, 6, 7, 14, 15, 16, 88),
}
"""chmod, fchmod, fchmodat, fchmodat2, chown, fchown, lchown, fchownat, setxattr, lsetxattr, fsetxattr, removexattr,
lremovexattr, fremovexattr, utime, utimes, futimesat, utimensat. They change files that Landlock does not let the
process open."""
WATCHES = {"x86_64": (253, 294, 254, 85), "aarch64": (26, 27)}
"""inotify_init, inotify_init1, inotify_add_watch, which work on such files too; creat, which open can replace."""
SHARED_MEMORY = {
    "x86_64": (29, 30, 31, 64, 65, 220, 66, 68, 69, 70, 71, 240, 241),
    "aarch64": (194, 196, 195, 190, 193, 192, 191, 186, 189, 188, 187, 180, 181),
}
"""shmget, shmat, shmctl, semget, semop, semtimedop, semctl, msgget, msgsnd, msgrcv, msgctl, mq_open, mq_unlink."""
LINKS = {"x86_64": (88, 266, 86, 265, 133, 259), "aarch64": (36, 37, 33)}
"""symlink, symlinkat, link, linkat, mknod, mknodat."""
KERNEL = {
    "x86_64": (
        *(425, 426, 427, 321, 323, 250, 248, 249, 165, 166, 155, 272, 308, 304, 303, 246, 320, 175, 313, 176),
        *(429, 428, 430, 431, 432, 433, 442, 179, 443, 163, 167, 169, 170, 161, 300, 103, 76),
    ),
    "aarch64": (
        *(425, 426, 427, 280, 282, 219, 217, 218, 40, 39, 41, 97, 268, 265, 264, 104, 294, 105, 273, 106),
        *(429, 428, 430, 431, 432, 433, 442, 60, 443, 89, 224, 142, 161, 51, 262, 116, 45),
    ),
}
"""io_uring_setup, io_uring_enter, io_uring_register, bpf, userfaultfd, keyctl, add_key, request_key, mount, umount2,
pivot_root, unshare, setns, open_by_handle_at, name_to_handle_at, kexec_load, kexec_file_load, init_module,
finit_module, delete_module; move_mount, open_tree, fsopen, fsconfig, fsmount, fspick, mount_setattr, quotactl,
quotactl_fd, acct, swapon, reboot, sethostname, chroot, fanotify_init, syslog, truncate."""
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3, OPENAT2 = 435, 437
"""Their flags lie in memory that a filter cannot read. Where they do not exist, libraries use clone and openat."""
OPEN_FLAGS = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}
"""open and openat, each with the index of the argument that holds the flags. The mode follows."""
FIRST_UNKNOWN = 463
"""The number after those of Linux 6.10. What newer kernels add is not allowed before it has been read."""
OWN_PROCESS_ONLY = {"x86_64": (302, 203), "aarch64": (261, 122)}
"""prlimit64, sched_setaffinity. A process may change its own limits and processors, not those of another."""
IOCTL, FCNTL, PRCTL = {"x86_64": 16, "aarch64": 29}, {"x86_64": 72, "aarch64": 25}, {"x86_64": 157, "aarch64": 167}
DEVICE_REQUESTS = (0x00, *map(ord, "FGKRTbdm>"), 0x89)
"""The second byte of an ioctl request names its driver: Nvidia (0, F, m), WSL (G), AMD (K), random numbers (R),
terminals (T), shared buffers (b, >), graphics (d), sockets (0x89).

The requests of file systems also work on files that are only open for reading: they change attributes, seal a file, and
on Btrfs copy a complete file system into a folder that the process may write."""
F_SETSIG, F_SETLEASE, F_NOTIFY = 10, 1024, 1026
"""They let the kernel send any signal, also SIGCONT, and let other processes wait for a file."""
PR_SET_PDEATHSIG = 1

_Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def filter_system_calls(*, network: bool) -> bool:
    """Install the filter; with `network`, what servers need stays allowed. Needs no_new_privs.

    Returns False on another architecture than x86-64 and 64-bit ARM, and when the kernel has no filters.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURES:
        return False
    instructions = b"".join(
        struct.pack("HBBI", *instruction) for instruction in build_program(machine, network=network)
    )
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return int(ctypes.CDLL(None).prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0)) == 0


def build_program(machine: str, *, network: bool) -> list[_Instruction]:
    """The instructions of the filter for an architecture."""
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_AT_LEAST, 0, 1, X32_NUMBERS),
        (RETURN, 0, 0, FAIL | errno.EPERM),
        (JUMP_IF_AT_LEAST, 2, 0, FIRST_UNKNOWN),
        (JUMP_IF_EQUAL, 1, 0, CLONE3),
        (JUMP_IF_EQUAL, 0, 1, OPENAT2),
        (RETURN, 0, 0, FAIL | errno.ENOSYS),
    ]
    refused = [*OTHER_PROCESSES[machine], *KERNEL[machine], *WATCHES[machine]]
    if not network:
        refused += [*SOCKETS[machine], *SHARED_MEMORY[machine], *LINKS[machine], *SUPERVISION[machine]]
    for number in refused:
        program += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | errno.EPERM)]
    # A server's libraries set modes and times of their own files and stop at an error, so nothing happens without one.
    for number in METADATA[machine]:
        program += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | (0 if network else errno.EPERM))]
    for number, flags in OPEN_FLAGS[machine]:
        # The first versions of Landlock let a process empty a file that it may only read.
        program += _refuse_values(number, flags, os.O_TRUNC | os.O_ACCMODE, os.O_TRUNC)
        # A new file with a set-user-ID bit would give its readers the rights of this user.
        program += _require_values(number, flags + 1, stat.S_ISUID | stat.S_ISGID, 0)
    # Threads stay allowed, new namespaces do not.
    program += _require_values(CLONE[machine], 0, NEW_NAMESPACES, 0)
    program += _require_values(IOCTL[machine], 1, 0xFF00, *(kind << 8 for kind in DEVICE_REQUESTS), error=errno.ENOTTY)
    program += _refuse_values(FCNTL[machine], 1, ALL_BITS, F_SETSIG, F_SETLEASE, F_NOTIFY)
    if not network:
        # The end of a stopped process must not continue another one.
        program += _require_values(CLONE[machine], 0, EXIT_SIGNAL, 0, signal.SIGCHLD)
        program += _refuse_values(PRCTL[machine], 0, ALL_BITS, PR_SET_PDEATHSIG)
    limits, affinity = OWN_PROCESS_ONLY[machine]
    for number in (limits,) if network else (limits, affinity):
        program += _require_values(number, 0, ALL_BITS, 0)
    return [*program, (RETURN, 0, 0, ALLOW)]


def _require_values(
    number: int, argument: int, mask: int, *values: int, error: int = errno.EPERM
) -> list[_Instruction]:
    """Let the system call fail unless the masked argument has one of the values."""
    jumps = [(JUMP_IF_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)]
    return _check_argument(number, argument, mask, jumps, error)


def _refuse_values(number: int, argument: int, mask: int, *values: int) -> list[_Instruction]:
    """Let the system call fail when the masked argument has one of the values."""
    last = len(values) - 1
    jumps = [(JUMP_IF_EQUAL, last - at, int(at == last), value) for at, value in enumerate(values)]
    return _check_argument(number, argument, mask, jumps, errno.EPERM)


def _check_argument(number: int, argument: int, mask: int, jumps: list[_Instruction], error: int) -> list[_Instruction]:
    """`jumps` lead to the instruction that lets the call fail, which follows them, or to the one after it."""
    check = [(LOAD, 0, 0, FIRST_ARGUMENT + 8 * argument), (AND, 0, 0, mask), *jumps, (RETURN, 0, 0, FAIL | error)]
    return [(JUMP_IF_EQUAL, 0, len(check), number), *check, (LOAD, 0, 0, NUMBER)]
