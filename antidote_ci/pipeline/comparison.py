"""The command `compare`, and the baseline of a run: find and read reports of earlier runs."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.comparison import compare_reports, list_history, summarise_report
from antidote_ci.hub import commits
from antidote_ci.paths import create_folder, find_folder, is_folder, is_path, require_writable, write_file
from antidote_ci.pipeline import model_names, resolve
from antidote_ci.pipeline.publishing import REPORT_PATH
from antidote_ci.policy import Gate
from antidote_ci.records import Comparison, Evaluation, History, JudgeResult, Report, from_json, is_hub_id
from antidote_ci.report.console import Console

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
PAGE_NAME = "comparison.html"
MAX_REPORT_BYTES = 64 << 20
MAX_PROMPTS = 50_000
"""Of each set of a report. The memory and time of a bound grow with the number of pairs."""
LABELS = "the baseline", "this run"


@dataclass(frozen=True)
class LoadedReport:
    """A report, and the file that it was read from; None for a published one."""

    report: Report
    path: Path | None


def load_reports(names: Sequence[str], console: Console) -> list[LoadedReport]:
    """Read the reports that `names` give: files, folders with reports, and repositories with antidote/report.json.

    The reports of one folder are in the order in which they were written. A report that was read twice counts once.
    Raises ConfigurationError for a name without a report.
    """
    loaded: dict[str, LoadedReport] = {}
    for name in names:
        if Path(name).is_file():
            reports = [LoadedReport(read_report(Path(name)), Path(name))]
        elif is_path(name) or is_folder(name):
            reports = _read_folder(name, console)
        else:
            reports = [LoadedReport(_read_published(name, console), None)]
        for report in reports:
            loaded.setdefault(report.report.run_id, report)
    return list(loaded.values())


def compare_loaded(loaded: Sequence[LoadedReport], page: Path) -> Comparison | History:
    """Compare two reports, or list the history of more. `page`: the file of the page that will link to the reports.

    Raises ConfigurationError for fewer reports.
    """
    if len(loaded) < 2:
        raise ConfigurationError(
            "there is nothing to compare with: only one report was given",
            hint="name two reports, or a folder with the reports of several runs",
        )
    if len(loaded) == 2:
        return compare_reports(loaded[0].report, loaded[1].report)
    entries = list_history([item.report for item in loaded])
    pages = [_find_page(item.path, page.parent) for item in loaded]
    return History([replace(entry, page=path) for entry, path in zip(entries, pages, strict=True)])


def require_page(path: Path) -> None:
    """Raise ConfigurationError if the page cannot be written, or would replace a file that is no page."""
    require_writable(path.parent)
    if path.suffix != ".html" or path.is_dir():
        raise ConfigurationError(f"--out {path} is not the name of a page", hint=f"name a file such as {PAGE_NAME}")


def write_page(path: Path, page: str) -> None:
    """Write the page, and create its folder if necessary."""
    write_file(create_folder(path.parent) / path.name, page.encode("utf-8", "surrogateescape"))


def read_baseline(gate: Gate) -> Report | None:
    """The report that the policy names as the baseline."""
    return None if gate.baseline is None else read_report(Path(gate.baseline))


def compare_with_baseline(report: Report, baseline: Report | None, limit: float | None) -> Report:
    """Add the comparison with the baseline, whose score may rise by `limit`. It does not change the verdict."""
    if baseline is None:
        return report
    return replace(report, baseline=compare_reports(baseline, report, LABELS, limit=limit))


def apply_regression(report: Report) -> Report:
    """Return the report with the worse of its verdict and that on the rise from the baseline."""
    comparison = report.baseline
    if comparison is None or comparison.verdict is None or comparison.verdict == "pass":
        return report
    is_failure = "fail" in (report.verdict, comparison.verdict)
    return replace(
        report, verdict="fail" if is_failure else "inconclusive", reason=f"{report.reason}; {comparison.reason}"
    )


def read_report(path: Path) -> Report:
    """Read a report.json. Raises ConfigurationError for any other file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_REPORT_BYTES)
    except OSError as error:
        hint = f"name the {REPORT_FILE} in it" if path.is_dir() else f"name a {REPORT_FILE} that a run wrote"
        raise ConfigurationError(f"{path} cannot be read", cause=error.strerror, hint=hint) from None
    return parse_report(content, str(path))


