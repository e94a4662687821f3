"""The destination of a result: its current state, and the checks that run before the work begins."""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError, PublishConflict
from antidote_ci.hub import commits
from antidote_ci.hub.access import FORBIDDEN, HubAccess, HubAccount, read_account
from antidote_ci.hub.client import fetch_model_info, printable_endpoint
from antidote_ci.hub.commits import BranchHead, CommitTree
from antidote_ci.hub.remote import SHA256_DIGITS
from antidote_ci.records import Manifest, PublishMode, WeightFile, from_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEW_REPOSITORY_FILES = {commits.ATTRIBUTES, CARD, "LICENSE"}
"""A repository with only these files counts as empty."""


@dataclass(frozen=True)
class Destination:
    """Where to publish a result of `source` at `revision`."""

    mode: PublishMode
    """Not `none`."""
    source: str
    revision: str
    """The tested commit."""
    name: str
    """The branch, the repository, or for a pull request the source."""

    @property
    def is_separate(self) -> bool:
        """Whether the result goes to another repository than the source."""
        return self.mode == "repo"

    @property
    def repository(self) -> str:
        return self.name if self.is_separate else self.source

    @property
    def branch(self) -> str:
        return self.name if self.mode == "branch" else commits.MAIN

    @property
    def address(self) -> str:
        """The web page of the destination."""
        page = f"{printable_endpoint()}/{self.repository}"
        return f"{page}/tree/{self.branch}" if self.mode == "branch" else page


@dataclass(frozen=True)
class DestinationState:
    """The state of the destination before the work."""

    revision: str | None
    """The head; None if the repository does not exist yet."""
    card: str | None
    """README.md of an existing separate repository: the text of its owner is kept."""
    private: bool
    """Whether a new repository must be private, because its source is private or gated."""
    gated: Literal["auto", "manual"] | None
    may_write: bool = True
    """Whether the token may write to the source. Otherwise a verdict is published as a discussion."""


def check_destination(destination: Destination, reading: HubAccess, writing: HubAccess) -> DestinationState:
    """Check before the work what publishing would refuse after it: rights, the head of the source, other content.

    Raises ConfigurationError or InfrastructureError when rights are missing, PublishConflict when the source has
    moved or the destination contains the work of others.
    """
    source = reading.request(destination.source, lambda client: fetch_model_info(client, destination.source))
    may_write = destination.mode != "report" or writing.request(
        destination.source, lambda client: _may_write(client, destination.source)
    )
    is_pull_request = destination.mode == "pull-request" or (destination.mode == "report" and may_write)
    if is_pull_request and source.sha != destination.revision:
        raise PublishConflict(
            f"the main branch of {destination.source} is at {source.sha}, but the run tests {destination.revision}",
            cause="a pull request targets main",
            hint=f"run on {source.sha}"
            + (", or publish to a branch or a repository" if destination.mode == "pull-request" else ""),
        )
    gated = source.gated if source.gated in ("auto", "manual") else None
    state = DestinationState(source.sha, card=None, private=bool(source.private or source.gated), gated=gated)
    state = replace(state, may_write=may_write)
    account = read_account(writing, destination.source)
    if is_pull_request:
        writing.request(
            destination.source, lambda client: commits.require_pull_request_right(client, destination.source)
        )
    if destination.mode == "branch":
        writing.request(destination.source, lambda client: _require_free_branch(client, destination))
    return _check_repository(destination, writing, account, state) if destination.is_separate else state


def _require_free_branch(client: "HfApi", destination: Destination) -> None:
    client.auth_check(destination.source, write=True)
    head = read_last_head(client, destination)
    if head is not None:
        require_unoccupied(client, destination, head)


def _may_write(client: "HfApi", repository: str) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        client.auth_check(repository, write=True)
    except HfHubHTTPError as error:
        if error.response.status_code != FORBIDDEN:
            raise
        return False
    return True


