"""`antidote-ci webhook register|list|remove`."""

import os
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.options import PolicyFile, Repositories
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import read_policy
from antidote_ci.report.console import Console, write_stdout
from antidote_ci.report.text import link_documents

if TYPE_CHECKING:
    from antidote_ci.hub.webhooks import Webhook

NEW_JOB = "new"

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
        import json

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
    from antidote_ci.report.text import flatten

    job = f"a Job of {webhook.image}: {' '.join(webhook.command)}"
    target = _to_json(webhook)["url"] if webhook.image is None else job
    state = " (disabled)" if webhook.disabled else ""
    console.print(f"{flatten(webhook.id)}  {flatten(', '.join(webhook.watched))} -> {flatten(target)}{state}")
