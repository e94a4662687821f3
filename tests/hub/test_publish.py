"""Publishing with the real client, and reading back what it published."""

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
from antidote_ci.hub.commits import CommitMarker, parse_marker, read_content
from antidote_ci.hub.destination import Destination, check_destination
from antidote_ci.hub.publish import PublishRequest, publish_result_files
from antidote_ci.hub.pull import resolve_revision
from antidote_ci.hub.pull_requests import COMMENT_MARKER, PullRequestText, find_waiting_result
from antidote_ci.records import Manifest, PublishResult, WeightFile, from_json, to_json
from loopback_hub import LoopbackHub
from loopback_hub.records import Gate
from tests.hub.hub_samples import CARD, MANIFEST, TOKEN, MakeModel, uploads

pytestmark = uploads

SOURCE = "org/model"
TITLE = "Repair with Antidote"
BODY = "Harmful score **0.62 -> 0.08**."
POLICY, REPORT_SHA256 = "c" * 64, "d" * 64
ACCESS = HubAccess(TOKEN)
Mode = Literal["pull-request", "branch", "repo"]
MODES: tuple[Mode, ...] = ("pull-request", "branch", "repo")
NAMES = {"pull-request": SOURCE, "branch": "repaired", "repo": "demo/repaired"}
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
    """Another run of the same work."""
    result: int = 1
    """Another result."""

    def publish(self, destination: Destination, access: HubAccess = ACCESS) -> PublishResult:
        """From the survey to the end."""
        return publish_result_files(
            destination, check_destination(destination, access, access), self.of(destination), access
        )

    def of(self, destination: Destination) -> PublishRequest:
        words = PullRequestText(
            comment=lambda published: f"{COMMENT_MARKER}\nRun {self.run} is at {published.revision}.",
            closing=lambda number: f"The same result is in {number}.",
            superseding=lambda number: f"A newer source is repaired in {number}.",
        )
        mark = CommitMarker(f"{self.run:032x}", f"{self.result:064x}", destination.revision, POLICY, REPORT_SHA256)
        contents = {
            path.relative_to(self.folder).as_posix(): read_content(path)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        return PublishRequest(contents, TITLE, f"{BODY} Run {self.run}.", words, mark)


MakeRepair = Callable[..., Repair]


@pytest.fixture
def repair(tmp_path: Path) -> MakeRepair:
    """Makes the repair of a model's folder: other weights of the same size, a card, the report's files."""

    def make(source: Path, run: int = 1, result: int = 1) -> Repair:
        folder = tmp_path / f"repair-{run}-{result}"
        (folder / "antidote").mkdir(parents=True)
        weights = {name: tensor * 0.5**result for name, tensor in load_file(source / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_bytes((source / "config.json").read_bytes())
        (folder / "README.md").write_text(f"{CARD}\nRepaired by run {run}.\n")
        (folder / "antidote" / "report.json").write_text(f'{{"run": {run}}}')
        weight = WeightFile("model.safetensors", None, read_content(folder / "model.safetensors").sha256)
        (folder / "antidote" / "manifest.json").write_text(to_json(replace(MANIFEST, files=[weight])))
        return Repair(folder, run, result)

    return make


def to(mode: Mode, revision: str) -> Destination:
    return Destination(mode, SOURCE, revision, NAMES[mode])


def place(mode: Mode) -> tuple[str, str]:
    """The repository and the revision under which a first result is found."""
    return {"pull-request": (SOURCE, "refs/pr/1"), "branch": (SOURCE, "repaired"), "repo": ("demo/repaired", "main")}[
        mode
    ]


def client(hub: LoopbackHub, token: str = TOKEN) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def commits_sent(hub: LoopbackHub) -> list[str]:
    return [request for request in hub.requests if request.startswith("POST") and "/commit/" in request]


@pytest.mark.parametrize("mode", MODES)
def test_fetched_back(hub: LoopbackHub, model: MakeModel, repair: MakeRepair, tmp_path: Path, mode: Mode) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    made = repair(folder)
    published = made.publish(to(mode, revision))
    assert len(commits_sent(hub)) == 1
    repository, ref = place(mode)
    assert (published.mode, published.repository) == (mode, repository)
    assert published.url == f"{hub.endpoint}/{ADDRESSES[mode]}"
    assert resolve_revision(repository, ref, HubAccess()).revision == published.revision
    fetched = Path(client(hub).snapshot_download(repository, revision=ref, cache_dir=tmp_path / "elsewhere"))
    for path in made.of(to(mode, revision)).contents:
        assert (fetched / path).read_bytes() == (made.folder / path).read_bytes(), path
    if mode != "repo":
        assert (fetched / "nested" / "notes.txt").read_bytes() == (folder / "nested" / "notes.txt").read_bytes()
        (parent, *_) = client(hub).list_repo_commits(SOURCE, revision=ref)[1:]
        assert parent.commit_id == revision
    assert resolve_revision(SOURCE, None, HubAccess()).revision == revision, "main is untouched"


def test_the_discussion_as_the_client_reads_it(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
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


def test_a_stranger_who_speaks_in_our_place(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    revision = hub.add(SOURCE, model())
    hub.add_account("org", "hf_ownerToken")
    hub.add_account("ada", "hf_strangerToken")
    access, stranger = HubAccess("hf_ownerToken"), client(hub, "hf_strangerToken")

    def interrupt(moment: str, _: int, request: str) -> None:
        if moment == "before" and request.endswith("/discussions/1/comment"):
            hub.meanwhile = lambda *_: None
            stranger.comment_discussion(SOURCE, 1, f"{COMMENT_MARKER}\nAll is well.")

    hub.meanwhile = interrupt
    repair(model("first", seed=3), run=1, result=1).publish(to("pull-request", revision), access)
    second = repair(model("second", seed=4), run=2, result=2).publish(to("pull-request", revision), access)
    assert second.notes == ()
    events = client(hub, "hf_ownerToken").get_discussion_details(SOURCE, 1).events
    texts = [each.content for each in events if isinstance(each, DiscussionComment)]
    said = [each.splitlines()[1] for each in texts if each.startswith(COMMENT_MARKER)]
    assert said == ["All is well.", f"Run 2 is at {second.revision}."]


def test_a_token_that_may_not_comment_publishes_all_the_same(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    hub.add_account("owner", "hf_ownerToken", organisations=("org",))

    def meanwhile(_moment: Literal["before", "after"], _number: int, request: str) -> None:
        if request.startswith("POST") and request.endswith("/comment"):
            hub.add_account("owner", "hf_ownerToken", rights="read", organisations=("org",))

    hub.meanwhile = meanwhile
    published = repair(folder).publish(to("pull-request", revision), HubAccess("hf_ownerToken"))
    assert published.notes == ("This token may not comment there.",)
    assert resolve_revision(SOURCE, "refs/pr/1", HubAccess()).revision == published.revision


@pytest.mark.parametrize("mode", MODES)
def test_the_same_result_twice_is_one_commit(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: Mode
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    first = repair(folder, run=1).publish(to(mode, revision))
    again = repair(folder, run=2).publish(to(mode, revision))
    assert (again.url, again.revision) == (first.url, first.revision)
    assert len(commits_sent(hub)) == 1
    if mode == "pull-request":
        texts = [each for each in client(hub).get_discussion_details(SOURCE, 1).events if each.type == "comment"]
        assert len(texts) == 2, "what it was opened with, and one comment"
        assert isinstance(texts[1], DiscussionComment)
        assert f"Run 1 is at {first.revision}." in texts[1].content, "it speaks of the report that is there"


def test_a_pull_request_that_was_closed_stays_closed_and_a_new_one_is_opened(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    repair(folder, run=1).publish(destination)
    client(hub).change_discussion_status(SOURCE, 1, "closed")
    assert find_waiting_result(destination, ACCESS, POLICY) is None
    assert repair(folder, run=2).publish(destination).url == f"{hub.endpoint}/{SOURCE}/discussions/2"
    assert client(hub).get_discussion_details(SOURCE, 1).status == "closed"


def test_what_the_same_account_proposed_by_hand_is_no_result(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    first = repair(folder, run=1).publish(destination)
    by_hand = CommitOperationAdd("notes.md", b"By hand")
    client(hub).create_commit(SOURCE, [by_hand], commit_message="By hand", create_pr=True)
    assert repair(folder, run=2).publish(destination).url == first.url
    assert [each.num for each in client(hub).get_repo_discussions(SOURCE)] == [2, 1]


@pytest.mark.parametrize("mode", MODES)
def test_another_result_for_the_same_commit_is_a_second_commit(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: Mode
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    first = repair(folder, run=1, result=1).publish(to(mode, revision))
    second = repair(folder, run=2, result=2).publish(to(mode, revision))
    assert (second.url, second.notes) == (first.url, ())
    repository, ref = place(mode)
    ids = [each.commit_id for each in client(hub).list_repo_commits(repository, revision=ref)]
    assert ids[:2] == [second.revision, first.revision]
    if mode == "pull-request":
        *_, last = (e for e in client(hub).get_discussion_details(SOURCE, 1).events if isinstance(e, DiscussionComment))
        assert last.content.startswith(f"{COMMENT_MARKER}\nRun 2 is at {second.revision}.\n")
        assert parse_marker(last.content) == CommitMarker(f"{2:032x}", f"{2:064x}", revision, POLICY, REPORT_SHA256)


def test_another_result_that_was_quicker_lies_beneath_ours(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("branch", hub.add(SOURCE, folder))
    other = repair(folder, run=2, result=2)
    quicker: list[PublishResult] = []

    def meanwhile(moment: Literal["before", "after"], _number: int, request: str) -> None:
        if moment == "before" and "/commit/" in request and len(commits_sent(hub)) == 1:
            quicker.append(other.publish(destination))

    hub.meanwhile = meanwhile
    ours = repair(folder).publish(destination)
    ids = [each.commit_id for each in client(hub).list_repo_commits(SOURCE, revision="repaired")]
    assert ids[:2] == [ours.revision, quicker[0].revision]


def test_a_newer_source_gets_its_own_pull_request(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    old = model("first", seed=1)
    first = repair(old, run=1).publish(to("pull-request", hub.add(SOURCE, old)))
    new = model("second", seed=2)
    second = repair(new, run=2, result=2).publish(to("pull-request", hub.add(SOURCE, new)))
    assert second.url != first.url
    assert second.notes == ("Pull request 1 for an older commit was closed.",)
    events = client(hub).get_discussion_details(SOURCE, 1).events
    assert [event.new_status for event in events if isinstance(event, DiscussionStatusChange)] == ["closed"]
    said = [event.content for event in events if isinstance(event, DiscussionComment)]
    assert said[-1] == "A newer source is repaired in 2."
    (opened,) = client(hub).get_repo_discussions(SOURCE, discussion_status="open")
    assert opened.num == 2


@pytest.mark.parametrize("mode", ["pull-request", "branch"])
def test_main_moved(hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: Mode) -> None:
    """A pull request is for main as it is; a branch of the tested commit is not in anybody's way."""
    folder = model("first", seed=1)
    destination = to(mode, hub.add(SOURCE, folder))
    standing = check_destination(destination, ACCESS, ACCESS)
    head = hub.add(SOURCE, model("second", seed=2))
    result = repair(folder).of(destination)
    if mode == "branch":
        assert publish_result_files(destination, standing, result, ACCESS).revision
        return
    with pytest.raises(PublishConflict) as raised:
        publish_result_files(destination, standing, result, ACCESS)
    assert raised.value.hint == f"run again on {head}"
    assert list(client(hub).get_repo_discussions(SOURCE)) == []
    assert commits_sent(hub) == []
    with pytest.raises(PublishConflict, match="to be tested"):
        check_destination(destination, ACCESS, ACCESS)


@pytest.mark.parametrize("mode", MODES)
def test_somebody_has_gone_on_from_ours(hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: Mode) -> None:
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


def test_straight_to_main(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    destination = Destination("branch", SOURCE, revision, "main")
    published = repair(folder).publish(destination)
    assert client(hub).model_info(SOURCE).sha == published.revision
    moved = model("moved", seed=3)
    head = hub.add(SOURCE, moved)
    with pytest.raises(PublishConflict, match=head):
        repair(moved, run=2, result=2).publish(replace(destination, revision="1" * 40))


def test_a_pull_request_where_nothing_changes(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    published = Repair(folder).publish(to("pull-request", revision))
    assert published == PublishResult("pull-request", None, revision, SOURCE, ("Nothing was to be changed.",))
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
def test_a_card_the_hub_refuses(hub: LoopbackHub, model: MakeModel, repair: MakeRepair, front_matter: str) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder)
    made = repair(folder)
    (made.folder / "README.md").write_text(f"---\n{front_matter}\n---\n# Card\n")
    with pytest.raises(ConfigurationError, match="refuses the model card") as raised:
        made.publish(to("pull-request", revision))
    assert raised.value.cause is not None
    assert len(raised.value.cause) > len("Invalid metadata in README.md.")
    assert list(client(hub).get_repo_discussions(SOURCE)) == []


def test_an_unknown_source(hub: LoopbackHub) -> None:
    with pytest.raises(InfrastructureError, match="org/model is not on"):
        check_destination(to("pull-request", "0" * 40), ACCESS, ACCESS)


@pytest.mark.parametrize("gated", [False, "auto", "manual"])
def test_a_new_repository_is_no_more_open_than_its_source(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, gated: Gate
) -> None:
    folder = model()
    revision = hub.add(SOURCE, folder, gated=gated)
    repair(folder).publish(to("repo", revision))
    info = client(hub).model_info("demo/repaired")
    assert info.private is bool(gated)
    assert info.gated == gated


def test_a_public_repository_gets_nothing_that_is_gated(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add(SOURCE, model(), gated=True)
    client(hub).create_repo("demo/repaired", private=False)
    with pytest.raises(ConfigurationError, match="is public") as raised:
        check_destination(to("repo", revision), ACCESS, ACCESS)
    assert raised.value.exit_code == 2


def test_a_repository_that_became_public_meanwhile_gets_nothing_either(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder, gated=True))
    standing = check_destination(destination, ACCESS, ACCESS)
    client(hub).create_repo("demo/repaired", private=False)
    head = client(hub).model_info("demo/repaired").sha
    with pytest.raises(PublishConflict, match="is public"):
        publish_result_files(destination, standing, repair(folder).of(destination), ACCESS)
    assert client(hub).model_info("demo/repaired").sha == head


def test_a_repository_with_another_model(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add(SOURCE, model())
    head = hub.add("demo/repaired", model("other", seed=5))
    with pytest.raises(PublishConflict, match="not a repair of org/model"):
        check_destination(to("repo", revision), ACCESS, ACCESS)
    assert client(hub).model_info("demo/repaired").sha == head


def test_an_owner_s_card_is_read_and_an_edit_during_the_run_stands(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair
) -> None:
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder))
    client(hub).create_repo("demo/repaired")
    client(hub).upload_file(path_or_fileobj=b"Mine", path_in_repo="LICENSE", repo_id="demo/repaired")
    first = client(hub).upload_file(path_or_fileobj=b"# Mine\n", path_in_repo="README.md", repo_id="demo/repaired")
    standing = check_destination(destination, ACCESS, ACCESS)
    assert (standing.revision, standing.card) == (first.oid, "# Mine\n")
    second = client(hub).upload_file(path_or_fileobj=b"# Better\n", path_in_repo="README.md", repo_id="demo/repaired")
    with pytest.raises(PublishConflict, match="is no longer at"):
        publish_result_files(destination, standing, repair(folder).of(destination), ACCESS)
    assert client(hub).model_info("demo/repaired").sha == second.oid
    assert repair(folder, run=2).publish(destination).revision


def test_files_that_the_newer_source_no_longer_has_go(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    """An old chat template beside newer weights is another model than the one that was measured. Its owner's stay."""
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder))
    first = repair(folder, run=1)
    (first.folder / "chat_template.jinja").write_text("old")
    written = from_json(Manifest, (first.folder / MANIFEST_PATH).read_bytes())
    template = WeightFile("chat_template.jinja", None, read_content(first.folder / "chat_template.jinja").sha256)
    (first.folder / MANIFEST_PATH).write_text(to_json(replace(written, files=[*written.files, template])))
    first.publish(destination)
    client(hub).upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id="demo/repaired")
    repair(folder, run=2, result=2).publish(destination)
    names = {each.rfilename for each in client(hub).model_info("demo/repaired").siblings or []}
    assert {"model.safetensors", "NOTES.txt"} <= names
    assert "chat_template.jinja" not in names


def test_shards_of_an_earlier_result_go(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    """Beside the new weights they would be half of another model."""
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder))
    first = repair(folder, run=1)
    save_file(load_file(first.folder / "model.safetensors"), first.folder / "model-00002.safetensors")
    (first.folder / "model.safetensors.index.json").write_text("{}")
    first.publish(destination)
    repair(folder, run=2, result=2).publish(destination)
    names = {each.rfilename for each in client(hub).model_info("demo/repaired").siblings or []}
    assert "model.safetensors" in names
    assert not names & {"model-00002.safetensors", "model.safetensors.index.json"}


def test_what_waits_already_is_found_without_a_weight(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    destination = to("pull-request", hub.add(SOURCE, folder))
    assert find_waiting_result(destination, ACCESS, POLICY) is None
    published = repair(folder).publish(destination)
    before = len(hub.requests)
    found = find_waiting_result(destination, ACCESS, POLICY)
    assert found is not None
    assert (found[0].revision, found[1]) == (published.revision, published.url)
    assert find_waiting_result(destination, ACCESS, "d" * 64) is None
    assert find_waiting_result(replace(destination, revision="1" * 40), ACCESS, POLICY) is None
    assert not [request for request in hub.requests[before:] if "/resolve/" in request]


@pytest.mark.parametrize("mode", ["branch", "repo"])
def test_of_a_branch_or_a_repository_nothing_is_believed(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, mode: Mode
) -> None:
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    repair(folder).publish(destination)
    assert find_waiting_result(destination, ACCESS, POLICY) is None


def test_a_stranger_s_pull_request_with_our_mark_is_left_alone(
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
    statuses = {each.num: each.status for each in client(hub, "hf_ownerToken").get_repo_discussions(SOURCE)}
    assert statuses == {1: "open", 2: "open"}


@pytest.mark.parametrize("rights", ["read", "stranger"])
@pytest.mark.parametrize(("mode", "made"), [("branch", False), ("repo", False), ("repo", True)])
def test_a_token_that_may_not_write_there(
    hub: LoopbackHub, model: MakeModel, mode: Mode, made: bool, rights: str
) -> None:
    """Found before the work, not after it."""
    folder = model()
    revision = hub.add(SOURCE, folder)
    if made:
        client(hub).create_repo(NAMES["repo"])
    if rights == "read":
        hub.add_account("owner", "hf_readerToken", rights="read", organisations=("org", "demo"))
    else:
        hub.add_account("stranger", "hf_readerToken", rights="write")
    refused, place = to(mode, revision), NAMES["repo"] if mode == "repo" else SOURCE
    with pytest.raises((InfrastructureError, ConfigurationError), match=f"{place}|is read-only"):
        check_destination(refused, HubAccess(), HubAccess("hf_readerToken"))
    assert commits_sent(hub) == []


def test_a_private_repository_is_closed_enough(hub: LoopbackHub, model: MakeModel, repair: MakeRepair) -> None:
    folder = model()
    destination = to("repo", hub.add(SOURCE, folder, gated=True))
    client(hub).create_repo(destination.repository, private=True)
    assert repair(folder).publish(destination).revision


def test_a_card_that_is_no_utf_8_is_read_as_it_is(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    destination, card = to("repo", hub.add(SOURCE, model())), b"# Caf\xe9\n"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "README.md").write_bytes(card)
    hub.add(destination.repository, tmp_path / "theirs")
    read = check_destination(destination, ACCESS, ACCESS).card
    assert read is not None
    assert read.encode("utf-8", "surrogateescape") == card


Workflow = Callable[[Destination], HubAccess]


@pytest.fixture
def workflow(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """Makes this process a job of a workflow that may write to the destination, and to nothing else."""
    # The client reads its address at import, and exchanges identities nowhere else.
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


def assert_published_once(hub: LoopbackHub, mode: Mode, published: PublishResult) -> None:
    """One commit of ours upon what was there, and no pull request besides."""
    repository, revision = place(mode)
    log = [each.commit_id for each in reader(hub).list_repo_commits(repository, revision=revision)]
    assert log[0] == published.revision
    assert len(log) == 2
    opened = list(reader(hub).get_repo_discussions(repository))
    assert len(opened) == (1 if mode == "pull-request" else 0)


def reader(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.mark.parametrize("mode", MODES)
def test_a_workflow_publishes_under_its_own_identity(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, mode: Mode
) -> None:
    """It holds no token, may write to one repository, and is recognised when it comes again."""
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


@pytest.mark.parametrize("mode", MODES)
def test_a_workflow_outlives_its_token(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, mode: Mode
) -> None:
    """The client was told when the token expires."""
    hub.store.token_seconds = 2
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    access = workflow(destination)
    standing, result = check_destination(destination, HubAccess(), access), repair(folder).of(destination)
    time.sleep(hub.store.token_seconds)
    assert_published_once(hub, mode, publish_result_files(destination, standing, result, access))
    assert len(commits_sent(hub)) == 1


@pytest.mark.parametrize("mode", MODES)
def test_the_hub_ends_a_token_before_its_time(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, mode: Mode
) -> None:
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    access = workflow(destination)
    standing, result = check_destination(destination, HubAccess(), access), repair(folder).of(destination)
    hub.end_exchanged_tokens()
    assert_published_once(hub, mode, publish_result_files(destination, standing, result, access))
    assert exchanges(hub) == 2


@pytest.mark.parametrize("request_of", ["info/lfs/objects/batch", "commit/"])
@pytest.mark.parametrize("mode", MODES)
def test_a_token_expires_during_the_upload(
    hub: LoopbackHub, model: MakeModel, repair: MakeRepair, workflow: Workflow, mode: Mode, request_of: str
) -> None:
    folder = model()
    destination = to(mode, hub.add(SOURCE, folder))
    access = workflow(destination)
    refused: list[str] = []

    def expire(moment: str, _: int, request: str) -> None:
        if moment == "before" and request_of in request and not refused:
            refused.append(request)
            hub.end_exchanged_tokens()

    hub.meanwhile = expire
    standing, result = check_destination(destination, HubAccess(), access), repair(folder).of(destination)
    assert_published_once(hub, mode, publish_result_files(destination, standing, result, access))
    assert len(refused) == 1
    assert exchanges(hub) == 2
