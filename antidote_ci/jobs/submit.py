"""`--on hf-jobs`: run a command as a Job of the Hub.

specification -> estimate -> submit, or find a running Job -> follow its log -> read the result -> check and write it
"""

import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from antidote_ci.errors import AntidoteError, Terminated
from antidote_ci.hub import access, jobs_api, pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.jobs_api import Job, JobRequest
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.jobs import job_estimate, job_results, job_spec, transfer
from antidote_ci.jobs.job_estimate import CostEstimate
from antidote_ci.jobs.transfer import FILES_VARIABLE, TOKEN_VARIABLE, JobResult
from antidote_ci.pipeline import output, resolve
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Console
from antidote_ci.report.text import flatten

logger = logging.getLogger(__name__)

CANCEL_RETRY = RetryPolicy(30)
MAX_LOG_READS = 4
"""How often a log is read again when it ended without a result."""
FINISHED_STAGES = ("COMPLETED", "ERROR")


@dataclass(frozen=True)
class Submission:
    """A Job that is planned, and not paid for yet."""

    config: RunConfig
    """With the commit as the revision."""
    estimate: CostEstimate
    request: JobRequest
    account: str
    access: HubAccess


class LogListener:
    """Collects the log lines of a Job, and prints those that are meant for people."""

    def __init__(self, console: Console, token: str) -> None:
        self.console = console
        self.token = token
        self.lines: list[str] = []

    def receive(self, line: str) -> None:
        # The client swallows an exception that a signal handler raises while the client's own code runs.
        if self.console.ending is not None:
            raise self.console.ending
        self.lines.append(line)
        if line.strip() and not transfer.is_result_line(line, self.token):
            self.console.print(f"  | {flatten(line)}")


def estimate_job(command: Command, config: RunConfig) -> CostEstimate:
    """The cost of a Job, for `--dry-run`. Starts nothing."""
    return _plan_submission(command, config).estimate


def run_as_job(command: Command, config: RunConfig, console: Console) -> Report:
    """Run the command as a Job and write its report to `config.out`, as a local run would.

    A running Job for the same work is followed instead of a second one being started. A signal cancels the Job. Raises
    JobFailed with the exit code of a command that failed inside, InfrastructureError for a Job without a verdict.
    """
    with console.step("plan the Job"):
        plan = _plan_submission(command, config)
    for line in job_estimate.describe_estimate(plan.estimate):
        console.print(line)
    if command == "run" and config.policy.publish.mode in ("none", "report"):
        console.print(f"publish    {config.policy.publish.mode}: {job_estimate.WEIGHTS_LOST}")
    with output.lock_output(config.out):
        output.clear_output(config.out)
        job, result = _follow_job(plan, console)
        return job_results.restore_output(job, result, plan.config)


def _follow_job(plan: Submission, console: Console) -> tuple[Job, JobResult | None]:
    """Start the Job, or find the running one for the same work, and wait for its result. A signal cancels it."""
    job = _find_running(plan)
    token = job.environment[TOKEN_VARIABLE] if job else secrets.token_hex(32)
    try:
        with console.step("run the Job"):
            if job is None:
                environment = {TOKEN_VARIABLE: token, **plan.request.environment}
                request = replace(plan.request, environment=environment)
                job = jobs_api.submit_job(plan.access, request, lambda candidate: _has_token(candidate, token))
            else:
                console.print(f"a Job for the same work is already running on {flatten(job.flavor)}: following it")
            console.print(f"{job.url}; Ctrl-C cancels it")
            listener = LogListener(console, token)
            if job.stage == "SCHEDULING":
                console.print("waiting for a machine")
            job = jobs_api.follow_log(plan.access, jobs_api.wait_until_started(plan.access, job), listener.receive)
            result = _read_result(plan.access, job, listener)
    except (KeyboardInterrupt, Terminated):
        with _ignore_signals():
            _cancel_job(plan, job, token)
        raise
    except AntidoteError as error:
        if job is not None:
            hint = f"the Job {job.id} may still run and cost money: run the same command again, or end it at {job.url}"
        elif error.passing:
            hint = (
                "a Job may have started, and cost money: run the same command again, which follows it, or check your "
                "Jobs on the Hub"
            )
        else:
            raise
        hint = f"{hint}; {error.hint}" if error.hint else hint
        raise type(error)(error.what, cause=error.cause, hint=hint, passing=error.passing) from None
    return job, result


def _plan_submission(command: Command, config: RunConfig) -> Submission:
    job_spec.require_job_supported(config, command)
    submitting = access.jobs_access(os.environ)
    remote = pull.resolve_revision(config.model, config.revision, resolve.pull_access())
    config = replace(config, revision=remote.revision)
    account = access.read_name(submitting, "Jobs")
    namespace, image = config.policy.jobs.namespace or account, job_spec.resolve_image(config.policy, os.environ)
    offered = jobs_api.list_hardware(submitting)
    estimate = job_estimate.estimate_cost(command, config, namespace, image, offered)
    request = job_spec.build_job_request(command, config, namespace, estimate.flavor, os.environ)
    return Submission(config, estimate, request, account, submitting)


def _find_running(plan: Submission) -> Job | None:
    """A Job of this account that does the same work. Labels alone prove nothing: other members can set them."""
    for job in jobs_api.find_working(plan.access, plan.request.namespace, plan.request.labels):
        own = job.initiator == plan.account or (job.initiator is None and job.namespace == plan.account)
        files = plan.request.environment[FILES_VARIABLE]
        same = job.command == plan.request.command and job.environment.get(FILES_VARIABLE) == files
        if own and same and TOKEN_VARIABLE in job.environment:
            return job
    return None


def _has_token(job: Job, token: str) -> bool:
    return job.environment.get(TOKEN_VARIABLE) == token


def _read_result(submitting: HubAccess, job: Job, listener: LogListener) -> JobResult | None:
    """Decode the result from the log. The log is read again while it is incomplete: its last lines may arrive late."""
    result = transfer.decode_result(listener.lines, listener.token)
    for attempt in range(MAX_LOG_READS if job.stage in FINISHED_STAGES and job.has_run else 0):
        if result is not None:
            break
        time.sleep(attempt)
        lines = jobs_api.read_log(submitting, job)
        for line in jobs_api.skip_repeated(list(listener.lines), lines):
            listener.receive(line)
        result = transfer.decode_result([*listener.lines, *lines], listener.token)
    return result


@contextmanager
def _ignore_signals() -> Iterator[None]:
    """A second signal must not leave a Job running that costs money."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _cancel_job(plan: Submission, job: Job | None, token: str) -> None:
    """Cancel the Job, even one that was started while the answer was lost."""
    short_access = replace(plan.access, retry_policy=CANCEL_RETRY)
    logger.info("cancelling the Job, for at most %.0f s ...", CANCEL_RETRY.seconds)
    try:
        jobs = [job] if job else jobs_api.find_working(short_access, plan.request.namespace, plan.request.labels)
        for candidate in jobs:
            if _has_token(candidate, token):
                jobs_api.cancel_job(short_access, candidate)
                logger.info("%s is cancelled", candidate.id)
    except AntidoteError as error:
        place = f"end it at {job.url}" if job else "check your Jobs on the Hub"
        logger.error(
            "the Job could not be cancelled, and may still run and cost money (%s): %s", error.describe(), place
        )
