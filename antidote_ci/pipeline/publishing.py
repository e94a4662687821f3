"""The result of a run on its way out: where it goes, whether it is there already, and what is said beside it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci import records
from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import commits, ownership, publish, pull, pull_requests
from antidote_ci.hub.access import HubAccess, write_access
from antidote_ci.hub.commits import CommitMarker, CommitTree
from antidote_ci.hub.destination import Destination, DestinationState, check_destination
from antidote_ci.hub.pull_requests import PullRequestText
from antidote_ci.pipeline import resolve
from antidote_ci.policy import RunConfig
from antidote_ci.records import Manifest, PublishResult, Report, ReportedSource, WeightFile
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.report import CardLocation, front_matter, summary

REPORT_PATH = "antidote/report.json"
COMMIT_DIGITS = 12


@dataclass(frozen=True)
class PublishTarget:
    """What is known of it before the work: the destination, what stands there, and the right to write."""

    destination: Destination
    state: DestinationState
    access: HubAccess

    @property
    def card_location(self) -> CardLocation:
        """Where the card will stand."""
        return CardLocation(
            self.destination.repository,
            own=self.destination.is_separate,
            branch=self.destination.name if self.destination.mode == "branch" else None,
            card=self.state.card,
        )


@dataclass(frozen=True)
class PreviousRun:
    """The same work, published before: its report, and the card and the place where it stands."""

    report: Report
    card: str
    card_location: CardLocation


def prepare_publication(config: RunConfig) -> PublishTarget:
    """Where the policy wants the result. Raises what publishing would raise after the work, as far as it shows now."""
    settings = config.policy.publish
    if settings.mode == "none":
        raise ValueError("the policy publishes nothing")
    access = write_access(os.environ)
    revision = pull.resolve_revision(config.model, config.revision, resolve.pull_access()).revision
    name = settings.to or (f"antidote-{revision[:COMMIT_DIGITS]}" if settings.mode == "branch" else config.model)
    destination = Destination(settings.mode, config.model, revision, name)
    return PublishTarget(destination, check_destination(destination, resolve.pull_access(), access), access)


def require_mergeable_card(publication: PublishTarget, source_card: str) -> None:
    """Raise ConfigurationError for a card that cannot be merged with ours."""
    standing = publication.state.card
    named = {publication.destination.source: source_card} | (
        {publication.destination.repository: standing} if standing else {}
    )
    for repository, card in named.items():
        fault = front_matter.find_fault(card)
        if fault is not None:
            raise ConfigurationError(
                f"the front matter of the README.md of {repository} is broken: {fault}",
                cause="our results would have to be put beside what it says",
                hint="mend it there, then run again; or --publish none",
            )


def find_previous(publication: PublishTarget, policy_sha256: str) -> PreviousRun | None:
    """The report of the same policy on the same commit, where its result waits whole in a pull request of ours.

    No weight is downloaded: the manifest there is held against the hashes that the Hub names.
    """
    destination, access = publication.destination, publication.access
    found = pull_requests.find_waiting_result(destination, access, policy_sha256)
    if found is None:
        return None
    there, url = found
    texts = [
        commits.read_file(access, destination.repository, there, path) for path in (MANIFEST_FILE, REPORT_PATH, CARD)
    ]
    try:
        manifest = records.from_json(Manifest, texts[0] or b"")
        report = records.from_json(Report, texts[1] or b"")
    except ValueError:
        return None
    if not _is_complete(manifest, report, there, destination, policy_sha256):
        return None
    if not _is_own(access, manifest, texts[1] or b"", there, destination):
        return None
    note = f"Nothing was done: run {report.run_id} has published this result already."
    published = PublishResult(destination.mode, url, there.revision, destination.repository, (note,))
    card = (texts[2] or b"").decode("utf-8", "surrogateescape")
    return PreviousRun(replace(report, publish=published), card, replace(publication.card_location, card=card))


def publish_model(publication: PublishTarget, report: Report, model: Path) -> PublishResult:
    """Publish the folder `model`, in which report and card lie already."""
    if report.repair is None:
        raise ValueError("a run without a repair has nothing to publish")
    title, description = summary.render_pull_request(report, publication.card_location)
    outcome = publish.PublishRequest(
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
    return publish.publish_result_files(publication.destination, publication.state, outcome, publication.access)


def result_digest(source: ReportedSource, policy_sha256: str, files: Sequence[WeightFile]) -> str:
    """Equal for equal weights made from the same commit under the same policy, whoever made them and when."""
    said = [source.id, source.revision, policy_sha256, sorted((each.path, each.sha256_out) for each in files)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _is_own(access: HubAccess, manifest: Manifest, report: bytes, there: CommitTree, destination: Destination) -> bool:
    """Whether our own account says that it made this. Commits can be pushed onto a pull request by others."""
    made = result_digest(manifest.source, manifest.policy_sha256, manifest.files)
    policy, told = manifest.policy_sha256, hashlib.sha256(report).hexdigest()
    mark = CommitMarker(manifest.run_id, made, destination.revision, policy, told)
    repaired = {each.path: each.sha256_out for each in manifest.files}
    return mark in ownership.read_own_markers(access, destination.source) and ownership.is_merged_repair(
        access, there, destination.source, destination.revision, repaired
    )


def _is_complete(
    manifest: Manifest, report: Report, there: CommitTree, destination: Destination, policy_sha256: str
) -> bool:
    """Whether manifest and report speak of this work, and the weights there are those of the manifest."""
    weights = {each.path: each.sha256_out for each in manifest.files if each.path.endswith(".safetensors")}
    return (
        is_sealed(manifest)
        and (manifest.source.id, manifest.source.revision) == (destination.source, destination.revision)
        and report.source == manifest.source
        and manifest.policy_sha256 == report.policy_sha256 == policy_sha256
        and report.verdict == "repaired"
        and report.repair is not None
        and report.repair.files == manifest.files
        and weights == {path: each for path, each in there.files.items() if path.endswith(".safetensors")}
    )
