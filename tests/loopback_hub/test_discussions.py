"""Discussions and pull requests of the loopback Hub, tested with the real client."""

import threading
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitInfo, CommitOperationDelete, HfApi
from huggingface_hub.community import (
    DiscussionComment,
    DiscussionCommit,
    DiscussionEvent,
    DiscussionStatusChange,
)
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopback_hub import LoopbackHub
from tests.hub.hub_samples import MakeModel
from tests.loopback_hub.loopback_samples import client, file, rejected, status, write


@pytest.fixture
def hf(hub: LoopbackHub, tmp_path: Path) -> HfApi:
    hub.add("org/model", write(tmp_path / "model", a="0", b="0", c="0"))
    return client(hub)


def summarize(events: list[DiscussionEvent]) -> list[tuple[str, str]]:
    """Return the kind and the content of each event."""
    summary = []
    for event in events:
        match event:
            case DiscussionComment():
                summary.append(("comment", event.content))
            case DiscussionCommit():
                summary.append(("commit", event.summary))
            case DiscussionStatusChange():
                summary.append(("status", event.new_status))
    return summary


def test_events_of_a_pull_request(hub: LoopbackHub, hf: HfApi) -> None:
    created = hf.create_commit(
        "org/model", [file("a", "1")], commit_message="First", commit_description="Why", create_pr=True
    )
    assert created.pr_num == 1
    hf.create_commit("org/model", [file("a", "2")], commit_message="Second", revision="refs/pr/1")
    comment = hf.comment_discussion("org/model", 1, "A <b>word</b>")
    hf.edit_discussion_comment("org/model", 1, comment.id, "Another word")
    hf.change_discussion_status("org/model", 1, "closed", comment="Not now")
    hf.change_discussion_status("org/model", 1, "open")
    hf.merge_pull_request("org/model", 1, comment="Thanks")
    details = hf.get_discussion_details("org/model", 1)
    assert summarize(details.events) == [
        ("comment", "Why"),
        ("commit", "First"),
        ("commit", "Second"),
        ("comment", "Another word"),
        ("comment", "Not now"),
        ("status", "closed"),
        ("status", "open"),
        ("status", "merged"),
        ("comment", "Thanks"),
    ]
    edited = details.events[3]
    assert isinstance(edited, DiscussionComment)
    assert (edited.edited, edited.number_of_edits, edited.id) == (True, 1, comment.id)
    assert len({event.id for event in details.events}) == len(details.events)
    merged = hf.list_repo_commits("org/model")[0]
    assert (merged.title, merged.commit_id) == ("First (#1)", details.merge_commit_oid)
    assert "Second" in merged.message
    page = httpx2.get(details.url).text
    for text in ("Another word", "Not now", "Thanks", "merged"):
        assert text in page


def test_list_filters_by_type_status_and_author(hf: HfApi, tmp_path: Path, client_settings: Path) -> None:
    with LoopbackHub(tmp_path / "paged", page_size=2) as paged:
        paged.add("org/model", tmp_path / "model")
        hf = client(paged)
        hf.create_discussion("org/model", "A discussion", description="Of something")
        assert hf.create_pull_request("org/model", "A draft").status == "draft"
        for name in ("third", "fourth", "fifth"):
            hf.create_commit("org/model", [file("a", name)], commit_message=f"The {name}", create_pr=True)
        hf.change_discussion_status("org/model", 3, "closed")
        hf.merge_pull_request("org/model", 4)

        def numbers(**filters: str) -> list[int]:
            return [discussion.num for discussion in hf.get_repo_discussions("org/model", **filters)]  # type: ignore[arg-type]

        assert numbers() == [5, 4, 3, 2, 1]
        assert numbers(discussion_type="discussion") == [1]
        assert numbers(discussion_type="pull_request", discussion_status="open") == [5, 2]
        assert numbers(discussion_status="closed") == [4, 3]
        assert numbers(author="demo") == [5, 4, 3, 2, 1]
        assert numbers(author="nobody") == []
        assert "Of something" in httpx2.get(f"{paged.endpoint}/org/model/discussions/1").text


def test_draft_pull_request_is_opened_and_merged(hf: HfApi) -> None:
    drafted = hf.create_pull_request("org/model", "A draft")
    assert drafted.git_reference == "refs/pr/1"
    assert status(hf.merge_pull_request, "org/model", 1) == 409
    hf.create_commit("org/model", [file("a", "1")], commit_message="The change", revision="refs/pr/1")
    hf.change_discussion_status("org/model", 1, "open")
    hf.merge_pull_request("org/model", 1)
    assert status(hf.change_discussion_status, "org/model", 1, "open") == 409
    late = [file("a", "2")]
    assert status(hf.create_commit, "org/model", late, commit_message="Late", revision="refs/pr/1") == 409


def test_unknown_discussions_and_comments_are_rejected(hf: HfApi) -> None:
    hf.create_discussion("org/model", "A discussion")
    for call in (
        lambda: hf.get_discussion_details("org/model", 2),
        lambda: hf.comment_discussion("org/model", 2, "A word"),
        lambda: hf.edit_discussion_comment("org/model", 1, "0" * 24, "A word"),
        lambda: hf.create_commit("org/model", [file("a", "1")], commit_message="No", revision="refs/pr/1"),
    ):
        assert status(call) == 404
    assert status(hf.create_discussion, "org/model", "ab") == 400
    assert status(hf.comment_discussion, "org/model", 1, "") == 400


