"""A delivery's body, read: version 3 of the Hub's payload. Pure.

https://huggingface.co/docs/hub/webhooks. Strict about what is used, deaf to everything else: the client's own
`WebhookPayload` never finds `headSha`, and refuses kinds of repositories that are newer than itself.
"""

import json
import re

from antidote_ci.identifiers import COMMIT
from antidote_ci.service.records import RefUpdate, WebhookEvent

MAX_BYTES = 64 * 1024
VERSION = 3
MAIN = "refs/heads/main"
CONTENT = "repo.content"
"""The scope of what changes files; what may be narrower one day begins with it and a dot."""
WORD_PATTERN = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)
_PART = r"(?!.*(?:\.\.|--|\.git(?:/|\Z)))[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
NAME = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)
"""As the Hub names repositories: no way out of a folder, and nothing that a shell or a log would mind."""


class BadPayload(ValueError):
    """The body is no payload that can be acted upon. The message may be printed: it quotes nothing of it."""


def parse_event(body: bytes) -> WebhookEvent:
    """What the delivery says; raises BadPayload, and nothing else, for whatever is no payload of this version."""
    if len(body) > MAX_BYTES:
        raise BadPayload(f"the payload has {len(body):,} bytes, more than {MAX_BYTES:,}")
    payload = _require_object(_parse_json(body), "the payload")
    version = _require_object(payload.get("webhook"), "webhook").get("version")
    if type(version) is not int:
        raise BadPayload("webhook.version is not a number: this is no payload of the Hub")
    if version != VERSION:
        raise BadPayload(f"webhook.version is another than {VERSION}, the one that this release reads: upgrade it")
    event, repository = (_require_object(payload.get(name), name) for name in ("event", "repo"))
    scope = _require_text(event.get("scope"), WORD_PATTERN, "event.scope")
    updates = _parse_updates(payload.get("updatedRefs"))
    if not updates and is_content_event(scope):
        # An event without references still says where main is.
        updates = (RefUpdate(MAIN, _parse_commit(repository.get("headSha"), "repo.headSha")),)
    return WebhookEvent(
        scope=scope,
        kind=_require_text(repository.get("type"), WORD_PATTERN, "repo.type"),
        repository=_require_text(repository.get("name"), NAME, "repo.name"),
        updates=updates,
    )


def is_content_event(scope: str) -> bool:
    """Whether files changed."""
    return scope == CONTENT or scope.startswith(f"{CONTENT}.")


def _parse_json(body: bytes) -> object:
    try:
        document: object = json.loads(
            body.decode("utf-8"), object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_number
        )
    except BadPayload:
        raise
    # Too deep, too long a number, no UTF-8, no JSON.
    except (ValueError, RecursionError):
        raise BadPayload("the payload is not JSON") from None
    return document


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Two readers of a name that stands twice may each believe another value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadPayload("the payload says something twice")
    return found


def _reject_number(_: str) -> object:
    raise BadPayload("the payload holds a number that JSON has no word for")


def _parse_updates(references: object) -> tuple[RefUpdate, ...]:
    if references is None:
        return ()
    if not isinstance(references, list):
        raise BadPayload("updatedRefs is no list")
    return tuple(_parse_update(_require_object(each, "an item of updatedRefs")) for each in references)


def _parse_update(reference: dict[str, object]) -> RefUpdate:
    ref = reference.get("ref")
    if not isinstance(ref, str):
        raise BadPayload("the ref of an item of updatedRefs is no text")
    # Git lets a branch be called almost anything, and none of it must keep a change of main from being seen.
    readable = ref.encode("utf-8", "replace").decode()
    return RefUpdate(readable, _parse_commit(reference.get("newSha"), "newSha"))


def _parse_commit(value: object, name: str) -> str | None:
    return None if value is None else _require_text(value, COMMIT, name)


def _require_object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadPayload(f"{name} is missing, or no JSON object")
    return value


def _require_text(value: object, form: re.Pattern[str], name: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise BadPayload(f"{name} is missing, or not of its form")
    return value
