"""Publish a result as one commit: in a pull request, on a branch of the source, or in a separate repository.

A publish is atomic. The history is never rewritten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError, PublishConflict
from antidote_ci.hub import commits, pull_requests
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import fetch_model_info
from antidote_ci.hub.commits import BranchHead, CommitMarker, CommitRequest, CommitTree
from antidote_ci.hub.destination import (
    Destination,
    DestinationState,
    fetch_manifest,
    read_last_head,
    require_unoccupied,
)
from antidote_ci.hub.pull_requests import PullRequestText
from antidote_ci.records import PublishResult

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class PublishRequest:
    """A result to publish."""

    contents: Mapping[str, commits.FileContent]
    """Path -> content of every file of the repaired checkpoint."""
    title: str
    description: str
    texts: PullRequestText
    marker: CommitMarker


def publish_result_files(
    destination: Destination, state: DestinationState, result: PublishRequest, access: HubAccess
) -> PublishResult:
    """Publish the result once. A repeated call finds the earlier commit, also after a failure.

    Raises PublishConflict when the destination has moved or is the work of others, ConfigurationError when the Hub
    refuses the model card, InfrastructureError when it cannot be reached or has other files than were sent.
    """
    change = CommitRequest(result.contents, (), result.title, commits.add_marker(result.description, result.marker))
    if destination.mode == "pull-request":
        return pull_requests.publish_pull_request(access, destination.source, change, result.marker, result.texts)
    repository = destination.repository
    if destination.is_separate and state.revision is None:
        access.request(repository, lambda client: _create_repository(client, repository, state))
    head = access.request(repository, lambda client: _push_result(client, destination, state, change, result.marker))
    commits.require_committed(repository, head, change, result.marker)
    published = PublishResult(destination.mode, destination.address, head.revision, repository)
    if head.marker is None or head.marker.run == result.marker.run:
        return published
    return replace(published, notes=(f"Run {head.marker.run} had already published the same result.",))


def _create_repository(client: "HfApi", repository: str, state: DestinationState) -> None:
    """Create a repository that is private or gated if its source is. A repeated call finds the repository.

    Raises PublishConflict if it must be private, and another account created a public one during the run.
    """
    client.create_repo(repository, private=state.private, exist_ok=True)
    if state.private and not fetch_model_info(client, repository).private:
        raise PublishConflict(
            f"{repository} is public, and its source is private or gated",
            cause="it was created during the run",
            hint=f"make {repository} private or gated, then run the same command again",
        )
    if state.gated is not None:
        client.update_repo_settings(repository, gated=state.gated)


def _push_result(
    client: "HfApi", destination: Destination, state: DestinationState, change: CommitRequest, marker: CommitMarker
) -> BranchHead:
    """The head with this result, committed unless it is there already."""
    try:
        return _push_once(client, destination, state, change, marker)
    except Exception as error:
        if not commits.is_stale(error):
            raise
    # The branch moved: another run published the same result, a person committed, or an answer to this run was lost.
    return _push_once(client, destination, state, change, marker)


def _push_once(
    client: "HfApi", destination: Destination, state: DestinationState, change: CommitRequest, marker: CommitMarker
) -> BranchHead:
    head = _require_head(client, destination)
    if head.marker is not None and head.marker.result == marker.result:
        return head
    require_unoccupied(client, destination, head)
    unmoved = head.revision == state.revision or (
        state.revision is None and head.tree.files.keys() <= {commits.ATTRIBUTES}
    )
    if destination.is_separate and not unmoved:
        raise PublishConflict(
            f"{destination.repository} is no longer {f'at {state.revision}' if state.revision else 'empty'}",
            cause=f"{head.revision} was pushed during the run",
            hint="run the same command again",
        )
    change = replace(change, removed=_obsolete_files(client, destination, head.tree, change))
    revision = commits.commit_to_branch(client, destination.repository, destination.branch, head.tree, change)
    return commits.read_head(client, destination.repository, revision)


def _require_head(client: "HfApi", destination: Destination) -> BranchHead:
    """The head of the destination. A branch is created at the tested commit if it does not exist."""
    head = read_last_head(client, destination)
    if head is None and destination.mode == "branch":
        client.create_branch(
            destination.repository, branch=destination.branch, revision=destination.revision, exist_ok=True
        )
        head = read_last_head(client, destination)
    if head is None:
        raise InfrastructureError(
            f"{destination.branch} of {destination.repository} no longer exists",
            cause="it was deleted during the run",
            hint="run the same command again",
        )
    return head


def _obsolete_files(
    client: "HfApi", destination: Destination, tree: CommitTree, change: CommitRequest
) -> tuple[str, ...]:
    """The files of an earlier result that this result does not have. The two models must not be mixed."""
    if not destination.is_separate:
        return ()
    manifest = fetch_manifest(client, destination.repository, tree)
    earlier = {file.path for file in manifest.files} if manifest else set()
    earlier |= {path for path in tree.files if path.endswith((".safetensors", ".safetensors.index.json"))}
    return tuple(sorted(earlier - change.contents.keys()))
