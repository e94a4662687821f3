"""The head of a repository: new work, a repair of ours, or a false claim to be one. Nobody can bypass the gate.

Real repairs, published by our account and by others, on a loopback Hub that enforces the rights of each token.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

from antidote_ci import records
from antidote_ci import report as reports
from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import access
from antidote_ci.hub.commits import CommitMarker, add_marker, read_content
from antidote_ci.hub.destination import Destination, DestinationState
from antidote_ci.pipeline import publishing
from antidote_ci.pipeline.publishing import PublishTarget
from antidote_ci.records import Manifest, Report, ReportedReference, ReportedSource
from antidote_ci.repair.manifest import seal_manifest
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask
from antidote_ci.service.repository_state import inspect_head, read_heads
from loopback_hub import LoopbackHub
from loopback_hub.strictness import read_strictness
from tests import tiny
from tests.hub.hub_samples import uploads
from tests.repaired import forge, manifest_of, repair, with_own_hashes, write_fine_tuned
from tests.report.samples import REPAIR, REPAIRED

pytestmark = uploads

MODEL, POLICY = "ada/model", "0" * 64
BOT, ADA, BOB = "hf_theBotOfTheGate", "hf_adaWhoOwnsTheModel", "hf_bobWhoIsAStranger"
"""Tokens: of the gate, of the repository's owner, of a stranger."""
MANIFEST = "antidote/manifest.json"


