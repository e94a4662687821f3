"""Check what a Job sent back, write its report, and explain a Job that ended without a verdict."""

import re
from dataclasses import replace

from antidote_ci import records
from antidote_ci import report as reports
from antidote_ci.errors import ERROR_EXIT_CODES, VERDICT_EXIT_CODES, AntidoteError, InfrastructureError
from antidote_ci.formatting import format_duration
from antidote_ci.hub.jobs_api import Job
from antidote_ci.jobs.transfer import JobResult
from antidote_ci.paths import write_file
from antidote_ci.policy import RunConfig
from antidote_ci.records import Report
from antidote_ci.report.text import flatten

TIMED_OUT = re.compile(r"time(d)?[- ]?out|deadline", re.IGNORECASE)
NO_IMAGE = re.compile(r"image|manifest|pull|registry", re.IGNORECASE)
KILLED_EXIT_CODE = 137
RERUN = "run the same command again"
WEIGHTS_LOST_NOTE = (
    "The repaired weights were created in a Job of the Hub and lost when it ended: publish them with --publish, or run "
    "on a machine that keeps them."
)


class JobFailed(AntidoteError):
    """The command failed inside the Job, with this exit code."""

    def __init__(self, exit_code: int, what: str, *, cause: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, cause=cause, hint=hint)
        self.exit_code = exit_code


def restore_output(job: Job, result: JobResult | None, config: RunConfig) -> Report:
    """Check the report of a Job for `config.revision`, and write it to `config.out`.

    Raises JobFailed with the exit code of a command that failed, InfrastructureError when there is no report, or one of
    another model, commit or policy.
    """
    limit = config.policy.jobs.timeout_seconds
    if result is None:
        raise no_result_error(job, limit)
    if result.exit_code not in (*VERDICT_EXIT_CODES, *ERROR_EXIT_CODES):
        raise no_result_error(job, limit, result.exit_code)
    if result.report is None:
        if result.exit_code in VERDICT_EXIT_CODES:
            raise _wrong_result_error(job, "it left no report.json")
        raise command_failed_error(job, result.exit_code)
    try:
        report = records.from_json(Report, result.report)
    except ValueError:
        raise _wrong_result_error(job, "it cannot be read") from None
    _require_matching(job, report, config)
    report = _write_report(report, result.card, config)
    if result.exit_code in ERROR_EXIT_CODES:
        raise command_failed_error(job, result.exit_code)
    return report


def command_failed_error(job: Job, exit_code: int) -> JobFailed:
    """The error for a command that printed its own error into the log."""
    return JobFailed(
        exit_code,
        f"the command ended with {exit_code} in the Job {job.id}",
        cause="the last lines of its log, above, say why",
        hint=f"the complete log is at {job.url}",
    )


def no_result_error(job: Job, seconds: int, exit_code: int | None = None) -> InfrastructureError:
    """The error for a Job without a verdict. `seconds`: its time limit; `exit_code`: of the command, if known."""
    name, message = f"the Job {job.id}", f" ({flatten(job.message)})" if job.message else ""
    if job.stage == "CANCELED":
        return InfrastructureError(
            f"{name} was cancelled",
            cause=f"by another antidote-ci command, or by a member of {job.namespace}",
            hint=f"{RERUN} to start another",
        )
    if job.stage == "DELETED":
        return InfrastructureError(
            f"{name} was deleted", cause=f"by a member of {job.namespace}{message}", hint=f"{RERUN} to start another"
        )
    if not job.has_run and job.stage == "ERROR":
        return _not_started_error(job, name, message)
    if job.stage == "ERROR" and (TIMED_OUT.search(job.message) or job.seconds >= seconds):
        return InfrastructureError(
            f"{name} timed out after {format_duration(seconds)}",
            cause=f"jobs.timeout is too short for this model on {job.flavor}{message}",
            hint="raise jobs.timeout, or set a larger jobs.flavor",
        )
    if exit_code == KILLED_EXIT_CODE or job.message.endswith(str(KILLED_EXIT_CODE)):
        return InfrastructureError(
            f"the command was killed in {name}",
            cause=f"most likely {job.flavor} ran out of memory{message}",
            hint="set a larger jobs.flavor",
        )
    return InfrastructureError(
        f"{name} ended without a report",
        cause=f"{job.image} is not an image of this antidote-ci version, or its log was lost{message}",
        hint=f"read the log at {job.url}; check jobs.image",
    )


def _not_started_error(job: Job, name: str, message: str) -> InfrastructureError:
    if NO_IMAGE.search(job.message):
        return InfrastructureError(
            f"{name} could not pull its image {flatten(job.image)}",
            cause=f"the image does not exist, or it is private{message}",
            hint="check jobs.image: the Hub pulls public images only",
        )
    return InfrastructureError(
        f"{name} was never started",
        cause=f"the Hub found no machine of the flavor {job.flavor}{message}",
        hint=f"{RERUN} later, or set another jobs.flavor",
    )


def _wrong_result_error(job: Job, mismatch: str) -> InfrastructureError:
    """The error for a report of other work."""
    return InfrastructureError(
        f"the report of the Job {job.id} is not of this run: {mismatch}",
        cause=f"{flatten(job.image)} contains another version of antidote-ci",
        hint="set jobs.image to the image of this version",
    )


def _require_matching(job: Job, report: Report, config: RunConfig) -> None:
    for name, actual, expected in (
        ("the model", report.source.id, config.model),
        ("the commit", report.source.revision, config.revision),
        ("the policy", report.policy_sha256, config.policy.sha256()),
    ):
        if actual != expected:
            raise _wrong_result_error(job, f"{name} is {flatten(actual)}, not {expected}")


def _write_report(report: Report, card: str | None, config: RunConfig) -> Report:
    """Write the report as a local run would."""
    lost = report.verdict == "repaired" and not report.publish.has_weights
    if lost:
        report = replace(report, publish=replace(report.publish, notes=(*report.publish.notes, WEIGHTS_LOST_NOTE)))
    reports.write_report(report, card or "", config.out)
    if card is not None and not lost:
        # The Job's own card: it knows where the weights were published.
        write_file(config.out / "README.md", card.encode("utf-8", "surrogateescape"))
    return report
