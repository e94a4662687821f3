"""`antidote-ci handle-event`."""

import dataclasses
import json
import os
from typing import TYPE_CHECKING

import typer

from antidote_ci.cli.ending import exit_with_verdict, handle_exit
from antidote_ci.cli.options import DEFAULT_OUT, Json, Out, PolicyFile, Repositories, Where
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import RunConfig, read_policy
from antidote_ci.report.console import Console, write_stdout

if TYPE_CHECKING:
    from antidote_ci.policy import Command
    from antidote_ci.records import Report


def handle_event(
    repository: Repositories = None,
    policy: PolicyFile = None,
    on: Where = "here",
    out: Out = DEFAULT_OUT,
    as_json: Json = False,
) -> None:
    """Process the Hub's event in WEBHOOK_PAYLOAD: the command of a Job that a webhook starts (docs/webhook.md).

    Only the policy file applies: environment variables with options of `run` are ignored. Exit codes are those of
    `run`, and 0 for an event that requests nothing.
    """
    with handle_exit() as console:
        from antidote_ci.service import events, repository_state
        from antidote_ci.service.records import IgnoredEvent, RunTask

        allowed, chosen = events.parse_allow_list(repository or ()), read_policy(policy)
        decision = repository_state.decide_task(events.read_job_event(os.environ), allowed, chosen.sha256())
        if isinstance(decision, RunTask):
            request = decision.request
            console.print(f"{decision.command} {request.repository} at {request.revision}")
            config = RunConfig(request.repository, request.revision, chosen, out)
            report = _run(decision.command, config, console, as_job=on == "hf-jobs")
            exit_with_verdict(console, report, out, as_json=as_json)
        state = "ignored" if isinstance(decision, IgnoredEvent) else decision.state
        console.print(f"{state}: {decision.reason}")
        if as_json:
            write_stdout(json.dumps({"state": state, **dataclasses.asdict(decision)}) + "\n")
        if state == "gone":
            raise InfrastructureError(
                decision.reason,
                cause="it was deleted since, or the Job's token may not read it: a webhook has secrets of its own",
                hint="remove the webhook, and register it again with HF_TOKEN set to a token that may read it",
            )
        raise typer.Exit(0)


def _run(command: "Command", config: RunConfig, console: Console, *, as_job: bool) -> "Report":
    """Run in this process, or as another Job."""
    if as_job:
        from antidote_ci.jobs import submit

        return submit.run_as_job(command, config, console)
    from antidote_ci.pipeline.run import evaluate, run

    return (run if command == "run" else evaluate)(config, console)
