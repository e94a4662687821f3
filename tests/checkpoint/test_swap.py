"""Replacing a folder after a kill at any step, and the journal of finished files."""

from pathlib import Path

import pytest

from antidote_ci.checkpoint.swap import (
    JOURNAL_FILE,
    FinishedFile,
    append_to_journal,
    commit_swap,
    partial_folder,
    read_journal,
    recover_swap,
    start_journal,
)
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import WeightFile

ASIDE = "out.replaced-by-antidote"


def folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "word").write_text(word)
    return path


def words(parent: Path) -> dict[str, str]:
    return {path.name: (path / "word").read_text() for path in parent.iterdir()}


def test_commit_swap_leaves_only_the_new_result(tmp_path: Path) -> None:
    out = folder(tmp_path / "out", "old")
    folder(partial_folder(out), "new")
    commit_swap(out)
    assert words(tmp_path) == {"out": "new"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({ASIDE: "old"}, {"out": "old"}),
        ({ASIDE: "old", "out": "new"}, {"out": "new"}),
        ({"out": "old"}, {"out": "old"}),
        ({}, {}),
    ],
    ids=["between the renames", "after them", "never begun", "nothing at all"],
)
def test_recover_swap_undoes_or_completes_an_interrupted_swap(
    before: dict[str, str], after: dict[str, str], tmp_path: Path
) -> None:
    for name, word in before.items():
        folder(tmp_path / name, word)
    recover_swap(tmp_path / "out")
    assert words(tmp_path) == after


FILES = [FinishedFile(WeightFile(f"model-{n}.safetensors", "0" * 64, "1" * 64), {"a": n, "b": 0}) for n in range(2)]


def test_journal_round_trips_finished_files(tmp_path: Path) -> None:
    assert read_journal(tmp_path, "key") == []
    start_journal(tmp_path, "key", FILES[:1])
    assert read_journal(tmp_path, "key") == FILES[:1]
    append_to_journal(tmp_path, FILES[1])
    assert read_journal(tmp_path, "key") == FILES
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_FILE]


def test_journal_truncated_anywhere_keeps_complete_lines(tmp_path: Path) -> None:
    start_journal(tmp_path, "key", FILES)
    data = (tmp_path / JOURNAL_FILE).read_bytes()
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data) + 1):
        (tmp_path / JOURNAL_FILE).write_bytes(data[:length])
        # A line without its end is as good as one with it.
        finished = sum(length >= end for end in ends) - 1
        assert read_journal(tmp_path, "key") == FILES[: max(0, finished)]


def test_journal_with_another_key_is_refused(tmp_path: Path) -> None:
    start_journal(tmp_path, "key", FILES)
    with pytest.raises(ConfigurationError, match="belongs to another repair"):
        read_journal(tmp_path, "another")
