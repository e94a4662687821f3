"""List, create, update and remove the webhooks of an account.

https://huggingface.co/docs/hub/webhooks, https://huggingface.co/docs/hub/jobs-webhooks (huggingface_hub 2.4)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.access import HubAccess, read_whoami
from antidote_ci.hub.client import parse_answer

if TYPE_CHECKING:
    from huggingface_hub import HfApi, WebhookInfo
    from huggingface_hub.hf_api import WebhookWatchedItem

DOMAINS = ("repo",)
"""Events of repositories only: discussions change no files."""
SECRETS = ("HF_TOKEN", "HF_WRITE_TOKEN", "ANTIDOTE_JUDGE_KEY")
"""The secrets that a Job may receive. An empty value removes a secret."""
NOT_FOUND = 404
SUBJECT = "the webhooks of this account"


@dataclass(frozen=True)
class Webhook:
    """A webhook that sends events to `url` or starts a Job."""

    id: str
    url: str | None
    image: str | None
    """Of the Job to start; None for a webhook with a url."""
    command: tuple[str, ...]
    watched: tuple[str, ...]
    """Sorted: ORG/NAME, ORG/* for all repositories of an account or organisation, else `kind:name`."""
    domains: tuple[str, ...]
    disabled: bool


@dataclass(frozen=True)
class WebhookSpec:
    """The wanted state of a webhook: a url and a secret, or the id of a Job to copy and the secrets of the copies."""

    repositories: tuple[str, ...]
    url: str | None = None
    secret: str | None = field(default=None, repr=False)
    job_id: str | None = None
    secrets: Mapping[str, str] | None = field(default=None, repr=False)


def list_webhooks(access: HubAccess) -> list[Webhook]:
    return access.request(SUBJECT, lambda client: [_to_webhook(info) for info in client.list_webhooks()])


def create_webhook(access: HubAccess, wanted: WebhookSpec, known: Collection[str]) -> Webhook:
    """Create a webhook once. `known` are the ids of earlier webhooks: a retry recognises the created webhook by its
    new id."""

    def once(client: "HfApi") -> Webhook:
        watched = _to_watched(client, wanted.repositories)
        for webhook in map(_to_webhook, client.list_webhooks()):
            if webhook.id not in known and (webhook.url, webhook.watched) == (wanted.url, wanted.repositories):
                return webhook
        return _to_webhook(client.create_webhook(watched=watched, **_to_arguments(wanted)))

    return access.request(SUBJECT, once)


def update_webhook(access: HubAccess, webhook: Webhook, wanted: WebhookSpec) -> Webhook:
    """Update the webhook to the wanted state, and enable it."""

    def once(client: "HfApi") -> Webhook:
        watched = _to_watched(client, wanted.repositories)
        changed = client.update_webhook(webhook.id, watched=watched, **_to_arguments(wanted, is_update=True))
        return _to_webhook(client.enable_webhook(webhook.id) if changed.disabled else changed)

    return access.request(SUBJECT, once)


def remove_webhook(access: HubAccess, webhook_id: str) -> None:
    """Remove a webhook. Raises ConfigurationError when no webhook has this id."""

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


def _to_arguments(wanted: WebhookSpec, *, is_update: bool = False) -> dict[str, Any]:
    """The arguments that are set: the Hub keeps the old value of a missing argument or secret."""
    arguments: dict[str, Any] = {"url": wanted.url, "secret": wanted.secret, "job_id": wanted.job_id}
    if wanted.secrets is not None:
        arguments["secrets"] = (dict.fromkeys(SECRETS, "") if is_update else {}) | dict(wanted.secrets)
    return {"domains": list(DOMAINS)} | {name: value for name, value in arguments.items() if value is not None}


def _to_watched(client: "HfApi", repositories: Sequence[str]) -> "list[dict[Any, Any] | WebhookWatchedItem]":
    """The repositories in the form of the Hub. ORG/* is the token's own account or else an organisation."""
    own = str(read_whoami(client)["name"]).lower()
    watched: list[dict[Any, Any] | WebhookWatchedItem] = []
    for name in repositories:
        owner = name.removesuffix("/*")
        kind = "model" if owner == name else "user" if owner.lower() == own else "org"
        watched.append({"type": kind, "name": owner})
    return watched


@parse_answer()
def _to_webhook(info: "WebhookInfo") -> Webhook:
    job = info.job
    return Webhook(
        id=info.id,
        url=info.url,
        image=job.docker_image or job.space_id or "" if job else None,
        command=(*(job.command or ()), *(job.arguments or ())) if job else (),
        watched=tuple(sorted(_to_name(item.type, item.name) for item in info.watched)),
        domains=tuple(info.domains),
        disabled=info.disabled,
    )


def _to_name(kind: str, name: str) -> str:
    return name if kind == "model" else f"{name}/*" if kind in ("org", "user") else f"{kind}:{name}"
