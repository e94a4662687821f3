"""Publishing with the real client to a loopback Hub."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.community import DiscussionComment, DiscussionCommit, DiscussionStatusChange
from huggingface_hub.utils import _auth
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.swap import MANIFEST_FILE as MANIFEST_PATH
from antidote_ci.errors import ConfigurationError, InfrastructureError, PublishConflict
from antidote_ci.hub.access import HubAccess, write_access
from antidote_ci.hub.commits import CommitMarker, parse_marker, read_content, read_head
from antidote_ci.hub.destination import Destination, check_destination
from antidote_ci.hub.ownership import read_own_markers
from antidote_ci.hub.publish import PublishRequest, publish_result_files
from antidote_ci.hub.pull import resolve_revision
from antidote_ci.hub.pull_requests import COMMENT_MARKER, PullRequestText, find_waiting_result
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.records import DestinationMode, Manifest, PublishResult, WeightFile, from_json, to_json
from loopback_hub import LoopbackHub
from loopback_hub.faults import HangUp
from loopback_hub.records import Gate
from loopback_hub.strictness import VARIANTS, read_strictness
from tests.hub.campaign import MODES, SOURCE, TARGET, to
from tests.hub.hub_samples import CARD, MANIFEST, TOKEN, MakeModel, uploads

pytestmark = uploads

TITLE = "Repair with Antidote"
BODY = "Harmful score **0.62 -> 0.08**."
POLICY, REPORT_SHA256 = "c" * 64, "d" * 64
ACCESS = HubAccess(TOKEN)
ADDRESSES = {
    "pull-request": "org/model/discussions/1",
    "branch": "org/model/tree/repaired",
    "repo": "demo/repaired",
}


@dataclass(frozen=True)
class Repair:
    """A folder with the result of a run."""

    folder: Path
    run: int = 1
    """The number of the run."""
    result: int = 1
    """The number of the result: equal numbers are equal weights."""

    def publish(self, destination: Destination, access: HubAccess = ACCESS) -> PublishResult:
        """Check the destination and publish."""
        return publish_result_files(
            destination, check_destination(destination, access, access), self.of(destination), access
        )

    def of(self, destination: Destination) -> PublishRequest:
        texts = PullRequestText(
            comment=lambda published: f"{COMMENT_MARKER}\nRun {self.run} is at {published.revision}.",
            closing=lambda number: f"The same result is in {number}.",
            superseding=lambda number: f"A newer source is repaired in {number}.",
        )
        marker = CommitMarker(f"{self.run:032x}", f"{self.result:064x}", destination.revision, POLICY, REPORT_SHA256)
        contents = {
            path.relative_to(self.folder).as_posix(): read_content(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        return PublishRequest(contents, TITLE, f"{BODY} Run {self.run}.", texts, marker)


MakeRepair = Callable[..., Repair]


@pytest.fixture
def repair(tmp_path: Path) -> MakeRepair:
    """Create the repair of a model: other weights of the same size, a card and the report files."""

    def make(source: Path, run: int = 1, result: int = 1) -> Repair:
        folder = tmp_path / f"repair-{run}-{result}"
        (folder / "antidote").mkdir(parents=True)
        weights = {name: tensor * 0.5**result for name, tensor in load_file(source / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_bytes((source / "config.json").read_bytes())
        (folder / "README.md").write_text(f"{CARD}\nRepaired by run {run}.\n")
        (folder / "antidote" / "report.json").write_text(f'{{"run": {run}}}')
        weight = WeightFile("model.safetensors", "0" * 64, read_content(folder / "model.safetensors").sha256)
        (folder / "antidote" / "manifest.json").write_text(to_json(replace(MANIFEST, files=[weight])))
        return Repair(folder, run, result)

    return make


def place(mode: DestinationMode) -> tuple[str, str]:
    """The repository and the revision of the first result."""
    return {"pull-request": (SOURCE, "refs/pr/1"), "branch": (SOURCE, "repaired"), "repo": ("demo/repaired", "main")}[
        mode
    ]


def client(hub: LoopbackHub, token: str = TOKEN) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def commits_sent(hub: LoopbackHub) -> list[str]:
    return [request for request in hub.requests if request.startswith("POST") and "/commit/" in request]


@pytest.mark.parametrize("mode", MODES)
def test_published_files_can_be_downloaded(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, tmp_path: Path, mode: DestinationMode
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    result = repair(folder)
    published = result.publish(to(mode, revision))
    assert len(commits_sent(hub)) == 1
    repository, ref = place(mode)
    assert (published.mode, published.repository) == (mode, repository)
    assert published.url == f"{hub.endpoint}/{ADDRESSES[mode]}"
    assert resolve_revision(repository, ref, HubAccess()).revision == published.revision
    fetched = Path(client(hub).snapshot_download(repository, revision=ref, cache_dir=tmp_path / "elsewhere"))
    for path in result.of(to(mode, revision)).contents:
        assert (fetched / path).read_bytes() == (result.folder / path).read_bytes(), path
    if mode != "repo":
        assert (fetched / "nested" / "notes.txt").read_bytes() == (folder / "nested" / "notes.txt").read_bytes()
        (parent, *_) = client(hub).list_repo_commits(SOURCE, revision=ref)[1:]
        assert parent.commit_id == revision
    assert resolve_revision(SOURCE, None, HubAccess()).revision == revision, "main is untouched"


@pytest.mark.parametrize("mode", MODES)
def test_result_is_published_despite_gitignore(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: DestinationMode
) -> None:
    folder = model()
    (folder / ".gitignore").write_text("antidote/\n*.safetensors\n")
    destination = to(mode, hub.add(SOURCE, folder))
    result = repair(folder)
    result.publish(destination)
    repository, ref = place(mode)
    assert result.of(destination).contents.keys() <= set(client(hub).list_repo_files(repository, revision=ref))


def test_pull_request_has_description_commit_and_comment(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    published = repair(folder).publish(to("pull-request", revision))
    (listed,) = client(hub).get_repo_discussions(SOURCE, discussion_type="pull_request")
    assert (listed.title, listed.status, listed.url) == (TITLE, "open", published.url)
    opening, commit, comment = client(hub).get_discussion_details(SOURCE, 1).events
    assert isinstance(opening, DiscussionComment)
    assert isinstance(commit, DiscussionCommit)
    assert isinstance(comment, DiscussionComment)
    assert opening.content.startswith(f"{BODY} Run 1.")
    assert parse_marker(opening.content) == CommitMarker(f"{1:032x}", f"{1:064x}", revision, POLICY, REPORT_SHA256)
    assert commit.oid == published.revision
    assert comment.content.startswith(f"{COMMENT_MARKER}\nRun 1 is at {published.revision}.\n")
    assert parse_marker(comment.content) == parse_marker(opening.content)


def test_comment_of_a_stranger_is_not_edited(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    revision = hub.add(SOURCE, model())
    hub.add_account("org", "hf_ownerToken")
    hub.add_account("ada", "hf_strangerToken")
    access, stranger = HubAccess("hf_ownerToken"), client(hub, "hf_strangerToken")

    def interrupt(moment: str, _: int, request: str) -> None:
        if moment == "before" and request.endswith("/discussions/1/comment"):
            hub.request_hook = lambda *_: None
            stranger.comment_discussion(SOURCE, 1, f"{COMMENT_MARKER}\nAll is well.")

    hub.request_hook = interrupt
    repair(model("first", seed=3), run=1, result=1).publish(to("pull-request", revision), access)
    second = repair(model("second", seed=4), run=2, result=2).publish(to("pull-request", revision), access)
    assert second.notes == ()
    events = client(hub, "hf_ownerToken").get_discussion_details(SOURCE, 1).events
    texts = [event.content for event in events if isinstance(event, DiscussionComment)]
    second_lines = [text.splitlines()[1] for text in texts if text.startswith(COMMENT_MARKER)]
    assert second_lines == ["All is well.", f"Run 2 is at {second.revision}."]


def test_publishing_without_the_right_to_comment(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    hub.add_account("owner", "hf_ownerToken", organisations=("org",))

    def request_hook(_moment: Literal["before", "after"], _number: int, request: str) -> None:
        if request.startswith("POST") and request.endswith("/comment"):
            hub.add_account("owner", "hf_ownerToken", rights="read", organisations=("org",))

    hub.request_hook = request_hook
    published = repair(folder).publish(to("pull-request", revision), HubAccess("hf_ownerToken"))
    assert published.notes == ("This token may not comment there.",)
    assert resolve_revision(SOURCE, "refs/pr/1", HubAccess()).revision == published.revision


@pytest.mark.parametrize("mode", MODES)
def test_same_result_is_published_once(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: DestinationMode
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    first = repair(folder, run=1).publish(to(mode, revision))
    again = repair(folder, run=2).publish(to(mode, revision))
    assert (again.url, again.revision) == (first.url, first.revision)
    assert len(commits_sent(hub)) == 1
    if mode == "pull-request":
        comments = [event for event in client(hub).get_discussion_details(SOURCE, 1).events if event.type == "comment"]
        assert len(comments) == 2, "the description and one comment"
        assert isinstance(comments[1], DiscussionComment)
        assert f"Run 1 is at {first.revision}." in comments[1].content, "it describes the published report"


def test_closed_pull_request_stays_closed(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    repair(folder, run=1).publish(destination)
    client(hub).change_discussion_status(SOURCE, 1, "closed")
    assert find_waiting_result(destination, ACCESS, POLICY) is None
    assert repair(folder, run=2).publish(destination).url == f"{hub.endpoint}/{SOURCE}/discussions/2"
    assert client(hub).get_discussion_details(SOURCE, 1).status == "closed"


def test_manual_pull_request_of_this_account_is_ignored(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    first = repair(folder, run=1).publish(destination)
    by_hand = CommitOperationAdd("notes.md", b"By hand")
    client(hub).create_commit(SOURCE, [by_hand], commit_message="By hand", create_pr=True)
    assert repair(folder, run=2).publish(destination).url == first.url
    assert [discussion.num for discussion in client(hub).get_repo_discussions(SOURCE)] == [2, 1]


@pytest.mark.parametrize("mode", MODES)
def test_new_result_for_the_same_commit_is_a_second_commit(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: DestinationMode
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    first = repair(folder, run=1, result=1).publish(to(mode, revision))
    second = repair(folder, run=2, result=2).publish(to(mode, revision))
    assert (second.url, second.notes) == (first.url, ())
    repository, ref = place(mode)
    ids = [commit.commit_id for commit in client(hub).list_repo_commits(repository, revision=ref)]
    assert ids[:2] == [second.revision, first.revision]
    if mode == "pull-request":
        *_, last = (e for e in client(hub).get_discussion_details(SOURCE, 1).events if isinstance(e, DiscussionComment))
        assert last.content.startswith(f"{COMMENT_MARKER}\nRun 2 is at {second.revision}.\n")
        assert parse_marker(last.content) == CommitMarker(f"{2:032x}", f"{2:064x}", revision, POLICY, REPORT_SHA256)


def test_concurrent_result_becomes_the_parent(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    destination = to("branch", hub.add(SOURCE, folder))
    concurrent = repair(folder, run=2, result=2)
    earlier: list[PublishResult] = []

    def request_hook(moment: Literal["before", "after"], _number: int, request: str) -> None:
        if moment == "before" and "/commit/" in request and len(commits_sent(hub)) == 1:
            earlier.append(concurrent.publish(destination))

    hub.request_hook = request_hook
    ours = repair(folder).publish(destination)
    ids = [commit.commit_id for commit in client(hub).list_repo_commits(SOURCE, revision="repaired")]
    assert ids[:2] == [ours.revision, earlier[0].revision]


def test_newer_source_gets_a_new_pull_request(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    old = model("first", seed=1)
    first = repair(old, run=1).publish(to("pull-request", hub.add(SOURCE, old)))
    new = model("second", seed=2)
    second = repair(new, run=2, result=2).publish(to("pull-request", hub.add(SOURCE, new)))
    assert second.url != first.url
    assert second.notes == ("Pull request 1 for an older commit was closed.",)
    events = client(hub).get_discussion_details(SOURCE, 1).events
    assert [event.new_status for event in events if isinstance(event, DiscussionStatusChange)] == ["closed"]
    comments = [event.content for event in events if isinstance(event, DiscussionComment)]
    assert comments[-1] == "A newer source is repaired in 2."
    (opened,) = client(hub).get_repo_discussions(SOURCE, discussion_status="open")
    assert opened.num == 2


def test_branch_starts_at_the_tested_commit_when_main_moved(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model("first", seed=1)
    destination = to("branch", tested := hub.add(SOURCE, folder))
    state = check_destination(destination, ACCESS, ACCESS)
    head = hub.add(SOURCE, model("second", seed=2))
    revision = publish_result_files(destination, state, repair(folder).of(destination), ACCESS).revision
    assert revision is not None
    assert hub.store.repository(SOURCE).refs == {"main": head, destination.branch: revision}
    assert hub.store.commit(SOURCE, revision).parent == tested


def test_pull_request_is_refused_when_main_moved(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model("first", seed=1)
    destination = to("pull-request", hub.add(SOURCE, folder))
    state = check_destination(destination, ACCESS, ACCESS)
    head = hub.add(SOURCE, model("second", seed=2))
    result = repair(folder).of(destination)
    with pytest.raises(PublishConflict) as raised:
        publish_result_files(destination, state, result, ACCESS)
    assert raised.value.hint == f"run again on {head}"
    assert list(client(hub).get_repo_discussions(SOURCE)) == []
    assert commits_sent(hub) == []
    with pytest.raises(PublishConflict, match="but the run tests"):
        check_destination(destination, ACCESS, ACCESS)


@pytest.mark.parametrize("mode", MODES)
def test_commits_of_others_are_not_overwritten(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: DestinationMode
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    repair(folder, run=1, result=1).publish(to(mode, revision))
    repository, ref = place(mode)
    client(hub).upload_file(
        path_or_fileobj=b"A person's words.", path_in_repo="model.safetensors", repo_id=repository, revision=ref
    )
    head = client(hub).model_info(repository, revision=ref).sha
    with pytest.raises(PublishConflict):
        repair(folder, run=2, result=2).publish(to(mode, revision))
    assert client(hub).model_info(repository, revision=ref).sha == head


def test_a_branch_with_a_repair_of_another_commit_is_found_before_the_work(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    first = hub.add(SOURCE, folder)
    repair(folder).publish(to("branch", first))
    check_destination(to("branch", first), ACCESS, ACCESS)
    second = hub.add(SOURCE, model("moved", seed=3))
    with pytest.raises(PublishConflict, match="not at " + second):
        check_destination(replace(to("branch", first), revision=second), ACCESS, ACCESS)


def test_publishing_to_the_main_branch(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    destination = Destination("branch", SOURCE, revision, "main")
    published = repair(folder).publish(destination)
    assert client(hub).model_info(SOURCE).sha == published.revision
    moved = model("moved", seed=3)
    head = hub.add(SOURCE, moved)
    with pytest.raises(PublishConflict, match=head):
        repair(moved, run=2, result=2).publish(replace(destination, revision="1" * 40))


def test_pull_request_without_changes_is_not_opened(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    published = Repair(folder).publish(to("pull-request", revision))
    assert published == PublishResult("pull-request", None, revision, SOURCE, ("The repair changes no file.",))
    assert list(client(hub).get_repo_discussions(SOURCE)) == []


@pytest.mark.parametrize(
    "front_matter",
    [
        "license: [1, 2]",
        "tags: {a: b}",
        "base_model: 'not a model'",
        "base_model_relation: pruned",
        "unclosed: [",
        "- a list",
        "model-index: [{results: []}]",
        "model-index: [{name: a, results: [{task: {type: text-generation}}]}]",
    ],
)
def test_invalid_card_is_refused(hub: LoopbackHub, model: MakeModel, repair: MakeRepair, front_matter: str) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    result = repair(folder)
    (result.folder / "README.md").write_text(f"---\n{front_matter}\n---\n# Card\n")
    with pytest.raises(ConfigurationError, match="refuses the model card") as raised:
        result.publish(to("pull-request", revision))
    assert raised.value.cause is not None
    assert len(raised.value.cause) > len("Invalid metadata in README.md.")
    assert list(client(hub).get_repo_discussions(SOURCE)) == []


def test_unknown_source(hub: LoopbackHub) -> None:
    with pytest.raises(InfrastructureError, match="org/model is not on"):
        check_destination(to("pull-request", "0" * 40), ACCESS, ACCESS)


@pytest.mark.parametrize("gated", [False, "auto", "manual"])
def test_new_repository_is_private_or_gated_like_its_source(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, gated: Gate
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder, gated=gated)
    repair(folder).publish(to("repo", revision))
    info = client(hub).model_info("demo/repaired")
    assert info.private is bool(gated)
    assert info.gated == gated


def test_gated_source_is_not_published_to_a_public_repository(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add(SOURCE, model(), gated=True)
    client(hub).create_repo("demo/repaired", private=False)
    with pytest.raises(ConfigurationError, match="is public") as raised:
        check_destination(to("repo", revision), ACCESS, ACCESS)
    assert raised.value.exit_code == 2


def test_repository_that_was_made_public_during_the_run_is_refused(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder, gated=True))
    state = check_destination(destination, ACCESS, ACCESS)
    client(hub).create_repo("demo/repaired", private=False)
    head = client(hub).model_info("demo/repaired").sha
    with pytest.raises(PublishConflict, match="is public"):
        publish_result_files(destination, state, repair(folder).of(destination), ACCESS)
    assert client(hub).model_info("demo/repaired").sha == head


def test_repository_with_another_model_is_refused(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add(SOURCE, model())
    head = hub.add("demo/repaired", model("other", seed=5))
    with pytest.raises(PublishConflict, match="not a repair of org/model"):
        check_destination(to("repo", revision), ACCESS, ACCESS)
    assert client(hub).model_info("demo/repaired").sha == head


def test_card_edited_during_the_run_is_not_overwritten(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder))
    client(hub).create_repo("demo/repaired")
    client(hub).upload_file(path_or_fileobj=b"Mine", path_in_repo="LICENSE", repo_id="demo/repaired")
    first = client(hub).upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id="demo/repaired")
    state = check_destination(destination, ACCESS, ACCESS)
    assert (state.revision, state.card) == (first.oid, CARD)
    better = f"{CARD}Better.\n".encode()
    second = client(hub).upload_file(path_or_fileobj=better, path_in_repo="README.md", repo_id="demo/repaired")
    with pytest.raises(PublishConflict, match="is no longer at"):
        publish_result_files(destination, state, repair(folder).of(destination), ACCESS)
    assert client(hub).model_info("demo/repaired").sha == second.oid
    assert repair(folder, run=2).publish(destination).revision


def test_obsolete_files_of_the_manifest_are_removed(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    """An old chat template with newer weights would be a model that was not measured. Other files are kept."""
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder))
    first = repair(folder, run=1)
    (first.folder / "chat_template.jinja").write_text("old")
    written = from_json(Manifest, (first.folder / MANIFEST_PATH).read_bytes())
    template = WeightFile("chat_template.jinja", "0" * 64, read_content(first.folder / "chat_template.jinja").sha256)
    (first.folder / MANIFEST_PATH).write_text(to_json(replace(written, files=[*written.files, template])))
    first.publish(destination)
    client(hub).upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id="demo/repaired")
    repair(folder, run=2, result=2).publish(destination)
    names = {file.rfilename for file in client(hub).model_info("demo/repaired").siblings or []}
    assert {"model.safetensors", "NOTES.txt"} <= names
    assert "chat_template.jinja" not in names


def test_obsolete_shards_are_removed(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    """They belong to an earlier model."""
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder))
    first = repair(folder, run=1)
    save_file(load_file(first.folder / "model.safetensors"), first.folder / "model-00002.safetensors")
    (first.folder / "model.safetensors.index.json").write_text("{}")
    first.publish(destination)
    repair(folder, run=2, result=2).publish(destination)
    names = {file.rfilename for file in client(hub).model_info("demo/repaired").siblings or []}
    assert "model.safetensors" in names
    assert not names & {"model-00002.safetensors", "model.safetensors.index.json"}


def test_waiting_result_is_found_without_downloading_weights(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    assert find_waiting_result(destination, ACCESS, POLICY) is None
    published = repair(folder).publish(destination)
    before = len(hub.requests)
    waiting = find_waiting_result(destination, ACCESS, POLICY)
    assert waiting is not None
    assert (waiting[0].revision, waiting[1]) == (published.revision, published.url)
    assert find_waiting_result(destination, ACCESS, "d" * 64) is None
    assert find_waiting_result(replace(destination, revision="1" * 40), ACCESS, POLICY) is None
    assert not [request for request in hub.requests[before:] if "/resolve/" in request]


@pytest.mark.parametrize("mode", ["branch", "repo"])
def test_no_waiting_result_in_a_branch_or_repository(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: DestinationMode
) -> None:
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    repair(folder).publish(destination)
    assert find_waiting_result(destination, ACCESS, POLICY) is None


def test_pull_request_of_a_stranger_with_a_marker_is_ignored(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    hub.add_account("owner", "hf_ownerToken", rights="write", organisations=("org",))
    hub.add_account("stranger", "hf_strangerToken", rights="write")
    repair(folder, run=1).publish(to("pull-request", revision), HubAccess("hf_strangerToken"))
    assert find_waiting_result(to("pull-request", revision), HubAccess("hf_ownerToken"), POLICY) is None
    published = repair(folder, run=2).publish(to("pull-request", revision), HubAccess("hf_ownerToken"))
    assert str(published.url).endswith("/discussions/2")
    statuses = {
        discussion.num: discussion.status for discussion in client(hub, "hf_ownerToken").get_repo_discussions(SOURCE)
    }
    assert statuses == {1: "open", 2: "open"}


@pytest.mark.parametrize("rights", ["read", "stranger"])
@pytest.mark.parametrize(("mode", "exists"), [("branch", False), ("repo", False), ("repo", True)])
def test_token_without_write_access_is_refused_before_the_work(
    hub: LoopbackHub, model: MakeModel, mode: DestinationMode, exists: bool, rights: str
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    if exists:
        client(hub).create_repo(TARGET)
    if rights == "read":
        hub.add_account("owner", "hf_readerToken", rights="read", organisations=("org", "demo"))
    else:
        hub.add_account("stranger", "hf_readerToken", rights="write")
    refused, place = to(mode, revision), TARGET if mode == "repo" else SOURCE
    with pytest.raises((InfrastructureError, ConfigurationError), match=f"{place}|is read-only"):
        check_destination(refused, HubAccess(), HubAccess("hf_readerToken"))
    assert commits_sent(hub) == []


def test_gated_source_is_published_to_a_private_repository(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder, gated=True))
    client(hub).create_repo(destination.repository, private=True)
    assert repair(folder).publish(destination).revision


def test_card_that_is_not_utf_8_is_preserved(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    destination, card = to("repo", hub.add(SOURCE, model())), b"# Caf\xe9\n"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "README.md").write_bytes(card)
    hub.add(destination.repository, tmp_path / "theirs")
    read = check_destination(destination, ACCESS, ACCESS).card
    assert read is not None
    assert read.encode("utf-8", "surrogateescape") == card


Workflow = Callable[[Destination], HubAccess]
UPLOAD = "xet-write-token" if read_strictness().has_xet else "info/lfs/objects/batch"
"""The first request of an upload of large files."""


@pytest.fixture
def workflow(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """Make this process a workflow job that may write only to the destination."""
    # The client reads the endpoint for the exchange at import.
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", None)

    def trusted(destination: Destination) -> HubAccess:
        if destination.is_separate:
            client(hub).create_repo(destination.repository)
        for name, value in hub.trust_workflow(destination.repository, "org/workflows").items():
            monkeypatch.setenv(name, value)
        return write_access(os.environ)

    return trusted


def exchanges(hub: LoopbackHub) -> int:
    return hub.requests.count("POST /oauth/token")


def assert_published_once(hub: LoopbackHub, mode: DestinationMode, published: PublishResult) -> None:
    """One new commit, and at most one pull request."""
    repository, revision = place(mode)
    log = [commit.commit_id for commit in reader(hub).list_repo_commits(repository, revision=revision)]
    assert log[0] == published.revision
    assert len(log) == 2
    opened = list(reader(hub).get_repo_discussions(repository))
    assert len(opened) == (1 if mode == "pull-request" else 0)


def reader(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.mark.parametrize("mode", MODES)
def test_workflow_publishes_with_its_identity(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, mode: DestinationMode
) -> None:
    """It has no stored token, may write to one repository, and publishes once."""
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    access = workflow(destination)
    published = [
        publish_result_files(
            destination,
            check_destination(destination, HubAccess(), access),
            repair(folder, run).of(destination),
            access,
        )
        for run in (1, 2)
    ]
    assert published[0].revision == published[1].revision
    assert len(commits_sent(hub)) == 1
    assert exchanges(hub) == 1
    with pytest.raises(ConfigurationError, match="this token may not create it"):
        check_destination(replace(to("repo", destination.revision), name="demo/other"), HubAccess(), access)


def test_expired_token_is_exchanged_again(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow
) -> None:
    """The Hub announces when the token expires."""
    hub.store.token_seconds = 1
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    access = workflow(destination)
    state, result = check_destination(destination, HubAccess(), access), repair(folder).of(destination)
    time.sleep(hub.store.token_seconds)
    assert_published_once(hub, "pull-request", publish_result_files(destination, state, result, access))
    assert len(commits_sent(hub)) == 1


@pytest.mark.parametrize("request_of", ["/api/", UPLOAD, "commit/"])
@pytest.mark.parametrize("mode", MODES)
def test_revoked_token_is_exchanged_again(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, mode: DestinationMode, request_of: str
) -> None:
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    access = workflow(destination)
    refused: list[str] = []

    def expire(moment: str, _: int, request: str) -> None:
        if moment == "before" and request_of in request and not refused:
            refused.append(request)
            hub.end_exchanged_tokens()

    state, result = check_destination(destination, HubAccess(), access), repair(folder).of(destination)
    hub.request_hook = expire
    assert_published_once(hub, mode, publish_result_files(destination, state, result, access))
    assert len(refused) == 1
    assert exchanges(hub) == 2


@pytest.mark.parametrize("variant", ["whoami-401", "whoami-403", "whoami-404", "workflows-not-listed"])
def test_workflow_opens_one_pull_request_on_every_hub(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, variant: str
) -> None:
    hub.store.strictness = VARIANTS[variant]
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    access = workflow(destination)
    for run in (1, 2):
        published = repair(folder, run).publish(destination, access)
        assert_published_once(hub, "pull-request", published)
    assert find_waiting_result(destination, access, POLICY) is not None


@pytest.mark.parametrize("interrupted", [False, True])
def test_description_that_lost_its_marker(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, interrupted: bool
) -> None:
    """The comment has the marker, and until there is one, the commit has it."""
    hub.store.strictness = VARIANTS["opening-comment-cleaned"]
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))

    def interrupt(moment: str, _: int, request: str) -> None:
        if moment == "before" and request.endswith("/comment"):
            raise HangUp

    hub.request_hook = interrupt if interrupted else hub.request_hook
    if interrupted:
        with pytest.raises(InfrastructureError):
            repair(folder).publish(destination, HubAccess(TOKEN, RetryPolicy(0)))
        hub.request_hook = lambda *_: None
    else:
        repair(folder).publish(destination)
    published = repair(folder, run=2).publish(destination)
    assert_published_once(hub, "pull-request", published)
    first, *others = read_own_markers(ACCESS, SOURCE)
    assert (others, first.source) == ([], destination.revision)


def test_right_to_open_a_pull_request_is_checked_before_the_work(hub: LoopbackHub, model: MakeModel) -> None:
    destination = to("pull-request", hub.add(SOURCE, model()))
    hub.add_account("ada", "hf_forAnotherRepository", rights="fine-grained", repositories=["org/other"])
    with pytest.raises(InfrastructureError, match="answered 403 about org/model"):
        check_destination(destination, HubAccess(), HubAccess("hf_forAnotherRepository"))


@pytest.mark.parametrize("role", ["read", "contributor"])
def test_role_in_the_organisation_is_checked_before_the_work(hub: LoopbackHub, model: MakeModel, role: str) -> None:
    destination = replace(to("repo", hub.add(SOURCE, model())), name="team/repaired")
    hub.add_account("ada", "hf_adaIsAMember", organisations=["team"], role=role)
    if role == "read":
        with pytest.raises(ConfigurationError, match="this token may not create it"):
            check_destination(destination, HubAccess(), HubAccess("hf_adaIsAMember"))
    else:
        assert check_destination(destination, HubAccess(), HubAccess("hf_adaIsAMember")).revision is None


def test_head_is_read_without_its_whole_history(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    for number in range(52):
        (folder / "README.md").write_text(f"# Version {number}\n")
        revision = hub.add(SOURCE, folder)
    head = read_head(client(hub), SOURCE, "main")
    assert (head.revision, head.marker) == (revision, None)
    assert [request for request in hub.requests if "/commits/" in request] == [
        f"GET /api/models/{SOURCE}/commits/{revision}"
    ]


@pytest.mark.parametrize("size", [10_000_000, 10 << 20])
def test_file_at_the_limit_of_regular_files_is_compared(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, size: int
) -> None:
    """The documents say 10 MB, which is either of both."""
    folder = model()
    destination = to("branch", hub.add(SOURCE, folder))
    result = repair(folder)
    (result.folder / "notes.txt").write_bytes(bytes(size))
    assert result.publish(destination).revision
