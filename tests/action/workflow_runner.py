"""What the runner makes of a container's output and of GITHUB_OUTPUT: a small port for the tests.

After actions/runner: FileCommandManager.cs (name<<delimiter) and ActionCommand.cs with
ActionCommandManager.cs (`::name key=value::data`, the older `##[name]data`, stop-commands).
"""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

COMMANDS = frozenset(
    [
        "add-mask",
        "add-matcher",
        "add-path",
        "debug",
        "echo",
        "endgroup",
        "error",
        "group",
        "notice",
        "remove-matcher",
        "save-state",
        "set-env",
        "set-output",
        "stop-commands",
        "warning",
    ]
)


def parse_outputs(text: str) -> list[tuple[str, str]]:
    """Every output in order, doubles included; ValueError where the runner fails the step."""
    found: list[tuple[str, str]] = []
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if heredoc >= 0 and (equals < 0 or heredoc < equals):
            name, delimiter = line.split("<<", 1)
            found.append((name, _value(lines, delimiter)))
        elif equals >= 0:
            name, value = line.split("=", 1)
            found.append((name, value))
        else:
            raise ValueError(f"invalid format {line!r}")
    return found


def _value(lines: Iterator[str], delimiter: str) -> str:
    held: list[str] = []
    for line in lines:
        if line == delimiter:
            return "\n".join(held)
        held.append(line)
    raise ValueError("matching delimiter not found")


@dataclass
class Runner:
    """Reads a stream as .NET does, line by line, and keeps the commands it would obey."""

    stop_token: str | None = None
    obeyed: list[tuple[str, str]] = field(default_factory=list)

    def read(self, stream: str) -> list[tuple[str, str]]:
        """The commands obeyed so far as (name, data), the new stream's last."""
        for line in re.split("\r\n|\r|\n", stream):
            self._line(line)
        return self.obeyed

    def _line(self, line: str) -> None:
        known = COMMANDS | ({self.stop_token} if self.stop_token else set())
        command = parse_new(line, known) or parse_old(line, known)
        if command is None:
            return
        name, data = command
        if self.stop_token is not None:
            if name == self.stop_token:
                self.stop_token = None
            return
        if name == "stop-commands":
            self.stop_token = data.lower()
            return
        self.obeyed.append((name, data))


def parse_new(line: str, known: Set[str]) -> tuple[str, str] | None:
    """`::name key=value::data` at the start of a line, white space aside."""
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    name = line[2:end].split(" ")[0].lower()
    data = line[end + 2 :].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
    return (name, data) if name in known else None


def parse_old(line: str, known: Set[str]) -> tuple[str, str] | None:
    """`##[name key=value]data` anywhere in a line."""
    start = line.find("##[")
    end = line.find("]", start)
    if start < 0 or end < 0:
        return None
    name = line[start + 3 : end].split(" ")[0].lower()
    return (name, line[end + 1 :]) if name in known else None
