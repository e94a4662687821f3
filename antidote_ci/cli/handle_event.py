"""`antidote-ci handle-event`."""

import dataclasses
import json
import os

import typer

from antidote_ci.api import run_command
from antidote_ci.cli.ending import exit_with_verdict, handle_exit
from antidote_ci.cli.options import DEFAULT_OUT, Json, Out, PolicyFile, Repositories, Where
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import RunConfig, read_policy
from antidote_ci.report.console import write_stdout


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
            report = run_command(decision.command, config, console, on=on)
            exit_with_verdict(console, report, out, as_json=as_json)
        state = "ignored" if isinstance(decision, IgnoredEvent) else decision.state
        console.print(f"{state}: {decision.reason}")
        if as_json:
            write_stdout(json.dumps({"state": state, **dataclasses.asdict(decision)}) + "\n")
        if state == "gone":
            raise InfrastructureError(
                decision.reason,
                cause="it was deleted since, or the Job's token may not read it: a webhook has secrets of its own",
                hint="register the webhook again, with HF_TOKEN set to a token that may read it",
            )
        raise typer.Exit(0)
