"""Errors of Jobs that ended without a verdict."""

from dataclasses import replace

import pytest

from antidote_ci import errors
from antidote_ci.hub.jobs_api import Job
from antidote_ci.jobs import job_results

JOB = Job(
    id="f" * 24,
    namespace="org",
    url="https://huggingface.co/jobs/org/" + "f" * 24,
    stage="ERROR",
    message="",
    flavor="l4x1",
    image="ghcr.io/org/antidote-ci:1",
    command=["antidote-ci"],
    environment={},
    initiator="ada",
    has_run=True,
    seconds=60,
)
NOT_RUN = replace(JOB, has_run=False, seconds=0)


@pytest.mark.parametrize(
    ("job", "exit_code", "what", "hint"),
    [
        (replace(JOB, stage="CANCELED"), None, "was cancelled", "start another"),
        (replace(JOB, stage="CANCELED"), 143, "was cancelled", "start another"),
        (replace(JOB, stage="DELETED"), None, "was deleted", "start another"),
        (replace(NOT_RUN, message="Failed to pull image"), None, "could not pull its image", "check jobs.image"),
        (replace(NOT_RUN, message="no capacity"), None, "was never started", "another jobs.flavor"),
        (NOT_RUN, None, "was never started", "another jobs.flavor"),
        (replace(JOB, message="Job timeout"), 143, "timed out after 2 h", "raise jobs.timeout"),
        (replace(JOB, message="Job timed out"), None, "timed out after", "raise jobs.timeout"),
        (replace(JOB, seconds=7201), None, "timed out after", "raise jobs.timeout"),
        (JOB, 137, "was killed", "a larger jobs.flavor"),
        (replace(JOB, message="Job failed with exit code: 137"), None, "was killed", "a larger jobs.flavor"),
        (replace(JOB, message="Job failed with exit code: 1"), None, "without a report", "check jobs.image"),
        (replace(JOB, stage="COMPLETED"), None, "without a report", "read the log at https://huggingface.co/jobs/org"),
    ],
)  # fmt: skip
def test_error_names_the_cause_and_a_hint(job: Job, exit_code: int | None, what: str, hint: str) -> None:
    error = job_results.no_result_error(job, 7200, exit_code)
    assert what in error.what
    assert hint in str(error.hint)
    assert error.cause
    assert error.exit_code == 3
    assert not job.message or job.message in error.cause + error.what or "cancelled" in error.what


def test_message_of_the_hub_is_printed_on_one_line() -> None:
    error = job_results.no_result_error(replace(JOB, message="a\n::error::b\x1b[31m"), 7200)
    assert "\n" not in str(error.cause)
    assert "\x1b" not in str(error.cause)


def test_exit_code_is_kept() -> None:
    for code in errors.ERROR_EXIT_CODES:
        assert job_results.command_failed_error(JOB, code).exit_code == code
