"""Endpoints for the webhooks of an account."""

import uuid
from dataclasses import replace
from urllib.parse import urlsplit

from loopback_hub import jobs
from loopback_hub.accounts import require_credential
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.records import Credential, JobTrigger, StoredWebhook
from loopback_hub.store import HubStore

DOMAINS = ["repo", "discussion"]
KINDS = ["model", "dataset", "user", "org"]


def list_webhooks(store: HubStore, request: HttpRequest) -> HttpResponse:
    owner = require_credential(store, request).account
    return json_response([_webhook_json(webhook) for webhook in store.webhooks() if webhook.owner == owner])


def create_webhook(store: HubStore, request: HttpRequest) -> HttpResponse:
    caller = require_credential(store, request)
    created = _apply_update(
        store, caller, StoredWebhook(uuid.uuid4().hex[:24], caller.account, None, [], DOMAINS, None), request
    )
    if (created.url is None) == (created.trigger is None) or not created.watched:
        raise HttpError(400, "a webhook needs a url or a Job, and something to watch")
    with store.writing:
        store.save_webhooks([*store.webhooks(), created])
    return json_response({"webhook": _webhook_json(created)})


def show_webhook(store: HubStore, request: HttpRequest, webhook_id: str) -> HttpResponse:
    return json_response({"webhook": _webhook_json(_require_own(store, request, webhook_id))})


def update_webhook(store: HubStore, request: HttpRequest, webhook_id: str) -> HttpResponse:
    with store.writing:
        own = _require_own(store, request, webhook_id)
        return _save_webhook(store, _apply_update(store, require_credential(store, request), own, request))


def set_enabled(store: HubStore, request: HttpRequest, webhook_id: str, action: str) -> HttpResponse:
    """Enable or disable a webhook."""
    with store.writing:
        return _save_webhook(store, replace(_require_own(store, request, webhook_id), disabled=action == "disable"))


def delete_webhook(store: HubStore, request: HttpRequest, webhook_id: str) -> HttpResponse:
    with store.writing:
        deleted = _require_own(store, request, webhook_id)
        store.save_webhooks([webhook for webhook in store.webhooks() if webhook.id != deleted.id])
    return json_response({})


def _require_own(store: HubStore, request: HttpRequest, webhook_id: str) -> StoredWebhook:
    owner = require_credential(store, request).account
    for webhook in store.webhooks():
        if (webhook.id, webhook.owner) == (webhook_id, owner):
            return webhook
    raise HttpError(404, f"no webhook {webhook_id}")


def _save_webhook(store: HubStore, changed: StoredWebhook) -> HttpResponse:
    store.save_webhooks([changed if webhook.id == changed.id else webhook for webhook in store.webhooks()])
    return json_response({"webhook": _webhook_json(changed)})


def _apply_update(store: HubStore, caller: Credential, webhook: StoredWebhook, request: HttpRequest) -> StoredWebhook:
    """Return the webhook with the fields of the request replaced."""
    sent = request.json()
    url, source, domains, watched = (sent.get(key) for key in ("url", "jobSourceId", "domains", "watched"))
    if url is not None and urlsplit(str(url)).scheme not in ("http", "https"):
        raise HttpError(400, "the url of a webhook must begin with https:// or http://")
    if domains is not None and (not isinstance(domains, list) or not set(domains) <= set(DOMAINS)):
        raise HttpError(400, f"the domains are {' and '.join(DOMAINS)}")
    if source is not None:
        before = webhook.trigger.secrets if webhook.trigger else {}
        webhook = replace(
            webhook, url=None, trigger=_build_trigger(store, caller, str(source), before, sent.get("secrets"))
        )
    if url is not None:
        webhook = replace(webhook, url=str(url), trigger=None)
    return replace(
        webhook,
        domains=domains or webhook.domains,
        watched=_parse_watched(watched) or webhook.watched,
        secret=webhook.secret if sent.get("secret") is None else str(sent["secret"]),
    )


def _build_trigger(
    store: HubStore, caller: Credential, job_id: str, before: dict[str, str], secrets: object
) -> JobTrigger:
    """Return a copy of the Job with its secrets. An empty value removes a secret."""
    job = None
    for namespace in (caller.account, *caller.organisations):
        job = job or store.jobs.find_job(namespace, job_id)
    if job is None:
        raise HttpError(404, "Job not found")
    if secrets is not None and not isinstance(secrets, dict):
        raise HttpError(400, "secrets must be an object")
    merged = {**before, **{str(name): str(value) for name, value in (secrets or {}).items()}}
    return JobTrigger(job.namespace, job.spec, {name: value for name, value in merged.items() if value})


def _parse_watched(items: object) -> list[tuple[str, str]]:
    if not isinstance(items, list):
        return []
    watched = [(str(item.get("type")), str(item.get("name"))) for item in items if isinstance(item, dict)]
    if any(kind not in KINDS for kind, _ in watched):
        raise HttpError(400, f"the type of a watched item must be one of {', '.join(KINDS)}")
    return watched


def _webhook_json(webhook: StoredWebhook) -> dict[str, object]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "job": jobs.spec_json(webhook.trigger.spec) if webhook.trigger else None,
        "watched": [{"type": kind, "name": name} for kind, name in webhook.watched],
        "domains": webhook.domains,
        "secret": webhook.secret,
        "disabled": webhook.disabled,
    }
