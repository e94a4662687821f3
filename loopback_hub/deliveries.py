"""Announcements on their way to webhooks, in a thread of their own."""

import json
import logging
import threading
import uuid
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from loopback_hub import jobs
from loopback_hub.announcements import build_payload, is_watched_by
from loopback_hub.records import RepositoryEvent
from loopback_hub.registered import JobTrigger, StoredWebhook
from loopback_hub.store import HubStore

logger = logging.getLogger(__name__)

WAITS = (0.1, 0.2, 0.4, 0.8)
"""Seconds between the attempts to tell one webhook. The Hub itself waits longer, and goes on for longer."""
ANSWER_SECONDS = 5


@dataclass(frozen=True)
class WebhookDelivery:
    """One message for one webhook. Every attempt and every replay of it has the same id."""

    id: str
    webhook_id: str
    payload: dict[str, Any]


class DeliveryWorker:
    """One after the other, each until it is answered with success or the waits are used up."""

    def __init__(self, store: HubStore, endpoint: str) -> None:
        self.made: list[WebhookDelivery] = []
        """All so far: the Hub shows them among a webhook's activity."""
        self._store = store
        self._endpoint = endpoint
        self._queue: SimpleQueue[WebhookDelivery | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver)
        store.announce = self._enqueue

    def start(self) -> None:
        self._thread.start()

    def replay(self, delivery: WebhookDelivery) -> None:
        """Once more, to where the webhook points now: what the Hub's button does."""
        self._queue.put(delivery)

    def close(self) -> None:
        """What has not been delivered by now never is."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()

    def _enqueue(self, announcement: RepositoryEvent) -> None:
        """Whoever asks to be told later is not told of this."""
        known = self._store.accounts()
        for webhook in self._store.webhooks():
            if is_watched_by(announcement, webhook, known):
                delivery = WebhookDelivery(
                    uuid.uuid4().hex, webhook.id, build_payload(announcement, webhook, self._endpoint)
                )
                self.made.append(delivery)
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
        headers = {"Webhook-Id": delivery.id}
        if webhook.secret is not None:
            headers["X-Webhook-Secret"] = webhook.secret
        for wait in (*WAITS, 0.0):
            if self._closing.is_set() or _post(webhook.url, delivery.payload, headers):
                return
            self._closing.wait(wait)

    def _start_job(self, webhook: StoredWebhook, trigger: JobTrigger, delivery: WebhookDelivery) -> None:
        """https://huggingface.co/docs/hub/jobs-webhooks"""
        repository = delivery.payload["repo"]
        told = {
            "WEBHOOK_PAYLOAD": json.dumps(delivery.payload),
            "WEBHOOK_REPO_ID": repository["name"],
            "WEBHOOK_REPO_TYPE": repository["type"],
            "WEBHOOK_ID": delivery.id,
        }
        if webhook.secret is not None:
            told["WEBHOOK_SECRET"] = webhook.secret
        jobs.start_job(self._store, trigger.namespace, trigger.spec, told, trigger.secrets, webhook.owner)


def _post(url: str, told: dict[str, Any], headers: dict[str, str]) -> bool:
    import httpx2

    try:
        return httpx2.post(url, json=told, headers=headers, timeout=ANSWER_SECONDS, trust_env=False).is_success
    except httpx2.HTTPError:
        logger.debug("%s did not answer", url, exc_info=True)
        return False
