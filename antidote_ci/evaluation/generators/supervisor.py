"""Runs a command in its own session and ends all its processes when standard input closes.

Standard input closes when the parent stops the server, and also when the parent is killed.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from antidote_ci.checkpoint.links import LinkedCheckpoint
from antidote_ci.sandbox.confinement import Confinement, confine

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 10
"""Seconds between SIGTERM and SIGKILL."""


def to_command(server: list[str], weights: LinkedCheckpoint, home: Path) -> list[str]:
    """The command that runs `server`, which can read `weights` and write `home`."""
    readable = json.dumps([str(weights.folder), *map(str, weights.targets)])
    return [sys.executable, "-P", "-m", __name__, readable, str(home), *server]


def main(readable: list[str], home: str, command: list[str]) -> int:
    """Run the command and return its exit status as a shell does: 128 plus the number of a signal."""
    programs = [path for folder in _list_program_folders(command[0]) for path in _list_installation(folder)]
    programs += [Path(argument) for argument in command if os.path.exists(argument)]  # noqa: PTH110 - any text
    shared_memory = Path("/dev/shm")  # noqa: S108 - the processes of one server exchange tensors there
    confine(Confinement([*map(Path, readable), *programs], [Path(home), shared_memory], network=True))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        threading.Thread(target=_end_group_after_input, args=(process.pid,), daemon=True).start()
        status = process.wait()
        _signal_group(process.pid, signal.SIGKILL)  # remaining processes of the session
        _end_descendants()
    return status if status >= 0 else 128 - status


def _list_program_folders(program: str) -> list[Path]:
    """The folders of the program and of its Python, and those on PATH, which a script can use."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    for name in (program, "python", "python3"):
        path = shutil.which(name)
        if path is not None:
            folders += [Path(path).absolute().parent, Path(path).resolve().parent]
    return list(dict.fromkeys(folders))


def _list_installation(folder: Path) -> Iterator[Path]:
    """The visible files of a program's folder, and the libraries beside it. Other subfolders may hold secrets."""
    with contextlib.suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if folder.name == "bin":
        yield from (folder.parent / name for name in ("lib", "lib64", "libexec", "pyvenv.cfg"))


def _end_group_after_input(group: int) -> None:
    # Not sys.stdin: at exit the interpreter aborts on the lock that a blocked reader holds.
    while os.read(0, 1024):
        pass
    _signal_group(group, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    _signal_group(group, signal.SIGKILL)


def _end_descendants() -> None:
    """Kill the processes that have left the session. As a subreaper, this process is the parent of all orphans."""
    until = time.monotonic() + GRACE_SECONDS / 2
    with contextlib.suppress(OSError):  # without /proc, and after the last one
        while time.monotonic() < until:
            for task in Path("/proc/self/task").iterdir():
                for child in (task / "children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
            os.waitpid(-1, 0)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]))
