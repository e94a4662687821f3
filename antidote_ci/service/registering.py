"""Having the Hub tell us, or start a Job of ours: one webhook for a purpose, however often it is asked for."""

import secrets as chance
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import jobs_api, webhooks
from antidote_ci.hub.access import HubAccess, jobs_access, webhook_access
from antidote_ci.hub.jobs_api import JobRequest
from antidote_ci.hub.webhooks import DOMAINS, JobTemplate, Webhook, WebhookSpec
from antidote_ci.jobs import input_bundle, job_spec
from antidote_ci.jobs.entrypoint import OUT
from antidote_ci.policy import Policy
from antidote_ci.service.filters import is_allowed_repository

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COMMAND = "handle-event"


@dataclass(frozen=True)
class Registration:
    """The webhook as it is now, and what was done for it."""

    webhook: Webhook
    done: Literal["registered", "changed", "unchanged"]


def require_address(url: str) -> str:
    """The url. Raises ConfigurationError for one on which the secret could be read on its way."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    hint = "write --url https://HOST/webhook"
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError("--url is no address of a web server", hint=hint)
    if parts.username is not None or parts.query:
        raise ConfigurationError(
            f"--url says more than where {host} is",
            cause="a password or a query would stand in listings and logs, and the service asks for neither",
            hint=hint,
        )
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigurationError(
            f"{url} is not https",
            cause="the secret is sent along as it is: whoever sees a delivery on its way could send others",
            hint="put a proxy with a certificate before the service, and name its https:// address",
        )
    return url


def register_address(url: str, repositories: Sequence[str], secret: str, environ: Mapping[str, str]) -> Registration:
    """Have the Hub send events of these repositories to `url`."""
    access = webhook_access(environ)
    wanted = WebhookSpec(tuple(sorted(repositories)), url=require_address(url), secret=secret)
    known = webhooks.list_webhooks(access)
    earlier = next((each for each in known if each.url == url), None)
    return _ensure_webhook(access, known, earlier, wanted, same=earlier is not None and earlier.secret == secret)


def register_job(job_id: str, repositories: Sequence[str], policy: Policy, environ: Mapping[str, str]) -> Registration:
    """Have the Hub start a copy of this Job for each event of these repositories."""
    access = webhook_access(environ)
    work = webhooks.read_job_template(access, job_id, policy.jobs.namespace)
    secrets = job_spec.collect_secrets("run", policy, environ)
    wanted = WebhookSpec(tuple(sorted(repositories)), job_id=job_id, secrets=secrets)
    known = webhooks.list_webhooks(access)
    earlier = _find_existing(known, work, wanted.repositories)
    return _ensure_webhook(access, known, earlier, wanted, same=earlier is not None and earlier.job_template == work)


def register_new_job(repositories: Sequence[str], policy: Policy, environ: Mapping[str, str]) -> Registration:
    """Have the Hub start `handle-event` under this policy for each event of these repositories.

    The Hub copies a Job that exists: one is started for it, and cancelled when it was copied.
    """
    access, names = webhook_access(environ), tuple(sorted(repositories))
    starting, secrets = jobs_access(environ), job_spec.collect_secrets("run", policy, environ)
    request = _build_job_request(names, policy, starting, environ)
    work = JobTemplate(request.image, tuple(request.command), request.environment, request.flavor)
    known = webhooks.list_webhooks(access)
    earlier = _find_existing(known, work, names)
    if earlier is not None and _is_up_to_date(earlier, names) and earlier.job_template == work:
        return Registration(earlier, "unchanged")
    # No other Job has its label.
    job = jobs_api.submit_job(starting, request, lambda _: True)
    try:
        return _ensure_webhook(access, known, earlier, WebhookSpec(names, job_id=job.id, secrets=secrets), same=False)
    finally:
        # It ends by itself when it finds no event.
        if jobs_api.refresh_job(starting, job).is_working:
            jobs_api.cancel_job(starting, job)


def _build_job_request(
    repositories: Sequence[str], policy: Policy, access: HubAccess, environ: Mapping[str, str]
) -> JobRequest:
    """The Job to be copied. Without an event it would only say so."""
    if policy.jobs.flavor is None:
        raise ConfigurationError(
            "no hardware is named for the Jobs that events start",
            cause="which models they will have to hold is not known yet",
            hint='write flavor = "l4x1", or another of the Hub\'s, into [jobs] of antidote.toml',
        )
    allowed = [f"--repository={name}" for name in repositories]
    return JobRequest(
        namespace=policy.jobs.namespace or jobs_api.read_account_name(access),
        image=job_spec.resolve_image(policy, environ),
        command=[job_spec.TOOL_LABEL, COMMAND, job_spec.POLICY_OPTION, f"--out={OUT}", *allowed],
        environment={input_bundle.VARIABLE: job_spec.pack_policy(policy)},
        secrets={},
        flavor=policy.jobs.flavor,
        seconds=policy.jobs.timeout_seconds,
        name=f"{job_spec.TOOL_LABEL}-{COMMAND}",
        labels={"tool": job_spec.TOOL_LABEL, "source": chance.token_hex(16)},
    )


def _find_existing(known: Sequence[Webhook], work: JobTemplate, repositories: Sequence[str]) -> Webhook | None:
    """The one that starts this Job, else one that handles events of any of these repositories: two do all twice."""
    starting = [each for each in known if each.job_template is not None]
    same = [each for each in starting if each.job_template == work]
    watching = [
        each
        for each in starting
        if each.job_template and COMMAND in each.job_template.command and _has_overlap(each.watched, repositories)
    ]
    return next(iter(same + watching), None)


def _has_overlap(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether any repository is on both lists."""
    return any(is_allowed_repository(each, others) for each in some) or any(
        is_allowed_repository(each, some) for each in others
    )


def _ensure_webhook(
    access: HubAccess, known: Sequence[Webhook], earlier: Webhook | None, wanted: WebhookSpec, *, same: bool
) -> Registration:
    """`same`: what the earlier one does for an event is what is wanted."""
    if earlier is None:
        return Registration(webhooks.create_webhook(access, wanted, [each.id for each in known]), "registered")
    if same and _is_up_to_date(earlier, wanted.repositories):
        return Registration(earlier, "unchanged")
    return Registration(webhooks.update_webhook(access, earlier, wanted), "changed")


def _is_up_to_date(webhook: Webhook, repositories: Sequence[str]) -> bool:
    return (webhook.watched, webhook.domains, webhook.disabled) == (tuple(repositories), DOMAINS, False)
