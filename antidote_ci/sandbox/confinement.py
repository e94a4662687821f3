"""Confine this process before it opens an untrusted checkpoint.

Each protection stands alone, so a system that lacks one still has the others. `confine` returns the names of those that
are on: `doctor` and the report show them.
"""

import ctypes
import os
import resource
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import antidote_ci
from antidote_ci.environment import PR_SET_DUMPABLE, refuse_inspection
from antidote_ci.sandbox import landlock, seccomp

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
PACKAGE_FOLDERS = ("site-packages", "dist-packages")
CAPABILITY_VERSION = 0x20080522
"""Version 3, with two 32-bit words each for the effective, permitted and inheritable capabilities."""
CAPABILITIES = 64
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000

OUT_OF_MEMORY_SCORE = 1000
"""The kernel ends a process with this score first when memory runs out."""

SYSTEM_FOLDERS = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt/rocm", "/sys"),
    *(
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/etc/localtime",
        "/etc/nsswitch.conf",
        "/etc/passwd",
    ),
    *("/etc/group", "/etc/ssl/openssl.cnf", "/etc/alternatives", "/etc/OpenCL", "/etc/vulkan"),
    *("/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/version", "/proc/filesystems"),
    *("/proc/driver/nvidia", "/proc/sys/vm", "/proc/sys/kernel"),
)
"""What libraries read besides their own files. None of it holds a secret."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/kfd", "/dev/dri", "/dev/dxg")


@dataclass(frozen=True)
class Confinement:
    """What a process may open. `readable` and `writable` hold files and folders."""

    readable: Sequence[Path]
    writable: Sequence[Path]
    network: bool = False
    """Whether sockets are allowed. Only inference servers need them."""
    largest_file: int = 1 << 40
    """Bytes of the largest file that the process may write."""


def confine(confinement: Confinement) -> list[str]:
    """Confine this process and everything that it starts, permanently. Returns the names of the protections.

    Must run while the process has one thread. Raises OSError when the kernel refuses a protection that it has.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = min(confinement.largest_file, hard_limit if hard_limit >= 0 else confinement.largest_file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if sys.platform != "linux":
        return []
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    protections = []
    if not confinement.network and _leave_network():
        protections.append("network namespace")
    drop_privileges()
    protections += ["no capabilities", "no new privileges"]
    readable = [*confinement.readable, *list_libraries()]
    devices = [*map(Path, DEVICES), *Path("/dev").glob("nvidia*")]
    if landlock.restrict_files(readable, confinement.writable, devices, network=confinement.network):
        protections.append(f"Landlock {landlock.find_version()}")
    if seccomp.filter_system_calls(network=confinement.network):
        protections.append("seccomp")
    return protections


def missing_protections(protections: Iterable[str]) -> list[str]:
    """The protections of which a process cannot lack one without being able to open other files and sockets."""
    names = {name.split()[0] for name in protections}
    return [name for name in ("Landlock", "seccomp") if name not in names]


def drop_privileges() -> None:
    """Drop all capabilities of this thread and of the programs that it starts, permanently.

    Without capabilities root cannot read the private files of other users, nor inspect a process that has any
    capability: https://man7.org/linux/man-pages/man7/capabilities.7.html. Raises OSError when the kernel refuses.
    """
    refuse_inspection()
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(CAPABILITIES):
        library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # fails without privileges, and for unknown numbers
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    for failed in (library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), library.capset(header, sets)):
        if failed:
            raise OSError(ctypes.get_errno(), "the privileges of this process cannot be dropped")


def list_libraries() -> Iterable[Path]:
    """The files and folders from which Python, its packages and shared libraries are loaded."""
    paths = sysconfig.get_paths()
    yield from (Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from map(Path, (*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])))
    # A .pth file adds the packages of another environment, as `uv run --with` does.
    yield from (Path(folder) for folder in sys.path if Path(folder).name in PACKAGE_FOLDERS)
    yield Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    yield Path(sys.executable)
    yield Path(sys.executable).resolve()
    yield Path(sys.prefix) / "pyvenv.cfg"
    # An editable installation lies beside other files of its repository, such as .git/config.
    yield Path(antidote_ci.__file__).parent
    # Only the libraries: the variable may name a folder that holds other files, even the home folder.
    for folder in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")):
        yield from Path(folder).glob("*.so*")
    yield from map(Path, SYSTEM_FOLDERS)


def _leave_network() -> bool:
    """Enter empty namespaces of network and IPC, as root or by a user namespace. False where neither is allowed."""
    library = ctypes.CDLL(None)
    isolated = CLONE_NEWNET | CLONE_NEWIPC
    if library.unshare(isolated) == 0:
        return True
    user, group = os.geteuid(), os.getegid()
    if library.unshare(CLONE_NEWUSER | isolated) != 0:
        return False
    # Without a mapping the process would see all files, its own too, as those of nobody.
    library.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True
