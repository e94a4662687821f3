"""What the runner makes of a container's output and of GITHUB_OUTPUT: a small port for the tests.

After actions/runner at 258d6c8: FileCommandManager.cs (name<<delimiter), ActionCommand.cs (`::name key=value::data`,
the older `##[name]data`), ActionCommandManager.cs (stop-commands, masks, groups), ExecutionContext.cs (annotations).
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
ISSUES = ("error", "notice", "warning")
ANNOTATION_LENGTH = 4096

WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What .NET's TrimStart takes away."""
IGNORED = (
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]*"
)
"""What .NET's StartsWith and IndexOf of a string pass over: they compare by culture, and these weigh nothing there."""


def parse_outputs(text: str) -> list[tuple[str, str]]:
    """Every output in order, doubles included; ValueError where the runner fails the step."""
    found: list[tuple[str, str]] = []
    *whole, last = text.split("\n")
    lines = iter(whole)
    for line in lines:
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if heredoc >= 0 and (equals < 0 or heredoc < equals):
            name, delimiter = line.split("<<", 1)
            if not name or not delimiter:
                raise ValueError("name and delimiter must not be empty")
            found.append((name, _value(lines, delimiter)))
        elif equals >= 0:
            name, value = line.split("=", 1)
            found.append((name, value))
        else:
            raise ValueError(f"invalid format {line!r}")
    if last:
        raise ValueError(f"an end without a new line: {last!r}")
    return found


def _value(lines: Iterator[str], delimiter: str) -> str:
    held: list[str] = []
    for line in lines:
        if line == delimiter:
            return "\n".join(held)
        held.append(line)
    raise ValueError("matching delimiter not found")


def read_lines(stream: str) -> list[str]:
    """As .NET's ReadLine gives them."""
    return re.split("\r\n|\r|\n", stream)


@dataclass(frozen=True)
class Command:
    """One line that the runner understands."""

    name: str
    data: str


@dataclass
class Runner:
    """Reads a stream as .NET does, line by line, and keeps the commands it would obey and the lines it would show."""

    stop_token: str | None = None
    obeyed: list[tuple[str, str]] = field(default_factory=list)
    """Name and data, in order; `stop-commands` and its end are not among them."""
    shown: list[str] = field(default_factory=list)
    groups: list[tuple[str, list[str]]] = field(default_factory=list)
    """Name and lines of each; lines outside of any have an empty name."""
    masks: set[str] = field(default_factory=set)
    tokens: list[str] = field(default_factory=list)
    """Of every `stop-commands`."""

    def read(self, stream: str) -> list[tuple[str, str]]:
        """The commands obeyed so far as (name, data), the new stream's last."""
        for line in read_lines(stream):
            if not self._obey(line):
                self._show(line)
        return self.obeyed

    def _obey(self, line: str) -> bool:
        known = COMMANDS | ({self.stop_token.lower()} if self.stop_token else set())
        command = parse_new(line, known) or parse_old(line, known)
        if command is None:
            return False
        if self.stop_token is not None:
            if command.name != self.stop_token.lower():
                return False
            self.stop_token = None
            self._show(line)
        elif command.name == "stop-commands":
            if command.data.lower() in known | {"", "pause-logging"}:
                raise ValueError("the runner refuses this token")
            self.stop_token = command.data
            self.tokens.append(command.data)
            if len(command.data) > 6:
                self.masks.add(command.data)
            self._show(line)
        else:
            self._act(command)
        return True

    def _act(self, command: Command) -> None:
        data = command.data
        if command.name in ISSUES:
            encoded = self._masked(data).encode("utf-16-le", "surrogatepass")[: 2 * ANNOTATION_LENGTH]
            data = encoded.decode("utf-16-le", "replace")
        elif command.name == "add-mask":
            self.masks |= {data, *(line.strip() for line in re.split("[\r\n]", data) if line.strip())} - {""}
        elif command.name == "group":
            self.groups.append((data, []))
        elif command.name == "endgroup":
            self.groups.append(("", []))
        self.obeyed.append((command.name, data))

    def _show(self, line: str) -> None:
        line = self._masked(line)
        self.shown.append(line)
        if not self.groups:
            self.groups.append(("", []))
        self.groups[-1][1].append(line)

    def _masked(self, text: str) -> str:
        for mask in sorted(self.masks, key=len, reverse=True):
            text = text.replace(mask, "***")
        return text


def parse_new(line: str, known: Set[str]) -> Command | None:
    """`::name key=value::data` at the start of a line, white space aside."""
    line = line.lstrip(WHITE)
    end = _find(line, "::", 2)
    if not re.match(IGNORED + _collated("::"), line) or end is None:
        return None
    name = line[2 : end.start()].partition(" ")[0]
    if name.lower() not in known:
        return None
    return Command(name.lower(), _unescape(line[end.start() + 2 :], {"%0D": "\r", "%0A": "\n"}))


def parse_old(line: str, known: Set[str]) -> Command | None:
    """`##[name key=value]data` anywhere in a line."""
    start = _find(line, "##[", 0)
    end = line.find("]", start.start()) if start else -1
    if start is None or end < 0:
        return None
    name = line[start.start() + 3 : end].partition(" ")[0]
    if name.lower() not in known:
        return None
    escapes = {"%3B": ";", "%0D": "\r", "%0A": "\n", "%5D": "]"}
    return Command(name.lower(), _unescape(line[end + 1 :], escapes))


def _unescape(text: str, escapes: dict[str, str]) -> str:
    for escape, character in escapes.items():
        text = text.replace(escape, character)
    return text.replace("%25", "%")


def _find(text: str, words: str, start: int) -> re.Match[str] | None:
    return re.compile(_collated(words)).search(text, start)


def _collated(words: str) -> str:
    return IGNORED.join(map(re.escape, words))
