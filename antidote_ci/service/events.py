"""Parse webhook deliveries and decide whether they request a run. Pure.

Reads version 3 of the Hub's payload: https://huggingface.co/docs/hub/webhooks. Fields that are used are checked
strictly, all others are ignored. huggingface_hub's `WebhookPayload` lacks `headSha` and rejects unknown kinds of
repositories.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.remote import REPOSITORY_NAME
from antidote_ci.records import COMMIT
from antidote_ci.service.records import IgnoredEvent, RefUpdate, RunRequest, WebhookEvent

MAX_BYTES = 64 * 1024
VERSION = 3
MAIN = "refs/heads/main"
CONTENT = "repo.content"
"""Scope of events that change files. Narrower scopes start with it and a dot."""
PAYLOAD_VARIABLE, REPOSITORY_VARIABLE = "WEBHOOK_PAYLOAD", "WEBHOOK_REPO_ID"
"""Set by the Hub in Jobs that a webhook starts: https://huggingface.co/docs/hub/jobs-webhooks"""
SEPARATORS = re.compile(r"[,\s]+")
WORD = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)


class BadPayload(ValueError):
    """The payload is invalid. The message quotes nothing of it, so that it can be printed."""


def parse_event(body: bytes) -> WebhookEvent:
    """Parse a delivery. Raises BadPayload, and nothing else, for an invalid payload."""
    if len(body) > MAX_BYTES:
        raise BadPayload(f"the payload has {len(body):,} bytes, more than {MAX_BYTES:,}")
    payload = _require_object(_parse_json(body), "the payload")
    version = _require_object(payload.get("webhook"), "webhook").get("version")
    if type(version) is not int:
        raise BadPayload("webhook.version is not a number: this is not a payload of the Hub")
    if version != VERSION:
        raise BadPayload(f"webhook.version is not {VERSION}, the version that this release supports: upgrade it")
    event, repository = (_require_object(payload.get(name), name) for name in ("event", "repo"))
    scope = _require_text(event.get("scope"), WORD, "event.scope")
    updates = _parse_updates(payload.get("updatedRefs"))
    if not updates and _is_content_event(scope):
        # An event without references still names the head of the main branch.
        updates = (RefUpdate(MAIN, _parse_commit(repository.get("headSha"), "repo.headSha")),)
    return WebhookEvent(
        scope=scope,
        kind=_require_text(repository.get("type"), WORD, "repo.type"),
        repository=_require_text(repository.get("name"), REPOSITORY_NAME, "repo.name"),
        updates=updates,
    )


def read_job_event(environ: Mapping[str, str]) -> WebhookEvent:
    """The event that a webhook Job was started for. Raises ConfigurationError when it is missing or invalid."""
    text = environ.get(PAYLOAD_VARIABLE)
    if text is None:
        raise ConfigurationError(
            f"{PAYLOAD_VARIABLE} is not set: there is no event to handle",
            cause="the Hub sets it in Jobs that a webhook starts",
            hint="register a webhook: antidote-ci webhook register --job new --repository ORG/NAME",
        )
    try:
        event = parse_event(text.encode("utf-8", "surrogateescape"))
    except BadPayload as error:
        raise ConfigurationError(f"{PAYLOAD_VARIABLE} is invalid: {error}") from None
    name = environ.get(REPOSITORY_VARIABLE, event.repository)
    if name.lower() != event.repository.lower():
        raise ConfigurationError(
            f"{PAYLOAD_VARIABLE} names {event.repository}, but {REPOSITORY_VARIABLE} does not",
            cause="the Hub sets both from one event, so one of them was changed",
            hint="let only the webhook start this Job",
        )
    return event


