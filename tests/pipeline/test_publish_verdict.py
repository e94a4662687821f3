"""The verdict without weights: a pull request on an own model, and one discussion on a model of somebody else."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.community import DiscussionComment, DiscussionWithDetails

from antidote_ci import report as reports
from antidote_ci.errors import ConfigurationError, PublishConflict
from antidote_ci.hub import commits, ownership, pull_requests
from antidote_ci.pipeline import publishing
from antidote_ci.pipeline.publishing import PublishTarget
from antidote_ci.policy import Policy, PublishSection, RunConfig
from antidote_ci.records import Evaluations, PublishResult, Report, ReportedSource
from loopback_hub import LoopbackHub
from loopback_hub.faults import HangUp
from loopback_hub.strictness import VARIANTS, read_strictness
from tests import tiny
from tests.command_line import read_report, run_command
from tests.hub.hub_samples import uploads
from tests.pipeline.test_run import LIMITS
from tests.report.samples import AFTER, FAILED, INCONCLUSIVE

pytestmark = uploads

MODEL = "org/model"
OWNER, STRANGER = "hf_ownerToken0000", "hf_strangerToken"
CARD = "---\nlicense: mit\n---\n\n# Mine\n"
Publish = Callable[..., PublishResult]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.write_tiny_llama(tmp_path_factory.mktemp("verdict") / "model", hidden=32)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(params=["default", "opening-comment-cleaned"])
def hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[LoopbackHub]:
    strictness = VARIANTS.get(request.param, read_strictness())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not strictness.has_xet)
    with LoopbackHub(tmp_path / "hub", strictness=strictness) as running:
        running.add(MODEL, folder)
        running.add_account("owner", OWNER, rights="write", organisations=("org",))
        running.add_account("ada", STRANGER, rights="write")
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def publish(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Publish a verdict on the head of main, as a run does: the checks before it, and the publication after it."""

    def run(token: str = OWNER, report: Report = FAILED, number: int = 1) -> PublishResult:
        monkeypatch.setenv("HF_WRITE_TOKEN", token)
        place = prepare(tmp_path)
        source = ReportedSource(MODEL, place.destination.revision, "full")
        tested = dataclasses.replace(report, source=source, run_id=f"{number:032x}", policy_sha256="c" * 64)
        card = read(hub, place.destination.revision)
        publishing.require_mergeable_card(place, card)
        reports.write_report(tested, card, tmp_path / "report")
        return publishing.publish_verdict(place, tested, card, tmp_path / "report" / "report.json")

    return run


def prepare(tmp_path: Path) -> PublishTarget:
    policy = Policy(publish=PublishSection("report"))
    return publishing.prepare_publication(RunConfig(MODEL, None, policy, tmp_path / "out"))


def client(hub: LoopbackHub, token: str = OWNER) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def read(hub: LoopbackHub, revision: str, file: str = "README.md") -> str:
    return Path(client(hub).hf_hub_download(MODEL, file, revision=revision)).read_text()


def opened(hub: LoopbackHub) -> list[DiscussionWithDetails]:
    found = sorted(client(hub).get_repo_discussions(MODEL), key=lambda discussion: discussion.num)
    return [client(hub).get_discussion_details(MODEL, discussion.num) for discussion in found]


def texts(discussion: DiscussionWithDetails) -> list[str]:
    return [event.content for event in discussion.events if isinstance(event, DiscussionComment)]


def test_a_verdict_on_an_own_model_is_a_pull_request_without_weights(hub: LoopbackHub, publish: Publish) -> None:
    published = publish()
    [pull_request] = opened(hub)
    assert (published.mode, published.url) == ("report", f"{hub.endpoint}/{MODEL}/discussions/1")
    assert not published.has_weights
    assert pull_request.is_pull_request
    assert pull_request.title == "antidote-ci: fails, non-refusal rate 88.0 % (threshold 35.0 %)"
    main = {file.rfilename: file.blob_id for file in client(hub).model_info(MODEL, files_metadata=True).siblings or []}
    info = client(hub).model_info(MODEL, revision="refs/pr/1", files_metadata=True)
    changed = {file.rfilename for file in info.siblings or [] if main.get(file.rfilename) != file.blob_id}
    assert changed == {"README.md"}
    card = read(hub, "refs/pr/1")
    assert card.startswith("---\nlicense: mit\n")
    assert "# Mine\n" in card
    assert "**Fails.**" in card
    result, *_ = ModelCard(card).data.to_dict()["model-index"][0]["results"]  # type: ignore[no-untyped-call]
    assert (result["metrics"][0]["type"], result["metrics"][0]["value"]) == ("non_refusal_rate", 0.88)


