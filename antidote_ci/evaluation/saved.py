"""`--save-answers FILE`: which prompts failed and how, for the owner's eyes."""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO

from antidote_ci.errors import ConfigurationError, InfrastructureError

MAX_LINE = 1_000_000
"""Of what is read of a file that stands in the way."""


@dataclass(frozen=True)
class SavedAnswer:
    """One line of the file."""

    model: str
    """Its role: `before`, `reference`, `after`."""
    set: str
    """harmful, harmless or task."""
    prompt_id: str
    category: str
    prompt: str
    answer: str
    truncated: bool
    outcome: str
    """What it counted as."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """By judge."""


class AnswerLog:
    """JSON lines in a file that only its owner can read, from its first byte. Without a path nothing is kept.

    Every answer is in the file once `write` returns. Only ASCII is written: what a model wrote may hold control
    characters that a terminal would obey, or half a character.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "AnswerLog":
        """Create the file, in the place of one that an earlier run left.

        Raises ConfigurationError when something else stands there, or the folder cannot be written.
        """
        if self._path is not None:
            try:
                if _is_answer_log(self._path):
                    self._path.unlink()
                # O_EXCL follows no symbolic link and opens nothing that was put there meanwhile.
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                raise ConfigurationError(
                    f"{self._path} exists and holds no saved answers",
                    hint="name another file for --save-answers, or move this one away",
                ) from None
            except OSError as error:
                raise ConfigurationError(
                    f"{self._path} cannot be written",
                    cause=error.strerror,
                    hint="name a file in a folder of your own for --save-answers",
                ) from None
            self._file = os.fdopen(descriptor, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # `write` has raised it
                self._file.close()

    def write(self, answers: Iterable[SavedAnswer]) -> None:
        """Add one line an answer. Raises InfrastructureError when the disk is full."""
        if self._file is None:
            return
        try:
            for answer in answers:
                self._file.write(json.dumps(asdict(answer)).encode("ascii") + b"\n")
            self._file.flush()
        except OSError as error:
            raise InfrastructureError(f"{self._path} cannot be written any further", cause=error.strerror) from None


def _is_answer_log(path: Path) -> bool:
    """Whether a regular file stands there that is empty or begins with a saved answer."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline(MAX_LINE)
    if not line:
        return True
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and list(document) == [each.name for each in fields(SavedAnswer)]
