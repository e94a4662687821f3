"""What the Hub names after a commit is what was sent."""

from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.commit_marker import Mark
from antidote_ci.hub.commits import Change, Head, require_there
from antidote_ci.hub.trees import Tree, content

OURS, THEIRS = (Mark(run * 32, "2" * 64, "3" * 40, "4" * 64, "5" * 64) for run in "01")
SENT = ("model.safetensors", "README.md", "antidote/report.json")


@pytest.fixture
def change(tmp_path: Path) -> Change:
    for name in SENT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return Change({name: content(tmp_path / name) for name in SENT}, (), "Repaired", "In words")


def there(change: Change, mark: Mark | None, **other: str) -> Head:
    """A head with what was sent, but for some files."""
    files = {name: each.sha256 for name, each in change.contents.items()} | other
    return Head(Tree("a" * 40, files, {}), mark)


@pytest.mark.parametrize("mark", [OURS, THEIRS, None])
def test_what_was_sent_is_there(change: Change, mark: Mark | None) -> None:
    require_there("org/model", there(change, mark), change, OURS)


@pytest.mark.parametrize("name", SENT)
def test_our_own_commit_holds_every_file_as_it_was_sent(change: Change, name: str) -> None:
    with pytest.raises(InfrastructureError, match=f"^{name} of org/model at {'a' * 40} is not what was published"):
        require_there("org/model", there(change, OURS, **{name: "6" * 64}), change, OURS)


@pytest.mark.parametrize("mark", [THEIRS, None])
def test_another_run_with_the_same_result_has_its_own_words_and_the_same_weights(
    change: Change, mark: Mark | None
) -> None:
    words = dict.fromkeys(SENT[1:], "6" * 64)
    require_there("org/model", there(change, mark, **words), change, OURS)
    with pytest.raises(InfrastructureError, match=r"^model\.safetensors of org/model"):
        require_there("org/model", there(change, mark, **{SENT[0]: "6" * 64}), change, OURS)
