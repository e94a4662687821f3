"""What of a partial checkpoint is finished: a line of JSON a file, on the disk before the next file counts.

The first line is the key of the request, so that a partial checkpoint is only ever continued by the run it belongs to.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from antidote_ci.checkpoint.swap import fsync_path
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import WeightFile, from_json

JOURNAL_FILE = "journal.jsonl"
"""In the partial folder, and no file that a checkpoint may hold."""


@dataclass(frozen=True)
class FinishedFile:
    """One file that has its name, and how many entries of its edited tensors have another value."""

    file: WeightFile
    changed: dict[str, int]


@dataclass(frozen=True)
class _JournalKey:
    key: str


def read_journal(partial: Path, key: str) -> list[FinishedFile]:
    """The files that an earlier run of the same key finished; none without a journal, or with a torn first line.

    Raises ConfigurationError when it is the journal of another key.
    """
    path = partial / JOURNAL_FILE
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    try:
        found = from_json(_JournalKey, lines[0]).key
    except (IndexError, ValueError):
        return []
    if found != key:
        raise ConfigurationError(
            f"{partial} belongs to another repair",
            cause="that one was stopped before its end, and its model, method or dose was not this one's",
            hint=f"repeat it to finish it, remove {partial}, or choose another output folder",
        )
    finished = []
    for line in lines[1:]:
        try:
            finished.append(from_json(FinishedFile, line))
        except ValueError:  # torn by the kill: nothing stands behind it
            break
    return finished


def start_journal(partial: Path, key: str, finished: Iterable[FinishedFile]) -> None:
    """Start the journal anew, whole or not at all, with what is taken over."""
    temporary = partial / (JOURNAL_FILE + ".tmp")
    temporary.write_bytes(_to_line(_JournalKey(key)) + b"".join(map(_to_line, finished)))
    fsync_path(temporary)
    temporary.replace(partial / JOURNAL_FILE)
    fsync_path(partial)


def append_to_journal(partial: Path, finished: FinishedFile) -> None:
    """One more file is finished."""
    with (partial / JOURNAL_FILE).open("ab") as file:
        file.write(_to_line(finished))
        file.flush()
        os.fsync(file.fileno())


def _to_line(record: _JournalKey | FinishedFile) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"
