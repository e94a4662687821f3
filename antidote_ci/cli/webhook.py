"""`antidote-ci webhook register|list|remove`."""

import os
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from antidote_ci.cli.exit_codes import handle_exit
from antidote_ci.cli.options import PolicyFile, Repositories
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import read_policy
from antidote_ci.report.console import Console, write_stdout

if TYPE_CHECKING:
    from antidote_ci.hub.webhooks import Webhook

NEW_JOB = "new"
OUTCOME_TEXTS = {"registered": "registered", "changed": "brought up to date", "unchanged": "registered already"}

webhook_app = typer.Typer(help="Have the Hub tell of new commits (docs/webhook.md).", no_args_is_help=True)


@webhook_app.command()
def register(
    repository: Repositories = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where `antidote-ci serve` takes deliveries: https://HOST/webhook.")
    ] = None,
    job: Annotated[
        str | None,
        typer.Option("--job", help="Instead of --url: `new` starts `handle-event` as a Job, an ID copies that Job."),
    ] = None,
    policy: PolicyFile = None,
) -> None:
    """Have the Hub tell a service, or start a Job, for each new commit of these repositories.

    Asked for again it changes what has changed, and nothing else. With --url the secret is read from
    ANTIDOTE_WEBHOOK_SECRET; with --job the policy goes along, and the tokens that the Job needs are taken from the
    environment.
    """
    with handle_exit() as talk:
        from antidote_ci.service import authentication, filters, registering

        names = filters.parse_allow_list(repository or ())
        if (url is None) == (job is None):
            raise ConfigurationError(
                "one of --url and --job says what is to happen",
                cause="both are named" if url else "neither is named",
                hint="--job new needs no server; --url is for `antidote-ci serve`",
            )
        if url is not None:
            secret = authentication.require_strong(os.environ.get(authentication.WEBHOOK_VARIABLE))
            done = registering.register_address(url, names, secret, os.environ)
        elif job == NEW_JOB:
            done = registering.register_new_job(names, read_policy(policy), os.environ)
        else:
            done = registering.register_job(str(job), names, read_policy(policy), os.environ)
        _show_webhook(talk, done.webhook)
        talk.print(f"webhook {done.webhook.id} is {OUTCOME_TEXTS[done.done]}")


@webhook_app.command(name="list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="The webhooks as JSON on stdout, without secrets.")] = False,
) -> None:
    """Show the account's webhooks, without their secrets."""
    with handle_exit() as talk:
        import json

        from antidote_ci.hub import access, webhooks

        found = webhooks.list_webhooks(access.webhook_access(os.environ))
        if as_json:
            write_stdout(json.dumps([_to_json(each) for each in found], indent=2) + "\n")
            return
        for each in found:
            _show_webhook(talk, each)
        if not found:
            talk.print("this account has no webhook")


@webhook_app.command()
def remove(webhook_id: Annotated[str, typer.Argument(help="As `webhook list` shows it.", metavar="ID")]) -> None:
    """Remove a webhook: the Hub tells nobody and starts nothing any more."""
    with handle_exit() as talk:
        from antidote_ci.hub import access, webhooks

        webhooks.remove_webhook(access.webhook_access(os.environ), webhook_id)
        talk.print(f"webhook {webhook_id} is removed")


def _to_json(webhook: "Webhook") -> dict[str, object]:
    """Without anything that opens something: addresses of others may hold a secret, as may a Job's environment."""
    address = urlsplit(webhook.url)._replace(query="", fragment="") if webhook.url else None
    return {
        "id": webhook.id,
        "url": address._replace(netloc=address.netloc.rpartition("@")[2]).geturl() if address else None,
        "image": webhook.job_template.image if webhook.job_template else None,
        "command": list(webhook.job_template.command) if webhook.job_template else None,
        "watched": list(webhook.watched),
        "domains": list(webhook.domains),
        "disabled": webhook.disabled,
    }


def _show_webhook(console: Console, webhook: "Webhook") -> None:
    from antidote_ci.report.text import flatten

    said = _to_json(webhook)
    work = webhook.job_template
    target = said["url"] if work is None else f"a Job of {work.image}: {' '.join(work.command)}"
    state = " (disabled)" if webhook.disabled else ""
    console.print(f"{flatten(webhook.id)}  {flatten(', '.join(webhook.watched))} -> {flatten(target)}{state}")
