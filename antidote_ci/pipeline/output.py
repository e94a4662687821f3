"""The output folder of a run: checked before the work, locked during it, and filled with report and weights."""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from antidote_ci import report as reports
from antidote_ci.checkpoint.swap import require_replaceable
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.chat_api import redact_address
from antidote_ci.paths import (
    create_folder,
    is_path,
    open_lock,
    open_regular,
    remove_path,
    require_no_links,
    require_writable,
    resolve_path,
    try_lock_if_supported,
    write_file,
)
from antidote_ci.pipeline import publishing
from antidote_ci.pipeline.model_names import is_server_address, require_clear_names
from antidote_ci.pipeline.publishing import PreviousRun, PublishTarget
from antidote_ci.pipeline.resolve import ReportedModel, require_folder
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import NOT_PASSING_FOLDER, Report, RunVerdict, is_hub_id
from antidote_ci.report import CardLocation

MODEL_FOLDER = "model"
WEIGHT_FOLDERS = (MODEL_FOLDER, NOT_PASSING_FOLDER)
"""Repaired weights that passed, or that did not and were kept. At most one of them exists."""
SCORES_FOLDER = "repair"
LOG_FILE = "child.log"
LOCK_FILE = ".lock"
WORK_PREFIX = ".work-"
BRANCH = re.compile(r"(?!/|.*(?:\.\.|//|@\{))[^\s~^:?*\[\\\x00-\x1f\x7f]{1,244}(?<![/.])")
"""Names of branches as git allows them, but for rare restrictions."""
JUNIT_FILE = "junit.xml"
REPORT_FILES = ("report.json", "report.html", "summary.md", "README.md", "badge.json", JUNIT_FILE)
OUTPUT_NAMES = (*REPORT_FILES, *WEIGHT_FOLDERS, SCORES_FOLDER, LOG_FILE, LOCK_FILE)
"""Names in the output folder of a run."""


def to_exit_code(verdict: RunVerdict, *, accepted: bool) -> int:
    """Exit code of a verdict, one of `errors.VERDICT_EXIT_CODES`. `accepted`: whether a repair exits with 0.

    Errors have exit codes of their own: `errors.ERROR_EXIT_CODES`.
    """
    match verdict:
        case "pass":
            return 0
        case "repaired":
            return 0 if accepted else 7
        case "fail":
            return 1
        case "inconclusive":
            return 4


def require_supported(config: RunConfig, command: Command) -> None:
    """Raise ConfigurationError for a model that cannot be evaluated or an output folder that cannot be used."""
    # The hash is computed now, because files that the policy names may be edited during the run.
    config.policy.sha256()
    require_clear_names(config)
    if is_server_address(config.model):
        _require_local_weights(config, command)
    elif is_path(config.model):
        require_folder(config.model)
    require_own_output(config.out, OUTPUT_NAMES)
    _require_inputs_outside_output(config, command)


def require_publishable(config: RunConfig) -> None:
    """Raise ConfigurationError for a model whose repair cannot be published, and for an invalid destination."""
    publish = config.policy.publish
    if publish.mode == "repo" and not is_hub_id(str(publish.to)):
        raise ConfigurationError(
            f"{publish.to!r:.200} is not the name of a repository", hint="write --publish-to ORG/NAME"
        )
    if publish.mode == "branch" and publish.to is not None and not BRANCH.fullmatch(publish.to):
        raise ConfigurationError(
            f"{publish.to!r:.200} is not the name of a branch", hint="write --publish-to NAME, such as repaired"
        )
    if publish.mode != "none" and (is_path(config.model) or is_server_address(config.model)):
        model = f"{config.model} is a local folder" if is_path(config.model) else "a server has no repository"
        result = "verdict" if publish.mode == "report" else "repair"
        raise ConfigurationError(
            f"{model}, so its {result} cannot be published to a repository",
            hint="--publish none, or name the model by its Hub id",
        )