def test_pull_request_may_start_from_an_old_commit(hub: LoopbackHub, hf: HfApi) -> None:
    old = hf.model_info("org/model").sha
    hf.create_commit("org/model", [file("a", "1")], commit_message="Main moves")

    def commit_on_old_head(path: str, revision: str = "main", create_pr: bool = False) -> CommitInfo:
        change = [file(path, "1")]
        return hf.create_commit(
            "org/model", change, commit_message="Old", revision=revision, create_pr=create_pr, parent_commit=old
        )

    assert status(commit_on_old_head, "b") == 412
    created = commit_on_old_head("b", create_pr=True)
    assert hub.store.commit("org/model", created.oid).parent == old
    assert status(commit_on_old_head, "c", revision="refs/pr/1") == 412, "a push to a pull request can be stale"
    hf.merge_pull_request("org/model", 1)
    assert hf.list_repo_files("org/model") == ["a", "b", "c"]


def test_only_one_of_concurrent_pushes_succeeds(hub: LoopbackHub, hf: HfApi) -> None:
    head = hf.create_commit("org/model", [file("a", "1")], commit_message="Begin", create_pr=True)
    outcomes: list[str] = []

    def push(number: int) -> None:
        try:
            hf.create_commit(
                "org/model",
                [file("a", f"by {number}")],
                commit_message=f"By {number}",
                revision="refs/pr/1",
                parent_commit=head.oid,
            )
            outcomes.append("pushed")
        except HfHubHTTPError as error:
            outcomes.append(str(error.response.status_code))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [*["412"] * 5, "pushed"]
    assert len(hf.list_repo_commits("org/model", revision="refs/pr/1")) == 3


CHANGES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2", None]), max_size=4)


@given(ours=CHANGES, theirs=CHANGES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_merge_combines_both_sides_or_reports_conflicts(
    hub: LoopbackHub, tmp_path: Path, ours: dict[str, str | None], theirs: dict[str, str | None]
) -> None:
    """A file takes the change of the side that changed it. Different changes on both sides are a conflict."""
    before: dict[str, str | None] = {"a": "0", "b": "0", "c": "0"}
    folder = write(tmp_path / "merging", a="0", b="0", c="0")
    hf = client(hub)
    hf.delete_repo("org/merging", missing_ok=True)
    hub.add("org/merging", folder)
    push(hf, before, {**ours, "ours": "1"}, create_pr=True)
    push(hf, before, {**theirs, "theirs": "1"}, create_pr=False)
    clashes = {
        path
        for path in "abcd"
        if before.get(path)
        not in (mine := ours.get(path, before.get(path)), yours := theirs.get(path, before.get(path)))
        and mine != yours
    }
    details = hf.get_discussion_details("org/merging", 1)
    assert details.conflicting_files == sorted(clashes)
    if clashes:
        assert status(hf.merge_pull_request, "org/merging", 1) == 409
        return
    hf.merge_pull_request("org/merging", 1)
    merged = {path: text for path, text in {**before, **theirs, **changed(before, ours)}.items() if text is not None}
    commit = hub.store.commit("org/merging", "main")
    read = {path: (tmp_path / "hub" / "blobs" / entry.sha256).read_text() for path, entry in commit.files.items()}
    assert read == {**merged, "ours": "1", "theirs": "1"}


def changed(before: dict[str, str | None], after: dict[str, str | None]) -> dict[str, str | None]:
    return {path: text for path, text in after.items() if before.get(path) != text}


def push(hf: HfApi, before: dict[str, str | None], after: dict[str, str | None], create_pr: bool) -> None:
    operations = [
        CommitOperationDelete(path) if text is None else file(path, text)
        for path, text in after.items()
        if text is not None or path in before
    ]
    hf.create_commit("org/merging", operations, commit_message="A change", create_pr=create_pr)


def test_pull_request_to_a_branch(hub: LoopbackHub, tmp_path: Path) -> None:
    first = hub.add("org/model", write(tmp_path / "model", a="1"))
    hf = client(hub)
    hf.create_branch("org/model", branch="next")
    change = [file("a", "2")]
    for revision in (first, "nowhere"):
        wrong = rejected(hf.create_commit, "org/model", change, commit_message="No", revision=revision, create_pr=True)
        assert isinstance(wrong, RevisionNotFoundError)
    hf.create_commit("org/model", change, commit_message="Yes", revision="next", create_pr=True)
    assert hf.get_discussion_details("org/model", 1).target_branch == "refs/heads/next"
    hf.merge_pull_request("org/model", 1)
    assert hf.model_info("org/model").sha == first
    assert hf.list_repo_commits("org/model", revision="next")[0].title == "Yes (#1)"
    hf.create_commit("org/model", [file("b", "3")], commit_message="More", revision="next", create_pr=True)
    hf.delete_branch("org/model", branch="next")
    assert hf.get_discussion_details("org/model", 2).status == "open"
    assert status(hf.merge_pull_request, "org/model", 2) == 404


def test_pull_request_of_a_dataset(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    hub.add("org/data", write(tmp_path / "data", rows="1"), kind="dataset")
    hf = client(hub)
    created = hf.create_commit(
        "org/data", [file("rows", "2")], commit_message="Other rows", create_pr=True, repo_type="dataset"
    )
    (listed,) = hf.get_repo_discussions("org/data", repo_type="dataset")
    assert (listed.repo_id, listed.repo_type, listed.url) == ("org/data", "dataset", created.pr_url)
    assert httpx2.get(str(created.pr_url)).status_code == 200
    hf.merge_pull_request("org/data", 1, repo_type="dataset")
    assert hf.dataset_info("org/data").sha != created.oid
