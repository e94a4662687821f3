"""What the Hub names after a commit is what was sent."""

from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError
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


def there(change: CommitRequest, marker: CommitMarker | None, **other: str) -> BranchHead:
    """A head with what was sent, but for some files."""
    files = {name: each.sha256 for name, each in change.contents.items()} | other
    return BranchHead(CommitTree("a" * 40, files, {}), marker)


@pytest.mark.parametrize("marker", [OURS, THEIRS, None])
def test_what_was_sent_is_there(change: CommitRequest, marker: CommitMarker | None) -> None:
    require_committed("org/model", there(change, marker), change, OURS)


@pytest.mark.parametrize("name", SENT)
def test_our_own_commit_holds_every_file_as_it_was_sent(change: CommitRequest, name: str) -> None:
    with pytest.raises(InfrastructureError, match=f"^{name} of org/model at {'a' * 40} is not what was published"):
        require_committed("org/model", there(change, OURS, **{name: "6" * 64}), change, OURS)


@pytest.mark.parametrize("marker", [THEIRS, None])
def test_another_run_with_the_same_result_has_its_own_words_and_the_same_weights(
    change: CommitRequest, marker: CommitMarker | None
) -> None:
    words = dict.fromkeys(SENT[1:], "6" * 64)
    require_committed("org/model", there(change, marker, **words), change, OURS)
    with pytest.raises(InfrastructureError, match=r"^model\.safetensors of org/model"):
        require_committed("org/model", there(change, marker, **{SENT[0]: "6" * 64}), change, OURS)
