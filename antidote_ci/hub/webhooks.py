"""The webhooks of an account: listed, registered once, brought up to date, removed.

https://huggingface.co/docs/hub/webhooks, https://huggingface.co/docs/hub/jobs-webhooks (huggingface_hub 2.4)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.access import HubAccess

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo, WebhookInfo
    from huggingface_hub._jobs_api import JobSpec
    from huggingface_hub.hf_api import WebhookWatchedItem

DOMAINS = ("repo",)
"""Discussions change no file."""
SECRETS = ("HF_TOKEN", "HF_WRITE_TOKEN", "ANTIDOTE_JUDGE_KEY")
"""What a Job may be given; an empty one is taken back."""
NOT_FOUND = 404
SUBJECT = "the webhooks of this account"


@dataclass(frozen=True)
class JobTemplate:
    """What a Job webhook starts, without its secrets."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    flavor: str


@dataclass(frozen=True)
class Webhook:
    """Whom the Hub tells, and of what."""

    id: str
    url: str | None
    job_template: JobTemplate | None
    """Where there is no url: the Job that it starts."""
    watched: tuple[str, ...]
    """ORG/NAME, or ORG/* for all of a user or an organisation, sorted; of other kinds `kind:name`."""
    domains: tuple[str, ...]
    secret: str | None = field(repr=False)
    disabled: bool


@dataclass(frozen=True)
class WebhookSpec:
    """A webhook as it is to be: with a url and a secret, or with a source Job and the secrets of those it starts."""

    repositories: tuple[str, ...]
    url: str | None = None
    secret: str | None = field(default=None, repr=False)
    job_id: str | None = None
    secrets: Mapping[str, str] | None = field(default=None, repr=False)


def list_webhooks(access: HubAccess) -> list[Webhook]:
    return access.request(SUBJECT, lambda client: [_to_webhook(each) for each in client.list_webhooks()])


def read_job_template(access: HubAccess, job_id: str, namespace: str | None) -> JobTemplate:
    """What the Job runs."""
    return access.request(
        f"the Job {job_id}", lambda client: _to_job_template(client.inspect_job(job_id=job_id, namespace=namespace))
    )


def create_webhook(access: HubAccess, wanted: WebhookSpec, known: Collection[str]) -> Webhook:
    """A new one. Asked again after a lost answer it finds its own: one that is not among the ids that were `known`."""

    def once(client: "HfApi") -> Webhook:
        watched = _to_watched(client, wanted.repositories)
        for each in map(_to_webhook, client.list_webhooks()):
            if each.id not in known and (each.url, each.watched) == (wanted.url, wanted.repositories):
                return each
        return _to_webhook(client.create_webhook(watched=watched, **_to_arguments(wanted)))

    return access.request(SUBJECT, once)


def update_webhook(access: HubAccess, webhook: Webhook, wanted: WebhookSpec) -> Webhook:
    """The same webhook as it is wanted now, and enabled."""

    def once(client: "HfApi") -> Webhook:
        watched = _to_watched(client, wanted.repositories)
        changed = client.update_webhook(webhook.id, watched=watched, **_to_arguments(wanted, renewed=True))
        return _to_webhook(client.enable_webhook(webhook.id) if changed.disabled else changed)

    return access.request(SUBJECT, once)


def remove_webhook(access: HubAccess, webhook_id: str) -> None:
    """Raises ConfigurationError where there is none of this id."""

    def once(client: "HfApi") -> bool:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            client.delete_webhook(webhook_id)
        except HfHubHTTPError as error:
            if error.response.status_code != NOT_FOUND:
                raise
            return False
        return True

    if not access.request(SUBJECT, once):
        raise ConfigurationError(f"this account has no webhook {webhook_id}", hint="see `antidote-ci webhook list`")


def _to_arguments(wanted: WebhookSpec, *, renewed: bool = False) -> dict[str, Any]:
    """Only what is set: an absent value leaves what was there, and so does a secret that is not named."""
    said: dict[str, Any] = {"url": wanted.url, "secret": wanted.secret, "job_id": wanted.job_id}
    if wanted.secrets is not None:
        said["secrets"] = (dict.fromkeys(SECRETS, "") if renewed else {}) | dict(wanted.secrets)
    return {"domains": list(DOMAINS)} | {name: value for name, value in said.items() if value is not None}


def _to_watched(client: "HfApi", repositories: Sequence[str]) -> "list[dict[Any, Any] | WebhookWatchedItem]":
    """As the Hub names them. A namespace is that of the token's own account, else an organisation's."""
    own = str(client.whoami(cache=True)["name"]).lower()
    found: list[dict[Any, Any] | WebhookWatchedItem] = []
    for name in repositories:
        owner = name.removesuffix("/*")
        kind = "model" if owner == name else "user" if owner.lower() == own else "org"
        found.append({"type": kind, "name": owner})
    return found


def _to_webhook(info: "WebhookInfo") -> Webhook:
    return Webhook(
        id=info.id,
        url=info.url,
        job_template=_to_job_template(info.job) if info.job else None,
        watched=tuple(sorted(_to_name(each.type, each.name) for each in info.watched)),
        domains=tuple(info.domains),
        secret=info.secret,
        disabled=info.disabled,
    )


def _to_name(kind: str, name: str) -> str:
    return name if kind == "model" else f"{name}/*" if kind in ("org", "user") else f"{kind}:{name}"


def _to_job_template(spec: "JobSpec | JobInfo") -> JobTemplate:
    return JobTemplate(
        image=spec.docker_image or spec.space_id or "",
        command=(*(spec.command or ()), *(spec.arguments or ())),
        environment={str(key): str(value) for key, value in (spec.environment or {}).items()},
        flavor=str(getattr(spec.flavor, "value", spec.flavor)),
    )