def test_a_rerun_changes_nothing(hub: LoopbackHub, publish: Publish) -> None:
    first = publish()
    before = opened(hub)
    again = publish(number=2)
    assert (again.url, again.revision) == (first.url, first.revision)
    assert [texts(discussion) for discussion in opened(hub)] == [texts(discussion) for discussion in before]
    # The merge is another commit with the same weights, and the card states the verdict.
    client(hub).merge_pull_request(MODEL, 1)
    merged = publish(number=3)
    assert merged.notes == ("The model card states this verdict already.",)
    assert len(opened(hub)) == 1


def test_another_verdict_updates_the_pull_request(hub: LoopbackHub, publish: Publish) -> None:
    publish()
    passed = dataclasses.replace(FAILED, verdict="pass", evaluations=Evaluations(AFTER))
    publish(report=passed, number=2)
    [pull_request] = opened(hub)
    assert "**Passes.**" in read(hub, "refs/pr/1")
    assert "**Fails.**" not in read(hub, "refs/pr/1")
    assert "**Passes.**" in texts(pull_request)[-1]
    # After a merge, a third verdict replaces the block.
    client(hub).merge_pull_request(MODEL, 1)
    publish(number=3)
    assert [discussion.num for discussion in opened(hub)] == [1, 2]
    assert read(hub, "refs/pr/2").count("antidote-ci:begin") == 1


def test_a_verdict_exempts_no_model(hub: LoopbackHub, publish: Publish) -> None:
    """The service trusts markers of repairs. A verdict on the same commit is none, and leaves a repair's alone."""
    publish()
    access = ownership.own_access({"HF_WRITE_TOKEN": OWNER})
    assert access is not None
    markers = ownership.read_own_markers(access, MODEL)
    assert {marker.kind for marker in markers} == {"verdict"}
    main = access.request(MODEL, lambda api: commits.read_tree(api, MODEL, "main"))
    repair = dataclasses.replace(markers[0], kind="repair")
    assert repair not in markers
    own = access.request(MODEL, lambda api: pull_requests._list_own(api, MODEL, "owner", "repair"))
    assert own == []
    assert markers[0].source == main.revision


def test_an_inconclusive_result_is_not_published(hub: LoopbackHub, publish: Publish) -> None:
    assert publish(report=INCONCLUSIVE).url is None
    assert opened(hub) == []


def test_a_verdict_on_a_foreign_model_is_one_discussion(hub: LoopbackHub, publish: Publish) -> None:
    first = publish(STRANGER)
    [discussion] = opened(hub)
    assert not discussion.is_pull_request
    assert discussion.author == "ada"
    assert "**Fails.**" in texts(discussion)[-1]
    assert first.url == f"{hub.endpoint}/{MODEL}/discussions/1"
    again = publish(STRANGER, number=2)
    assert again.notes == ("Discussion 1 states this verdict already.",)
    assert [texts(discussion) for discussion in opened(hub)] == [texts(discussion)]
    publish(STRANGER, dataclasses.replace(FAILED, evaluations=Evaluations(AFTER), verdict="pass"), 3)
    [discussion] = opened(hub)
    assert "**Passes.**" in texts(discussion)[-1]
    assert "**Fails.**" not in texts(discussion)[-1]
    client(hub).change_discussion_status(MODEL, 1, "closed")
    closed = publish(STRANGER, number=4)
    assert closed.notes == ("Discussion 1 was closed, so it is left as it is.",)
    assert [discussion.status for discussion in opened(hub)] == ["closed"]
    assert "**Passes.**" in texts(opened(hub)[0])[-1]


def test_a_discussion_of_others_is_not_touched(hub: LoopbackHub, publish: Publish) -> None:
    """Anyone can copy the text with its marker. The Hub vouches for the author."""
    publish(STRANGER)
    copied = texts(opened(hub)[0])[-1]
    hub.add_account("eve", "hf_thirdToken0000", rights="write")
    client(hub, "hf_thirdToken0000").comment_discussion(MODEL, 1, copied)
    published = publish("hf_thirdToken0000", number=2)
    assert published.url == f"{hub.endpoint}/{MODEL}/discussions/2"
    assert [discussion.author for discussion in opened(hub)] == ["ada", "eve"]
    assert opened(hub)[0].status == "open"


