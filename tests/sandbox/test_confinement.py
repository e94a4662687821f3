"""Each protection of a process by itself, and on systems that lack one. `test_attacks` tests all of them together."""

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import sysconfig
from fcntl import F_SETFD
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import antidote_ci
from antidote_ci.sandbox import landlock, seccomp
from antidote_ci.sandbox.confinement import list_libraries, missing_protections

LINUX = sys.platform == "linux"
needs_linux = pytest.mark.skipif(not LINUX, reason="only Linux has these protections")
needs_landlock = pytest.mark.skipif(landlock.find_version() == 0, reason="this kernel has no Landlock")

START = """
import json, os, socket, sys
from pathlib import Path
from typing import Any
from antidote_ci.sandbox import confinement, landlock, seccomp
from antidote_ci.sandbox.confinement import Confinement, confine
def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return type(error).__name__
    return "done"
"""


def run(code: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
    """The value that the code prints as JSON, in a process of its own because no protection can be removed."""
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_linux
@pytest.mark.parametrize("network", [False, True])
def test_network_is_refused_unless_it_is_allowed(network: bool) -> None:
    code = (
        f"protections = confine(Confinement([], [], network={network}))\n"
        "print(json.dumps([protections, attempt(socket.socket), attempt(socket.socketpair)]))"
    )
    protections, opened, paired = run(code)
    if "seccomp" not in protections:
        pytest.skip("this system has no seccomp")
    assert opened == paired == ("done" if network else "PermissionError")
    assert not (network and "network namespace" in protections)


@needs_linux
def test_protections_stand_alone() -> None:
    """Without Landlock the filter of system calls holds, and without the filter Landlock."""
    code = (
        "module, name, value = {'landlock': (landlock, 'find_version', 0), "
        "'seccomp': (seccomp, 'filter_system_calls', False)}[sys.argv[1]]\n"
        "setattr(module, name, lambda **_: value)\n"
        "protections = confine(Confinement([], []))\n"
        "print(json.dumps([protections, attempt(socket.socket), attempt(Path('/root').iterdir), "
        "attempt(lambda: open('/etc/hostname'))]))"
    )
    protections, opened, *read = run(code, "landlock")
    assert missing_protections(protections)[0] == "Landlock"
    if "seccomp" in protections:
        assert opened == "PermissionError"
    protections, opened, *read = run(code, "seccomp")
    assert missing_protections(protections)[-1] == "seccomp"
    if missing_protections(protections) == ["seccomp"]:
        assert read[-1] == "PermissionError"


def test_other_systems_have_no_protection_and_need_no_proc() -> None:
    code = (
        "sys.platform = 'darwin'\n"
        "Path.write_text = landlock.restrict_files = seccomp.filter_system_calls = None\n"
        "print(json.dumps([confine(Confinement([], [])), landlock.find_version()]))"
    )
    assert run(code) == [[], 0]


LANDLOCK = """
import ctypes
folder, version = Path(sys.argv[1]), int(sys.argv[2])
landlock.find_version = lambda: version
confinement.drop_privileges()
readable = [folder / "readable", folder / "file", folder / "missing", folder / "file" / "missing"]
assert landlock.restrict_files(readable, [folder / "writable"], [Path("/dev/null")], network=False)
def write(path):
    path.write_text("x")
print(json.dumps({
    "read": attempt((folder / "readable" / "file").read_text),
    "list": attempt(lambda: list((folder / "readable").iterdir())),
    "read single file": attempt((folder / "file").read_text),
    "write writable": attempt(write, folder / "writable" / "new"),
    "read writable": attempt((folder / "writable" / "new").read_text),
    "make folder": attempt((folder / "writable" / "folder").mkdir),
    "replace": attempt(os.replace, folder / "writable" / "new", folder / "writable" / "other"),
    "remove": attempt((folder / "writable" / "other").unlink),
    "use device": attempt(write, Path("/dev/null")),
    "write readable": attempt(write, folder / "readable" / "new"),
    "write single file": attempt(write, folder / "file"),
    "remove readable": attempt((folder / "readable" / "file").unlink),
    "read other": attempt((folder / "other").read_text),
    "list other": attempt(lambda: list(folder.iterdir())),
    "link": attempt(os.symlink, "/etc/passwd", folder / "writable" / "link"),
    "pipe": attempt(os.mkfifo, folder / "writable" / "pipe"),
    "socket": attempt(socket.socket(socket.AF_UNIX).bind, str(folder / "writable" / "socket")),
    "read device": attempt(Path("/dev/zero").open),
}))
"""
ALLOWED = (
    *("read", "list", "read single file", "write writable", "read writable", "make folder", "replace", "remove"),
    "use device",
)


@needs_landlock
@pytest.mark.parametrize("version", range(1, landlock.find_version() + 1))
def test_only_listed_files_can_be_used_with_each_version_of_landlock(tmp_path: Path, version: int) -> None:
    """A newer kernel accepts the rules of each older version, and refuses rights and fields that it does not know."""
    for name in ("readable/file", "file", "other"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "writable").mkdir()
    outcomes = run(LANDLOCK, tmp_path, version)
    assert outcomes == {name: "done" if name in ALLOWED else "PermissionError" for name in outcomes}
    assert set(ALLOWED) < outcomes.keys()


def test_libraries_hold_no_folder_of_a_user() -> None:
    libraries = [path.absolute() for path in list_libraries()]
    package = Path(antidote_ci.__file__).parent
    assert package in libraries
    for private in (Path.home(), package.parent, Path.home() / ".cache", Path("/"), Path("/etc"), Path("/root")):
        assert private not in libraries, private


# The filter of system calls, run by an interpreter of its instructions: one machine has one architecture.

EPERM, ENOSYS = seccomp.FAIL | errno.EPERM, seccomp.FAIL | errno.ENOSYS
MACHINES = sorted(seccomp.ARCHITECTURES)


def decide(machine: str, number: int, *arguments: int, architecture: int | None = None, network: bool = False) -> int:
    """What the filter returns for a system call."""
    values = [argument & (1 << 64) - 1 for argument in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, architecture or seccomp.ARCHITECTURES[machine], 0, *values)
    program = seccomp.build_program(machine, network=network)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == seccomp.AND:
            accumulator &= operand
        elif code == seccomp.RETURN:
            return operand
        else:
            jumps = {
                seccomp.JUMP_IF_EQUAL: accumulator == operand,
                seccomp.JUMP_IF_AT_LEAST: accumulator >= operand,
            }
            at += if_true if jumps[code] else if_false


REFUSED = (
    *(seccomp.OTHER_PROCESSES, seccomp.KERNEL, seccomp.WATCHES, seccomp.METADATA),
    *(seccomp.SOCKETS, seccomp.SHARED_MEMORY, seccomp.LINKS, seccomp.SUPERVISION),
)
READ_AND_WRITE = {"x86_64": (0, 1), "aarch64": (63, 64)}
THREAD_FLAGS, NEW_USER, NEW_NETWORK = 0x3D0F00, 0x10000000, 0x40000000
GET_TERMINAL, NVIDIA_ALLOCATE, NVIDIA_START_UVM, AMD_MAP, SET_FILE_FLAGS, BTRFS_SNAPSHOT, CLONE_FILE, SEAL = (
    *(0x5401, 0xC020462B, 0x30000001, 0xC0184B18),
    *(0x40086602, 0x50009417, 0x40049409, 0x40806685),
)


@pytest.mark.parametrize("machine", MACHINES)
def test_filter_refuses_its_calls_and_allows_the_others(machine: str) -> None:
    for table in REFUSED:
        assert {decide(machine, number) for number in table[machine]} == {EPERM}
    assert {decide(machine, number) for number in READ_AND_WRITE[machine]} == {seccomp.ALLOW}
    assert decide(machine, seccomp.CLONE3) == ENOSYS
    assert decide(machine, READ_AND_WRITE[machine][0], architecture=0x40000003) == seccomp.KILL_PROCESS
    assert decide(machine, seccomp.X32_NUMBERS + 1) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_are_allowed_and_namespaces_are_not(machine: str) -> None:
    assert decide(machine, seccomp.CLONE[machine], THREAD_FLAGS) == seccomp.ALLOW
    for flag in (NEW_USER, NEW_NETWORK):
        assert decide(machine, seccomp.CLONE[machine], THREAD_FLAGS | flag) == EPERM
    assert decide(machine, seccomp.CLONE[machine], signal.SIGCHLD) == seccomp.ALLOW
    assert decide(machine, seccomp.CLONE[machine], signal.SIGCONT) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_process_changes_its_own_limits_and_processors_only(machine: str) -> None:
    for number in seccomp.OWN_PROCESS_ONLY[machine]:
        assert decide(machine, number, 0) == seccomp.ALLOW
        assert decide(machine, number, 1) == EPERM


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("machine", MACHINES)
def test_requests_reach_devices_and_not_file_systems(machine: str, network: bool) -> None:
    ioctl, fcntl = seccomp.IOCTL[machine], seccomp.FCNTL[machine]
    for request in (GET_TERMINAL, NVIDIA_ALLOCATE, NVIDIA_START_UVM, AMD_MAP):
        assert decide(machine, ioctl, 3, request, network=network) == seccomp.ALLOW
    for request in (SET_FILE_FLAGS, BTRFS_SNAPSHOT, CLONE_FILE, SEAL):
        assert decide(machine, ioctl, 3, request, network=network) == seccomp.FAIL | errno.ENOTTY
    for command in (seccomp.F_SETSIG, seccomp.F_SETLEASE, seccomp.F_NOTIFY):
        assert decide(machine, fcntl, 3, command, network=network) == EPERM
    assert decide(machine, fcntl, 3, F_SETFD, network=network) == seccomp.ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_files_are_not_emptied_and_get_no_set_user_id_bit(machine: str) -> None:
    for number, flags in seccomp.OPEN_FLAGS[machine]:
        before = [0] * flags
        assert decide(machine, number, *before, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) == seccomp.ALLOW
        assert decide(machine, number, *before, os.O_RDONLY | os.O_TRUNC) == EPERM
        assert decide(machine, number, *before, os.O_WRONLY | os.O_CREAT, 0o4755) == EPERM


@given(machine=st.sampled_from(MACHINES), number=st.integers(0, (1 << 32) - 1), argument=st.integers(0, (1 << 64) - 1))
def test_filter_always_returns(machine: str, number: int, argument: int) -> None:
    assert decide(machine, number, argument) in (seccomp.ALLOW, EPERM, ENOSYS, seccomp.FAIL | errno.ENOTTY)


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_listed_once_and_jumps_stay_short(machine: str) -> None:
    numbers = [number for table in REFUSED for number in table[machine]]
    assert len(set(numbers)) == len(numbers)
    program = seccomp.build_program(machine, network=False)
    assert len(program) < 4096, "the kernel accepts no longer program"
    assert all(0 <= value <= 255 for _, if_true, if_false, _ in program for value in (if_true, if_false))


def test_packages_of_an_environment_that_a_pth_file_adds_are_libraries(tmp_path: Path) -> None:
    """`uv run --with` chains environments like this."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    (packages,) = tmp_path.glob("lib/*/site-packages")
    outer = Path(antidote_ci.__file__).parents[1], sysconfig.get_path("purelib")
    (packages / "outer.pth").write_text("".join(f"{folder}\n" for folder in outer))
    code = "from antidote_ci.sandbox.confinement import list_libraries; print(*list_libraries(), sep='\\n')"
    done = subprocess.run([tmp_path / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert str(outer[1]) in done.stdout.splitlines()
