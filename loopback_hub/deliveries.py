"""Send repository events to webhooks, as version 3 of the Hub's payload.

https://huggingface.co/docs/hub/webhooks
"""

import json
import logging
import threading
import uuid
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from loopback_hub import jobs
from loopback_hub.accounts import ANYONE, may_read
from loopback_hub.records import (
    MAIN,
    Accounts,
    CommentEvent,
    Discussion,
    JobTrigger,
    Repository,
    RepositoryEvent,
    StoredWebhook,
)
from loopback_hub.store import HubStore

logger = logging.getLogger(__name__)

WAITS = (0.1, 0.2, 0.4, 0.8)
"""Seconds between the attempts. Whether the real Hub repeats a delivery is not documented."""
ANSWER_SECONDS = 5


def is_watched_by(event: RepositoryEvent, webhook: StoredWebhook, accounts: Accounts) -> bool:
    """Whether the webhook watches the repository and its owner may read it."""
    repository = event.repository
    watched = {("user", repository.namespace), ("org", repository.namespace), (repository.kind, repository.short_name)}
    owners = (
        [ANYONE]
        if accounts == Accounts()
        else [credential for credential in accounts.credentials if credential.account == webhook.owner]
    )
    return (
        not webhook.disabled
        and event.scope.partition(".")[0] in webhook.domains
        and not watched.isdisjoint(webhook.watched)
        and any(may_read(owner, repository) for owner in owners)
    )


def build_payload(event: RepositoryEvent, webhook: StoredWebhook, endpoint: str) -> dict[str, object]:
    repository, discussion, comment = event.repository, event.discussion, event.comment
    payload: dict[str, object] = {
        "event": {"action": event.action, "scope": event.scope},
        "repo": _repository(repository, endpoint),
        "webhook": {"id": webhook.id, "version": 3},
    }
    if event.refs:
        payload["updatedRefs"] = [{"ref": ref.ref, "oldSha": ref.before, "newSha": ref.after} for ref in event.refs]
    if discussion:
        payload["discussion"] = _discussion(repository, discussion, endpoint)
    if discussion and comment:
        payload["comment"] = _comment(repository, discussion, comment, endpoint)
    if event.moved_to:
        name = event.moved_to.removeprefix("datasets/")
        payload["movedTo"] = {"name": name, "owner": {"id": name.partition("/")[0]}}
    return payload


def _repository(repository: Repository, endpoint: str) -> dict[str, object]:
    return {
        "type": repository.kind,
        "name": repository.short_name,
        "id": repository.id,
        "private": repository.private,
        "url": {
            "web": f"{endpoint}/{repository.id}",
            "api": f"{endpoint}/api/{repository.kind}s/{repository.short_name}",
        },
        "headSha": repository.refs.get(MAIN),
        "owner": {"id": repository.namespace},
        "tags": [],
    }


def _discussion(repository: Repository, discussion: Discussion, endpoint: str) -> dict[str, object]:
    place = f"discussions/{discussion.number}"
    item: dict[str, object] = {
        "id": f"{repository.id}/{discussion.number}",
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "author": {"id": discussion.author},
        "isPullRequest": discussion.base is not None,
        "url": {
            "web": f"{endpoint}/{repository.id}/{place}",
            "api": f"{endpoint}/api/{repository.kind}s/{repository.short_name}/{place}",
        },
    }
    if discussion.base:
        item["changes"] = {"base": f"refs/heads/{MAIN}", "mergeCommitId": discussion.merged}
    return item


def _comment(repository: Repository, discussion: Discussion, comment: CommentEvent, endpoint: str) -> dict[str, object]:
    return {
        "id": comment.id,
        "author": {"id": comment.author},
        "content": comment.content,
        "hidden": False,
        "url": {"web": f"{endpoint}/{repository.id}/discussions/{discussion.number}#{comment.id}"},
    }


@dataclass(frozen=True)
class WebhookDelivery:
    """A message for one webhook. All attempts and replays have the same id."""

    id: str
    webhook_id: str
    payload: dict[str, Any]


class DeliveryWorker:
    """Sends deliveries one after the other in a thread, each until it succeeds or the attempts are used up."""

    def __init__(self, store: HubStore, endpoint: str) -> None:
        self.deliveries: list[WebhookDelivery] = []
        """All deliveries so far, which the Hub shows as the activity of a webhook."""
        self._store = store
        self._endpoint = endpoint
        self._queue: SimpleQueue[WebhookDelivery | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver)
        store.announce = self._enqueue

    def start(self) -> None:
        self._thread.start()

    def replay(self, delivery: WebhookDelivery) -> None:
        """Send a delivery again, to the current URL of the webhook."""
        self._queue.put(delivery)

    def close(self) -> None:
        """Stop the thread. Pending deliveries are dropped."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()

    def _enqueue(self, event: RepositoryEvent) -> None:
        """Queue the event for all webhooks that watch it now."""
        accounts = self._store.accounts()
        for webhook in self._store.webhooks():
            if is_watched_by(event, webhook, accounts):
                delivery = WebhookDelivery(uuid.uuid4().hex, webhook.id, build_payload(event, webhook, self._endpoint))
                self.deliveries.append(delivery)
                self._queue.put(delivery)

    def _deliver(self) -> None:
        while (delivery := self._queue.get()) is not None:
            for webhook in self._store.webhooks():
                if webhook.id == delivery.webhook_id:
                    self._send(webhook, delivery)

    def _send(self, webhook: StoredWebhook, delivery: WebhookDelivery) -> None:
        if webhook.trigger is not None:
            self._start_job(webhook, webhook.trigger, delivery)
        if webhook.url is None:
            return
        redelivers = self._store.strictness.redelivers
        headers = {"Webhook-Id": delivery.id} if redelivers else {}
        if webhook.secret is not None:
            headers["X-Webhook-Secret"] = webhook.secret
        for wait in (*WAITS, 0.0) if redelivers else (0.0,):
            if self._closing.is_set() or _post(webhook.url, delivery.payload, headers):
                return
            self._closing.wait(wait)

    def _start_job(self, webhook: StoredWebhook, trigger: JobTrigger, delivery: WebhookDelivery) -> None:
        """https://huggingface.co/docs/hub/jobs-webhooks"""
        repository = delivery.payload["repo"]
        variables = {
            "WEBHOOK_PAYLOAD": json.dumps(delivery.payload),
            "WEBHOOK_REPO_ID": repository["name"],
            "WEBHOOK_REPO_TYPE": repository["type"],
        }
        if self._store.strictness.redelivers:
            variables["WEBHOOK_ID"] = delivery.id
        if webhook.secret is not None:
            variables["WEBHOOK_SECRET"] = webhook.secret
        jobs.start_job(self._store, trigger.namespace, trigger.spec, variables, trigger.secrets, webhook.owner)


def _post(url: str, payload: dict[str, Any], headers: dict[str, str]) -> bool:
    import httpx2

    try:
        return httpx2.post(url, json=payload, headers=headers, timeout=ANSWER_SECONDS, trust_env=False).is_success
    except httpx2.HTTPError:
        logger.debug("%s did not answer", url, exc_info=True)
        return False
