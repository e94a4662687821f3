"""The log of a step: workflow commands of the runner, and the output of a child, which is shown and never obeyed.

The child gets a random mark in `ANTIDOTE_STEP_MARK`. A line that begins with the mark says where a step begins or ends,
or what went wrong. Every other line is text, whatever it contains. The commands follow actions/runner,
ActionCommand.cs and ActionCommandManager.cs.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator

MARK_VARIABLE = "ANTIDOTE_STEP_MARK"
MAX_LINE_BYTES = 64 * 1024
"""A longer line is passed on in pieces."""
MAX_ANNOTATION = 4096
"""The runner truncates an annotation after this many UTF-16 code units."""
ERROR_LABELS = ("error", "cause", "hint")

_AFTER_A_LINE = re.compile(rb"(?<=[\r\n])")


def create_mark() -> str:
    """A random mark for one child."""
    return f"[{secrets.token_hex(16)}]"


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split after each line feed and carriage return, as the runner does, and after MAX_LINE_BYTES."""
    rest = b""
    for chunk in chunks:
        *lines, rest = _AFTER_A_LINE.split(rest + chunk)
        yield from lines
        if len(rest) >= MAX_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


class RunnerLog:
    """The log of the runner while a child runs. The runner obeys commands again after `close`.

    `write` writes bytes to the runner's stream immediately.
    """

    def __init__(self, write: Callable[[bytes], None], mark: str) -> None:
        self.errors: list[str] = []
        """Error, cause and hint of the child, in its own words."""
        self._write = write
        self._mark = mark.encode()
        self._token: str | None = None
        self._within_line = False
        self._within_group = False

    def show(self, line: bytes) -> None:
        """Show a line of the child, or a piece of one. A mark counts only at the beginning of a line."""
        if line.startswith(self._mark) and not self._within_line:
            self._read_mark(line.removeprefix(self._mark).decode("utf-8", "replace"))
        else:
            self._show_text(line)

    def close(self) -> None:
        """Must be called after the child's last line."""
        self._end_group()
        self._resume_commands()

    def _read_mark(self, line: str) -> None:
        kind, _, argument = line.strip().partition(" ")
        try:
            text = str(json.loads(argument)) if argument else ""
        except ValueError:  # incomplete because the child died
            return
        if kind == "begin":
            self._end_group()
            self._send_command(f"::group::{escape_data(text)}")
            self._within_group = True
        elif kind == "end":
            self._end_group()
        elif kind in ERROR_LABELS:
            self.errors.append(text if kind == "error" else f"{kind}: {text}")
            self._show_text(f"{kind}: {text}\n".encode("utf-8", "replace"))

    def _show_text(self, line: bytes) -> None:
        if self._token is None:
            # The runner refuses a token that was used before.
            self._token = secrets.token_hex(16)
            self._write(f"::stop-commands::{self._token}\n".encode())
        self._write(line)
        self._within_line = not line.endswith((b"\r", b"\n"))

    def _end_group(self) -> None:
        if self._within_group:
            self._send_command("::endgroup::")
            self._within_group = False

    def _send_command(self, command: str) -> None:
        self._resume_commands()
        self._write(f"{command}\n".encode("utf-8", "replace"))

    def _resume_commands(self) -> None:
        if self._within_line:  # a command counts only at the beginning of a line
            self._write(b"\n")
            self._within_line = False
        if self._token is not None:
            self._write(f"::{self._token}::\n".encode())
            self._token = None


def error_command(message: str) -> str:
    """The command that shows an error on the page of the workflow run."""
    return f"::error title=antidote-ci::{escape_data(message)}"


def warning_command(message: str) -> str:
    """The command that shows a warning on the page of the workflow run."""
    return f"::warning title=antidote-ci::{escape_data(message)}"


def mask_commands(secret: str) -> list[str]:
    """The commands that hide a secret in the log: the whole secret, and each of its lines."""
    lines = [line.strip() for line in secret.splitlines()]
    return [f"::add-mask::{escape_data(part)}" for part in dict.fromkeys([secret, *lines]) if part.strip()]


def escape_data(text: str) -> str:
    """The data of a command, escaped to one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def shorten(text: str, length: int) -> str:
    """At most `length` UTF-16 code units of the text, which is how the runner counts."""
    encoded = text.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * length:
        return text
    return encoded[: 2 * (length - 1)].decode("utf-16-le", "ignore") + "…"
