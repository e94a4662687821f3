"""`antidote-ci handle-event`."""

import dataclasses
import json
import os

import typer

from antidote_ci.cli.exit_codes import exit_with_verdict, handle_exit
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
    """Do what the Hub's event in WEBHOOK_PAYLOAD asks for: all that a Job webhook needs (docs/webhook.md).

    The policy file alone says how: options of `run` in the environment do not count. Exit codes as those of `run`; 0
    for an event that asks for nothing.
    """
    with handle_exit() as talk:
        from antidote_ci.service import filters, job_handler
        from antidote_ci.service.records import IgnoredEvent, RunTask

        allowed, chosen = filters.parse_allow_list(repository or ()), read_policy(policy)
        seen = job_handler.decide_task(job_handler.read_event(os.environ), allowed, chosen.sha256())
        if isinstance(seen, RunTask):
            order = seen.order
            talk.print(f"{seen.command} {order.repository} at {order.revision}")
            config = RunConfig(order.repository, order.revision, chosen, out)
            exit_with_verdict(
                talk, job_handler.run_task(seen, config, talk, elsewhere=on == "hf-jobs"), out, as_json=as_json
            )
        state = "ignored" if isinstance(seen, IgnoredEvent) else seen.state
        talk.print(f"{state}: {seen.reason}")
        if as_json:
            write_stdout(json.dumps({"state": state, **dataclasses.asdict(seen)}) + "\n")
        if state == "gone":
            raise InfrastructureError(
                seen.reason,
                cause="it was deleted since, or the Job's token may not read it: a webhook has secrets of its own",
                hint="remove the webhook, and register it anew with HF_TOKEN set to a token that may read it",
            )
        raise typer.Exit(0)
