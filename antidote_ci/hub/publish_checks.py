"""What can be known of a destination before the work: rights, what stands there, and whether the result is there."""

from typing import Literal

from antidote_ci.checkpoint.card import CARD
from antidote_ci.errors import ConfigurationError, PublishConflict
from antidote_ci.hub import pull_requests
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.destination import Destination, DestinationState, read_last_head, require_unoccupied
from antidote_ci.hub.identity import HubAccount, read_account
from antidote_ci.hub.info import fetch_model_info
from antidote_ci.hub.trees import CommitTree, read_file


def check_destination(destination: Destination, reading: HubAccess, writing: HubAccess) -> DestinationState:
    """Refuse now what could only fail after the work: rights, a source that has moved, a destination that is taken.

    Raises ConfigurationError, InfrastructureError (rights) or PublishConflict.
    """
    source = reading.request(destination.source, lambda client: fetch_model_info(client, destination.source))
    if destination.mode == "pull-request" and source.sha != destination.revision:
        raise PublishConflict(
            f"the main branch of {destination.source} is not at {destination.revision}, the revision to be tested",
            cause="a pull request goes to main",
            hint=f"run on {source.sha}, or publish to a branch or a repository",
        )
    closed = bool(source.private or source.gated)
    gated = source.gated if source.gated in ("auto", "manual") else None
    account = writing.request(destination.source, read_account)
    if destination.mode == "branch":
        writing.request(destination.source, lambda client: client.auth_check(destination.source, write=True))
    if not destination.is_separate:
        return DestinationState(source.sha, card=None, private=closed, gated=gated)
    return _check_repository(destination, writing, account, closed, gated)


def find_waiting_result(destination: Destination, access: HubAccess, policy: str) -> tuple[CommitTree, str] | None:
    """The files and the address of this policy's result for the tested commit, where it waits in a pull request.

    None for a branch or a repository: nothing on the Hub says who made a commit there.
    """
    if destination.mode != "pull-request":
        return None
    ours = pull_requests.find_existing(access, destination.source, destination.revision, policy)
    return (ours.head.tree, ours.url) if ours is not None else None


def _check_repository(
    destination: Destination,
    writing: HubAccess,
    account: HubAccount,
    closed: bool,
    gated: Literal["auto", "manual"] | None,
) -> DestinationState:
    repository = destination.repository
    found = writing.request(repository, lambda client: read_last_head(client, destination))
    if found is None:
        _require_own_namespace(repository, account)
        return DestinationState(None, card=None, private=closed, gated=gated)
    writing.request(repository, lambda client: client.auth_check(repository, write=True))
    about = writing.request(repository, lambda client: fetch_model_info(client, repository))
    if closed and not (about.private or about.gated):
        raise ConfigurationError(
            f"{repository} is public, and {destination.source} is private or gated",
            cause="published there, anyone could have what only some may have",
            hint=f"make {repository} private or gated, or name a new repository",
        )
    writing.request(repository, lambda client: require_unoccupied(client, destination, found))
    text = read_file(writing, repository, found.tree, CARD)
    card = text.decode("utf-8", "surrogateescape") if text is not None else None
    return DestinationState(found.revision, card=card, private=closed, gated=gated)


def _require_own_namespace(repository: str, account: HubAccount) -> None:
    """Raise ConfigurationError where the token's account may not make repositories."""
    owner = repository.partition("/")[0]
    if owner not in account.owners:
        raise ConfigurationError(
            f"{repository} does not exist, and this token may not make it",
            cause=f"it is that of {account.name}"
            + ("" if account.owners else ", and a workflow makes no repositories"),
            hint=f"make the repository by hand, or use a token of {owner}",
        )