def read_last_head(client: "HfApi", destination: Destination) -> BranchHead | None:
    """The head of the destination; None if the branch or the repository does not exist."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return commits.read_head(client, destination.repository, destination.branch)
    except RevisionNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        if destination.is_separate and not isinstance(error, GatedRepoError):
            return None
        raise


def require_unoccupied(client: "HfApi", destination: Destination, head: BranchHead) -> None:
    """Raise PublishConflict if `head` of a branch or separate repository is the work of others."""
    repository = destination.repository
    if destination.mode == "branch":
        own = head.marker is not None and head.marker.source == destination.revision
        if head.revision == destination.revision or own:
            return
        raise PublishConflict(
            f"the branch {destination.branch} of {repository} is at {head.revision}, not at {destination.revision}, "
            "the revision that was tested",
            cause="it has a repair of another commit, another purpose, or moved during the run",
            hint="name another branch with --publish-to, or run on its head",
        )
    if _is_occupied(client, destination, head.tree):
        raise PublishConflict(
            f"{repository} holds a model that is not a repair of {destination.source}",
            cause="another person or job published it",
            hint="name a new repository with --publish-to, or empty this one",
        )


def fetch_manifest(client: "HfApi", repository: str, tree: CommitTree) -> Manifest | None:
    """The manifest of a repair in the tree; None if it is missing or not valid."""
    text = commits.read_small_file(client, repository, tree, MANIFEST_FILE)
    try:
        return from_json(Manifest, text) if text is not None else None
    except ValueError:
        return None


def _check_repository(
    destination: Destination, writing: HubAccess, account: HubAccount, state: DestinationState
) -> DestinationState:
    repository = destination.repository
    head = writing.request(repository, lambda client: read_last_head(client, destination))
    if head is None:
        _require_own_namespace(repository, account)
        return replace(state, revision=None)
    writing.request(repository, lambda client: client.auth_check(repository, write=True))
    info = writing.request(repository, lambda client: fetch_model_info(client, repository))
    if state.private and not (info.private or info.gated):
        raise ConfigurationError(
            f"{repository} is public, and {destination.source} is private or gated",
            cause="everyone could download weights that only some accounts may read",
            hint=f"make {repository} private or gated, or name a new repository",
        )
    writing.request(repository, lambda client: require_unoccupied(client, destination, head))
    text = commits.read_file(writing, repository, head.tree, CARD)
    card = text.decode("utf-8", "surrogateescape") if text is not None else None
    return replace(state, revision=head.revision, card=card)


def _require_own_namespace(repository: str, account: HubAccount) -> None:
    """Raise ConfigurationError if the account may not create `repository`."""
    owner = repository.partition("/")[0]
    if owner not in account.namespaces:
        reason = "" if account.namespaces else ", and a workflow cannot create repositories"
        raise ConfigurationError(
            f"{repository} does not exist, and this token may not create it",
            cause=f"the token belongs to {account.name}{reason}",
            hint=f"create the repository on the Hub, or use a token of {owner}",
        )


def _is_occupied(client: "HfApi", destination: Destination, tree: CommitTree) -> bool:
    """Whether a repository contains anything but an unchanged earlier result for this source."""
    if set(tree.files) <= NEW_REPOSITORY_FILES:
        return False
    manifest = fetch_manifest(client, destination.repository, tree)
    if manifest is None or manifest.source.id != destination.source:
        return True
    return not all(_is_unchanged(client, destination.repository, tree, file) for file in manifest.files)


def _is_unchanged(client: "HfApi", repository: str, tree: CommitTree, file: WeightFile) -> bool:
    digest = tree.files.get(file.path)
    if digest is None or len(digest) == SHA256_DIGITS:
        return digest == file.sha256_out
    # The Hub names small files by their git blob id, and the manifest by their sha256.
    text = commits.read_small_file(client, repository, tree, file.path)
    return text is not None and hashlib.sha256(text).hexdigest() == file.sha256_out
