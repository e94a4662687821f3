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
from antidote_ci.checkpoint.swap import MANIFEST
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import ownership, publish, publish_checks, pull, trees
from antidote_ci.hub.access import Access, writing
from antidote_ci.hub.commit_marker import Mark
from antidote_ci.hub.destination import Destination, Standing
from antidote_ci.hub.pull_requests import Words
from antidote_ci.hub.trees import Tree
from antidote_ci.pipeline import resolve
from antidote_ci.policy import RunConfig
from antidote_ci.records import Manifest, Published, Report, ReportedSource, WeightFile
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.report import Place, front_matter, summary

REPORT = "antidote/report.json"
COMMIT_DIGITS = 12


@dataclass(frozen=True)
class Publication:
    """What is known of it before the work: the destination, what stands there, and the right to write."""

    destination: Destination
    standing: Standing
    access: Access

    @property
    def place(self) -> Place:
        """Where the card will stand."""
        return Place(
            self.destination.repository,
            own=self.destination.own,
            branch=self.destination.name if self.destination.mode == "branch" else None,
            card=self.standing.card,
        )


@dataclass(frozen=True)
class Earlier:
    """The same work, published before: its report, and the card and the place where it stands."""

    report: Report
    card: str
    place: Place


def prepared(config: RunConfig) -> Publication:
    """Where the policy wants the result. Raises what publishing would raise after the work, as far as it shows now."""
    settings = config.policy.publish
    if settings.mode == "none":
        raise ValueError("the policy publishes nothing")
    access = writing(os.environ)
    revision = pull.resolve(config.model, config.revision, resolve.access()).revision
    name = settings.to or (f"antidote-{revision[:COMMIT_DIGITS]}" if settings.mode == "branch" else config.model)
    destination = Destination(settings.mode, config.model, revision, name)
    return Publication(destination, publish_checks.survey(destination, resolve.access(), access), access)


def require_card(publication: Publication, source_card: str) -> None:
    """Raise ConfigurationError for a card that cannot be merged with ours."""
    standing = publication.standing.card
    named = {publication.destination.source: source_card} | (
        {publication.destination.repository: standing} if standing else {}
    )
    for repository, card in named.items():
        fault = front_matter.faults(card)
        if fault is not None:
            raise ConfigurationError(
                f"the front matter of the README.md of {repository} is broken: {fault}",
                cause="our results would have to be put beside what it says",
                hint="mend it there, then run again; or --publish none",
            )


def earlier(publication: Publication, policy_sha256: str) -> Earlier | None:
    """The report of the same policy on the same commit, where its result waits whole in a pull request of ours.

    No weight is downloaded: the manifest there is held against the hashes that the Hub names.
    """
    destination, access = publication.destination, publication.access
    found = publish_checks.held(destination, access, policy_sha256)
    if found is None:
        return None
    there, url = found
    texts = [trees.read(access, destination.repository, there, path) for path in (MANIFEST, REPORT, CARD)]
    try:
        manifest = records.load(Manifest, texts[0] or b"")
        report = records.load(Report, texts[1] or b"")
    except ValueError:
        return None
    if not _is_whole(manifest, report, there, destination, policy_sha256):
        return None
    if not _is_said(access, manifest, texts[1] or b"", there, destination):
        return None
    note = f"Nothing was done: run {report.run_id} has published this result already."
    published = Published(destination.mode, url, there.revision, destination.repository, (note,))
    card = (texts[2] or b"").decode("utf-8", "surrogateescape")
    return Earlier(replace(report, publish=published), card, replace(publication.place, card=card))


def publish_result(publication: Publication, report: Report, model: Path) -> Published:
    """Publish the folder `model`, in which report and card lie already."""
    if report.repair is None:
        raise ValueError("a run without a repair has nothing to publish")
    title, description = summary.pull_request(report, publication.place)
    outcome = publish.Result(
        contents={
            path.relative_to(model).as_posix(): trees.content(path)
            for path in sorted(model.rglob("*"))
            if path.is_file()
        },
        title=title,
        description=description,
        words=Words(
            comment=lambda published: summary.comment(report, published),
            closing=lambda number: summary.closing(report, number),
            superseded=summary.superseded,
        ),
        mark=Mark(
            report.run_id,
            result(report.source, report.policy_sha256, report.repair.files),
            publication.destination.revision,
            report.policy_sha256,
            sha256_file(model / REPORT),
        ),
    )
    return publish.publish(publication.destination, publication.standing, outcome, publication.access)


def result(source: ReportedSource, policy_sha256: str, files: Sequence[WeightFile]) -> str:
    """Equal for equal weights made from the same commit under the same policy, whoever made them and when."""
    said = [source.id, source.revision, policy_sha256, sorted((each.path, each.sha256_out) for each in files)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _is_said(access: Access, manifest: Manifest, report: bytes, there: Tree, destination: Destination) -> bool:
    """Whether our own account says that it made this. Commits can be pushed onto a pull request by others."""
    made = result(manifest.source, manifest.policy_sha256, manifest.files)
    policy, told = manifest.policy_sha256, hashlib.sha256(report).hexdigest()
    mark = Mark(manifest.run_id, made, destination.revision, policy, told)
    repaired = {each.path: each.sha256_out for each in manifest.files}
    return mark in ownership.said(access, destination.source) and ownership.is_merged(
        access, there, destination.source, destination.revision, repaired
    )


def _is_whole(manifest: Manifest, report: Report, there: Tree, destination: Destination, policy_sha256: str) -> bool:
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