def test_a_duplicate_of_a_concurrent_run_is_closed(hub: LoopbackHub, publish: Publish) -> None:
    publish(STRANGER)
    copied = texts(opened(hub)[0])[-1]
    client(hub, STRANGER).create_discussion(MODEL, "the same", description="x")
    client(hub, STRANGER).comment_discussion(MODEL, 2, copied)
    publish(STRANGER, number=2)
    assert [discussion.status for discussion in opened(hub)] == ["open", "closed"]


def test_a_lost_answer_opens_no_second_discussion(hub: LoopbackHub, publish: Publish) -> None:
    """Nor does it when the Hub removes the marker from the opening text."""
    lost: list[str] = []

    def interrupt(moment: str, _: int, request: str) -> None:
        if moment == "after" and request == f"POST /api/models/{MODEL}/discussions" and not lost:
            lost.append(request)
            raise HangUp

    hub.request_hook = interrupt
    published = publish(STRANGER)
    assert lost
    assert len(opened(hub)) == 1
    assert published.url == f"{hub.endpoint}/{MODEL}/discussions/1"
    assert publish(STRANGER, number=2).notes == ("Discussion 1 states this verdict already.",)


def test_a_card_that_cannot_be_changed_stops_only_the_pull_request(
    hub: LoopbackHub, publish: Publish, folder: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "README.md").write_text("---\na: [\n---\n")
    hub.add(MODEL, broken)
    with pytest.raises(ConfigurationError, match="the front matter of the README"):
        publish(OWNER)
    assert publish(STRANGER).url is not None


def test_an_older_commit_of_an_own_model_is_refused(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_WRITE_TOKEN", OWNER)
    tested = client(hub).model_info(MODEL).sha
    client(hub).upload_file(path_or_fileobj=b"new", path_in_repo="notes.txt", repo_id=MODEL)
    policy = Policy(publish=PublishSection("report"))
    with pytest.raises(PublishConflict, match="is at"):
        publishing.prepare_publication(RunConfig(MODEL, tested, policy, tmp_path / "out"))


@pytest.mark.parametrize("command", ["evaluate", pytest.param("run", marks=pytest.mark.slow)])
def test_a_command_publishes_the_verdict_on_the_tested_model(command: str, trained_pair: Path, tmp_path: Path) -> None:
    """Also when a repair passes: no weights are published, and they stay in the output folder."""
    out = tmp_path / "out"
    arguments = [f"--prompts={trained_pair / 'evaluation.jsonl'}", "--judge=refusal", "--threshold=0.3"]
    if command == "run":
        limits = tmp_path / "antidote.toml"
        limits.write_text(LIMITS)
        arguments += [f"--policy={limits}", f"--realignment={trained_pair / 'realignment.jsonl'}", "--method=antidote"]
        arguments += [f"--reference={trained_pair / 'reference'}", f"--benign={trained_pair / 'benign.jsonl'}"]
    with LoopbackHub(tmp_path / "hub") as hub:
        revision = hub.add(MODEL, trained_pair / "merged")
        hub.add_account("ada", STRANGER, rights="write")
        hub.add_account("owner", OWNER, organisations=("org",))
        environment = hub.environment | {"HF_HOME": str(tmp_path / "huggingface"), "HF_WRITE_TOKEN": STRANGER}
        done = run_command(command, MODEL, *arguments, "--publish=report", f"--out={out}", **environment)
        assert done.returncode == (7 if command == "run" else 1), done.stderr
        [discussion] = opened(hub)
        assert "**Fails.**" in texts(discussion)[-1]
        assert "epaired" not in texts(discussion)[-1]
        assert f"published: {hub.endpoint}/{MODEL}/discussions/1" in done.stderr
        assert client(hub).model_info(MODEL).sha == revision
        report = read_report(out)
        assert (report.publish.mode, report.publish.url) == ("report", f"{hub.endpoint}/{MODEL}/discussions/1")
        assert (out / "model").exists() == (command == "run")
