"""The hashes on the Hub after a commit are compared with the sent files."""

from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import commits
from antidote_ci.hub.commits import (
    BranchHead,
    CommitMarker,
    CommitRequest,
    CommitTree,
    read_content,
    require_committed,
)

OURS, THEIRS = (CommitMarker(run * 32, "2" * 64, "3" * 40, "4" * 64, "5" * 64) for run in "01")
SENT = ("model.safetensors", "README.md", "antidote/report.json")


@pytest.fixture
def change(tmp_path: Path) -> CommitRequest:
    for name in SENT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return CommitRequest({name: read_content(tmp_path / name) for name in SENT}, (), "Repaired", "In words")


def head_with(change: CommitRequest, marker: CommitMarker | None, **other: str) -> BranchHead:
    """A head with the sent files, of which `other` have another hash."""
    files = {path: content.sha256 for path, content in change.contents.items()} | other
    return BranchHead(CommitTree("a" * 40, files, {}), marker)


@pytest.mark.parametrize("marker", [OURS, THEIRS, None])
def test_published_files_are_accepted(change: CommitRequest, marker: CommitMarker | None) -> None:
    require_committed("org/model", head_with(change, marker), change, OURS)


@pytest.mark.parametrize("name", SENT)
def test_own_commit_must_contain_every_file(change: CommitRequest, name: str) -> None:
    with pytest.raises(InfrastructureError, match=f"^{name} of org/model at {'a' * 40} is not what was published"):
        require_committed("org/model", head_with(change, OURS, **{name: "6" * 64}), change, OURS)


@pytest.mark.parametrize("marker", [THEIRS, None])
def test_commit_of_another_run_may_differ_in_card_and_reports(
    change: CommitRequest, marker: CommitMarker | None
) -> None:
    reports = dict.fromkeys(SENT[1:], "6" * 64)
    require_committed("org/model", head_with(change, marker, **reports), change, OURS)
    with pytest.raises(InfrastructureError, match=r"^model\.safetensors of org/model"):
        require_committed("org/model", head_with(change, marker, **{SENT[0]: "6" * 64}), change, OURS)


@pytest.mark.parametrize("text", [None, ["x"], 7, ""])
def test_comment_without_a_text_has_no_marker(text: object) -> None:
    assert commits.parse_marker(text) is None
