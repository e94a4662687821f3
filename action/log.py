"""What a child prints on its way to the runner: shown and never obeyed, with its steps as groups that fold.

The child is told a mark that nobody can guess (`ANTIDOTE_STEP_MARK`). A line that begins with it says where a step
begins or ends, or what went wrong; every other line, whoever wrote the words in it, is text.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping

from action import commands
from action.naming import blame_inputs, rename_to_inputs

MARK_VARIABLE = "ANTIDOTE_STEP_MARK"
LINE_BYTES = 64 * 1024
"""A longer line is passed on in pieces."""
ERROR_LABELS = ("error", "cause", "hint")

_AFTER_A_LINE = re.compile(rb"(?<=[\r\n])")


def create_mark() -> str:
    """A mark for one child."""
    return f"[{secrets.token_hex(16)}]"


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes cut after each line feed and carriage return, as the runner cuts them, or after LINE_BYTES."""
    held = b""
    for chunk in chunks:
        *whole, held = _AFTER_A_LINE.split(held + chunk)
        yield from whole
        if len(held) >= LINE_BYTES:
            yield held
            held = b""
    if held:
        yield held


class RunnerLog:
    """The runner's log while a child runs. Commands are obeyed again once it is closed.

    `say` writes bytes to the runner's stream at once. `given` are the inputs that an error may speak of.
    """

    def __init__(self, say: Callable[[bytes], None], mark: str, given: Mapping[str, str]) -> None:
        self.told: list[str] = []
        """What the child says went wrong, with its cause and what to do, in the words of the inputs."""
        self._say = say
        self._mark = mark.encode()
        self._given = given
        self._token: str | None = None
        self._within_line = False
        self._within_group = False

    def show(self, line: bytes) -> None:
        """A line of the child's, or a piece of one: a mark counts at the beginning of a line alone."""
        if line.startswith(self._mark) and not self._within_line:
            self._obey_mark(line.removeprefix(self._mark).decode("utf-8", "replace"))
        else:
            self._text(line)

    def close(self) -> None:
        """After the child's last line."""
        self._end_group()
        self._resume()

    def _obey_mark(self, said: str) -> None:
        what, _, rest = said.strip().partition(" ")
        try:
            words = str(json.loads(rest)) if rest else ""
        except ValueError:  # cut short when the child died
            return
        if what == "begin":
            self._end_group()
            self._command(commands.group_command(words))
            self._within_group = True
        elif what == "end":
            self._end_group()
        elif what in ERROR_LABELS:
            line = f"{what}: {blame_inputs(words, self._given) if what == 'error' else rename_to_inputs(words)}"
            self.told.append(line.removeprefix("error: "))
            self._text(f"{line}\n".encode("utf-8", "replace"))

    def _text(self, line: bytes) -> None:
        if self._token is None:
            self._token = secrets.token_hex(16)
            self._say(f"{commands.stop_commands(self._token)}\n".encode())
        self._say(line)
        self._within_line = not line.endswith((b"\r", b"\n"))

    def _end_group(self) -> None:
        if self._within_group:
            self._command(commands.end_group_command())
            self._within_group = False

    def _command(self, command: str) -> None:
        self._resume()
        self._say(f"{command}\n".encode("utf-8", "replace"))

    def _resume(self) -> None:
        if self._within_line:  # a command is one only at the beginning of a line
            self._say(b"\n")
            self._within_line = False
        if self._token is not None:
            self._say(f"{commands.resume_commands(self._token)}\n".encode())
            self._token = None
