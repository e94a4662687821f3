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
from antidote_ci.hub import access, jobs_api, pull, trees
from antidote_ci.hub.access import Access
from antidote_ci.hub.jobs_api import Job, Request
from antidote_ci.hub.remote import Remote
from antidote_ci.hub.retry import Patience
from antidote_ci.identifiers import is_hub_id
from antidote_ci.jobs import estimating, input_bundle, job_logs, job_spec, results
from antidote_ci.jobs.entrypoint import TOKEN_VARIABLE
from antidote_ci.jobs.estimating import Estimate
from antidote_ci.jobs.job_logs import Hearing
from antidote_ci.jobs.job_spec import Order
from antidote_ci.pipeline import output, resolve
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import Report
from antidote_ci.report.console import Talk
from antidote_ci.report.text import plain

ADAPTER = "adapter_config.json"
CANCEL_PATIENCE = Patience(30)


@dataclass(frozen=True)
class Plan:
    """Everything that is known before anything is paid for."""

    order: Order
    estimate: Estimate
    secrets: dict[str, str]
    account: str
    access: Access


def estimate(command: Command, config: RunConfig) -> Estimate:
    """`--dry-run`: what a Job would cost. Starts nothing."""
    return _planned(command, config).estimate


def run(command: Command, config: RunConfig, talk: Talk) -> Report:
    """Run the command as a Job; its report, which then lies in `config.out` as if it had been made here.

    A Job of the same work that still runs is followed, not started twice; a signal cancels the Job. Raises JobFailed
    with the exit code of a command that failed inside, InfrastructureError for a Job that brought no verdict.
    """
    with talk.step("plan the Job"):
        plan = _planned(command, config)
    estimating.say(talk, plan.estimate)
    if command == "run" and config.policy.publish.mode == "none":
        talk.say(f"publish    none: {estimating.GONE}")
    output.clear(config.out)
    job = _running(plan)
    token = job.environment[TOKEN_VARIABLE] if job else secrets.token_hex(32)
    try:
        with talk.step("run the Job"):
            if job is None:
                job = jobs_api.submit(plan.access, _request(plan, token, config), lambda each: _has(each, token))
            else:
                talk.say(f"a Job does this work already, on {plain(job.flavor)}: it is followed")
            talk.say(f"{job.url}; Ctrl-C cancels it")
            hearing = Hearing(talk, token)
            job = job_logs.follow(plan.access, job, hearing)
            parcel = job_logs.unpacked(plan.access, job, hearing)
    except (KeyboardInterrupt, Terminated):
        with _undisturbed():
            _cancel(plan, job, token, talk)
        raise
    except AntidoteError as error:
        if job is None:
            raise
        hint = f"the Job {job.id} may still run, and cost: the same command finds it again; or end it at {job.url}"
        raise type(error)(error.what, cause=error.cause, hint=hint) from None
    return results.bring_back(job, parcel, plan.order, config)


def _planned(command: Command, config: RunConfig) -> Plan:
    job_spec.require_possible(config, command)
    submitting = access.submitting(os.environ)
    remote = pull.resolve(config.model, config.revision, resolve.access())
    placed = job_spec.placed(command, config, remote.revision, os.environ)
    handed = job_spec.secrets(command, config.policy, os.environ)
    account = jobs_api.account(submitting)
    found = estimating.estimate(
        command,
        estimating.of_base(replace(config, revision=remote.revision), _base(remote)),
        config.policy.jobs.namespace or account,
        placed.image,
        jobs_api.hardware(submitting),
    )
    return Plan(placed, found, handed, account, submitting)


def _base(remote: Remote) -> str | None:
    """What an adapter says it stands upon."""
    if not any(file.path == ADAPTER for file in remote.files):
        return None
    text = trees.read(resolve.access(), remote.id, trees.of(remote.revision, remote.files), ADAPTER)
    try:
        name = parse_object(text or b"{}").get("base_model_name_or_path")
    except ValueError:
        return None
    return name if isinstance(name, str) and is_hub_id(name) else None


def _running(plan: Plan) -> Job | None:
    """A Job of ours that does this work already.

    Labels can be changed by others of the namespace, and others' Jobs can say anything.
    """
    for job in jobs_api.working(plan.access, plan.estimate.namespace, plan.order.labels):
        ours = job.initiator == plan.account or (job.initiator is None and job.namespace == plan.account)
        same = job.command == plan.order.arguments and job.environment.get(input_bundle.VARIABLE) == plan.order.luggage
        if ours and same and TOKEN_VARIABLE in job.environment:
            return job
    return None


def _has(job: Job, token: str) -> bool:
    return job.environment.get(TOKEN_VARIABLE) == token


def _request(plan: Plan, token: str, config: RunConfig) -> Request:
    return Request(
        namespace=plan.estimate.namespace,
        image=plan.order.image,
        command=plan.order.arguments,
        environment=plan.order.environment(token),
        secrets=plan.secrets,
        flavor=plan.estimate.flavor,
        seconds=config.policy.jobs.timeout_seconds,
        name=plan.order.name,
        labels=plan.order.labels,
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Another signal would leave a Job that costs. Those who end a command often send two."""
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _cancel(plan: Plan, job: Job | None, token: str, talk: Talk) -> None:
    """Also one that was started while nobody heard of it. Who interrupts a command does not want to wait long."""
    access = replace(plan.access, patience=CANCEL_PATIENCE)
    talk.say(f"cancelling the Job, for at most {CANCEL_PATIENCE.seconds:.0f} s ...")
    try:
        found = [job] if job else jobs_api.working(access, plan.estimate.namespace, plan.order.labels)
        for each in found:
            if _has(each, token):
                jobs_api.cancel(access, each)
                talk.say(f"{each.id} is cancelled")
    except AntidoteError as error:
        where = f"end it at {job.url}" if job else "look at your Jobs on the Hub"
        talk.say(f"it could not be cancelled, and may still run, and cost ({error.what}): {where}")