def parse_allow_list(names: Iterable[str]) -> tuple[str, ...]:
    """The repositories that may be processed: ORG/NAME, or ORG/* for all of an organisation or user.

    Each item of `names` may hold several names, separated by commas. Raises ConfigurationError for an empty list and
    for an invalid name.
    """
    allowed = tuple(dict.fromkeys(name for text in names for name in SEPARATORS.split(text) if name))
    for name in allowed:
        owner, separator, rest = name.partition("/")
        if not (separator and REPOSITORY_NAME.fullmatch(owner) and (rest == "*" or REPOSITORY_NAME.fullmatch(name))):
            raise ConfigurationError(
                f"{name!r} is not a repository name", hint="use --repository ORG/NAME, or ORG/* for all of them"
            )
    if not allowed:
        raise ConfigurationError(
            "no repository is allowed",
            cause="neither --repository nor ANTIDOTE_REPOSITORY names one",
            hint="use --repository ORG/NAME, or ORG/* for all repositories of an organisation or user",
        )
    return allowed


def decide_event(event: WebhookEvent, allowed: Sequence[str], policy: str) -> RunRequest | IgnoredEvent:
    """The run request for an event, or the reason why there is none.

    `policy` is the sha256 of the policy. The event's action is ignored: only the commit of the main branch counts.
    """
    if event.kind != "model":
        return IgnoredEvent(f"{event.repository} is a {event.kind}, not a model")
    if not is_allowed_repository(event.repository, allowed):
        return IgnoredEvent(f"{event.repository} is not on the allow list")
    if not _is_content_event(event.scope):
        return IgnoredEvent(f"no file of {event.repository} changed ({event.scope})")
    updates = [update for update in event.updates if update.ref == MAIN]
    if not updates:
        return IgnoredEvent(f"the main branch of {event.repository} did not move")
    revision = updates[-1].revision
    if revision is None:
        return IgnoredEvent(f"the main branch of {event.repository} was deleted")
    return RunRequest(event.repository, revision, policy)


def is_allowed_repository(repository: str, allowed: Sequence[str]) -> bool:
    """Whether the allow list contains the repository. Names on the Hub are unique without regard to case."""
    owner, separator, _ = repository.lower().partition("/")
    # The oldest models have names without an owner, which no allow list can contain.
    return bool(separator) and not {repository.lower(), f"{owner}/*"}.isdisjoint(name.lower() for name in allowed)


def _is_content_event(scope: str) -> bool:
    """Whether files changed."""
    return scope == CONTENT or scope.startswith(f"{CONTENT}.")


def _parse_json(body: bytes) -> object:
    try:
        document: object = json.loads(
            body.decode("utf-8"), object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant
        )
    except BadPayload:
        raise
    # Too deeply nested, a number that is too long, not UTF-8, or not JSON.
    except (ValueError, RecursionError):
        raise BadPayload("the payload is not JSON") from None
    return document


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Parsers disagree on which value of a duplicate key counts."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise BadPayload("the payload contains a duplicate key")
    return document


def _reject_constant(_: str) -> object:
    raise BadPayload("the payload contains NaN or Infinity, which JSON does not allow")


def _parse_updates(references: object) -> tuple[RefUpdate, ...]:
    if references is None:
        return ()
    if not isinstance(references, list):
        raise BadPayload("updatedRefs is not a list")
    return tuple(_parse_update(_require_object(item, "an item of updatedRefs")) for item in references)


def _parse_update(reference: dict[str, object]) -> RefUpdate:
    ref = reference.get("ref")
    if not isinstance(ref, str):
        raise BadPayload("the ref of an item of updatedRefs is not text")
    # Git allows almost any branch name. A strange name must not hide an update of the main branch.
    readable = ref.encode("utf-8", "replace").decode()
    return RefUpdate(readable, _parse_commit(reference.get("newSha"), "newSha"))


def _parse_commit(value: object, name: str) -> str | None:
    return None if value is None else _require_text(value, COMMIT, name)


def _require_object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadPayload(f"{name} is missing or not a JSON object")
    return value


def _require_text(value: object, pattern: re.Pattern[str], name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadPayload(f"{name} is missing or invalid")
    return value
