"""What leaves a run: the report, the repaired weights, the pull request."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from antidote_ci import report as reports
from antidote_ci.checkpoint.swap import require_replaceable
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.chat_api import redact_address
from antidote_ci.hub import pull
from antidote_ci.locks import try_lock_if_supported
from antidote_ci.paths import create_folder, require_writable
from antidote_ci.pipeline import publishing
from antidote_ci.pipeline.publishing import PreviousRun, PublishTarget
from antidote_ci.pipeline.resolve import ReportedModel, is_server_address, missing_folder_error
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import Report, RunVerdict

MODEL_FOLDER = "model"
SCORES_FOLDER = "repair"
LOG_FILE = "child.log"
REPORT_FILES = ("report.json", "report.html", "summary.md", "README.md")
OUTPUT_NAMES = (*REPORT_FILES, MODEL_FOLDER, SCORES_FOLDER, LOG_FILE)
"""Everything that a run leaves in its folder."""


def to_exit_code(verdict: RunVerdict, *, accepted: bool) -> int:
    """What the process says of the tested revision."""
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
    """Refuse before any work what could not be measured, or written after it without a loss."""
    # Now, for the files that it names may be edited while the run goes on.
    config.policy.sha256()
    if is_server_address(config.model):
        _require_local_weights(config, command)
    elif pull.is_local(config.model) and not Path(config.model).expanduser().is_dir():
        raise missing_folder_error(config.model)
    require_own_output(config.out, OUTPUT_NAMES)
    _require_inputs_outside_output(config, command)


def require_publishable(config: RunConfig) -> None:
    """Refuse before any work what could not be published after it; an evaluation never publishes."""
    if config.policy.publish.mode != "none" and pull.is_local(config.model):
        raise ConfigurationError(
            f"{config.model} is a local folder: no commit of a repository names what would be published",
            hint="--publish none, or name the model by its Hub id",
        )


def _require_local_weights(config: RunConfig, command: Command) -> None:
    """A server gives texts and nothing else."""
    if command == "run":
        raise ConfigurationError(
            f"{redact_address(config.model)} is a server, and a repair needs weights",
            hint=f"antidote-ci evaluate {redact_address(config.model)} measures what answers there",
        )
    if config.policy.evaluation.server is not None:
        raise ConfigurationError(f"{config.model} answers already: --server would start another", hint="name only one")
    if config.policy.evaluation.task is not None and config.policy.evaluation.task_match == "choice":
        raise ConfigurationError(
            f"{config.model} cannot say how likely a choice is",
            cause="task_match is choice, and a server gives texts alone",
            hint="choose another task_match, or evaluate the weights",
        )


def _require_inputs_outside_output(config: RunConfig, command: Command) -> None:
    """What a run replaces is neither what it reads nor what it could not make again."""
    weights = config.out / MODEL_FOLDER
    for read in (config.model, config.policy.repair.reference):
        if (
            read is not None
            and pull.is_local(read)
            and _is_inside(Path(read).expanduser(), weights, config.out / SCORES_FOLDER)
        ):
            raise ConfigurationError(
                f"{read} lies in --out {config.out}, and what is there is replaced", hint="name another --out"
            )
    require_replaceable(weights)
    if command == "evaluate" and weights.exists():
        raise ConfigurationError(
            f"--out {config.out} holds repaired weights: {weights}",
            cause="what lies there is replaced, and an evaluation makes no weights",
            hint="name another --out, or move them away",
        )


def _is_inside(path: Path, *folders: Path) -> bool:
    return any(path.resolve().is_relative_to(each.resolve()) for each in folders)


def require_own_output(out: Path, own: Sequence[str]) -> None:
    """Raise ConfigurationError where `out` cannot be written, is another run's, or holds what no earlier one left."""
    require_writable(out)
    if not out.exists():
        return
    names = {path.name for path in out.iterdir()}
    foreign = {name for name in names if name not in own and not name.startswith(".work-")}
    if not foreign and not names & {LOG_FILE, "report.json"}:
        foreign = names
    if foreign or ("README.md" in names and "report.json" not in names):
        raise ConfigurationError(
            f"--out {out} holds files that are not of an earlier run: {min(foreign or {'README.md'})}",
            cause="a run replaces what an earlier one left there",
            hint="name a new or empty folder",
        )
    if LOG_FILE in names:
        with lock_output(out):
            pass


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Hold `out`, which is made, against every other run: `clear_output` would remove what it is at.

    Raises ConfigurationError where another has it.
    """
    with (create_folder(out) / LOG_FILE).open("ab") as log:
        if not try_lock_if_supported(log.fileno()):
            raise ConfigurationError(
                f"--out {out} is the folder of a run that has not ended", hint="wait for it, or name another --out"
            )
        yield


def clear_output(out: Path) -> None:
    """Remove an earlier run's results, so that none can be taken for this one's."""
    for name in REPORT_FILES:
        (out / name).unlink(missing_ok=True)
    for name in (MODEL_FOLDER, SCORES_FOLDER):
        shutil.rmtree(out / name, ignore_errors=True)
    for leftover in out.glob(".work-*"):
        shutil.rmtree(leftover)


def write_output(
    config: RunConfig,
    report: Report,
    tested: ReportedModel,
    work: Path,
    repaired: Path | None,
    publication: PublishTarget | None = None,
) -> Report:
    """Write the report, put scores and repaired weights beside it, and publish when asked.

    Returns the report as it then stands. A PublishConflict leaves everything written and nothing published.
    """
    out = config.out
    if (work / SCORES_FOLDER).is_dir():
        (work / SCORES_FOLDER).rename(out / SCORES_FOLDER)
    if repaired is not None:
        repaired.rename(out / MODEL_FOLDER)
    place = reports.LOCAL_CARD if publication is None else publication.card_location
    reports.write_report(report, tested.card, out, place)
    if repaired is None:
        return report
    _write_model_card(out)
    if publication is None:
        return report
    published = publishing.publish_model(publication, report, out / MODEL_FOLDER)
    final = dataclasses.replace(report, publish=published)
    reports.write_report(final, tested.card, out, place)
    return final


def restore_previous(config: RunConfig, earlier: PreviousRun) -> Report:
    """Leave the report of an earlier run in this one's place: the weights stay where they were published."""
    with lock_output(config.out):
        clear_output(config.out)
        reports.write_report(earlier.report, earlier.card, config.out, earlier.card_location)
    return earlier.report


def collect_notes(tested: ReportedModel, repaired: Path | None) -> list[str]:
    """What the reader must know and no figure says."""
    found = []
    if tested.unrepaired and repaired is not None:
        names = ", ".join(tested.unrepaired)
        found.append(f"Not repaired, because never opened: {names}. Remove them from the repository.")
    if tested.source.kind == "server":
        found.append("A server answered: nothing here can say which weights it holds.")
    elif tested.source.revision is None:
        found.append("The model is a local folder, so no commit names what was tested; the manifest holds its sha256.")
    return found


def _write_model_card(out: Path) -> None:
    """The repaired checkpoint carries its own card, report and checksums."""
    model = out / MODEL_FOLDER
    shutil.copyfile(out / "README.md", model / "README.md")
    for name in ("report.json", "report.html"):
        shutil.copyfile(out / name, model / "antidote" / name)
    (model / "SHA256SUMS").write_text(reports.compute_checksums(model), encoding="utf-8")
