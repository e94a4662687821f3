"""Webhooks of the loopback Hub: deliveries to a receiver over real HTTP."""

import json
import threading
import time
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from huggingface_hub import WebhookPayload
from huggingface_hub.hf_api import WebhookWatchedItem

from loopback_hub import LoopbackHub
from tests.hub.hub_samples import TOKEN, MakeModel
from tests.loopback_hub.loopback_samples import client, file, status, write
from tests.serving import Handler, Server

MODEL: list[dict[Any, Any] | WebhookWatchedItem] = [{"type": "model", "name": "org/model"}]
ORGANISATION: list[dict[Any, Any] | WebhookWatchedItem] = [{"type": "org", "name": "org"}]
SECRET = "a secret that is shared"


@dataclass(frozen=True)
class Received:
    """A received delivery."""

    id: str
    secret: str | None
    payload: dict[str, Any]

    @property
    def event(self) -> tuple[str, str]:
        return self.payload["event"]["action"], self.payload["event"]["scope"]


@dataclass
class Receiver:
    """Answers with `statuses` one after the other, then with 200."""

    url: str
    statuses: list[int] = field(default_factory=list)
    queue: SimpleQueue[Received] = field(default_factory=SimpleQueue)

    def next(self) -> Received:
        return self.queue.get(timeout=10)

    def take(self, count: int) -> list[tuple[str, str]]:
        return [self.next().event for _ in range(count)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Receiving(Handler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            running.queue.put(
                Received(self.headers["Webhook-Id"], self.headers["X-Webhook-Secret"], json.loads(content))
            )
            self.send_response(running.statuses.pop(0) if running.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with Server(Receiving) as server:
        running = Receiver(f"{server.endpoint}/")
        yield running


def test_create_change_and_delete(hub: LoopbackHub, receiver: Receiver) -> None:
    hf = client(hub)
    created = hf.create_webhook(url=receiver.url, watched=MODEL, secret=SECRET, domains=["repo"])
    assert [webhook.id for webhook in hf.list_webhooks()] == [created.id]
    changed = hf.update_webhook(created.id, domains=["repo", "discussion"])
    assert changed.domains == ["repo", "discussion"]
    assert (changed.url, changed.secret, changed.watched) == (created.url, created.secret, created.watched)
    assert hf.disable_webhook(created.id).disabled
    assert not hf.enable_webhook(created.id).disabled
    assert hf.get_webhook(created.id) == changed
    assert status(hf.create_webhook, url="ftp://elsewhere", watched=MODEL) == 400
    hub.add_account("ada", "hf_ada")
    assert client(hub, "hf_ada").list_webhooks() == []
    assert status(lambda: client(hub, "hf_ada").delete_webhook(created.id)) == 404


def test_push_to_main_is_delivered(hub: LoopbackHub, model: MakeModel, receiver: Receiver) -> None:
    before = hub.add("org/model", model())
    hf = client(hub)
    created = hf.create_webhook(url=receiver.url, watched=MODEL, secret=SECRET, domains=["repo"])
    pushed = hf.create_commit("org/model", [file("a", "1")], commit_message="A push")
    received = receiver.next()
    assert received.secret == SECRET
    payload = received.payload
    assert payload["event"] == {"action": "update", "scope": "repo.content"}
    assert payload["updatedRefs"] == [{"ref": "refs/heads/main", "oldSha": before, "newSha": pushed.oid}]
    assert (payload["repo"]["name"], payload["repo"]["headSha"]) == ("org/model", pushed.oid)
    assert payload["webhook"] == {"id": created.id, "version": 3}
    read = WebhookPayload.model_validate(payload)
    assert read.repo.url.web == f"{hub.endpoint}/org/model"


def test_deleted_branch_is_delivered(hub: LoopbackHub, model: MakeModel, receiver: Receiver) -> None:
    head = hub.add("org/model", model())
    hf = client(hub)
    hf.create_branch("org/model", branch="old")
    hf.create_webhook(url=receiver.url, watched=MODEL, domains=["repo"])
    hf.delete_branch("org/model", branch="old")
    payload = receiver.next().payload
    assert payload["updatedRefs"] == [{"ref": "refs/heads/old", "oldSha": head, "newSha": None}]


def test_events_of_a_pull_request_are_delivered(hub: LoopbackHub, model: MakeModel, receiver: Receiver) -> None:
    hub.add("org/model", model())
    hf = client(hub)
    hf.create_webhook(url=receiver.url, watched=ORGANISATION)
    opened = hf.create_commit("org/model", [file("a", "1")], commit_message="Open", create_pr=True)
    created, pushed = receiver.next(), receiver.next()
    assert created.event == ("create", "discussion")
    assert created.payload["discussion"]["isPullRequest"]
    assert created.payload["discussion"]["url"]["web"] == opened.pr_url
    assert pushed.payload["updatedRefs"] == [{"ref": "refs/pr/1", "oldSha": None, "newSha": opened.oid}]
    comment = hf.comment_discussion("org/model", 1, "A word")
    received = receiver.next()
    assert received.event == ("create", "discussion.comment")
    assert (received.payload["comment"]["id"], received.payload["comment"]["content"]) == (comment.id, "A word")
    assert WebhookPayload.model_validate(received.payload).discussion is not None
    hf.edit_discussion_comment("org/model", 1, comment.id, "Another")
    hf.merge_pull_request("org/model", 1)
    hf.update_repo_settings("org/model", gated="auto")
    hf.move_repo("org/model", "org/other")
    hf.delete_repo("org/other")
    assert receiver.take(6) == [
        ("update", "discussion.comment"),
        ("update", "repo.content"),
        ("update", "discussion"),
        ("update", "repo.config"),
        ("move", "repo"),
        ("delete", "repo"),
    ]


def test_failed_delivery_is_retried_with_the_same_id(hub: LoopbackHub, model: MakeModel, receiver: Receiver) -> None:
    hub.add("org/model", model())
    hf = client(hub)
    hf.create_webhook(url=receiver.url, watched=MODEL, domains=["repo"])
    receiver.statuses[:] = [500, 404]
    hf.create_commit("org/model", [file("a", "1")], commit_message="First")
    hf.create_commit("org/model", [file("a", "2")], commit_message="Second")
    attempts = [receiver.next() for _ in range(4)]
    assert [attempt.payload["repo"]["headSha"] for attempt in attempts[:3]] == [
        attempts[0].payload["repo"]["headSha"]
    ] * 3
    assert len({attempt.id for attempt in attempts[:3]}) == 1, "all attempts have the same id"
    assert attempts[3].id != attempts[0].id, "another delivery has another id"


def test_replay_has_the_same_id_and_payload(hub: LoopbackHub, model: MakeModel, receiver: Receiver) -> None:
    hub.add("org/model", model())
    hf = client(hub)
    created = hf.create_webhook(url=receiver.url, watched=MODEL, domains=["repo"])
    hf.create_commit("org/model", [file("a", "1")], commit_message="First")
    first = receiver.next()
    hf.update_webhook(created.id, watched=MODEL, secret=SECRET)
    [delivery] = hub.deliveries.deliveries
    hub.deliveries.replay(delivery)
    again = receiver.next()
    assert (again.id, again.payload) == (first.id, first.payload)
    assert (first.secret, again.secret) == (None, SECRET), "a replay uses the current secret"


def test_webhook_starts_a_job(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    hub.add_account("org", TOKEN)
    hf = client(hub)
    code = "import os; print({n: v for n, v in os.environ.items() if n.startswith('WEBHOOK') or n in ('A', 'OWN')})"
    source = hf.run_job(
        image="ubuntu", command=["python", "-c", code], env={"A": "1"}, secrets={"OWN": "no"}, flavor="cpu-basic"
    )
    created = hf.create_webhook(
        job_id=source.id, watched=MODEL, domains=["repo"], secret=SECRET, secrets={"OWN": "yes", "OTHER": "2"}
    )
    assert created.job is not None
    assert (created.url, created.job.docker_image, created.job.environment) == (None, "ubuntu", {"A": "1"})
    assert status(hf.create_webhook, job_id="0" * 24, watched=MODEL) == 404
    pushed = hf.create_commit("org/model", [file("a", "1")], commit_message="A push")
    deadline = time.monotonic() + 30
    # Without a namespace the client would send its own token to whoami.
    while not (finished := [job for job in hf.list_jobs(status="COMPLETED", namespace="org") if job.id != source.id]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    *_, line = hf.fetch_job_logs(job_id=finished[0].id)
    seen = literal_eval(line)
    assert (seen["A"], seen["OWN"], seen["WEBHOOK_SECRET"]) == ("1", "yes", SECRET)
    assert (seen["WEBHOOK_REPO_ID"], seen["WEBHOOK_REPO_TYPE"]) == ("org/model", "model")
    assert seen["WEBHOOK_ID"] == hub.deliveries.deliveries[-1].id
    assert json.loads(seen["WEBHOOK_PAYLOAD"])["updatedRefs"][0]["newSha"] == pushed.oid
    hf.update_webhook(created.id, job_id=source.id, watched=MODEL, secrets={"OWN": ""})
    [webhook] = hub.store.webhooks()
    assert webhook.trigger is not None
    assert webhook.trigger.secrets == {"OTHER": "2"}, "an empty value removes a secret, other secrets stay"


def test_webhook_receives_only_watched_readable_events(hub: LoopbackHub, receiver: Receiver, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", a="0")
    for name, private in (("org/model", False), ("org/other", False), ("org/private", True)):
        hub.add(name, folder, private=private)
    hub.add_account("ada", "hf_ada", organisations=["org"])
    hub.add_account("bob", "hf_bob")
    owner, stranger = client(hub, "hf_ada"), client(hub, "hf_bob")
    stranger.create_webhook(url=receiver.url, watched=ORGANISATION, domains=["discussion"])
    off = stranger.create_webhook(url=receiver.url, watched=MODEL)
    stranger.disable_webhook(off.id)
    owner.create_commit("org/model", [file("a", "1")], commit_message="Not a discussion")
    owner.create_discussion("org/private", "Not theirs to see")
    owner.create_discussion("org/other", "Theirs to see")
    assert receiver.next().payload["discussion"]["title"] == "Theirs to see"
    with pytest.raises(Empty):
        receiver.queue.get(timeout=0.2)


def test_closing_the_hub_ends_its_threads(
    tmp_path: Path, client_settings: Path, receiver: Receiver, model: MakeModel
) -> None:
    before = threading.active_count()
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.add("org/model", model())
        hf = client(hub)
        hf.create_webhook(url=receiver.url, watched=MODEL)
        receiver.statuses[:] = [500] * 100
        hf.create_commit("org/model", [file("a", "1")], commit_message="Not delivered")
        receiver.next()
        start = time.monotonic()
    assert time.monotonic() - start < 1, "closing does not wait for retries"
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