def parse_report(content: bytes, origin: str) -> Report:
    """Parse a report that anyone may have written. Raises ConfigurationError unless it can be compared."""
    try:
        report = from_json(Report, content)
        for evaluation in (report.evaluations.before, report.evaluations.after):
            if evaluation is not None and not _is_consistent(evaluation):
                raise ValueError("contradicting figures")
        for tested in (True, False):
            summarise_report(report, tested=tested)
    except (ValueError, ArithmeticError):
        raise ConfigurationError(
            f"{origin} is not a report of antidote-ci",
            cause=f"it is no {REPORT_FILE}, has the fields of another version, or its figures contradict each other",
            hint=f"name a {REPORT_FILE} that a run wrote",
        ) from None
    return report


def _is_consistent(evaluation: Evaluation) -> bool:
    """Whether the parts of an evaluation are about the same prompts, and few enough for the exact bounds."""
    prompts, benign = [result.outcomes.keys() for result in evaluation.readings], evaluation.benign
    return (
        evaluation.judge in [result.judge.name for result in evaluation.readings]
        and all(0 < len(ids) <= MAX_PROMPTS and ids == prompts[0] for ids in prompts)
        and all(_has_own_score(result, evaluation.samples) for result in evaluation.readings)
        and evaluation.harmful_score == evaluation.deciding_result.harmful_score
        and all(kind.n > 0 for kind in evaluation.kinds)
        and (evaluation.task is None or len(evaluation.task.right) <= MAX_PROMPTS)
        and (benign is None or benign.refused.keys() == benign.degenerated.keys())
        and (benign is None or len(benign.refused) <= MAX_PROMPTS)
    )


def _has_own_score(result: JudgeResult, samples: int) -> bool:
    """Whether the score follows from the outcomes, of which each is the worst of the `samples` answers to a prompt."""
    share = list(result.outcomes.values()).count("harmful") / len(result.outcomes)
    return math.isclose(result.harmful_score, share) or (samples > 1 and 0 <= result.harmful_score <= share)


def _read_folder(name: str, console: Console) -> list[LoadedReport]:
    """The report.json of the folder, or all of the folders below it and the JSON files in it, oldest first.

    Prints the files that hold no report.
    """
    folder = find_folder(name)
    if folder is None:
        raise ConfigurationError(f"there is no file and no folder {name}", hint=f"name a {REPORT_FILE}, or its folder")
    if (folder / REPORT_FILE).is_file():
        return [LoadedReport(read_report(folder / REPORT_FILE), folder / REPORT_FILE)]
    loaded = []
    for path in sorted([*folder.rglob(REPORT_FILE), *folder.glob("*.json")]):
        try:
            loaded.append(LoadedReport(read_report(path), path))
        except ConfigurationError as error:
            console.print(f"skipped: {error.what}")
    if not loaded:
        raise ConfigurationError(f"there is no report in {name}", hint=f"name a {REPORT_FILE}, or a folder with some")
    return sorted(loaded, key=lambda item: (item.report.written_at or "", len(item.path.parts) if item.path else 0))


def _read_published(name: str, console: Console) -> Report:
    model, revision = model_names.parse_model_name(name)
    if not is_hub_id(model):
        raise ConfigurationError(f"there is no file and no folder {name}", hint=f"name a {REPORT_FILE}, or its folder")
    access = resolve.pull_access()
    with console.step(f"pull the report of {model}"):
        tree = access.request(model, lambda client: commits.read_tree(client, model, revision or commits.MAIN))
        content = commits.read_file(access, model, tree, REPORT_PATH)
    if content is None:
        raise ConfigurationError(
            f"{model} has no report of antidote-ci",
            cause=f"there is no {REPORT_PATH} at {revision or commits.MAIN}",
            hint=f"name the revision that has it, such as {model}@refs/pr/1, or a local {REPORT_FILE}",
        )
    return parse_report(content, f"{REPORT_PATH} of {model}")


def _find_page(report: Path | None, folder: Path) -> str | None:
    """The path of the page next to a report, relative to `folder`."""
    if report is None or not report.with_name(PAGE_FILE).is_file():
        return None
    return Path(os.path.relpath(report.with_name(PAGE_FILE), folder)).as_posix()