def _require_local_weights(config: RunConfig, command: Command) -> None:
    """Raise ConfigurationError for options that a model behind a server does not support."""
    if config.revision is not None:
        raise ConfigurationError(
            f"{redact_address(config.model)} is a server, so it has no revision {config.revision}",
            hint="drop --revision",
        )
    if command == "run":
        raise ConfigurationError(
            f"{redact_address(config.model)} is a server, and a repair needs weights",
            hint=f"run antidote-ci evaluate {redact_address(config.model)}",
        )
    if config.policy.evaluation.server is not None:
        raise ConfigurationError(
            f"--server cannot be used with {redact_address(config.model)}, which is a server", hint="drop --server"
        )
    if config.policy.evaluation.task is not None and config.policy.evaluation.task_match == "choice":
        raise ConfigurationError(
            f"task_match choice is not supported for {redact_address(config.model)}",
            cause="it compares the likelihoods of the choices, and a server returns only generated text",
            hint="choose another task_match, or evaluate the weights",
        )


def _require_inputs_outside_output(config: RunConfig, command: Command) -> None:
    """Raise ConfigurationError if the run would replace its own inputs or weights that it cannot restore."""
    models = [name for name in (config.model, config.policy.repair.reference) if name is not None and is_path(name)]
    for name in (*models, config.policy.gate.baseline):
        path = None if name is None else resolve_path(name)
        if path is not None and any(path.is_relative_to((config.out / own).resolve()) for own in OUTPUT_NAMES):
            raise ConfigurationError(
                f"{name} is inside --out {config.out}, whose content is replaced", hint="name another --out"
            )
    for name in WEIGHT_FOLDERS:
        weights = config.out / name
        require_replaceable(weights)
        if command == "evaluate" and weights.exists():
            raise ConfigurationError(
                f"--out {config.out} holds repaired weights: {weights}",
                cause="a command replaces the content of --out, and an evaluation does not write weights",
                hint="name another --out, or move them away",
            )


