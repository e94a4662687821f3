"""The settings in which an attack is tried: an ordinary user, Docker's seccomp profile, a kernel without Landlock."""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from antidote_ci.sandbox.confinement import CAPABILITIES, CAPABILITY_VERSION, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS
from antidote_ci.sandbox.seccomp import (
    ALLOW,
    AND,
    ARCHITECTURES,
    CLONE,
    CLONE3,
    FAIL,
    FIRST_ARGUMENT,
    JUMP_IF_EQUAL,
    LOAD,
    MODE_FILTER,
    NEW_NAMESPACES,
    NUMBER,
    PR_SET_SECCOMP,
    RETURN,
)

NOBODY = 65534
DOCKER_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
"""chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
audit_write, setfcap: https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities"""
SOCKET, PERSONALITY = 41, 135
REFUSED_FAMILIES = (12, 19, 20, 23, 25, 34, 37, 38, 40)
LANDLOCK = (444, 445, 446)
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000
NEW_MOUNTS = 0x20000

_Instruction = tuple[int, int, int, int]


def become_nobody() -> None:
    """Change to a user without privileges, to whom this process alone opens the folders above the interpreter."""
    _open_folders(Path(os.path.realpath(sys.executable)).parent)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def enter_container() -> None:
    """Load Docker's default profile and drop the capabilities that a container lacks."""
    library = ctypes.CDLL(None, use_errno=True)
    kept = sum(1 << number for number in DOCKER_CAPABILITIES)
    for number in range(CAPABILITIES):
        if number not in DOCKER_CAPABILITIES:
            library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    if os.geteuid() == 0 and library.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
    load_filter(_build_docker_filter())


def hide_landlock() -> None:
    """Let the system calls of Landlock fail as in a kernel without it."""
    refused = [_rule(number, FAIL | errno.ENOSYS) for number in LANDLOCK]
    load_filter([*_LOAD_NUMBER, *(step for rule in refused for step in rule), (RETURN, 0, 0, ALLOW)])


def load_filter(program: Iterable[_Instruction]) -> None:
    """Load a filter for this process and everything that it starts."""
    library = ctypes.CDLL(None, use_errno=True)
    instructions = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    fprog = struct.pack("HxxxxxxQ", len(instructions) // 8, ctypes.addressof(buffer))
    library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if library.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.create_string_buffer(fprog, len(fprog)), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter was refused")


_LOAD_NUMBER: list[_Instruction] = [(LOAD, 0, 0, NUMBER)]


def _rule(number: int, action: int) -> list[_Instruction]:
    return [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, action)]


def _build_docker_filter() -> list[_Instruction]:
    lines = Path(__file__).with_name("docker_system_calls.txt").read_text().splitlines()
    pairs = [pair for line in lines if not line.startswith("#") for pair in line.split()]
    program: list[_Instruction] = [
        (LOAD, 0, 0, 4),
        (JUMP_IF_EQUAL, 1, 0, ARCHITECTURES["x86_64"]),
        (RETURN, 0, 0, ALLOW),  # the profile has the same rules for 32-bit programs, which no test runs
        *_LOAD_NUMBER,
        *_rule(CLONE3, FAIL | errno.ENOSYS),
    ]
    for pair in pairs:
        program += _rule(int(pair.partition("=")[2]), ALLOW)
    families = [step for family in REFUSED_FAMILIES for step in _rule(family, FAIL | errno.EPERM)]
    program += [
        (JUMP_IF_EQUAL, 0, 2 + len(families), SOCKET),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        *families,
        (RETURN, 0, 0, ALLOW),
        (JUMP_IF_EQUAL, 0, 4, CLONE["x86_64"]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (AND, 0, 0, NEW_NAMESPACES),
        (JUMP_IF_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL | errno.EPERM),
    ]
    return program


def _open_folders(folder: Path) -> None:
    """Make `folder` reachable for every user, in a mount namespace of this process."""
    library = ctypes.CDLL(None, use_errno=True)

    def require(failed: int) -> None:
        if failed:
            raise OSError(ctypes.get_errno(), "mount")

    def mount(source: bytes, target: Path, kind: bytes | None, flags: int, options: bytes | None) -> None:
        require(library.mount(source, str(target).encode(), kind, ctypes.c_ulong(flags), options))

    require(library.unshare(NEW_MOUNTS))
    mount(b"none", Path("/"), None, MS_REC | MS_PRIVATE, None)
    for parent in reversed(folder.parents):
        if not parent.stat().st_mode & 0o001:
            child = parent / folder.relative_to(parent).parts[0]
            descriptor = os.open(child, os.O_RDONLY)
            mount(b"tmpfs", parent, b"tmpfs", 0, b"mode=0755")
            child.mkdir()
            mount(f"/proc/self/fd/{descriptor}".encode(), child, None, MS_BIND | MS_REC, None)
            os.close(descriptor)
