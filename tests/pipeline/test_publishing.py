"""Finding a published result, and not being misled by files that others push to a pull request."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

from antidote_ci import records
from antidote_ci import report as reports
from antidote_ci.errors import ConfigurationError, PublishConflict
from antidote_ci.hub.destination import Destination, check_destination
from antidote_ci.pipeline import publishing
from antidote_ci.pipeline.publishing import PublishTarget
from antidote_ci.policy import Policy, PublishSection, RunConfig
from antidote_ci.records import Manifest, Report, ReportedReference, ReportedSource
from antidote_ci.repair.manifest import seal_manifest
from loopback_hub import LoopbackHub
from loopback_hub.strictness import read_strictness
from tests import tiny
from tests.hub.hub_samples import uploads
from tests.repaired import forge, manifest_of, repair, with_own_hashes, write_fine_tuned
from tests.report.samples import REPAIR, REPAIRED

pytestmark = uploads

MODEL, REFERENCE, TOKEN = "stranger/model", "stranger/reference", "hf_loopbackToken"
MANIFEST, REPORT = "antidote/manifest.json", "antidote/report.json"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    work = tmp_path_factory.mktemp("publication")
    reference = tiny.write_tiny_llama(work / "reference", hidden=32, shards=2)
    return reference, write_fine_tuned(reference, work / "source")


@pytest.fixture
def prepared(pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[[], PublishTarget]":
    """Prepares the publication, as a run does before its work."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not read_strictness().has_xet)
    monkeypatch.setenv("HF_WRITE_TOKEN", TOKEN)
    policy = Policy(publish=PublishSection("pull-request"))
    return lambda: publishing.prepare_publication(RunConfig(MODEL, None, policy, tmp_path / "out"))


