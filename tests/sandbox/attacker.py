"""What the code of an attacker tries from inside a process: to read, to write, to connect, to signal, to escape.

    python attacker.py TARGETS OUTCOMES

TARGETS is a JSON object: see `list_attempts`. OUTCOMES is the JSON object to write: each attempt, and `succeeded` or
the reason of its failure. `attack_inside` makes the same attempts in a child of the sandbox. Only the standard library
is needed.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

SUCCEEDED = "succeeded"
MARK = "OUTCOMES OF THE ATTACK "
LIBRARY = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
O_PATH, WALL, F_SETSIG = 0o10000000, 0x40000000, 10
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000

Attempt = Callable[[], object]


class NothingGained(Exception):
    """The system call returned no error, and no result either."""


def call(number: int, *arguments: Any) -> int:  # noqa: ANN401
    """A system call by its number on x86-64."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(LIBRARY.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def in_fork(attempt: Attempt) -> Attempt:
    """The attempt in a fork, which it may kill or change."""

    def run() -> None:
        process = os.fork()
        if process == 0:
            code = 255
            try:
                attempt()
                code = 0
            except NothingGained:
                code = 254
            except OSError as error:
                code = error.errno or 255
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 254:
            raise NothingGained
        if code > 0:
            raise OSError(code, "in the fork")
        if code < 0:
            raise RuntimeError(f"signal {-code}")

    return run


def require_content(content: bytes) -> None:
    if not content.strip(b"\0"):
        raise NothingGained


