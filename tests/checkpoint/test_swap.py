"""A new result in place of an old one, wherever a kill has struck."""

from pathlib import Path

import pytest

from antidote_ci.checkpoint.swap import commit_swap, partial_folder, recover_swap

ASIDE = "out.replaced-by-antidote"


def folder(path: Path, word: str) -> Path:
    path.mkdir()
    (path / "word").write_text(word)
    return path


def words(parent: Path) -> dict[str, str]:
    return {path.name: (path / "word").read_text() for path in parent.iterdir()}


def test_the_new_result_is_there_alone(tmp_path: Path) -> None:
    out = folder(tmp_path / "out", "old")
    folder(partial_folder(out), "new")
    commit_swap(out)
    assert words(tmp_path) == {"out": "new"}


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({ASIDE: "old"}, {"out": "old"}),
        ({ASIDE: "old", "out": "new"}, {"out": "new"}),
        ({"out": "old"}, {"out": "old"}),
        ({}, {}),
    ],
    ids=["between the renames", "after them", "never begun", "nothing at all"],
)
def test_what_was_cut_short_is_undone_or_ended(found: dict[str, str], left: dict[str, str], tmp_path: Path) -> None:
    for name, word in found.items():
        folder(tmp_path / name, word)
    recover_swap(tmp_path / "out")
    assert words(tmp_path) == left
