"""The file of `--save-answers`: every answer of a run with its outcome, readable by its owner only."""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.paths import open_regular

MAX_LINE = 1_000_000
"""Bytes read from an existing file to recognise saved answers."""


@dataclass(frozen=True)
class SavedAnswer:
    """One line of the file."""

    model: str
    """The role of the model: `before`, `reference` or `after`; `tested` in `evaluate`."""
    set: str
    """`harmful`, `harmless`, `task` or `unseen`."""
    prompt_id: str
    category: str
    prompt: str
    answer: str
    truncated: bool
    outcome: str
    verdicts: dict[str, str] = field(default_factory=dict)
    """By the name of the judge."""
    thought: str = ""
    """What the model wrote before the answer, with its marks."""


class AnswerLog:
    """Writes answers as JSON lines, in ASCII, to a file with mode 0600. Does nothing without a path.

    ASCII protects terminals from control characters in answers, and can represent unpaired surrogates.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "AnswerLog":
        """Create the file, and replace the saved answers of an earlier run.

        Raises ConfigurationError when the file exists and holds anything else, or when it cannot be created.
        """
        if self._path is not None:
            try:
                if _is_answer_log(self._path):
                    self._path.unlink()
                # O_EXCL does not follow symbolic links and does not open a file created in the meantime.
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise _to_configuration_error(self._path, error) from None
            self._file = os.fdopen(descriptor, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # `write` already raised it
                self._file.close()

    def write(self, answers: Iterable[SavedAnswer]) -> None:
        """Append one line per answer and flush. Raises InfrastructureError when the file cannot be written."""
        if self._file is None:
            return
        try:
            for answer in answers:
                self._file.write(json.dumps(asdict(answer)).encode("ascii") + b"\n")
            self._file.flush()
        except OSError as error:
            raise InfrastructureError(f"{self._path} cannot be written", cause=error.strerror) from None


def require_replaceable(path: Path) -> None:
    """Raise ConfigurationError when `path` exists and holds anything but saved answers."""
    try:
        if os.path.lexists(path) and not _is_answer_log(path):
            raise FileExistsError
    except OSError as error:
        raise _to_configuration_error(path, error) from None


def _to_configuration_error(path: Path, error: OSError) -> ConfigurationError:
    if isinstance(error, FileExistsError):
        return ConfigurationError(
            f"{path} exists and holds no saved answers",
            hint="name another file for --save-answers, or move this one away",
        )
    return ConfigurationError(
        f"{path} cannot be written",
        cause=error.strerror,
        hint="name a file in a writable folder for --save-answers",
    )


def _is_answer_log(path: Path) -> bool:
    """Return whether `path` is a regular file that is empty or begins with a saved answer."""
    if path.is_symlink() or not path.is_file():
        return False
    with open_regular(path) as file:
        line = file.readline(MAX_LINE)
    if not line:
        return True
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and list(document) == [column.name for column in fields(SavedAnswer)]
