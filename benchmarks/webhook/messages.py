"""A delivery as bytes, and the answers that it may get. Pure."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.webhook.plan import MALFORMED, Delivery
from loopback_hub.deliveries import build_payload
from loopback_hub.records import Repository, RepositoryEvent, StoredWebhook, UpdatedRef

MAX_BYTES = 64 * 1024
BRIM = 9
"""One good delivery in so many is as large as may be."""
ENDPOINT = "https://huggingface.co"

Meaning = Literal["accepted", "again", "duplicate", "ignored", "too large", "forged", "malformed", "other"]
"""`again`: another message has ordered the commit. `duplicate`: the very message was heard before."""
STATUSES: dict[tuple[int, object], Meaning] = {
    (202, "accepted"): "accepted",
    (202, "duplicate"): "again",
    (200, "duplicate"): "duplicate",
    (200, "ignored"): "ignored",
}
REFUSED: dict[int, Meaning] = {413: "too large", 401: "forged", 400: "malformed"}
ANSWERED: dict[Meaning, tuple[int, str]] = {
    **{said: (status, json.dumps({"status": word})) for (status, word), said in STATUSES.items()},
    **{said: (status, "") for status, said in REFUSED.items()},
}
"""An answer of each meaning."""


@dataclass(frozen=True)
class Message:
    """What goes over the wire, but for the address."""

    headers: Mapping[str, str]
    body: bytes
    chunked: bool = False
    query: str = ""


def expected(delivery: Delivery) -> set[Meaning]:
    """What a service that works may answer.

    The answer to an accepted delivery may be lost with a kill: then the same message is a duplicate.
    """
    match delivery.kind:
        case "forged":
            return {"forged"}
        case "oversized":
            return {"too large"}
        case "garbage":
            return {"malformed"} if delivery.flaw in MALFORMED else {"ignored"}
        case _:
            return {"accepted", "again", "duplicate"}


def meaning(status: int, said: str) -> Meaning:
    """What an answer says."""
    if status in REFUSED:
        return REFUSED[status]
    try:
        told = json.loads(said)
    except ValueError:
        return "other"
    return STATUSES.get((status, told.get("status")), "other") if isinstance(told, dict) else "other"


def message(delivery: Delivery, shas: Sequence[str], secret: str) -> Message:
    """`shas`: the commits of the delivery's repository so far."""
    headers = {"Content-Type": "application/json", "Webhook-Id": delivery.id, "X-Webhook-Secret": secret}
    body = json.dumps(_told(delivery, shas)).encode()
    plain = Message(headers, body)
    match delivery.kind:
        case "forged":
            return _forged(plain, delivery.flaw, secret)
        case "oversized":
            return _oversized(plain, delivery)
        case "garbage":
            spoil = GARBAGE.get(delivery.flaw)
            return replace(plain, body=spoil(body)) if spoil else plain
        case _:
            full = int(delivery.id[:8], 16) % BRIM == 0
            return replace(plain, body=body.ljust(MAX_BYTES)) if full else plain


def _told(delivery: Delivery, shas: Sequence[str]) -> dict[str, object]:
    if delivery.commit is None:
        before: str | None = shas[-1]
        after = hashlib.sha1(delivery.id.encode(), usedforsecurity=False).hexdigest()
    else:
        before = shas[delivery.commit - 1] if delivery.commit else None
        after = shas[delivery.commit]
    name, main = delivery.repository, "refs/heads/main"
    update = UpdatedRef(main, before, after)
    match delivery.flaw:
        case "a pull request":
            update = replace(update, ref="refs/pr/1")
        case "a tag":
            update = replace(update, ref="refs/tags/v1")
        case "another branch":
            update = replace(update, ref="refs/heads/main-2")
        case "a branch that ended":
            update = UpdatedRef(main, after, None)
        case "a commit that is no hash":
            update = UpdatedRef(main, before, "HEAD; rm -rf /")
        case "a name that leaves":
            name = f"{name}/../../elsewhere/model-00"
        case "a dataset":
            name = f"datasets/{name}"
    repository = Repository(name, "2026-01-01T00:00:00.000Z", {"main": after})
    announced = RepositoryEvent("update", "repo.content", repository, (update,))
    match delivery.flaw:
        case "a comment":
            announced = RepositoryEvent("create", "discussion.comment", repository)
        case "the configuration":
            announced = RepositoryEvent("update", "repo.config", repository)
    told = build_payload(announced, StoredWebhook("5e1f", "demo", "", [], [], None), ENDPOINT)
    if delivery.flaw == "a later version":
        told["webhook"] = {"id": "5e1f", "version": 4}
    if delivery.flaw == "no repository":
        del told["repo"]
    return told


def _forged(plain: Message, flaw: str, secret: str) -> Message:
    headers = dict(plain.headers)
    del headers["X-Webhook-Secret"]
    wrong = {
        "wrong": secret[::-1],
        "empty": "",
        "truncated": secret[:-1],
        "longer": f"{secret}x",
        "of another case": secret.swapcase(),
        "not ASCII": f"{secret[:-1]}\u00e9",
    }
    if flaw in wrong:
        headers["X-Webhook-Secret"] = wrong[flaw]
    return replace(plain, headers=headers, query=f"?secret={secret}" if flaw == "in the address" else "")


def _oversized(plain: Message, delivery: Delivery) -> Message:
    """From one byte too many to a megabyte. What is inside would be good."""
    sizes = (MAX_BYTES + 1, 2 * MAX_BYTES, 16 * MAX_BYTES)
    headers = dict(plain.headers)
    if "wrong secret" in delivery.flaw:
        headers["X-Webhook-Secret"] = "x" * len(headers["X-Webhook-Secret"])
    if "without" in delivery.flaw:
        del headers["X-Webhook-Secret"]
    size = sizes[int(delivery.id[:8], 16) % len(sizes)]
    return Message(headers, plain.body.ljust(size), chunked=delivery.flaw.startswith("chunked"))


def _as_a_list(body: bytes) -> bytes:
    told: dict[str, Any] = json.loads(body)
    return json.dumps([told]).encode()


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "not JSON": lambda _: b"action=update&scope=repo.content",
    "cut": lambda body: body[: len(body) // 2],
    "not UTF-8": lambda body: body.replace(b"update", b"upd\xff\xfe"),
    "a list": _as_a_list,
    "nested 10,000 deep": lambda _: b"[" * 10_000 + b"]" * 10_000,
}
"""What is no payload at all; the other flaws lie in what it says."""
