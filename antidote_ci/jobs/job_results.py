"""A Job that ended without a verdict: why, as far as the Hub says, and what to do. Pure."""

import re

from antidote_ci.errors import AntidoteError, InfrastructureError
from antidote_ci.hub.jobs_api import Job
from antidote_ci.hub.retry import format_duration
from antidote_ci.report.text import flatten

TIMED_OUT = re.compile(r"time(d)?[- ]?out|deadline", re.IGNORECASE)
NO_IMAGE = re.compile(r"image|manifest|pull|registry", re.IGNORECASE)
ERROR_EXIT_CODES = (2, 3, 5, 6)
KILLED_EXIT_CODE = 137
RERUN = "run the same command again"


class JobFailed(AntidoteError):
    """The command ended inside the Job with an error of its own, and with this exit code."""

    def __init__(self, exit_code: int, what: str, *, cause: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, cause=cause, hint=hint)
        self.exit_code = exit_code


def command_failed_error(job: Job, exit_code: int) -> JobFailed:
    """The command explained itself, and its words are in the log."""
    return JobFailed(
        exit_code,
        f"the command ended with {exit_code} in the Job {job.id}",
        cause="its last lines above say why",
        hint=f"the whole log is at {job.url}",
    )


def no_result_error(job: Job, seconds: int, exit_code: int | None = None) -> InfrastructureError:
    """The Job is over, and no verdict came of it. `seconds`: its time limit; `exit_code`: the command's, if known."""
    name, said = f"the Job {job.id}", f" ({flatten(job.message)})" if job.message else ""
    if job.stage == "CANCELED":
        return InfrastructureError(
            f"{name} was cancelled",
            cause="by another command of ours, or by somebody of " + job.namespace,
            hint=f"{RERUN} to start another",
        )
    if job.stage == "DELETED":
        return InfrastructureError(
            f"{name} was deleted", cause=f"by somebody of {job.namespace}{said}", hint=f"{RERUN} to start another"
        )
    if not job.has_run and job.stage == "ERROR":
        return _not_started_error(job, name, said)
    if job.stage == "ERROR" and (TIMED_OUT.search(job.message) or job.seconds >= seconds):
        return InfrastructureError(
            f"{name} was ended after {format_duration(seconds)}, its time limit",
            cause=f"jobs.timeout is too short for this model on {job.flavor}{said}",
            hint="raise jobs.timeout, or name a larger jobs.flavor",
        )
    if exit_code == KILLED_EXIT_CODE or job.message.endswith(str(KILLED_EXIT_CODE)):
        return InfrastructureError(
            f"the command was killed in {name}",
            cause=f"most likely the memory of {job.flavor} does not suffice{said}",
            hint="name a larger jobs.flavor",
        )
    return InfrastructureError(
        f"{name} ended without a report",
        cause=f"{job.image} is not antidote-ci's, or of another version, or its log was lost{said}",
        hint=f"read the log at {job.url}; check jobs.image",
    )


def _not_started_error(job: Job, name: str, said: str) -> InfrastructureError:
    if NO_IMAGE.search(job.message):
        return InfrastructureError(
            f"{name} could not fetch its image {flatten(job.image)}",
            cause=f"it is not there, or it is private{said}",
            hint="check jobs.image: the Hub pulls public images alone",
        )
    return InfrastructureError(
        f"{name} was never started",
        cause=f"the Hub found no machine of the flavour {job.flavor} for it{said}",
        hint=f"{RERUN} later, or name another jobs.flavor",
    )


def wrong_result_error(job: Job, what: str) -> InfrastructureError:
    """The report that came is not of the work that was asked for."""
    return InfrastructureError(
        f"the report of the Job {job.id} is not of this run: {what}",
        cause=f"{flatten(job.image)} holds another version of antidote-ci than this one",
        hint="name the image of this version with jobs.image",
    )
