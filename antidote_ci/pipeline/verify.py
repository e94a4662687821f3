"""`verify_result`: fetch a result, what it was made from, and compare them; no model is run."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import pull
from antidote_ci.identifiers import COMMIT
from antidote_ci.pipeline import resolve
from antidote_ci.pipeline.output import MODEL_FOLDER
from antidote_ci.pipeline.resolve import pull_access
from antidote_ci.records import Manifest, OnProgress, ReportedReference, ReportedSource, Verification
from antidote_ci.repair import verifying
from antidote_ci.repair.manifest import load_manifest
from antidote_ci.report.console import Console
from antidote_ci.report.origins import full_name
from antidote_ci.report.text import flatten
from antidote_ci.sandbox.client import Sandbox

NOT_SHOWN = (
    "that the model is safe (`antidote-ci evaluate` measures that), and that source and reference are the right ones: "
    "the manifest names them, and anyone can write one"
)


@dataclass(frozen=True)
class _CheckpointLocation:
    """Where a checkpoint lies on this machine, and under which name."""

    id: str
    revision: str | None
    folder: Path
    not_pulled: list[str]


def verify_result(
    result: str, revision: str | None, source: str | None, reference: str | None, console: Console
) -> Verification:
    """Compare the result with its source and its reference.

    These are what the manifest names, at its commits; `source` and `reference` say where they lie instead. Raises
    ConfigurationError for what is no result, and where the manifest names a folder that is not here.
    """
    with console.step("pull the result"):
        place = _locate_result(result, revision, console.report)
    manifest = load_manifest(place.folder)
    return replace(_compare(place, manifest, source, reference, console), id=place.id, revision=place.revision)


def describe_verification(found: Verification) -> list[str]:
    """What people read of it."""
    said = [f"result     {_full_name(found.id, found.revision)}"]
    if found.source is not None:
        said.append(f"source     {_full_name(found.source.id, found.source.revision)}")
    if found.reference is not None:
        said.append(f"reference  {_full_name(found.reference.id, found.reference.revision)}")
    if found.dose is not None:
        each = f" of each {found.per}" if found.per else ""
        said.append(f"method     {found.method} on {found.target}, dose {found.dose:g}{each}")
    if found.difference is not None:
        return [*said, f"differs    {flatten(found.difference)}"]
    share = 100 * found.changed_weights / max(found.scored_weights, 1)
    return [
        *said,
        f"changed    {found.changed_weights:,} of {found.scored_weights:,} scored weights ({share:.3g} %)",
        f"compared   {found.files:,} files and {found.tensors:,} tensors: each is what source and method allow",
        f"not shown  {NOT_SHOWN}",
    ]


def _full_name(name: str, revision: str | None) -> str:
    return full_name(flatten(name), revision)


def _compare(
    result: _CheckpointLocation, manifest: Manifest | None, source: str | None, reference: str | None, console: Console
) -> Verification:
    if manifest is None:
        return verifying.to_verification(None, verifying.EDITED)
    named = manifest.reference if manifest.target == "delta" else None
    if reference is not None and named is None:
        raise ConfigurationError(
            "--reference is given, and no reference had a part in this repair",
            cause=f"its target is {manifest.target}: entries became zero",
            hint="drop --reference",
        )
    for each in (manifest.source, named):
        if each is not None and each.revision is not None and not COMMIT.fullmatch(each.revision):
            return verifying.to_verification(manifest, f"the manifest names no commit of {each.id}")
    with console.step("pull the source"):
        origin = _locate_origin("source", manifest.source, source, result, console.report)
    aligned = None
    if named is not None:
        with console.step("pull the reference"):
            aligned = _locate_origin("reference", named, reference, result, console.report)
    with TemporaryDirectory(prefix="antidote-") as work, Sandbox(Path(work) / "child.log") as child:
        request = verifying.VerifyRequest(
            repaired=result.folder,
            source=origin.folder,
            reference=aligned.folder if aligned else None,
            not_pulled=result.not_pulled,
        )
        with console.step("compare"):
            found = child.call(verifying.verify_repair, request, console.report)
    found = replace(found, source=ReportedSource(origin.id, origin.revision, manifest.source.kind))
    if aligned is None or named is None:
        return found
    found_by = named.found_by if reference is None else "option"
    return replace(found, reference=ReportedReference(aligned.id, aligned.revision, found_by))


def _locate_result(name: str, revision: str | None, report: OnProgress) -> _CheckpointLocation:
    if not pull.is_local(name):
        return _pull(name, revision, report)
    if revision is not None:
        raise ConfigurationError(f"{name} is a local folder, so it has no revision {revision}", hint="drop --revision")
    place = _open_local(name)
    inside = place.folder / MODEL_FOLDER
    return replace(place, folder=inside) if (inside / MANIFEST_FILE).is_file() else place


def _locate_origin(
    what: str,
    said: ReportedSource | ReportedReference,
    override: str | None,
    result: _CheckpointLocation,
    report: OnProgress,
) -> _CheckpointLocation:
    """The checkpoint that the manifest names as source or reference, or the one that is named in its place."""
    if override is not None:
        return _open_local(override) if pull.is_local(override) else _pull(override, said.revision, report)
    if said.revision is not None:
        return _pull(said.id, said.revision, report)
    # A stranger's manifest does not choose which folder of this machine is read.
    if result.revision is not None or not Path(said.id).is_dir():
        raise ConfigurationError(
            f"the {what} is a folder of the machine that made the repair: {flatten(said.id)}",
            cause="it is not the name of a repository, so it cannot be pulled",
            hint=f"say where the same files lie with --{what}",
        )
    return _open_local(said.id)


def _pull(name: str, revision: str | None, report: OnProgress) -> _CheckpointLocation:
    remote = pull.resolve_revision(name, revision, pull_access())
    return _CheckpointLocation(
        name, remote.revision, pull.download_snapshot(remote, pull_access(), report), remote.skipped
    )


def _open_local(name: str) -> _CheckpointLocation:
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise resolve.missing_folder_error(name)
    return _CheckpointLocation(name, None, folder, [])