@pytest.fixture
def hub(pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "LoopbackHub":
    running = LoopbackHub(tmp_path / "hub")
    running.add(REFERENCE, pair[0])
    running.add(MODEL, pair[1])
    monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
    return running


def result(work: Path, pair: tuple[Path, Path], revision: str) -> tuple[Path, Report]:
    """A repaired checkpoint with a report, as a run writes it."""
    named = ReportedSource(MODEL, revision, "full"), ReportedReference(REFERENCE, "1" * 40, "option")
    folder = repair(work, pair[1], pair[0], "delta", "antidote", 0.1, named)
    manifest = manifest_of(folder)
    made = dataclasses.replace(REPAIR, files=manifest.files)
    report = dataclasses.replace(
        REPAIRED, source=named[0], run_id=manifest.run_id, policy_sha256=manifest.policy_sha256, repair=made
    )
    reports.write_report(report, "", work / "report")
    for name in ("report.json", "report.html"):
        (folder / "antidote" / name).write_bytes((work / "report" / name).read_bytes())
    (folder / "README.md").write_bytes((work / "report" / "README.md").read_bytes())
    (folder / "SHA256SUMS").write_text(reports.compute_checksums(folder))
    return folder, report


def edited(hub: LoopbackHub, path: str, content: bytes, description: str) -> None:
    """Push another commit with a copied marker to the pull request, as others can."""
    HfApi(endpoint=hub.endpoint, token=TOKEN).create_commit(
        MODEL,
        [CommitOperationAdd(path, content)],
        commit_message="Edit",
        commit_description=description,
        revision="refs/pr/1",
    )


def test_a_published_result_is_found_for_the_same_commit_and_policy(
    hub: LoopbackHub, prepared: "Callable[[], PublishTarget]", pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with hub:
        place = prepared()
        folder, report = result(tmp_path / "work", pair, place.destination.revision)
        assert publishing.find_previous(place, report.policy_sha256) is None
        published = publishing.publish_model(place, report, folder)
        found = publishing.find_previous(prepared(), report.policy_sha256)
        assert found is not None
        assert dataclasses.replace(found.report, publish=report.publish) == report
        assert (found.report.publish.url, found.report.publish.revision) == (published.url, published.revision)
        assert found.card == (folder / "README.md").read_text()
        assert publishing.find_previous(prepared(), "f" * 64) is None
        assert not [each for each in hub.requests if each.startswith("GET") and each.endswith(".safetensors")]


def test_a_forged_result_on_our_pull_request_is_not_accepted(
    hub: LoopbackHub, prepared: "Callable[[], PublishTarget]", pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with hub:
        place = prepared()
        folder, report = result(tmp_path / "work", pair, place.destination.revision)
        publishing.publish_model(place, report, folder)
        named = report.source, report.reference
        made_up = repair(tmp_path / "theirs", pair[1], pair[0], "delta", "antidote", 0.5, named)
        manifest = with_own_hashes(made_up, dataclasses.replace(manifest_of(folder), files=manifest_of(made_up).files))
        forge(made_up, manifest)
        said = dataclasses.replace(report, repair=dataclasses.replace(REPAIR, files=manifest.files))
        (made_up / REPORT).write_text(records.to_json(said))
        client = HfApi(endpoint=hub.endpoint, token=TOKEN)
        description = client.list_repo_commits(MODEL, revision="refs/pr/1")[0].message
        files = [path for path in made_up.rglob("*") if path.is_file()]
        client.create_commit(
            MODEL,
            [CommitOperationAdd(path.relative_to(made_up).as_posix(), path) for path in files],
            commit_message="Forged",
            commit_description=description,
            revision="refs/pr/1",
        )
        assert publishing.find_previous(prepared(), report.policy_sha256) is None


# After somebody edited or deleted a file, the repository is not ours any more.
@pytest.mark.parametrize(
    "touch",
    [lambda: CommitOperationAdd("config.json", b"{} "), lambda: CommitOperationDelete("config.json")],
    ids=["edited", "gone"],
)
def test_a_separate_repository_is_updated_unless_others_changed_it(
    hub: LoopbackHub,
    prepared: "Callable[[], PublishTarget]",
    pair: tuple[Path, Path],
    tmp_path: Path,
    touch: Callable[[], CommitOperationAdd | CommitOperationDelete],
) -> None:
    with hub:
        source = prepared()
        destination = Destination("repo", MODEL, source.destination.revision, "demo/repaired")

        def place() -> PublishTarget:
            return PublishTarget(
                destination, check_destination(destination, source.access, source.access), source.access
            )

        folder, report = result(tmp_path / "work", pair, destination.revision)
        first = publishing.publish_model(place(), report, folder)
        named = report.source, report.reference
        better = repair(tmp_path / "better", pair[1], pair[0], "delta", "antidote", 0.3, named)
        files = manifest_of(better).files
        (better / REPORT).write_bytes((folder / REPORT).read_bytes())
        again = dataclasses.replace(report, run_id="1" * 32, repair=dataclasses.replace(REPAIR, files=files))
        second = publishing.publish_model(place(), again, better)
        assert second.revision != first.revision
        HfApi(endpoint=hub.endpoint, token=TOKEN).create_commit("demo/repaired", [touch()], commit_message="Mine")
        with pytest.raises(PublishConflict, match="not a repair of"):
            place()


Edit = Callable[[Path], tuple[str, bytes]]


def _other_weights(folder: Path) -> tuple[str, bytes]:
    path = sorted(folder.glob("*.safetensors"))[0]
    return path.name, path.read_bytes()[:-1] + b"\x01"


def _more_weights(folder: Path) -> tuple[str, bytes]:
    return "model-00009.safetensors", sorted(folder.glob("*.safetensors"))[0].read_bytes()


def _claim(change: Callable[[Manifest], Manifest]) -> Edit:
    return lambda folder: (MANIFEST, records.to_json(change(manifest_of(folder))).encode())


def _said(**changed: object) -> Edit:
    def edit(folder: Path) -> tuple[str, bytes]:
        report = records.from_json(Report, (folder / REPORT).read_bytes())
        return REPORT, records.to_json(dataclasses.replace(report, **changed)).encode()  # type: ignore[arg-type]

    return edit


EDITS: dict[str, Edit] = {
    "another weight": _other_weights,
    "one file of weights more": _more_weights,
    "a manifest without its digest": _claim(lambda manifest: dataclasses.replace(manifest, dose=0.2)),
    "another source": _claim(
        lambda manifest: seal_manifest(dataclasses.replace(manifest, source=ReportedSource("a/b", "2" * 40, "full")))
    ),
    "another policy": _claim(lambda manifest: seal_manifest(dataclasses.replace(manifest, policy_sha256="3" * 64))),
    "fewer files": _claim(lambda manifest: seal_manifest(dataclasses.replace(manifest, files=manifest.files[:-1]))),
    "a report of failure": _said(verdict="fail"),
    "a report that accepts": _said(exit_code=0),
    "a report of another run": _said(run_id="1" * 32),
    "a report of another model": _said(source=ReportedSource("a/b", "2" * 40, "full")),
    "another tokenizer": lambda _: ("tokenizer_config.json", b"{} "),
    "code": lambda _: ("modeling_llama.py", b"import os"),
    "no report": lambda _: (REPORT, b"[]"),
    "no manifest": lambda _: (MANIFEST, b"{}"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_changed_result_is_not_accepted(
    hub: LoopbackHub, prepared: "Callable[[], PublishTarget]", pair: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    with hub:
        place = prepared()
        folder, report = result(tmp_path / "work", pair, place.destination.revision)
        publishing.publish_model(place, report, folder)
        client = HfApi(endpoint=hub.endpoint, token=TOKEN)
        description = client.list_repo_commits(MODEL, revision="refs/pr/1")[0].message
        edited(hub, *EDITS[name](folder), description)
        assert publishing.find_previous(prepared(), report.policy_sha256) is None


def test_a_card_with_invalid_front_matter_is_refused(hub: LoopbackHub, prepared: "Callable[[], PublishTarget]") -> None:
    with hub:
        place = prepared()
    publishing.require_mergeable_card(place, "---\nlicense: mit\n---\n# Fine\n")
    with pytest.raises(ConfigurationError, match="broken") as raised:
        publishing.require_mergeable_card(place, "---\nlicense: [\n---\n# Not\n")
    assert "fix it in the repository" in str(raised.value.hint)
