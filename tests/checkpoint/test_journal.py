"""What a killed run has finished, by its journal."""

from pathlib import Path

import pytest

from antidote_ci.checkpoint.swap import JOURNAL_FILE, FinishedFile, append_to_journal, read_journal, start_journal
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import WeightFile

FILES = [FinishedFile(WeightFile(f"model-{n}.safetensors", "0" * 64, "1" * 64), {"a": n, "b": 0}) for n in range(4)]


def test_what_is_taken_over_and_added_is_read_again(tmp_path: Path) -> None:
    assert read_journal(tmp_path, "key") == []
    start_journal(tmp_path, "key", FILES[:3])
    assert read_journal(tmp_path, "key") == FILES[:3]
    append_to_journal(tmp_path, FILES[3])
    assert read_journal(tmp_path, "key") == FILES
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL_FILE]


def test_a_journal_that_is_torn_anywhere_says_what_is_whole(tmp_path: Path) -> None:
    start_journal(tmp_path, "key", FILES)
    whole = (tmp_path / JOURNAL_FILE).read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        (tmp_path / JOURNAL_FILE).write_bytes(whole[:length])
        # A line without its end is as good as one with it.
        finished = sum(length >= end for end in ends) - 1
        assert read_journal(tmp_path, "key") == FILES[: max(0, finished)]


def test_the_journal_of_another_repair_is_not_gone_on_with(tmp_path: Path) -> None:
    start_journal(tmp_path, "key", FILES)
    with pytest.raises(ConfigurationError, match="belongs to another repair"):
        read_journal(tmp_path, "another")
