"""Register a webhook that notifies the service or starts a Job. Registering twice updates one webhook."""

import logging
import secrets as random_tokens
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.hub import jobs_api, webhooks
from antidote_ci.hub.access import HubAccess, jobs_access, read_name, webhook_access
from antidote_ci.hub.jobs_api import JobRequest
from antidote_ci.hub.webhooks import Webhook, WebhookSpec
from antidote_ci.jobs import job_spec
from antidote_ci.jobs.entrypoint import OUT
from antidote_ci.jobs.transfer import FILES_VARIABLE
from antidote_ci.policy import Policy
from antidote_ci.service.events import is_allowed_repository

logger = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
COMMAND = "handle-event"
SMALL_FLAVOR = "cpu-basic"
"""The hardware of a Job that only decides, and starts another."""
SECONDS_TO_START = 3600
"""How long such a Job may wait for the hardware of the other, besides the timeout of that."""


@dataclass(frozen=True)
class Registration:
    """The webhook as it is now, and whether it is new."""

    webhook: Webhook
    done: Literal["registered", "updated"]


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
    wanted = WebhookSpec(tuple(sorted(repositories)), url=require_address(url), secret=secret)
    return _ensure_webhook(webhook_access(environ), wanted, lambda webhook: webhook.url == url)


def register_job(job_id: str, repositories: Sequence[str], policy: Policy, environ: Mapping[str, str]) -> Registration:
    """Register a webhook that starts a copy of this Job for each event of these repositories."""
    secrets = job_spec.collect_secrets("run", policy, environ)
    wanted = WebhookSpec(tuple(sorted(repositories)), job_id=job_id, secrets=secrets)
    return _ensure_webhook(webhook_access(environ), wanted, lambda webhook: _handles_any(webhook, repositories))


def register_new_job(repositories: Sequence[str], policy: Policy, environ: Mapping[str, str]) -> Registration:
    """Register a webhook that starts `handle-event` under this policy for each event of these repositories.

    The Hub only copies existing Jobs, so one is started for this purpose and cancelled after it was copied.
    """
    submitting = jobs_access(environ)
    job_spec.collect_secrets("run", policy, environ)  # raises before the Job is started
    request = _build_job_request(sorted(repositories), policy, submitting, environ)
    # The request has a random label, so any Job with its labels is this Job.
    job = jobs_api.submit_job(submitting, request, lambda _: True)
    try:
        return register_job(job.id, repositories, policy, environ)
    finally:
        # An error here must not hide the webhook, or the error, of the registration.
        try:
            # The Job may have ended already: it has no event to handle.
            if jobs_api.refresh_job(submitting, job).is_working:
                jobs_api.cancel_job(submitting, job)
        except AntidoteError as error:
            logger.warning("the Job was not cancelled; end it at %s (%s)", job.url, error.describe())


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
            FILES_VARIABLE: job_spec.pack_policy(policy, replace(jobs, image=image) if starts_others else None)
        },
        secrets={},
        flavor=jobs.flavor or SMALL_FLAVOR,
        seconds=jobs.timeout_seconds + (SECONDS_TO_START if starts_others else 0),
        name=f"{job_spec.TOOL_LABEL}-{COMMAND}",
        labels={"tool": job_spec.TOOL_LABEL, "source": random_tokens.token_hex(16)},
    )


def _handles_any(webhook: Webhook, repositories: Sequence[str]) -> bool:
    """Whether the webhook starts `handle-event` for any of these repositories. Two would do all work twice."""
    return COMMAND in webhook.command and (
        any(is_allowed_repository(name, repositories) for name in webhook.watched)
        or any(is_allowed_repository(name, webhook.watched) for name in repositories)
    )


def _ensure_webhook(access: HubAccess, wanted: WebhookSpec, is_same: Callable[[Webhook], bool]) -> Registration:
    """Update the webhook that `is_same` accepts, or create one. The secrets are sent even if nothing else changes."""
    existing = webhooks.list_webhooks(access)
    earlier = next(filter(is_same, existing), None)
    if earlier is None:
        created = webhooks.create_webhook(access, wanted, [webhook.id for webhook in existing])
        return Registration(created, "registered")
    return Registration(webhooks.update_webhook(access, earlier, wanted), "updated")