@dataclass(frozen=True)
class Checkpoints:
    """Read-only checkpoints, created once."""

    source: Path
    repaired: Path
    report: Report
    forged: Path
    """Weights that were never measured, with a valid manifest."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    work = tmp_path_factory.mktemp("heads")
    reference = tiny.write_tiny_llama(work / "reference", hidden=32)
    source = write_fine_tuned(reference, work / "source")
    with LoopbackHub(work / "hub") as elsewhere:
        revision = elsewhere.add(MODEL, source)
    named = ReportedSource(MODEL, revision, "full"), ReportedReference("org/reference", "1" * 40, "option")
    repaired = repair(work / "ours", source, reference, "delta", "antidote", 0.1, named)
    forged = repair(work / "theirs", source, reference, "delta", "antidote", 0.5, named)
    report = _accompanied(repaired, named[0])
    forge(forged, with_own_hashes(forged, dataclasses.replace(manifest_of(repaired), files=manifest_of(forged).files)))
    _accompanied(forged, named[0])
    return Checkpoints(source, repaired, report, forged)


def _accompanied(folder: Path, source: ReportedSource) -> Report:
    """Write the report and the card next to the weights, as a run does."""
    manifest = manifest_of(folder)
    report = dataclasses.replace(
        REPAIRED,
        source=source,
        run_id=manifest.run_id,
        policy_sha256=manifest.policy_sha256,
        repair=dataclasses.replace(REPAIR, files=manifest.files),
    )
    reports.write_report(report, "", folder.parent / f"{folder.name}-report")
    (folder / "antidote" / "report.json").write_text(records.to_json(report))
    (folder / "README.md").write_bytes((folder.parent / f"{folder.name}-report" / "README.md").read_bytes())
    (folder / "SHA256SUMS").write_text(reports.compute_checksums(folder))
    return report


@pytest.fixture
def hub(made: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not read_strictness().has_xet)
    monkeypatch.setenv("ANTIDOTE_HUB_RETRY_SECONDS", "0")
    monkeypatch.setenv("HF_TOKEN", BOT)
    monkeypatch.delenv("HF_WRITE_TOKEN", raising=False)
    monkeypatch.delenv("HF_OIDC_RESOURCE", raising=False)
    with LoopbackHub(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        running.add_account("bot", BOT)
        running.add_account("ada", ADA)
        running.add_account("bob", BOB)
        running.add(MODEL, made.source)
        yield running
        assert [request for request in running.requests if "resolve" in request and ".safetensors" in request] == []


def client(hub: LoopbackHub, token: str) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def head(hub: LoopbackHub) -> str:
    return str(client(hub, ADA).model_info(MODEL).sha)


def inspect(hub: LoopbackHub, policy: str = POLICY) -> RunTask | NewerCommit | RunOutcome:
    """Inspect the current head."""
    return inspect_head(RunRequest(MODEL, head(hub), policy))


def command(hub: LoopbackHub, policy: str = POLICY) -> str:
    task = inspect(hub, policy)
    assert isinstance(task, RunTask)
    assert task.request.revision == head(hub)
    return task.command


def publish(made: Checkpoints, token: str, folder: Path | None = None) -> None:
    """Open a pull request as a run with this token does."""
    writing = access.write_access({"HF_WRITE_TOKEN": token, "ANTIDOTE_HUB_RETRY_SECONDS": "0"})
    destination = Destination("pull-request", MODEL, str(made.report.source.revision), MODEL)
    place = PublishTarget(destination, DestinationState(made.report.source.revision, None, False, None), writing)
    folder = folder or made.repaired
    report = records.from_json(Report, (folder / "antidote" / "report.json").read_bytes())
    publishing.publish_model(place, report, folder)


def all_files(folder: Path) -> list[CommitOperationAdd]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]


def push(
    hub: LoopbackHub,
    token: str,
    *operations: CommitOperationAdd | CommitOperationDelete,
    revision: str = "main",
    description: str = "",
    create_pr: bool = False,
) -> None:
    client(hub, token).create_commit(
        MODEL,
        list(operations),
        commit_message="A change",
        commit_description=description,
        revision=revision,
        create_pr=create_pr,
    )


def merged(hub: LoopbackHub, number: int = 1) -> None:
    client(hub, ADA).merge_pull_request(MODEL, number)


def our_commit_message(hub: LoopbackHub) -> str:
    """The message of our commit, including the marker, which anyone can read."""
    return client(hub, BOB).list_repo_commits(MODEL, revision="refs/pr/1")[0].message


def test_new_model_is_run(hub: LoopbackHub) -> None:
    assert command(hub) == "run"


def test_newer_head_replaces_the_request(hub: LoopbackHub) -> None:
    before = head(hub)
    push(hub, ADA, CommitOperationAdd("notes.txt", b"more"))
    assert inspect_head(RunRequest(MODEL, before, POLICY)) == NewerCommit(RunRequest(MODEL, head(hub), POLICY))
    assert inspect_head(RunRequest(MODEL, "f" * 40, POLICY)) == NewerCommit(RunRequest(MODEL, head(hub), POLICY)), (
        "made up, or forced away"
    )


def test_deleted_and_private_repositories_are_gone(hub: LoopbackHub, made: Checkpoints) -> None:
    request = RunRequest(MODEL, head(hub), POLICY)
    client(hub, ADA).delete_repo(MODEL)
    outcome = inspect_head(request)
    assert isinstance(outcome, RunOutcome)
    assert outcome.state == "gone"
    hub.add("ada/private", made.source, private=True)
    hidden = inspect_head(RunRequest("ada/private", "f" * 40, POLICY))
    assert isinstance(hidden, RunOutcome)
    assert "HF_TOKEN may not read it" in hidden.reason


def test_unreachable_hub(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    request = RunRequest(MODEL, head(hub), POLICY)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        inspect_head(request)


def test_merged_repair_is_ours(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    assert command(hub) == "run", "the pull request is open, and main is unchanged"
    merged(hub)
    outcome = inspect(hub)
    assert isinstance(outcome, RunOutcome)
    assert outcome.state == "own"


def test_merged_repair_under_another_policy_is_run(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    merged(hub)
    assert command(hub, "1" * 64) == "run"


@pytest.mark.parametrize("path", ["README.md", ".gitattributes", "antidote/report.json", "SHA256SUMS"])
def test_edited_documentation_keeps_a_repair_ours(hub: LoopbackHub, made: Checkpoints, path: str) -> None:
    publish(made, BOT)
    merged(hub)
    push(hub, ADA, CommitOperationAdd(path, b"---\nlicense: mit\n---\nOther words"))
    outcome = inspect(hub)
    assert isinstance(outcome, RunOutcome)
    assert outcome.state == "own"


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "modeling_llama.py",
        "pytorch_model.bin",
        "antidote.json",
        "model-00002.safetensors",
        "README.md.jinja",
        "nested/README.md",
    ],
)
def test_any_other_change_of_a_merged_repair_is_measured(hub: LoopbackHub, made: Checkpoints, path: str) -> None:
    publish(made, BOT)
    merged(hub)
    push(hub, ADA, CommitOperationAdd(path, b"{} "))
    assert command(hub) == "run"


def test_deleted_file_of_a_merged_repair_is_measured(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    merged(hub)
    push(hub, ADA, CommitOperationDelete("tokenizer.json"))
    assert command(hub) == "run"


def test_changed_tensor_of_a_merged_repair_is_measured(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    merged(hub)
    weights = (made.repaired / "model.safetensors").read_bytes()
    push(hub, ADA, CommitOperationAdd("model.safetensors", weights[:-1] + bytes([weights[-1] ^ 1])))
    assert command(hub) == "run"


def test_other_weights_with_our_manifest_are_measured(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    proof = [file for file in all_files(made.repaired) if file.path_in_repo.startswith(("antidote/", "SHA256"))]
    push(hub, ADA, *proof, description=our_commit_message(hub))
    assert command(hub) == "run"


def test_copied_commit_message_is_no_proof(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    push(hub, ADA, CommitOperationAdd("notes.txt", b"harmless"), description=our_commit_message(hub))
    assert command(hub) == "run"


def test_our_repair_pushed_by_hand_is_ours(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    client(hub, ADA).change_discussion_status(MODEL, 1, "closed")
    push(hub, ADA, *all_files(made.repaired))
    outcome = inspect(hub)
    assert isinstance(outcome, RunOutcome)
    assert outcome.state == "own", "its weights passed, whoever pushed them"


def test_forged_manifest_is_evaluated(hub: LoopbackHub, made: Checkpoints) -> None:
    push(hub, ADA, *all_files(made.forged))
    assert command(hub) == "evaluate"


def test_copied_pull_request_is_no_proof(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    push(hub, BOB, *all_files(made.forged), description=our_commit_message(hub), create_pr=True)
    client(hub, BOB).comment_discussion(MODEL, 2, our_commit_message(hub))
    merged(hub, 2)
    assert command(hub) == "evaluate"


def test_repair_of_a_stranger_is_evaluated(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOB)
    merged(hub)
    assert command(hub) == "evaluate"


def test_weights_pushed_to_our_pull_request_are_measured(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    push(hub, ADA, *all_files(made.forged), revision="refs/pr/1", description=our_commit_message(hub))
    client(hub, ADA).comment_discussion(MODEL, 1, _claimed(made))
    merged(hub)
    assert command(hub) == "evaluate"


def _claimed(made: Checkpoints) -> str:
    """The marker that we would write for the forged weights."""
    manifest = manifest_of(made.forged)
    result = publishing.result_digest(manifest.source, POLICY, manifest.files)
    return add_marker("", CommitMarker("0" * 32, result, str(manifest.source.revision), POLICY, "0" * 64))


def test_marker_counts_only_from_our_account(hub: LoopbackHub, made: Checkpoints) -> None:
    # The same marker from our own account makes the same weights ours, so the test above can fail.
    publish(made, BOT)
    push(hub, ADA, *all_files(made.forged), revision="refs/pr/1", description=our_commit_message(hub))
    client(hub, BOT).comment_discussion(MODEL, 1, _claimed(made))
    merged(hub)
    assert isinstance(inspect(hub), RunOutcome)


def test_edited_marker_is_no_proof(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    push(hub, ADA, *all_files(made.forged), revision="refs/pr/1", description=our_commit_message(hub))
    ours = client(hub, BOT).comment_discussion(MODEL, 1, "Something else.")
    client(hub, ADA).edit_discussion_comment(MODEL, 1, ours.id, _claimed(made))
    merged(hub)
    assert command(hub) == "evaluate"


def test_updated_pull_request(hub: LoopbackHub, made: Checkpoints) -> None:
    publish(made, BOT)
    publish(made, BOT, made.forged)
    merged(hub)
    assert isinstance(inspect(hub), RunOutcome), "the words are those of the newer result"


def test_branch_named_like_the_tested_commit(hub: LoopbackHub, made: Checkpoints) -> None:
    # If the branch were taken for the commit, its files would count as tested.
    publish(made, BOT)
    merged(hub)
    push(hub, ADA, CommitOperationAdd("chat_template.jinja", b"Do as you are told."))
    repository = hub.store.repository(MODEL)
    named = {**repository.refs, str(made.report.source.revision): head(hub)}
    hub.store.save(dataclasses.replace(repository, refs=named))
    assert command(hub) == "run"


def test_weights_that_git_stores_directly(hub: LoopbackHub, made: Checkpoints) -> None:
    # The Hub names them by another hash than the manifest: the original weights must not count as repaired.
    publish(made, BOT)
    merged(hub)
    old, main = (hub.store.commit(MODEL, name) for name in (str(made.report.source.revision), "main"))
    small = dataclasses.replace(old.files["model.safetensors"], pointer_size=None)
    commits = [
        hub.store.write_commit(MODEL, None, "In git", "", "ada", {**commit.files, "model.safetensors": small})
        for commit in (old, main)
    ]
    tested, now = (commit.revision for commit in commits)
    repository = hub.store.repository(MODEL)
    hub.store.save(dataclasses.replace(repository, refs={"main": now}))
    manifest = dataclasses.replace(manifest_of(made.repaired), source=ReportedSource(MODEL, tested, "full"))
    push(hub, ADA, CommitOperationAdd(MANIFEST, records.to_json(seal_manifest(manifest)).encode()))
    result = publishing.result_digest(manifest.source, POLICY, manifest.files)
    client(hub, BOT).comment_discussion(
        MODEL, 1, add_marker("", CommitMarker("0" * 32, result, tested, POLICY, "0" * 64))
    )
    assert command(hub) == "run"


@pytest.mark.parametrize("missing", ["tokens", "pull requests"])
def test_unknown_own_account_proves_nothing(
    hub: LoopbackHub, made: Checkpoints, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    publish(made, BOT)
    merged(hub)
    if missing == "tokens":
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_WRITE_TOKEN", BOB)
    assert command(hub) == "evaluate"


def test_write_token_is_sufficient(hub: LoopbackHub, made: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(made, BOT)
    merged(hub)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_WRITE_TOKEN", BOT)
    assert isinstance(inspect(hub), RunOutcome)


def test_oidc_identity_is_not_our_account(hub: LoopbackHub, made: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(made, BOT)
    merged(hub)
    for name, value in hub.trust_workflow(MODEL, "ada/train").items():
        monkeypatch.setenv(name, value)
    assert isinstance(inspect(hub), RunOutcome), "the token's account is asked about, and it said so"
    monkeypatch.delenv("HF_TOKEN")
    assert command(hub) == "evaluate"


def _but(manifest: Manifest, **changed: object) -> bytes:
    return records.to_json(seal_manifest(dataclasses.replace(manifest, **changed))).encode()  # type: ignore[arg-type]


HOSTILE: dict[str, Callable[[Manifest], bytes]] = {
    "empty": lambda _: b"",
    "no object": lambda _: b"[]",
    "no text": lambda _: b"\xff\xfe\x00",
    "deep": lambda _: b"[" * 100_000,
    "not a number": lambda manifest: records.to_json(manifest).replace("0.1", "NaN").encode(),
    "a lone surrogate": lambda manifest: records.to_json(manifest).replace(MODEL, "\\ud800").encode(),
    "unsealed": lambda manifest: records.to_json(dataclasses.replace(manifest, digest="0" * 64)).encode(),
    "another policy": lambda manifest: _but(manifest, policy_sha256="1" * 64),
    "no files": lambda manifest: _but(manifest, files=[]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifest(hub: LoopbackHub, made: Checkpoints, name: str) -> None:
    publish(made, BOT)
    merged(hub)
    push(hub, ADA, CommitOperationAdd(MANIFEST, HOSTILE[name](manifest_of(made.repaired))))
    assert command(hub) == "run"


@pytest.mark.parametrize("revision", [None, "f" * 40, "main"])
def test_manifest_of_another_commit(hub: LoopbackHub, made: Checkpoints, revision: str | None) -> None:
    publish(made, BOT)
    merged(hub)
    other = ReportedSource(MODEL, revision, "full")
    push(hub, ADA, CommitOperationAdd(MANIFEST, _but(manifest_of(made.repaired), source=other)))
    assert command(hub) == "evaluate", "a claim that we never made"


def test_samples_are_valid(made: Checkpoints) -> None:
    ours, theirs = (read_content(folder / "model.safetensors").sha256 for folder in (made.repaired, made.forged))
    assert len({ours, theirs, read_content(made.source / "model.safetensors").sha256}) == 3
    assert json.loads((made.forged / MANIFEST).read_text())["policy_sha256"] == POLICY


def test_heads_of_the_allowed_models(hub: LoopbackHub, made: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    """By name or by owner, in pages; what cannot be read or was renamed is left out."""
    others = [hub.add(name, made.source) for name in ("team/one", "team/two")]
    hub.add("team/hidden", made.source, private=True)
    hub.add("team/rows", made.source, kind="dataset")
    hub.add("ada/old", made.source)
    client(hub, ADA).move_repo("ada/old", "ada/new")
    hub.store.page_size = 1
    heads = list(read_heads([MODEL, "team/*", "ada/old", "no/such"], POLICY))
    expected = [(MODEL, head(hub)), ("team/one", others[0]), ("team/two", others[1])]
    assert heads == [RunRequest(name, revision, POLICY) for name, revision in expected]
    assert [message.partition(":")[0] for message in caplog.messages] == ["the head of no/such cannot be read"]


def test_heads_of_a_hub_that_is_away(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InfrastructureError):
        list(read_heads([MODEL, "team/*"], POLICY))
