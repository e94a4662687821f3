"""Register a webhook that notifies the service or starts a Job. Registering twice changes one webhook."""

import secrets as random_tokens
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import jobs_api, webhooks
from antidote_ci.hub.access import HubAccess, jobs_access, read_name, webhook_access
from antidote_ci.hub.jobs_api import JobRequest
from antidote_ci.hub.webhooks import DOMAINS, JobTemplate, Webhook, WebhookSpec
from antidote_ci.jobs import input_bundle, job_spec
from antidote_ci.jobs.entrypoint import OUT
from antidote_ci.policy import Policy
from antidote_ci.service.events import is_allowed_repository

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COMMAND = "handle-event"
SMALL_FLAVOR = "cpu-basic"
"""The hardware of a Job that only decides, and starts another."""
SECONDS_TO_START = 3600
"""How long such a Job may wait for the hardware of the other, besides the timeout of that."""


@dataclass(frozen=True)
class Registration:
    """The webhook as it is now, and what changed."""

    webhook: Webhook
    done: Literal["registered", "changed", "unchanged"]


def require_address(url: str) -> str:
    """The URL. Raises ConfigurationError for one over which the secret would be sent unencrypted."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    hint = "use --url https://HOST/webhook"
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError("--url is not the address of a web server", hint=hint)
    if parts.username is not None or parts.query:
        raise ConfigurationError(
            f"--url for {host} contains a user name or a query",
            cause="both would appear in listings and logs, and the service uses neither",
            hint=hint,
        )
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigurationError(
            f"{url} is not https",
            cause="the secret is part of each delivery: anyone who reads one on its way could send others",
            hint="put a TLS proxy in front of the service, and use its https:// address",
        )
    return url


def register_address(url: str, repositories: Sequence[str], secret: str, environ: Mapping[str, str]) -> Registration:
    """Register a webhook that sends the events of these repositories to `url`."""
    access = webhook_access(environ)
    wanted = WebhookSpec(tuple(sorted(repositories)), url=require_address(url), secret=secret)
    existing = webhooks.list_webhooks(access)
    earlier = next((webhook for webhook in existing if webhook.url == url), None)
    return _ensure_webhook(access, existing, earlier, wanted, same=earlier is not None and earlier.secret == secret)


def register_job(job_id: str, repositories: Sequence[str], policy: Policy, environ: Mapping[str, str]) -> Registration:
    """Register a webhook that starts a copy of this Job for each event of these repositories."""
    access = webhook_access(environ)
    template = webhooks.read_job_template(access, job_id, policy.jobs.namespace)
    secrets = job_spec.collect_secrets("run", policy, environ)
    wanted = WebhookSpec(tuple(sorted(repositories)), job_id=job_id, secrets=secrets)
    existing = webhooks.list_webhooks(access)
    earlier = _find_existing(existing, template, wanted.repositories)
    same = earlier is not None and earlier.job_template == template
    return _ensure_webhook(access, existing, earlier, wanted, same=same)


def register_new_job(repositories: Sequence[str], policy: Policy, environ: Mapping[str, str]) -> Registration:
    """Register a webhook that starts `handle-event` under this policy for each event of these repositories.

    The Hub only copies existing Jobs, so one is started for this purpose and cancelled after it was copied.
    """
    access, names = webhook_access(environ), tuple(sorted(repositories))
    submitting, secrets = jobs_access(environ), job_spec.collect_secrets("run", policy, environ)
    request = _build_job_request(names, policy, submitting, environ)
    template = JobTemplate(request.image, tuple(request.command), request.environment, request.flavor)
    existing = webhooks.list_webhooks(access)
    earlier = _find_existing(existing, template, names)
    if earlier is not None and _is_up_to_date(earlier, names) and earlier.job_template == template:
        return Registration(earlier, "unchanged")
    # The request has a random label, so any Job with its labels is this Job.
    job = jobs_api.submit_job(submitting, request, lambda _: True)
    try:
        wanted = WebhookSpec(names, job_id=job.id, secrets=secrets)
        return _ensure_webhook(access, existing, earlier, wanted, same=False)
    finally:
        # The Job may have ended already: it has no event to handle.
        if jobs_api.refresh_job(submitting, job).is_working:
            jobs_api.cancel_job(submitting, job)


def _build_job_request(
    repositories: Sequence[str], policy: Policy, access: HubAccess, environ: Mapping[str, str]
) -> JobRequest:
    """The Job that the Hub copies for each event.

    Without a flavor in the policy it is a small one: for a commit to measure it starts another, on hardware that fits.
    """
    jobs, image = policy.jobs, job_spec.resolve_image(policy, environ)
    starts_others = jobs.flavor is None
    return JobRequest(
        namespace=jobs.namespace or read_name(access, "Jobs"),
        image=image,
        command=[
            *(job_spec.TOOL_LABEL, COMMAND, job_spec.POLICY_OPTION, f"--out={OUT}"),
            *(f"--repository={name}" for name in repositories),
            *(["--on=hf-jobs"] if starts_others else []),
        ],
        environment={
            input_bundle.VARIABLE: job_spec.pack_policy(policy, replace(jobs, image=image) if starts_others else None)
        },
        secrets={},
        flavor=jobs.flavor or SMALL_FLAVOR,
        seconds=jobs.timeout_seconds + (SECONDS_TO_START if starts_others else 0),
        name=f"{job_spec.TOOL_LABEL}-{COMMAND}",
        labels={"tool": job_spec.TOOL_LABEL, "source": random_tokens.token_hex(16)},
    )


def _find_existing(existing: Sequence[Webhook], template: JobTemplate, repositories: Sequence[str]) -> Webhook | None:
    """The webhook that starts the same Job, or else one that handles events of any of these repositories.

    Two webhooks for one repository would do all work twice.
    """
    same = [webhook for webhook in existing if webhook.job_template == template]
    overlapping = [
        webhook
        for webhook in existing
        if webhook.job_template
        and COMMAND in webhook.job_template.command
        and _has_overlap(webhook.watched, repositories)
    ]
    return next(iter(same + overlapping), None)


def _has_overlap(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether any repository is on both allow lists."""
    return any(is_allowed_repository(name, others) for name in names) or any(
        is_allowed_repository(name, names) for name in others
    )


def _ensure_webhook(
    access: HubAccess, existing: Sequence[Webhook], earlier: Webhook | None, wanted: WebhookSpec, *, same: bool
) -> Registration:
    """Create or update the webhook. `same`: the earlier webhook has the wanted target and secrets."""
    if earlier is None:
        created = webhooks.create_webhook(access, wanted, [webhook.id for webhook in existing])
        return Registration(created, "registered")
    if same and _is_up_to_date(earlier, wanted.repositories):
        return Registration(earlier, "unchanged")
    return Registration(webhooks.update_webhook(access, earlier, wanted), "changed")


def _is_up_to_date(webhook: Webhook, repositories: Sequence[str]) -> bool:
    return (webhook.watched, webhook.domains, webhook.disabled) == (tuple(repositories), DOMAINS, False)
