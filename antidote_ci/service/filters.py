"""Whether an event asks for work. Pure."""

import re
from collections.abc import Iterable, Sequence

from antidote_ci.errors import ConfigurationError
from antidote_ci.service.events import MAIN, NAME, is_content_event
from antidote_ci.service.records import IgnoredEvent, RunRequest, WebhookEvent

SEPARATORS = re.compile(r"[,\s]+")


def parse_allow_list(names: Iterable[str]) -> tuple[str, ...]:
    """The repositories that may be worked on: ORG/NAME, or ORG/* for all of an organisation or user.

    Each of `names` may hold several, separated by commas. Raises ConfigurationError for none, and for what is neither.
    """
    found = tuple(dict.fromkeys(name for text in names for name in SEPARATORS.split(text) if name))
    for name in found:
        owner, separator, rest = name.partition("/")
        if not (separator and NAME.fullmatch(owner) and (rest == "*" or NAME.fullmatch(name))):
            raise ConfigurationError(
                f"{name!r} names no repository", hint="write --repository ORG/NAME, or ORG/* for all of them"
            )
    if not found:
        raise ConfigurationError(
            "no repository may be worked on",
            cause="neither --repository nor ANTIDOTE_REPOSITORY names one",
            hint="write --repository ORG/NAME, or ORG/* for all of an organisation or user",
        )
    return found


def decide_event(event: WebhookEvent, allowed: Sequence[str], policy: str) -> RunRequest | IgnoredEvent:
    """An order for the commit that main of an allowed model is said to be at, or why there is none.

    `policy` is the sha256 of the policy. What the event calls its action does not matter: where main is does.
    """
    if event.kind != "model":
        return IgnoredEvent(f"{event.repository} is a {event.kind}, no model")
    if not is_allowed_repository(event.repository, allowed):
        return IgnoredEvent(f"{event.repository} is not on the list of repositories")
    if not is_content_event(event.scope):
        return IgnoredEvent(f"no file of {event.repository} changed ({event.scope})")
    moved = [update for update in event.updates if update.ref == MAIN]
    if not moved:
        return IgnoredEvent(f"the main branch of {event.repository} did not move")
    revision = moved[-1].new
    if revision is None:
        return IgnoredEvent(f"the main branch of {event.repository} is gone")
    return RunRequest(event.repository, revision, policy)


def is_allowed_repository(repository: str, allowed: Sequence[str]) -> bool:
    """Whether the list has it. The Hub has no two names that differ in case alone."""
    owner, separator, _ = repository.lower().partition("/")
    # The oldest models have names without an owner: no list names them.
    return bool(separator) and not {repository.lower(), f"{owner}/*"}.isdisjoint(name.lower() for name in allowed)
