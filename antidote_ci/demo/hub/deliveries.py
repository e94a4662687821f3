"""Announcements on their way to webhooks, in a thread of their own."""

import logging
import threading
import uuid
from queue import SimpleQueue

from antidote_ci.demo.hub.announcements import concerns, payload
from antidote_ci.demo.hub.records import Announcement
from antidote_ci.demo.hub.registered import Webhook
from antidote_ci.demo.hub.store import Store

logger = logging.getLogger(__name__)

WAITS = (0.1, 0.2, 0.4, 0.8)
"""Seconds between the attempts to tell one webhook. The Hub itself waits longer, and goes on for longer."""
ANSWER_SECONDS = 5


class Deliveries:
    """One after the other, each until it is answered with success or the waits are used up."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self._store = store
        self._endpoint = endpoint
        self._announcements: SimpleQueue[Announcement | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver)
        store.announce = self._announcements.put

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What has not been delivered by now never is."""
        self._closing.set()
        self._announcements.put(None)
        self._thread.join()

    def _deliver(self) -> None:
        while (announcement := self._announcements.get()) is not None:
            known = self._store.accounts()
            for webhook in self._store.webhooks():
                if concerns(announcement, webhook, known):
                    self._tell(webhook, announcement)

    def _tell(self, webhook: Webhook, announcement: Announcement) -> None:
        """Every attempt is the same message, and says so by its id."""
        headers = {"Webhook-Id": uuid.uuid4().hex}
        if webhook.secret is not None:
            headers["X-Webhook-Secret"] = webhook.secret
        told = payload(announcement, webhook, self._endpoint)
        for wait in (*WAITS, 0.0):
            if self._closing.is_set() or _accepted(webhook.url, told, headers):
                return
            self._closing.wait(wait)


def _accepted(url: str, told: dict[str, object], headers: dict[str, str]) -> bool:
    import httpx2

    try:
        return httpx2.post(url, json=told, headers=headers, timeout=ANSWER_SECONDS, trust_env=False).is_success
    except httpx2.HTTPError:
        logger.debug("%s did not answer", url, exc_info=True)
        return False
