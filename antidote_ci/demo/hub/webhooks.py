"""The webhooks of an account, as the client makes and changes them."""

import uuid
from dataclasses import replace
from urllib.parse import urlsplit

from antidote_ci.demo.hub.accounts import known_caller
from antidote_ci.demo.hub.messages import Refused, Request, Response, as_json
from antidote_ci.demo.hub.registered import Webhook
from antidote_ci.demo.hub.store import Store

DOMAINS = ["repo", "discussion"]
KINDS = ["model", "dataset", "user", "org"]


def listed(store: Store, request: Request) -> Response:
    owner = known_caller(store, request).account
    return as_json([_shown(webhook) for webhook in store.webhooks() if webhook.owner == owner])


def create(store: Store, request: Request) -> Response:
    owner = known_caller(store, request).account
    created = _changed(Webhook(uuid.uuid4().hex[:24], owner, "", [], DOMAINS, None), request.json())
    if not created.url or not created.watched:
        raise Refused(400, "a webhook needs a url, and something to watch")
    with store.writing:
        store.save_webhooks([*store.webhooks(), created])
    return as_json({"webhook": _shown(created)})


def detail(store: Store, request: Request, webhook_id: str) -> Response:
    return as_json({"webhook": _shown(_own(store, request, webhook_id))})


def update(store: Store, request: Request, webhook_id: str) -> Response:
    with store.writing:
        return _replaced(store, _changed(_own(store, request, webhook_id), request.json()))


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


def _changed(webhook: Webhook, sent: dict[str, object]) -> Webhook:
    """With what was sent in place of what was there."""
    url, domains, watched = (sent.get(key) for key in ("url", "domains", "watched"))
    if url is not None and urlsplit(str(url)).scheme not in ("http", "https"):
        raise Refused(400, "a webhook's url begins with https:// or http://")
    if domains is not None and (not isinstance(domains, list) or not set(domains) <= set(DOMAINS)):
        raise Refused(400, f"the domains are {' and '.join(DOMAINS)}")
    return replace(
        webhook,
        url=str(url or webhook.url),
        domains=domains or webhook.domains,
        watched=_watched(watched) or webhook.watched,
        secret=webhook.secret if sent.get("secret") is None else str(sent["secret"]),
    )


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
        "watched": [{"type": kind, "name": name} for kind, name in webhook.watched],
        "domains": webhook.domains,
        "secret": webhook.secret,
        "disabled": webhook.disabled,
    }
