"""Functions that tests run in a child of the sandbox, some of them as an attacker would.

A child runs functions of `antidote_ci` only. `write_interpreter` writes an interpreter that imports this module under
a name of that package, as if it were code that a checkpoint has injected.
"""

import ctypes
import dataclasses
import fcntl
import os
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

from antidote_ci.records import Model, OnProgress, Progress
from tests.sandbox import attacker

ROOT = Path(__file__).parents[2]
MODULE = "antidote_ci.child_functions"
LIBRARY = ctypes.CDLL(None)
PR_SET_NAME, SYS_EXIT = 15, 60
kept: list[bytearray] = []
"""Memory that a child does not free."""
WITHOUT_TRANSFORMERS = """
from types import ModuleType
sys.modules["transformers"] = module = ModuleType("transformers")
module.AutoModelForCausalLM = module.AutoTokenizer = module.PreTrainedModel = None
sys.modules["peft"] = ModuleType("peft")
import tests.sandbox.child_functions
"""
"""Most tests load no model, and importing transformers takes seconds."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Paths to open, which are text so that they are no inputs; a model and an output folder, which are inputs."""

    reads: list[str] = dataclasses.field(default_factory=list)
    writes: list[str] = dataclasses.field(default_factory=list)
    model: Model | None = None
    output: Path | None = None


@dataclasses.dataclass(frozen=True)
class Allocation:
    """Bytes to allocate, in each of several programs if that is the way."""

    size: int
    way: Literal["plain", "name", "ended thread", "programs"] = "plain"


@dataclasses.dataclass(frozen=True)
class RawReply:
    """Bytes to write to the pipe of the replies, and what to do after them."""

    text: str
    repeat: int = 1
    then: Literal["wait", "exit", "close", "return"] = "wait"


@dataclasses.dataclass(frozen=True)
class Named:
    """Any text, and a file or folder."""

    text: str
    path: Path | None = None


def list_variables(_request: Named, _on_progress: OnProgress) -> dict[str, str]:
    """The environment of the child."""
    return dict(os.environ)


def try_paths(request: Attempt, _on_progress: OnProgress) -> dict[str, str]:
    """For each path `opened`, or the name of the error."""
    return {path: _try_read(Path(path)) for path in request.reads} | {
        path: _try_write(Path(path)) for path in request.writes
    }


def _try_read(path: Path) -> str:
    try:
        if path.is_dir():
            list(path.iterdir())
        else:
            path.open("rb").close()
    except OSError as error:
        return type(error).__name__
    return "opened"


def _try_write(path: Path) -> str:
    try:
        path.write_text("written by the child")
    except OSError as error:
        return type(error).__name__
    return "opened"


def read_text(request: Named, _on_progress: OnProgress) -> str:
    """The content of the file `text` in the folder."""
    assert request.path is not None
    return (request.path / request.text).read_text()


def write_text(request: Named, _on_progress: OnProgress) -> None:
    """Write to the file `text` in the folder."""
    assert request.path is not None
    (request.path / request.text).write_text("written by the child")


def get_process(_request: Named, _on_progress: OnProgress) -> int:
    """The process id of the child."""
    return os.getpid()


def return_path(request: Named, _on_progress: OnProgress) -> list[Path]:
    """The path `text`."""
    return [Path(request.text)]


def write_raw(request: RawReply, _on_progress: OnProgress) -> list[str]:
    """Write to the pipe of the replies without the code of the worker."""
    (replies,) = [number for number in range(3, 64) if _is_written_pipe(number)]
    for _ in range(request.repeat):
        data = request.text.encode()
        while data:
            data = data[os.write(replies, data) :]
    if request.then == "return":
        return []
    if request.then == "exit":
        os._exit(7)
    if request.then == "close":
        os.close(replies)
    time.sleep(600)
    return []


def _is_written_pipe(number: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode) and bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_WRONLY)
    except OSError:
        return False


def fork_many(_request: Named, _on_progress: OnProgress) -> None:
    """Start more processes than a child may have."""
    for _ in range(300):
        if os.fork() == 0:
            break
    time.sleep(600)


def fill_home(_request: Named, _on_progress: OnProgress) -> None:
    """Leave folders that are too deep for a path, one of them closed."""
    os.chdir(Path.home())
    for _ in range(1_500):
        os.mkdir("deeper")  # noqa: PTH102
        os.chdir("deeper")
    os.mkdir("closed", 0)  # noqa: PTH102
    os._exit(3)


def report_twice(request: Named, on_progress: OnProgress) -> str:
    """Report progress and return the text."""
    on_progress(Progress(f"\x1b[31m{request.text}", 1, 2))
    on_progress(Progress(request.text, 2, 2))
    return request.text


def allocate(request: Allocation, _on_progress: OnProgress) -> int:
    """Allocate memory and touch each byte, and do what could hide it from the parent."""
    if request.way == "programs":
        code = f"import time; memory = bytearray(b'x') * {request.size}; time.sleep(5)"
        for program in [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(8)]:
            program.wait()
        return request.size
    if request.way == "name":
        LIBRARY.prctl(PR_SET_NAME, b"\xff\x1cname", 0, 0, 0)
    memory = bytearray(b"x") * request.size
    if request.way == "ended thread":
        threading.Thread(target=time.sleep, args=(60,)).start()
        LIBRARY.syscall(SYS_EXIT, 0)  # ends the thread that read the request, not the process
    kept.append(memory)
    time.sleep(2)
    return len(memory)


def create_files(request: Named, _on_progress: OnProgress) -> int:
    """Create as many files in the folder, or in the home folder, as the text says."""
    folder = request.path or Path.home()
    for number in range(int(request.text)):
        (folder / f"file-{number}").touch()
    time.sleep(2)
    return int(request.text)


def stay_active(_model: Model, _on_progress: OnProgress) -> list[str]:
    """Let a timer and a file system continue this process whenever it is stopped. Returns what is refused."""
    signal.signal(signal.SIGCONT, lambda *_: None)
    refused = []
    for attempt in (attacker.continue_by_timer, attacker.continue_by_folder):
        try:
            attempt()
        except PermissionError:
            refused.append(attempt.__name__)
    threading.Thread(target=_count, daemon=True).start()
    return refused


def _count() -> None:
    for number in range(10_000):
        (Path.home() / "count").write_text(str(number))
        time.sleep(0.01)


def report_much_memory(_model: Model, _on_progress: OnProgress) -> int:
    """More free memory than any model needs."""
    return 1 << 60


def report_little_memory(_model: Model, _on_progress: OnProgress) -> int:
    """No free memory."""
    return 0


def name_process(_model: Model, _on_progress: OnProgress) -> int:
    """The process id of the child that has the model."""
    return os.getpid()


def print_model(model: Model, _on_progress: OnProgress) -> None:
    """Write the name of the model to the log."""
    print(f"checked {model.folder.name}", flush=True)  # noqa: T201


for _function in (
    *(
        list_variables,
        try_paths,
        read_text,
        write_text,
        get_process,
        return_path,
        write_raw,
        report_twice,
        print_model,
        fork_many,
        fill_home,
    ),
    *(report_much_memory, report_little_memory, name_process, allocate, create_files, stay_active),
):
    _function.__module__ = MODULE
sys.modules[MODULE] = sys.modules[__name__]


def write_interpreter(folder: Path, code: str = WITHOUT_TRANSFORMERS) -> Path:
    """Write an interpreter that runs `code` before anything else."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}")
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(folder))} exec {shlex.quote(sys.executable)} "$@"\n')
    program.chmod(0o755)
    return program
