"""`--on hf-jobs`: the command of this machine as a Job of the Hub.

order -> estimate -> submit, or find -> follow -> unpack -> check -> write
"""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from antidote_ci.checkpoint.json_files import parse_object
from antidote_ci.errors import AntidoteError, Terminated
from antidote_ci.hub import access, commits, jobs_api, pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.jobs_api import Job, JobRequest
from antidote_ci.hub.remote import RemoteRepository
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.identifiers import is_hub_id
from antidote_ci.jobs import estimating, input_bundle, job_logs, job_spec, results
from antidote_ci.jobs.entrypoint import TOKEN_VARIABLE
from antidote_ci.jobs.estimating import CostEstimate
from antidote_ci.jobs.job_logs import LogListener
from antidote_ci.jobs.job_spec import JobSpec
from antidote_ci.pipeline import output, resolve
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Console
from antidote_ci.report.text import flatten

ADAPTER = "adapter_config.json"
CANCEL_RETRY = RetryPolicy(30)


@dataclass(frozen=True)
class Submission:
    """Everything that is known before anything is paid for."""

    job_spec: JobSpec
    estimate: CostEstimate
    secrets: dict[str, str]
    account: str
    access: HubAccess


def estimate_job(command: Command, config: RunConfig) -> CostEstimate:
    """`--dry-run`: what a Job would cost. Starts nothing."""
    return _plan_submission(command, config).estimate


def run_as_job(command: Command, config: RunConfig, console: Console) -> Report:
    """Run the command as a Job; its report, which then lies in `config.out` as if it had been made here.

    A Job of the same work that still runs is followed, not started twice; a signal cancels the Job. Raises JobFailed
    with the exit code of a command that failed inside, InfrastructureError for a Job that brought no verdict.
    """
    with console.step("plan the Job"):
        plan = _plan_submission(command, config)
    estimating.print_estimate(console, plan.estimate)
    if command == "run" and config.policy.publish.mode == "none":
        console.print(f"publish    none: {estimating.WEIGHTS_LOST}")
    output.clear_output(config.out)
    job = _find_running(plan)
    token = job.environment[TOKEN_VARIABLE] if job else secrets.token_hex(32)
    try:
        with console.step("run the Job"):
            if job is None:
                job = jobs_api.submit_job(
                    plan.access, _build_request(plan, token, config), lambda each: _has_token(each, token)
                )
            else:
                console.print(f"a Job does this work already, on {flatten(job.flavor)}: it is followed")
            console.print(f"{job.url}; Ctrl-C cancels it")
            hearing = LogListener(console, token)
            job = job_logs.follow_job(plan.access, job, hearing)
            parcel = job_logs.read_result(plan.access, job, hearing)
    except (KeyboardInterrupt, Terminated):
        with _ignore_signals():
            _cancel_job(plan, job, token, console)
        raise
    except AntidoteError as error:
        if job is None:
            raise
        hint = f"the Job {job.id} may still run, and cost: the same command finds it again; or end it at {job.url}"
        raise type(error)(error.what, cause=error.cause, hint=hint) from None
    return results.restore_output(job, parcel, plan.job_spec, config)


def _plan_submission(command: Command, config: RunConfig) -> Submission:
    job_spec.require_job_supported(config, command)
    submitting = access.jobs_access(os.environ)
    remote = pull.resolve_revision(config.model, config.revision, resolve.pull_access())
    placed = job_spec.build_job_spec(command, config, remote.revision, os.environ)
    handed = job_spec.collect_secrets(command, config.policy, os.environ)
    account = jobs_api.read_account_name(submitting)
    found = estimating.estimate_cost(
        command,
        estimating.with_base_reference(replace(config, revision=remote.revision), _adapter_base(remote)),
        config.policy.jobs.namespace or account,
        placed.image,
        jobs_api.list_hardware(submitting),
    )
    return Submission(placed, found, handed, account, submitting)


def _adapter_base(remote: RemoteRepository) -> str | None:
    """What an adapter says it stands upon."""
    if not any(file.path == ADAPTER for file in remote.files):
        return None
    text = commits.read_file(resolve.pull_access(), remote.id, commits.to_tree(remote.revision, remote.files), ADAPTER)
    try:
        name = parse_object(text or b"{}").get("base_model_name_or_path")
    except ValueError:
        return None
    return name if isinstance(name, str) and is_hub_id(name) else None


def _find_running(plan: Submission) -> Job | None:
    """A Job of ours that does this work already.

    Labels can be changed by others of the namespace, and others' Jobs can say anything.
    """
    for job in jobs_api.find_working(plan.access, plan.estimate.namespace, plan.job_spec.labels):
        ours = job.initiator == plan.account or (job.initiator is None and job.namespace == plan.account)
        same = (
            job.command == plan.job_spec.arguments
            and job.environment.get(input_bundle.VARIABLE) == plan.job_spec.input_bundle
        )
        if ours and same and TOKEN_VARIABLE in job.environment:
            return job
    return None


def _has_token(job: Job, token: str) -> bool:
    return job.environment.get(TOKEN_VARIABLE) == token


def _build_request(plan: Submission, token: str, config: RunConfig) -> JobRequest:
    return JobRequest(
        namespace=plan.estimate.namespace,
        image=plan.job_spec.image,
        command=plan.job_spec.arguments,
        environment=plan.job_spec.environment(token),
        secrets=plan.secrets,
        flavor=plan.estimate.flavor,
        seconds=config.policy.jobs.timeout_seconds,
        name=plan.job_spec.name,
        labels=plan.job_spec.labels,
    )


@contextmanager
def _ignore_signals() -> Iterator[None]:
    """Another signal would leave a Job that costs. Those who end a command often send two."""
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _cancel_job(plan: Submission, job: Job | None, token: str, console: Console) -> None:
    """Also one that was started while nobody heard of it. Who interrupts a command does not want to wait long."""
    access = replace(plan.access, retry_policy=CANCEL_RETRY)
    console.print(f"cancelling the Job, for at most {CANCEL_RETRY.seconds:.0f} s ...")
    try:
        found = [job] if job else jobs_api.find_working(access, plan.estimate.namespace, plan.job_spec.labels)
        for each in found:
            if _has_token(each, token):
                jobs_api.cancel_job(access, each)
                console.print(f"{each.id} is cancelled")
    except AntidoteError as error:
        where = f"end it at {job.url}" if job else "look at your Jobs on the Hub"
        console.print(f"it could not be cancelled, and may still run, and cost ({error.what}): {where}")
