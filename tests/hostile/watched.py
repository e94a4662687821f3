"""Run the real command line several times in one process, under an audit hook that records its accesses.

    python -m tests.hostile.watched FOLDER < commands

Each line of standard input is a JSON list of arguments; each line of standard output is the record of that command.
No code in FOLDER may run.
"""

import io
import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FRAMEWORKS = ("torch", "transformers", "peft", "tokenizers", "safetensors")
PROCESSES = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")
CHANGED: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"), (0,)),
    **dict.fromkeys(("os.link", "os.symlink"), (1,)),
    "os.rename": (0, 1),
}
"""Event -> positions of the arguments that are created, changed or removed paths."""


@dataclass
class Seen:
    """The accesses of one command."""

    exit_code: int = -1
    said: str = ""
    pickled: list[str] = field(default_factory=list)
    """Names that a pickle imported."""
    opened: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    started: list[list[str]] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    """Modules of the frameworks."""
    executed: list[str] = field(default_factory=list)
    """Files of the corpus whose code ran."""
    seconds: float = 0
    """Processor time, with that of its child processes."""
    memory: int = 0
    """Most resident memory in KiB of the process, or of a child process of this or an earlier command."""


seen = Seen()
corpus = ""


def note(event: str, values: tuple[Any, ...]) -> None:
    """The audit hook. It records events and raises nothing."""
    if event == "open":
        _note_open(*values)
    elif event == "import":
        if values[0].split(".")[0] in FRAMEWORKS:
            seen.imported.append(values[0])
    elif event == "pickle.find_class":
        seen.pickled.append(f"{values[0]}.{values[1]}")
    elif event == "socket.connect":
        seen.connected.append(_address(values[1]))
    elif event == "socket.getaddrinfo":
        seen.connected.append(_address(values[:2]))
    elif event == "subprocess.Popen":
        seen.started.append([os.fsdecode(part) for part in values[1]])
    elif event in PROCESSES:
        seen.started.append([event])
    elif event in CHANGED:
        # Relative to a descriptor they are part of a removal that is noted as a whole.
        if event not in ("os.remove", "os.rmdir") or values[1] == -1:
            # A file that is already open was noted when it was opened.
            places = [place for place in CHANGED[event] if not isinstance(values[place], int)]
            seen.written.extend(_path(values[place]) for place in places)
    elif event == "exec" and corpus and values[0].co_filename.startswith(corpus):
        seen.executed.append(values[0].co_filename)


def _note_open(path: object, mode: str | None, flags: int) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    writes = set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    (seen.written if writes else seen.opened).append(_path(path))


def _path(path: Any) -> str:  # noqa: ANN401 - whatever Python takes for one
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are not followed


def _address(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)


def watch(command: Callable[[list[str]], int], arguments: list[str]) -> Seen:
    """Run `command` and return its accesses."""
    global seen
    seen, started = Seen(), _processor_seconds()
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()):
        code = command(arguments)
    ended, seen = seen, Seen()
    ended.exit_code, ended.said = code, said.getvalue()
    ended.seconds = _processor_seconds() - started
    # The kernel's own figure of this process begins with that of the process that has started it.
    own = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    ended.memory = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return ended


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def antidote(arguments: list[str]) -> int:
    """Run the command line as `antidote-ci` does and return its exit code."""
    from antidote_ci.cli import app

    try:
        app(arguments, prog_name="antidote-ci")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def main() -> None:
    """Read commands and write records, one per line."""
    global corpus
    corpus = sys.argv[1]
    sys.addaudithook(note)
    answers = sys.stdout
    for line in sys.stdin:
        answers.write(json.dumps(asdict(watch(antidote, json.loads(line)))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
