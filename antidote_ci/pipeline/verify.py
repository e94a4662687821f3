"""The command `verify`: compare a repaired model with its source and its reference. No model is run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from antidote_ci.checkpoint.files import list_files
from antidote_ci.checkpoint.json_files import parse_object
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import pull
from antidote_ci.model.checkpoint_check import open_temporary_sandbox
from antidote_ci.paths import find_folder, is_path
from antidote_ci.pipeline import model_names, resolve
from antidote_ci.pipeline.comparison import MAX_REPORT_BYTES
from antidote_ci.pipeline.output import WEIGHT_FOLDERS
from antidote_ci.pipeline.publishing import REPORT_PATH
from antidote_ci.pipeline.resolve import pull_access
from antidote_ci.records import (
    COMMIT,
    Manifest,
    OnProgress,
    ReportedReference,
    ReportedSource,
    RunVerdict,
    Verification,
)
from antidote_ci.repair import verifying
from antidote_ci.repair.manifest import load_manifest
from antidote_ci.report.console import Console
from antidote_ci.report.origins import full_name
from antidote_ci.report.text import flatten

NOT_SHOWN = (
    "that the model is safe (run `antidote-ci evaluate`), and that source and reference are the right ones: "
    "they are named by the manifest, and anyone can write a manifest"
)


@dataclass(frozen=True)
class _CheckpointLocation:
    """A checkpoint on disk and its name."""

    id: str
    revision: str | None
    folder: Path
    not_pulled: list[str]


def verify_result(
    result: str, revision: str | None, source: str | None, reference: str | None, console: Console
) -> Verification:
    """Compare the result with its source and its reference.

    They are pulled as the manifest names them, unless `source` or `reference` gives another location. Raises
    ConfigurationError if `result` has no manifest, or the manifest names a folder that does not exist here.
    """
    result, revision = model_names.parse_revision(result, revision)
    for name in (result, source, reference):
        if name is not None:
            pull.refuse_ambiguous_name(model_names.parse_model_name(name)[0])
    with console.step("pull the result"):
        location = _locate_result(result, revision, console.report)
    manifest = load_manifest(location.folder, _full_name(location.id, location.revision))
    verification = _compare(location, manifest, source, reference, console)
    verdict = read_verdict(location.folder)
    return replace(verification, id=location.id, revision=location.revision, verdict=verdict)


def describe_verification(verification: Verification) -> list[str]:
    """The verification as lines of text."""
    lines = [f"result     {_full_name(verification.id, verification.revision)}"]
    if verification.source is not None:
        lines.append(f"source     {_full_name(verification.source.id, verification.source.revision)}")
    if verification.reference is not None:
        lines.append(f"reference  {_full_name(verification.reference.id, verification.reference.revision)}")
    if verification.dose is not None:
        per = f" of each {verification.per}" if verification.per else ""
        lines.append(f"method     {verification.method} on {verification.target}, dose {verification.dose:g}{per}")
    if verification.verdict is not None:
        failed = "" if verification.verdict == "repaired" else ": these weights did NOT pass the policy"
        lines.append(f"report     its verdict is {verification.verdict}{failed}")
    if verification.difference is not None:
        return [*lines, f"differs    {flatten(verification.difference)}"]
    changed, scored = verification.changed_weights, verification.scored_weights
    return [
        *lines,
        f"changed    {changed:,} of {scored:,} scored weights ({100 * changed / max(scored, 1):.3g} %)",
        f"compared   {verification.files:,} files and {verification.tensors:,} tensors: all match source and method",
        f"not shown  {NOT_SHOWN}",
    ]


def read_verdict(folder: Path) -> str | None:
    """The verdict of the report next to the weights; None without a report that can be read."""
    if REPORT_PATH not in list_files(folder):
        return None
    with (folder / REPORT_PATH).open("rb") as file:
        content = file.read(MAX_REPORT_BYTES)
    try:
        verdict = parse_object(content).get("verdict")
    except ValueError:
        return None
    return str(verdict) if verdict in get_args(RunVerdict) else None


def _full_name(name: str, revision: str | None) -> str:
    return full_name(flatten(name), revision)


def _compare(
    result: _CheckpointLocation, manifest: Manifest | None, source: str | None, reference: str | None, console: Console
) -> Verification:
    if manifest is None:
        return verifying.to_verification(None, verifying.EDITED)
    named_reference = manifest.reference if manifest.target == "delta" else None
    if reference is not None and named_reference is None:
        raise ConfigurationError(
            "--reference was given, but this repair did not use a reference",
            cause=f"its target is {manifest.target}, which sets entries to zero",
            hint="drop --reference",
        )
    for origin in (manifest.source, named_reference):
        if origin is not None and origin.revision is not None and not COMMIT.fullmatch(origin.revision):
            return verifying.to_verification(manifest, f"the manifest names no commit of {origin.id}")
    with console.step("pull the source"):
        source_location = _locate_origin("source", manifest.source, source, result, console.report)
    reference_location = None
    if named_reference is not None:
        with console.step("pull the reference"):
            reference_location = _locate_origin("reference", named_reference, reference, result, console.report)
    with open_temporary_sandbox() as sandbox:
        request = verifying.VerifyRequest(
            repaired=result.folder,
            source=source_location.folder,
            reference=reference_location.folder if reference_location else None,
            not_pulled=result.not_pulled,
        )
        with console.step("compare"):
            verification = sandbox.call(verifying.verify_repair, request, console.report)
    reported_source = ReportedSource(source_location.id, source_location.revision, manifest.source.kind)
    verification = replace(verification, source=reported_source)
    if reference_location is None or named_reference is None:
        return verification
    found_by = named_reference.found_by if reference is None else "option"
    return replace(
        verification, reference=ReportedReference(reference_location.id, reference_location.revision, found_by)
    )


def _locate_result(name: str, revision: str | None, on_progress: OnProgress) -> _CheckpointLocation:
    if not is_path(name):
        return _pull(name, revision, on_progress)
    if revision is not None:
        raise resolve.local_revision_error(name, revision)
    location = _open_local(name)
    folders = [location.folder / name for name in WEIGHT_FOLDERS]
    return replace(
        location, folder=next((folder for folder in folders if (folder / MANIFEST_FILE).is_file()), location.folder)
    )


def _locate_origin(
    role: str,
    named: ReportedSource | ReportedReference,
    override: str | None,
    result: _CheckpointLocation,
    on_progress: OnProgress,
) -> _CheckpointLocation:
    """The source or the reference: `override` if given, otherwise the checkpoint that the manifest names."""
    if override is not None:
        if is_path(override):
            return _open_local(override)
        name, revision = model_names.parse_model_name(override)
        return _pull(name, revision or named.revision, on_progress)
    if named.revision is not None:
        return _pull(named.id, named.revision, on_progress)
    # A manifest from the Hub must not choose which local folder is read.
    if result.revision is not None or not is_path(named.id) or find_folder(named.id) is None:
        raise ConfigurationError(
            f"the {role} is a folder of the machine that made the repair: {flatten(named.id)}",
            cause="it is not the name of a repository, so it cannot be pulled",
            hint=f"give the location of the same files with --{role}",
        )
    return _open_local(named.id)


def _pull(name: str, revision: str | None, on_progress: OnProgress) -> _CheckpointLocation:
    remote = pull.resolve_revision(name, revision, pull_access())
    return _CheckpointLocation(
        name, remote.revision, pull.download_snapshot(remote, pull_access(), on_progress), remote.skipped
    )


def _open_local(name: str) -> _CheckpointLocation:
    return _CheckpointLocation(name, None, resolve.require_folder(name), [])