def read(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        require_content(file.read(64) or b"")


def list_folder(path: str) -> None:
    os.listdir(path)  # noqa: PTH208


# Ways to one file.


def read_below_folder(path: str) -> None:
    folder = os.open("/", O_PATH | os.O_DIRECTORY)
    try:
        os.close(os.open(path.lstrip("/"), os.O_RDONLY, dir_fd=folder))
    finally:
        os.close(folder)


def read_by_symbolic_link(path: str) -> None:
    link = os.path.expanduser("~/link")  # noqa: PTH111
    os.symlink(path, link)  # noqa: PTH211
    read(link)


def read_by_hard_link(path: str) -> None:
    link = os.path.expanduser("~/hard-link")  # noqa: PTH111
    os.link(path, link)
    read(link)


def read_by_new_descriptor(path: str) -> None:
    read(f"/proc/self/fd/{os.open(path, O_PATH)}")


def execute_descriptor(path: str) -> None:
    arguments = (ctypes.c_char_p * 2)(b"program", None)
    descriptor = os.open(path, O_PATH)
    call(322, descriptor, ctypes.c_char_p(b""), arguments, None, AT_EMPTY_PATH)


def read_by_handle(path: str) -> None:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    call(303, AT_FDCWD, ctypes.c_char_p(path.encode()), handle, ctypes.byref(mount), 0)
    root = os.open("/", os.O_RDONLY)
    os.close(call(304, root, handle, os.O_RDONLY))


def read_with_openat2(path: str) -> None:
    os.close(call(437, AT_FDCWD, ctypes.c_char_p(path.encode()), ctypes.byref((ctypes.c_uint64 * 3)(0, 0, 0)), 24))


def read_in_new_root(path: str) -> None:
    os.chroot(str(Path(path).parent))
    read("/" + Path(path).name)


def read_in_user_namespace(path: str) -> None:
    call(272, CLONE_NEWUSER | CLONE_NEWNS)
    read(path)


def read_by_bind_mount(path: str) -> None:
    call(272, CLONE_NEWNS)
    target = os.path.expanduser("~/mounted")  # noqa: PTH111
    Path(target).mkdir(exist_ok=True)
    source = ctypes.c_char_p(str(Path(path).parent).encode())
    call(165, source, ctypes.c_char_p(target.encode()), None, 4096, None)
    read(f"{target}/{Path(path).name}")


def read_by_program(path: str) -> None:
    os.execv("/usr/bin/head", ["head", "-c1", path])  # noqa: S606


def read_in_thread(path: str) -> None:
    errors: list[OSError] = []

    def run() -> None:
        try:
            read(path)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def memory_map(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    with mmap.mmap(descriptor, 1, prot=mmap.PROT_READ) as mapped:
        require_content(mapped[:1])


# Other processes.


def read_memory_by_call(process: int) -> None:
    buffer = ctypes.create_string_buffer(8)
    address = first_mapping(process)
    local, remote = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8), (ctypes.c_uint64 * 2)(address, 8)
    call(310, process, local, 1, remote, 1, 0)


def first_mapping(process: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/maps").read_text().split("-")[0], base=16)
    return 0x400000


def read_memory_by_file(process: int) -> None:
    with open(f"/proc/{process}/mem", "rb", buffering=0) as file:  # noqa: PTH123
        file.seek(first_mapping(process))
        require_content(file.read(4))


def trace(process: int) -> None:
    call(101, 0x4206, process, 0, 0)  # PTRACE_SEIZE


def steal_descriptor(process: int) -> None:
    call(438, call(434, process, 0), 0, 0)


def signal_by_descriptor(process: int) -> None:
    descriptor = call(434, process, 0)
    call(424, descriptor, signal.SIGCONT, None, 0)


def queue_signal(process: int) -> None:
    information = struct.pack("iii", signal.SIGCONT, 0, -1) + bytes(116)
    call(129, process, signal.SIGCONT, ctypes.c_char_p(information))


def signal_by_pipe(process: int) -> None:
    """Let the kernel send SIGIO when a pipe becomes readable. The process dies of it, which the scene checks."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, process)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writer, b"x")


def limit_other(process: int) -> None:
    call(302, process, 7, ctypes.byref((ctypes.c_uint64 * 2)(512, 512)), None)


def compare(process: int) -> None:
    call(312, os.getpid(), process, 0, 0, 0)


def set_priority(process: int) -> None:
    os.setpriority(os.PRIO_PROCESS, process, 1)


def set_scheduler(process: int) -> None:
    os.sched_setscheduler(process, os.SCHED_OTHER, os.sched_param(0))


def set_processors(process: int) -> None:
    os.sched_setaffinity(process, os.sched_getaffinity(process))


def measure_performance(process: int) -> None:
    attributes = struct.pack("IIQ", 1, 112, 1) + bytes(96)  # software counter
    call(298, ctypes.c_char_p(attributes), process, -1, -1, 0)


# Ways to go on after SIGSTOP: the kernel sends SIGCONT.


def continue_by_timer() -> None:
    event, timer = struct.pack("qii", 0, signal.SIGCONT, 0) + bytes(64), ctypes.c_int()
    call(222, time.CLOCK_MONOTONIC, ctypes.c_char_p(event), ctypes.byref(timer))
    interval = struct.pack("4q", 0, 50_000_000, 0, 50_000_000)
    call(223, timer.value, 0, ctypes.c_char_p(interval), None)


def continue_by_folder() -> None:
    descriptor = os.open("/usr", os.O_RDONLY)
    fcntl.fcntl(descriptor, F_SETSIG, signal.SIGCONT)
    fcntl.fcntl(descriptor, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT)


def continue_with_end_of_parent() -> None:
    call(157, 1, signal.SIGCONT, 0, 0, 0)


def continue_with_end_of_child() -> None:
    process = call(56, signal.SIGCONT, None, None, None, None)
    if process == 0:
        os._exit(0)
    os.waitpid(process, WALL)


# Sockets.


def connect(family: int, kind: int, address: Any) -> None:  # noqa: ANN401
    with socket.socket(family, kind) as connection:
        connection.settimeout(2)
        connection.connect(address)
        if kind == socket.SOCK_DGRAM:
            connection.send(b"x")


def listen() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        pass


def open_socket(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def make_pair() -> None:
    for one in socket.socketpair():
        one.close()


# System calls by other ways.


def run_machine_code(code: bytes) -> int:
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    result = int(function())
    if result < 0:
        raise OSError(-result, "machine code")
    return result


def open_socket_by_32_bit_call() -> None:
    # push rbx; mov eax, 359; mov ebx, AF_INET; mov ecx, SOCK_STREAM; xor edx, edx; int 0x80; pop rbx; ret
    run_machine_code(bytes.fromhex("53b867010000bb02000000b90100000031d2cd805bc3"))


def open_socket_by_x32_call() -> None:
    call(0x40000000 | 41, socket.AF_INET, socket.SOCK_STREAM, 0)


def set_up_ring() -> None:
    parameters = ctypes.create_string_buffer(120)
    os.close(call(425, 4, parameters))


def clone_with_namespace() -> None:
    process = call(56, CLONE_NEWUSER | signal.SIGCHLD, None, None, None, None)
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)


def clone3_with_namespace() -> None:
    arguments = (ctypes.c_uint64 * 8)(CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    process = call(435, ctypes.byref(arguments), 64)
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)


def execute_from_memory() -> None:
    """Run another program, which nothing prevents, and read with it."""
    descriptor = os.memfd_create("program")
    os.write(descriptor, Path("/usr/bin/id").read_bytes())
    os.execve(descriptor, ["id"], {})  # noqa: S606


def gain_privileges() -> None:
    """Run setuid programs: they may not give this process another user."""
    os.execv("/usr/bin/su", ["su", "-s", "/bin/true", "nobody"])  # noqa: S606


def join_namespace(process: int) -> None:
    call(308, os.open(f"/proc/{process}/ns/net", os.O_RDONLY), 0)


def share_memory() -> None:
    identifier = call(29, 0, 4096, 0o1600)
    call(31, identifier, 0, None)


def open_message_queue() -> None:
    name = ctypes.c_char_p(b"antidote-attack")
    os.close(call(240, name, os.O_CREAT | os.O_RDWR, 0o600, None))
    call(241, name)


def fault_memory() -> None:
    os.close(call(323, 0))


def add_key() -> None:
    call(248, ctypes.c_char_p(b"user"), ctypes.c_char_p(b"attack"), ctypes.c_char_p(b"x"), 1, -3)


def type_into_terminal() -> None:
    fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x")


def read_kernel_log() -> None:
    call(103, 3, ctypes.create_string_buffer(4096), 4096)


# Changes.


def write_new(folder: str) -> None:
    path = Path(folder, "written-by-the-attack")
    path.write_text("x")


def overwrite(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def empty(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def empty_while_reading(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))


def change_attribute(path: str) -> None:
    os.setxattr(path, "user.attack", b"x")


def change_mode_of_descriptor(path: str) -> None:
    descriptor = os.open(path, O_PATH)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o666)  # noqa: PTH101, S103
    finally:
        os.close(descriptor)


def change_flags(path: str) -> None:
    """Set the flag that excludes a file from dumps, as chattr(1) does, by a descriptor that only reads."""
    flags = ctypes.c_long()
    with open(path, "rb") as file:  # noqa: PTH123
        fcntl.ioctl(file, 0x80086601, flags)
        flags.value |= 0x40
        fcntl.ioctl(file, 0x40086602, flags)


def hold_lease(path: str) -> None:
    """Let every program that opens the file for writing wait for 45 seconds."""
    with open(path, "rb") as file:  # noqa: PTH123
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)


def rename_away(path: str) -> None:
    os.rename(path, f"{path}-moved")  # noqa: PTH104
    os.rename(f"{path}-moved", path)  # noqa: PTH104


def remove(path: str) -> None:
    os.unlink(path)  # noqa: PTH108


def watch(path: str) -> None:
    descriptor = call(294, 0)
    call(254, descriptor, ctypes.c_char_p(path.encode()), 0x20)


def make_setuid_program() -> None:
    path = Path.home() / "setuid"
    path.write_bytes(b"#!/bin/sh\n")
    path.chmod(0o4755)
    if not path.stat().st_mode & stat.S_ISUID:
        raise NothingGained


def create_setuid_program() -> None:
    path = Path.home() / "created"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o4755))
    if not path.stat().st_mode & stat.S_ISUID:
        raise NothingGained


def make_node(kind: int) -> None:
    os.mknod(str(Path.home() / f"node-{kind}"), kind | 0o600)


def write_huge_file() -> None:
    with (Path.home() / "huge").open("wb") as file:
        try:
            file.truncate((1 << 30) + 1)
        finally:
            file.truncate(0)


def lower_memory_score() -> None:
    score = Path("/proc/self/oom_score_adj")
    score.write_text(score.read_text())


def regain_capability() -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call(126, header, (ctypes.c_uint32 * 6)(1 << 21, 1 << 21, 0, 0, 0, 0))


def leave_session() -> None:
    os.setsid()


def leave_group() -> None:
    os.setpgid(0, 0)


def survive(seconds: str) -> None:
    """Start a process that would stay when this one has ended. The scene checks whether it does."""
    if os.fork() == 0:
        with suppress(OSError):
            os.setsid()
        if os.fork():
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.execv("/usr/bin/sleep", ["sleep", seconds])  # noqa: S606
    os.wait()


def list_descriptors() -> None:
    """Find open files besides the three standard ones and the pipe for replies."""
    known = {"0", "1", "2"}
    with closing(os.scandir("/proc/self/fd")) as entries:
        for entry in entries:
            target = os.readlink(entry)  # noqa: PTH115
            if entry.name not in known and not target.startswith(("pipe:", "/proc/")):
                print(f"open file: {target}", file=sys.stderr)  # noqa: T201
                return
    raise NothingGained


def read_own_output() -> None:
    read("/proc/self/fd/1")


def list_attempts(targets: dict[str, Any]) -> dict[str, Attempt]:
    """Every attempt by its name. `targets` names what the scene has planted."""
    token, weights = targets["secrets"]["token"], targets["weights"]
    attempts: dict[str, Attempt] = {}
    attempt: Callable[..., object]

    def add(name: str, attempt: Callable[..., object], *arguments: object, fork: bool = False) -> None:
        def run() -> object:
            return attempt(*arguments)

        attempts[name] = in_fork(run) if fork else run

    add("list_descriptors", list_descriptors)
    for name, path in targets["secrets"].items():
        add(f"read {name}", read, path)
    for name, path in targets["folders"].items():
        add(f"list {name}", list_folder, path)
        add(f"write into {name}", write_new, path)
    for way in (read_below_folder, read_by_symbolic_link, read_by_hard_link, read_by_new_descriptor):
        add(f"token: {way.__name__}", way, token)
    for way in (read_by_handle, read_with_openat2, read_in_thread, memory_map, watch):
        add(f"token: {way.__name__}", way, token)
    for way in (read_in_new_root, read_in_user_namespace, read_by_bind_mount, read_by_program):
        add(f"token: {way.__name__}", way, token, fork=True)
    add("token: through the root of this process", read, f"/proc/self/root{token}")
    add("token: through a folder of this process", read, f"/proc/self/cwd/{os.path.relpath(token)}")
    add("program: execute_descriptor", execute_descriptor, targets["program"], fork=True)
    for name, process in targets["processes"].items():
        for file in ("environ", "cmdline", "maps", "root/etc/passwd"):
            add(f"{name}: {file}", read, f"/proc/{process}/{file}")
        add(f"{name}: descriptors", list_folder, f"/proc/{process}/fd")
        add(f"{name}: memory", read_memory_by_file, process)
        for attempt in (read_memory_by_call, trace, steal_descriptor, join_namespace, limit_other, compare):
            add(f"{name}: {attempt.__name__}", attempt, process, fork=True)
        for attempt in (signal_by_descriptor, set_priority, set_scheduler, set_processors, measure_performance):
            add(f"{name}: {attempt.__name__}", attempt, process)
        add(f"{name}: kill", os.kill, process, signal.SIGCONT)
        add(f"{name}: tgkill", call, 234, process, process, signal.SIGCONT)
        add(f"{name}: queue", queue_signal, process)
    add("signal by pipe", signal_by_pipe, targets["fragile"])
    add("tcp", connect, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", targets["tcp"]))
    add("udp", connect, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", targets["udp"]))
    add("Docker socket", connect, socket.AF_UNIX, socket.SOCK_STREAM, targets["docker"])
    add("abstract socket", connect, socket.AF_UNIX, socket.SOCK_STREAM, targets["abstract"])
    add("raw socket", open_socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    add("netlink socket", open_socket, socket.AF_NETLINK, socket.SOCK_RAW)
    for attempt in (listen, make_pair, set_up_ring, share_memory, open_message_queue, fault_memory, add_key):
        add(attempt.__name__, attempt)
    for attempt in (open_socket_by_32_bit_call, open_socket_by_x32_call, clone_with_namespace, clone3_with_namespace):
        add(attempt.__name__, attempt, fork=True)
    for attempt in (continue_by_timer, continue_by_folder, continue_with_end_of_parent, continue_with_end_of_child):
        add(attempt.__name__, attempt, fork=True)
    for attempt in (execute_from_memory, gain_privileges, type_into_terminal, leave_session, leave_group):
        add(attempt.__name__, attempt, fork=True)
    for attempt in (read_kernel_log, read_own_output, lower_memory_score, regain_capability):
        add(attempt.__name__, attempt)
    for name, path in {"weights": weights, "token": token, "store": targets["secrets"]["store"]}.items():
        for change in (
            overwrite,
            empty_while_reading,
            change_attribute,
            change_flags,
            hold_lease,
            rename_away,
            os.utime,
        ):
            add(f"{name}: {change.__name__}", change, path)
        add(f"{name}: chmod", os.chmod, path, 0o666)
        add(f"{name}: chmod of descriptor", change_mode_of_descriptor, path)
        add(f"{name}: chmod by new call", call, 452, AT_FDCWD, ctypes.c_char_p(path.encode()), 0o666, 0)
        add(f"{name}: chown", os.chown, path, os.getuid(), os.getgid())
    for name, path in targets["sacrifices"].items():
        add(f"{name}: truncate", os.truncate, path, 0)
        for attempt in (empty, remove):
            add(f"{name}: {attempt.__name__}", attempt, path)
    for attempt in (make_setuid_program, create_setuid_program, write_huge_file):
        add(attempt.__name__, attempt)
    for kind in ("S_IFIFO", "S_IFSOCK", "S_IFCHR"):
        add(f"make a node: {kind}", make_node, getattr(stat, kind))
    add("survive", survive, targets["seconds"], fork=True)
    return attempts


def attack(targets: dict[str, Any]) -> dict[str, str]:
    """Make every attempt. Returns `succeeded`, the name of the error, or another reason."""
    outcomes = {}
    for name, attempt in list_attempts(targets).items():
        try:
            attempt()
            outcomes[name] = SUCCEEDED
        except OSError as error:
            outcomes[name] = errno.errorcode.get(error.errno or 0, str(error))
        except Exception as error:  # noqa: BLE001
            outcomes[name] = str(error) or type(error).__name__
    return outcomes


def attack_inside(path: Path) -> None:
    """Attack in the first call of a child of the sandbox, which has confined itself by then.

    `path` holds the targets, and is read before; the outcomes go to the log.
    """
    server, parent = os.getpid(), os.getppid()
    targets: list[dict[str, Any]] = []

    def read_targets() -> None:
        if os.getppid() == server:  # not in a fork of the child
            targets.append(json.loads(path.read_text()))

    def start_at_import(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import" and targets and str(arguments[0]).startswith("antidote_ci.model."):
            known = targets.pop()
            known["processes"] |= {"server": server, "parent": parent}
            os.write(1, MARK.encode() + json.dumps(attack(known)).encode() + b"\n")

    os.register_at_fork(after_in_child=read_targets)
    sys.addaudithook(start_at_import)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(attack(json.loads(Path(sys.argv[1]).read_text()))))
