"""Publish a repaired model: choose the destination, find an earlier result of the same work, create the commit."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci import records
from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import commits, discussions, ownership, publish, pull, pull_requests
from antidote_ci.hub.access import HubAccess, write_access
from antidote_ci.hub.commits import CommitMarker, CommitRequest, CommitTree
from antidote_ci.hub.destination import Destination, DestinationState, check_destination
from antidote_ci.hub.pull_requests import PullRequestText
from antidote_ci.pipeline import resolve
from antidote_ci.policy import RunConfig
from antidote_ci.records import Manifest, PublishResult, Report, ReportedSource, WeightFile
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.report import LOCAL_CARD, CardLocation, front_matter, render_card, summary

REPORT_PATH = "antidote/report.json"
COMMIT_DIGITS = 12


@dataclass(frozen=True)
class PublishTarget:
    """The destination, its state before the run, and the access to write to it."""

    destination: Destination
    state: DestinationState
    access: HubAccess

    @property
    def card_location(self) -> CardLocation:
        """The repository and branch in which the card will be published. A verdict has a card of its own."""
        if self.destination.mode == "report":
            return LOCAL_CARD
        return CardLocation(
            self.destination.repository,
            own=self.destination.is_separate,
            branch=self.destination.name if self.destination.mode == "branch" else None,
            card=self.state.card,
        )


@dataclass(frozen=True)
class PreviousRun:
    """An earlier run with the same model, commit and policy whose result is published."""

    report: Report
    card: str
    card_location: CardLocation


def prepare_publication(config: RunConfig) -> PublishTarget:
    """The destination of the policy. Raises before the run what publishing would raise after it, where possible."""
    settings = config.policy.publish
    if settings.mode == "none":
        raise ValueError("the publish mode is none")
    access = write_access(os.environ)
    revision = pull.resolve_revision(config.model, config.revision, resolve.pull_access()).revision
    name = settings.to or (f"antidote-{revision[:COMMIT_DIGITS]}" if settings.mode == "branch" else config.model)
    destination = Destination(settings.mode, config.model, revision, name)
    return PublishTarget(destination, check_destination(destination, resolve.pull_access(), access), access)


def require_mergeable_card(publication: PublishTarget, source_card: str) -> None:
    """Raise ConfigurationError if the front matter of a model card is invalid, so that results cannot be added."""
    if not publication.state.may_write:
        return  # a discussion changes no card
    cards = {publication.destination.source: source_card}
    if publication.state.card:
        cards[publication.destination.repository] = publication.state.card
    for repository, card in cards.items():
        fault = front_matter.find_fault(card)
        if fault is not None:
            raise ConfigurationError(
                f"the front matter of the README.md of {repository} is broken: {fault}",
                cause="the results are added to the existing front matter",
                hint="fix it in the repository and run again, or use --publish none",
            )


def find_previous(publication: PublishTarget, policy_sha256: str) -> PreviousRun | None:
    """Find the result of the same policy on the same commit in an open pull request of this account, or None.

    No weights are downloaded: the hashes in its manifest are compared with those of the Hub.
    """
    destination, access = publication.destination, publication.access
    waiting = pull_requests.find_waiting_result(destination, access, policy_sha256)
    if waiting is None:
        return None
    tree, url = waiting
    manifest_text, report_text, card_text = (
        commits.read_file(access, destination.repository, tree, path) or b""
        for path in (MANIFEST_FILE, REPORT_PATH, CARD)
    )
    try:
        manifest = records.from_json(Manifest, manifest_text)
        report = records.from_json(Report, report_text)
    except ValueError:
        return None
    if not _is_complete(manifest, report, tree, destination, policy_sha256):
        return None
    if not _is_own(access, manifest, report_text, tree, destination):
        return None
    note = f"Nothing was done: run {report.run_id} has published this result already."
    published = PublishResult(destination.mode, url, tree.revision, destination.repository, (note,))
    card = card_text.decode("utf-8", "surrogateescape")
    return PreviousRun(replace(report, publish=published), card, replace(publication.card_location, card=card))


def publish_model(publication: PublishTarget, report: Report, model: Path) -> PublishResult:
    """Publish the folder `model`, which includes the report and the card, as one commit."""
    if report.repair is None:
        raise ValueError("a run without a repair has nothing to publish")
    title, description = summary.render_pull_request(report, publication.card_location)
    request = publish.PublishRequest(
        contents={
            path.relative_to(model).as_posix(): commits.read_content(path)
            for path in sorted(model.rglob("*"))
            if path.is_file()
        },
        title=title,
        description=description,
        texts=PullRequestText(
            comment=lambda published: summary.render_comment(report, published),
            closing=lambda number: summary.render_closing(report, number),
            superseding=summary.render_superseded,
        ),
        marker=CommitMarker(
            report.run_id,
            result_digest(report.source, report.policy_sha256, report.repair.files),
            publication.destination.revision,
            report.policy_sha256,
            sha256_file(model / REPORT_PATH),
        ),
    )
    return publish.publish_result_files(publication.destination, publication.state, request, publication.access)


def publish_verdict(publication: PublishTarget, tested: Report, card: str, report_json: Path) -> PublishResult:
    """Publish the verdict on the tested model, without weights: a pull request, or a discussion for a foreign model.

    `tested`: the report without a repair. `card`: the model's card. A verdict that is published already is left alone.
    """
    destination, state, access = publication.destination, publication.state, publication.access
    if tested.verdict == "inconclusive":
        return PublishResult("report", notes=("An inconclusive result is not published.",))
    source, revision = destination.source, destination.revision
    tree = access.request(source, lambda client: commits.read_tree(client, source, revision))
    digest = verdict_digest(tested, tree)
    marker = CommitMarker(
        tested.run_id, digest, revision, tested.policy_sha256, sha256_file(report_json), kind="verdict"
    )
    title, text = summary.render_verdict(tested, is_discussion=not state.may_write)
    if not state.may_write:
        return discussions.publish_discussion(access, source, title, text, marker)
    location = CardLocation(source, verdict=digest)
    if f"<!-- antidote-ci:verdict {digest} -->" in card:
        note = "The model card states this verdict already."
        return PublishResult("report", destination.address, revision, source, (note,))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / CARD
        file.write_bytes(render_card(tested, card, location).encode("utf-8", "surrogateescape"))
        change = CommitRequest({CARD: commits.read_content(file)}, (), title, commits.add_marker(text, marker))
        texts = PullRequestText(
            comment=lambda published: summary.render_comment(tested, published),
            closing=lambda number: summary.render_closing(tested, number),
            superseding=summary.render_superseded,
        )
        return pull_requests.publish_pull_request(access, source, change, marker, texts)


def verdict_digest(tested: Report, tree: CommitTree) -> str:
    """Hash of a verdict: equal for the same figures of the same model files under the same policy, at any commit."""
    before = tested.evaluations.before
    figures = [before.verdict, before.measure, round(before.harmful_score, 3), [round(b, 3) for b in before.bounds]]
    values = [tested.source.id, tested.policy_sha256, sorted(ownership.model_files(tree.files).items()), figures]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def result_digest(source: ReportedSource, policy_sha256: str, files: Sequence[WeightFile]) -> str:
    """Hash of a result: equal for equal weights made from the same commit under the same policy."""
    values = [source.id, source.revision, policy_sha256, sorted((file.path, file.sha256_out) for file in files)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _is_own(access: HubAccess, manifest: Manifest, report: bytes, tree: CommitTree, destination: Destination) -> bool:
    """Whether this account published the result. Others can push commits to a pull request."""
    marker = CommitMarker(
        manifest.run_id,
        result_digest(manifest.source, manifest.policy_sha256, manifest.files),
        destination.revision,
        manifest.policy_sha256,
        hashlib.sha256(report).hexdigest(),
    )
    repaired = {file.path: file.sha256_out for file in manifest.files}
    return marker in ownership.read_own_markers(access, destination.source) and ownership.is_merged_repair(
        access, tree, destination.source, destination.revision, repaired
    )


def _is_complete(
    manifest: Manifest, report: Report, tree: CommitTree, destination: Destination, policy_sha256: str
) -> bool:
    """Whether manifest and report describe this work, and the weights have the hashes of the manifest."""
    weights = {file.path: file.sha256_out for file in manifest.files if file.path.endswith(".safetensors")}
    return (
        is_sealed(manifest)
        and (manifest.source.id, manifest.source.revision) == (destination.source, destination.revision)
        and report.source == manifest.source
        and manifest.policy_sha256 == report.policy_sha256 == policy_sha256
        and report.verdict == "repaired"
        and report.repair is not None
        and report.repair.files == manifest.files
        and weights == {path: sha256 for path, sha256 in tree.files.items() if path.endswith(".safetensors")}
    )