def require_own_output(out: Path, own: Sequence[str]) -> None:
    """Raise ConfigurationError if `out` is not writable, is locked by a run, or holds files that no run wrote.

    `own`: the names of files that a run writes.
    """
    require_writable(out)
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()}
    foreign = {name for name in names if name not in own and not name.startswith(WORK_PREFIX)}
    if not foreign and not names & {LOCK_FILE, LOG_FILE, "report.json"}:
        foreign = names
    if foreign or ("README.md" in names and "report.json" not in names):
        raise ConfigurationError(
            f"--out {out} holds files that no earlier run wrote: {min(foreign or {'README.md'})}",
            cause="a run replaces the content of its output folder",
            hint="name a new or empty folder",
        )
    if LOCK_FILE in names:
        with lock_output(out):
            pass
    _require_no_links(out)


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Create `out` and lock it against other runs. Raises ConfigurationError if another run holds the lock.

    Also raises it for a link in the folder: nothing below it is followed.
    """
    _require_no_links(create_folder(out))
    lock = open_lock(out / LOCK_FILE)
    try:
        if not try_lock_if_supported(lock):
            raise ConfigurationError(
                f"--out {out} is used by a run that has not ended", hint="wait for it, or name another --out"
            )
        yield
    finally:
        os.close(lock)


def clear_output(out: Path, *, keep_results: bool = False) -> None:
    """Remove the results and the temporary folders of an earlier run, or with `keep_results` only the latter."""
    if not keep_results:
        for name in REPORT_FILES:
            (out / name).unlink(missing_ok=True)
        for name in (*WEIGHT_FOLDERS, SCORES_FOLDER):
            remove_path(out / name)
    for work in out.glob(f"{WORK_PREFIX}*"):
        remove_path(work)


def _require_no_links(out: Path) -> None:
    """Work folders are removed and never opened; the links in them are ours."""
    require_no_links(out, skipped=lambda name: name.startswith(WORK_PREFIX))


def write_output(
    config: RunConfig,
    report: Report,
    reported_model: ReportedModel,
    work: Path,
    repaired: Path | None,
    location: CardLocation = reports.LOCAL_CARD,
) -> Report:
    """Complete and write the report, and move scores and repaired weights from `work` next to it.

    `repaired`: the folder of the weights; if they did not pass, their folder, card and report say so.
    `location`: where the model card will be published. Returns the complete report.
    """
    out = config.out
    is_rejected = repaired is not None and report.verdict != "repaired"
    report = dataclasses.replace(
        report,
        keeps_failed_weights=is_rejected,
        exit_code=to_exit_code(report.verdict, accepted=config.policy.repair.accept),
        notes=[*collect_notes(reported_model, repaired), *report.notes],
        written_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    if report.baseline is not None:
        compared = dataclasses.replace(report.baseline.second, verdict=report.verdict, written_at=report.written_at)
        report = dataclasses.replace(report, baseline=dataclasses.replace(report.baseline, second=compared))
    written = reports.write_report(report, reported_model.card, work, reports.LOCAL_CARD if is_rejected else location)
    # Everything is complete in `work` before the first part is moved, so an interrupted run leaves no weights alone.
    if repaired is not None:
        _write_model_card(work, repaired)
        require_no_links(repaired)
        repaired.rename(out / (NOT_PASSING_FOLDER if is_rejected else MODEL_FOLDER))
    if (work / SCORES_FOLDER).is_dir():
        (work / SCORES_FOLDER).rename(out / SCORES_FOLDER)
    for path in written:
        path.rename(out / path.name)
    return report


def publish_output(publication: PublishTarget, report: Report, reported_model: ReportedModel, out: Path) -> Report:
    """Publish the repaired weights of a complete output folder, and write the report again with the publication.

    Returns that report. Raises PublishConflict if the source or the destination has moved; nothing is published then,
    and the output folder stays complete. Raises ValueError for weights that did not pass.
    """
    if report.verdict != "repaired":
        raise ValueError("only repaired weights that pass are published")
    require_no_links(out / MODEL_FOLDER)
    published = publishing.publish_model(publication, report, out / MODEL_FOLDER)
    report = dataclasses.replace(report, publish=published)
    reports.write_report(report, reported_model.card, out, publication.card_location)
    return report


def publish_verdict(
    publication: PublishTarget, tested: Report, report: Report, reported_model: ReportedModel, out: Path
) -> Report:
    """Publish the verdict on the tested model, and write the report again with the publication. Returns that report.

    `tested`: the report before the repair. Raises as `publish_output`.
    """
    published = publishing.publish_verdict(publication, tested, reported_model.card, out / "report.json")
    report = dataclasses.replace(report, publish=published)
    reports.write_report(report, reported_model.card, out)
    return report


def restore_previous(config: RunConfig, previous: PreviousRun) -> Report:
    """Write the report of an earlier run to the output folder. Its weights stay where they were published."""
    with lock_output(config.out):
        clear_output(config.out)
        reports.write_report(previous.report, previous.card, config.out, previous.card_location)
    return previous.report


def collect_notes(reported_model: ReportedModel, repaired: Path | None) -> list[str]:
    """Notes for the report on limits of the measurement and of the repair."""
    notes = []
    if reported_model.unrepaired and repaired is not None:
        names = ", ".join(reported_model.unrepaired)
        notes.append(f"Not repaired, because never opened: {names}. Remove them from the repository.")
    if reported_model.source.kind == "server":
        notes.append("The model is a server, so its weights are unknown.")
    elif reported_model.source.revision is None:
        notes.append("The model is a local folder, so it has no commit; the manifest holds its sha256.")
    return notes


def _write_model_card(written: Path, model: Path) -> None:
    """Copy card and report from the folder `written` into that of the repaired model, and write SHA256SUMS."""
    for name, copy in (("README.md", "README.md"), *((name, f"antidote/{name}") for name in REPORT_FILES[:2])):
        with open_regular(written / name) as file:
            write_file(model / copy, file.read())
    write_file(model / "SHA256SUMS", reports.compute_checksums(model).encode())
