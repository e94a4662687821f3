"""The commands that work on each new commit of a model: `webhook register|list|remove`, `handle-event` and `serve`."""

import dataclasses
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from antidote_ci.api import run_command
from antidote_ci.cli.ending import exit_with_verdict, handle_exit
from antidote_ci.cli.options import DEFAULT_OUT, Json, Out, PolicyFile, Repositories, Where, option
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.policy import RunConfig, read_policy
from antidote_ci.report.console import Console, write_stdout
from antidote_ci.report.text import flatten, link_documents

if TYPE_CHECKING:
    from antidote_ci.hub.webhooks import Webhook

NEW_JOB = "new"
DEFAULT_FOLDER = Path("antidote-service")
MAX_PORT = 65535

webhook_app = typer.Typer(
    help=link_documents("Let the Hub announce new commits: docs/webhook.md"), no_args_is_help=True
)


def register(
    repository: Repositories = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of `antidote-ci serve`: https://HOST/webhook.")
    ] = None,
    job: Annotated[
        str | None,
        typer.Option("--job", help="Instead of --url: `new` starts `handle-event` as a Job, an ID copies that Job."),
    ] = None,
    policy: PolicyFile = None,
) -> None:
    """Let the Hub notify a service, or start a Job, for each new commit of these repositories.

    Repeating the command updates the same webhook. With --url the secret is read from ANTIDOTE_WEBHOOK_SECRET; with
    --job the policy is part of the Job, and the tokens that the Job needs are read from the environment.
    """
    with handle_exit() as console:
        from antidote_ci.service import registration
        from antidote_ci.service.events import parse_allow_list
        from antidote_ci.service.settings import SECRET_VARIABLE, require_strong_secret

        names = parse_allow_list(repository or ())
        if (url is None) == (job is None):
            raise ConfigurationError(
                "exactly one of --url and --job is required",
                cause="both are set" if url else "neither is set",
                hint="--job new needs no server; --url is for `antidote-ci serve`",
            )
        if url is not None:
            secret = require_strong_secret(os.environ.get(SECRET_VARIABLE))
            done = registration.register_address(url, names, secret, os.environ)
        elif job == NEW_JOB:
            done = registration.register_new_job(names, read_policy(policy), os.environ)
        else:
            done = registration.register_job(str(job), names, read_policy(policy), os.environ)
        _show_webhook(console, done.webhook)
        console.print(f"webhook {done.webhook.id} is {done.done}")


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="The webhooks as JSON on stdout, without secrets.")] = False,
) -> None:
    """Show the account's webhooks, without their secrets."""
    with handle_exit() as console:
        from antidote_ci.hub import access, webhooks

        registered = webhooks.list_webhooks(access.webhook_access(os.environ))
        if as_json:
            write_stdout(json.dumps([_to_json(webhook) for webhook in registered], indent=2) + "\n")
            return
        for webhook in registered:
            _show_webhook(console, webhook)
        if not registered:
            console.print("this account has no webhook")


def remove(webhook_id: Annotated[str, typer.Argument(help="As shown by `webhook list`.", metavar="ID")]) -> None:
    """Remove a webhook."""
    with handle_exit() as console:
        from antidote_ci.hub import access, webhooks

        webhooks.remove_webhook(access.webhook_access(os.environ), webhook_id)
        console.print(f"webhook {webhook_id} is removed")


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


def serve(
    repository: Repositories = None,
    policy: PolicyFile = None,
    on: Where = "here",
    folder: Annotated[Path, option("--folder", "Folder for the queue, runs and reports.")] = DEFAULT_FOLDER,
    host: Annotated[str, option("--host", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, option("--port", "Port to listen on.")] = 8080,
    runs: Annotated[int, option("--runs", "Concurrent runs, over all repositories.")] = 1,
) -> None:
    """Receive webhook deliveries of the Hub, and measure and repair the models that they name (docs/service.md).

    The secret of the deliveries is read from ANTIDOTE_WEBHOOK_SECRET. Exits with 143 after SIGTERM; interrupted runs
    continue at the next start.
    """
    with handle_exit("interrupted runs continue at the next start"):
        _require_installed()
        from antidote_ci.service.events import parse_allow_list
        from antidote_ci.service.settings import SECRET_VARIABLE, ServiceSettings, require_strong_secret

        if not 0 <= port <= MAX_PORT:
            raise ConfigurationError(f"--port {port} is not a port", hint=f"use 0 (any free port) to {MAX_PORT}")
        if runs < 1:
            raise ConfigurationError(f"--runs {runs} would never start a run", hint="use 1 or more")
        settings = ServiceSettings(
            read_policy(policy),
            folder,
            parse_allow_list(repository or ()),
            require_strong_secret(os.environ.get(SECRET_VARIABLE)),
            host=host,
            port=port,
            runs=runs,
            on=on,
        )
        from antidote_ci.service import uvicorn_server

        uvicorn_server.run_service(settings)


def _to_json(webhook: "Webhook") -> dict[str, object]:
    """Without secrets: a URL of another tool may contain one, and so may the environment of a Job."""
    address = urlsplit(webhook.url)._replace(query="", fragment="") if webhook.url else None
    return {
        "id": webhook.id,
        "url": address._replace(netloc=address.netloc.rpartition("@")[2]).geturl() if address else None,
        "image": webhook.image,
        "command": list(webhook.command) if webhook.image is not None else None,
        "watched": list(webhook.watched),
        "domains": list(webhook.domains),
        "disabled": webhook.disabled,
    }


def _show_webhook(console: Console, webhook: "Webhook") -> None:
    job = f"a Job of {webhook.image}: {' '.join(webhook.command)}"
    target = _to_json(webhook)["url"] if webhook.image is None else job
    state = " (disabled)" if webhook.disabled else ""
    console.print(f"{flatten(webhook.id)}  {flatten(', '.join(webhook.watched))} -> {flatten(target)}{state}")


def _require_installed() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"`serve` needs {' and '.join(missing)}, which the plain installation does not include",
            hint="in a clone of antidote-ci: pip install '.[service]', or use the image (docs/docker.md)",
        )
