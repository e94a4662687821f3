"""What a Job sent home, held against what it was asked, and left where a run from here would have left it."""

from dataclasses import replace

from antidote_ci import records
from antidote_ci import report as reports
from antidote_ci.errors import VERDICTS
from antidote_ci.hub.jobs_api import Job
from antidote_ci.jobs import job_results
from antidote_ci.jobs.job_spec import JobSpec
from antidote_ci.jobs.result_stream import JobResult
from antidote_ci.policy import RunConfig
from antidote_ci.records import Report
from antidote_ci.report.text import flatten

WEIGHTS_LOST_NOTE = (
    "The repaired weights were made in a Job of the Hub and are gone with it: publish them with --publish, or run "
    "where they can stay."
)


def restore_output(job: Job, found: JobResult | None, wanted: JobSpec, config: RunConfig) -> Report:
    """The report, checked and written into `config.out`.

    Raises JobFailed with the exit code of a command that failed, InfrastructureError where there is no verdict, or one
    of other work.
    """
    limit = config.policy.jobs.timeout_seconds
    if found is None:
        raise job_results.no_result_error(job, limit)
    if found.exit_code not in (*VERDICTS, *job_results.ERROR_EXIT_CODES):
        raise job_results.no_result_error(job, limit, found.exit_code)
    if found.report is None:
        if found.exit_code in VERDICTS:
            raise job_results.wrong_result_error(job, "it left no report.json")
        raise job_results.command_failed_error(job, found.exit_code)
    try:
        report = records.from_json(Report, found.report)
    except ValueError:
        raise job_results.wrong_result_error(job, "it cannot be read") from None
    _require_matching(job, report, wanted)
    report = _write_report(report, found.card, config)
    if found.exit_code in job_results.ERROR_EXIT_CODES:
        raise job_results.command_failed_error(job, found.exit_code)
    return report


def _require_matching(job: Job, report: Report, wanted: JobSpec) -> None:
    for what, there, asked in (
        ("the model", report.source.id, wanted.model),
        ("the commit", report.source.revision, wanted.revision),
        ("the policy", report.policy_sha256, wanted.policy_sha256),
    ):
        if there != asked:
            raise job_results.wrong_result_error(job, f"{what} is {flatten(there)}, not {asked}")


def _write_report(report: Report, card: str | None, config: RunConfig) -> Report:
    """Write the report where one that was made here would lie."""
    gone = report.verdict == "repaired" and report.publish.url is None
    if gone:
        report = replace(report, publish=replace(report.publish, notes=(*report.publish.notes, WEIGHTS_LOST_NOTE)))
    reports.write_report(report, card or "", config.out)
    if card is not None and not gone:
        # As it was made inside, where it was known where it would stand.
        (config.out / "README.md").write_bytes(card.encode("utf-8", "surrogateescape"))
    return report
