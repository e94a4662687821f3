"""The webhooks of an account, as the client makes and changes them."""

import uuid
from dataclasses import replace
from urllib.parse import urlsplit

from loopback_hub import jobs
from loopback_hub.accounts import known_caller
from loopback_hub.messages import Refused, Request, Response, as_json
from loopback_hub.registered import Credential, Trigger, Webhook
from loopback_hub.store import Store

DOMAINS = ["repo", "discussion"]
KINDS = ["model", "dataset", "user", "org"]


def listed(store: Store, request: Request) -> Response:
    owner = known_caller(store, request).account
    return as_json([_shown(webhook) for webhook in store.webhooks() if webhook.owner == owner])


def create(store: Store, request: Request) -> Response:
    caller = known_caller(store, request)
    created = _changed(store, caller, Webhook(uuid.uuid4().hex[:24], caller.account, None, [], DOMAINS, None), request)
    if (created.url is None) == (created.trigger is None) or not created.watched:
        raise Refused(400, "a webhook needs a url or a Job, and something to watch")
    with store.writing:
        store.save_webhooks([*store.webhooks(), created])
    return as_json({"webhook": _shown(created)})


def detail(store: Store, request: Request, webhook_id: str) -> Response:
    return as_json({"webhook": _shown(_own(store, request, webhook_id))})


def update(store: Store, request: Request, webhook_id: str) -> Response:
    with store.writing:
        own = _own(store, request, webhook_id)
        return _replaced(store, _changed(store, known_caller(store, request), own, request))


def switch(store: Store, request: Request, webhook_id: str, action: str) -> Response:
    """Enable or disable."""
    with store.writing:
        return _replaced(store, replace(_own(store, request, webhook_id), disabled=action == "disable"))


def delete(store: Store, request: Request, webhook_id: str) -> Response:
    with store.writing:
        gone = _own(store, request, webhook_id)
        store.save_webhooks([webhook for webhook in store.webhooks() if webhook.id != gone.id])
    return as_json({})


def _own(store: Store, request: Request, webhook_id: str) -> Webhook:
    owner = known_caller(store, request).account
    for webhook in store.webhooks():
        if (webhook.id, webhook.owner) == (webhook_id, owner):
            return webhook
    raise Refused(404, f"no webhook {webhook_id}")


def _replaced(store: Store, changed: Webhook) -> Response:
    store.save_webhooks([changed if webhook.id == changed.id else webhook for webhook in store.webhooks()])
    return as_json({"webhook": _shown(changed)})


def _changed(store: Store, caller: Credential, webhook: Webhook, request: Request) -> Webhook:
    """With what was sent in place of what was there."""
    sent = request.json()
    url, source, domains, watched = (sent.get(key) for key in ("url", "jobSourceId", "domains", "watched"))
    if url is not None and urlsplit(str(url)).scheme not in ("http", "https"):
        raise Refused(400, "a webhook's url begins with https:// or http://")
    if domains is not None and (not isinstance(domains, list) or not set(domains) <= set(DOMAINS)):
        raise Refused(400, f"the domains are {' and '.join(DOMAINS)}")
    if source is not None:
        before = webhook.trigger.secrets if webhook.trigger else {}
        webhook = replace(webhook, url=None, trigger=_trigger(store, caller, str(source), before, sent.get("secrets")))
    if url is not None:
        webhook = replace(webhook, url=str(url), trigger=None)
    return replace(
        webhook,
        domains=domains or webhook.domains,
        watched=_watched(watched) or webhook.watched,
        secret=webhook.secret if sent.get("secret") is None else str(sent["secret"]),
    )


def _trigger(store: Store, caller: Credential, job_id: str, before: dict[str, str], secrets: object) -> Trigger:
    """A copy of the Job; an empty secret removes the one that was there."""
    job = None
    for namespace in (caller.account, *caller.organisations):
        job = job or store.jobs.job(namespace, job_id)
    if job is None:
        raise Refused(404, "Job not found")
    if secrets is not None and not isinstance(secrets, dict):
        raise Refused(400, "secrets is no object")
    kept = {**before, **{str(name): str(value) for name, value in (secrets or {}).items()}}
    return Trigger(job.namespace, job.spec, {name: value for name, value in kept.items() if value})


def _watched(items: object) -> list[tuple[str, str]]:
    if not isinstance(items, list):
        return []
    found = [(str(item.get("type")), str(item.get("name"))) for item in items if isinstance(item, dict)]
    if any(kind not in KINDS for kind, _ in found):
        raise Refused(400, f"what is watched is one of {', '.join(KINDS)}")
    return found


def _shown(webhook: Webhook) -> dict[str, object]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "job": jobs.spec_shown(webhook.trigger.spec) if webhook.trigger else None,
        "watched": [{"type": kind, "name": name} for kind, name in webhook.watched],
        "domains": webhook.domains,
        "secret": webhook.secret,
        "disabled": webhook.disabled,
    }
