"""Publishing a result: a pull request, a branch of the source, or a repository of its own. One commit each.

Nothing is forced and nothing squashed; whoever looks sees the old head or the complete new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError, PublishConflict
from antidote_ci.hub import commits, pull_requests
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.commit_marker import CommitMarker, add_marker
from antidote_ci.hub.commits import BranchHead, CommitRequest, read_head
from antidote_ci.hub.destination import (
    ATTRIBUTES,
    Destination,
    DestinationState,
    fetch_manifest,
    read_last_head,
    require_unoccupied,
)
from antidote_ci.hub.info import fetch_model_info
from antidote_ci.hub.pull_requests import PullRequestText
from antidote_ci.hub.trees import CommitTree, FileContent
from antidote_ci.records import PublishResult

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class PublishRequest:
    """What is to be published."""

    contents: Mapping[str, FileContent]
    """Every file of the repaired checkpoint, by its path."""
    title: str
    description: str
    texts: PullRequestText
    marker: CommitMarker


def publish_result_files(
    destination: Destination, state: DestinationState, result: PublishRequest, access: HubAccess
) -> PublishResult:
    """Publish once, whatever fails in between: repeated, it finds what is there already.

    Raises PublishConflict when the destination has moved or is somebody else's, ConfigurationError when the Hub refuses
    the model card, InfrastructureError when it cannot be reached or does not hold what was sent.
    """
    change = CommitRequest(result.contents, (), result.title, add_marker(result.description, result.marker))
    if destination.mode == "pull-request":
        return pull_requests.publish_pull_request(access, destination.source, change, result.marker, result.texts)
    repository = destination.repository
    if destination.is_separate and state.revision is None:
        access.request(repository, lambda client: _create_repository(client, repository, state))
    found = access.request(repository, lambda client: _push_result(client, destination, state, change, result.marker))
    commits.require_committed(repository, found, change, result.marker)
    published = PublishResult(destination.mode, destination.address, found.revision, repository)
    if found.marker is None or found.marker.run == result.marker.run:
        return published
    return replace(published, notes=(f"The same result was there already, from run {found.marker.run}.",))


def _create_repository(client: "HfApi", repository: str, state: DestinationState) -> None:
    """A repository no more open than the source. Repeated, it finds its own.

    Raises PublishConflict where somebody else made it meanwhile, and made it public.
    """
    client.create_repo(repository, private=state.private, exist_ok=True)
    if state.private and not fetch_model_info(client, repository).private:
        raise PublishConflict(
            f"{repository} is public, and its source is private or gated",
            cause="somebody made it during the run",
            hint=f"make {repository} private or gated, then run the same command again",
        )
    if state.gated is not None:
        client.update_repo_settings(repository, gated=state.gated)


def _push_result(
    client: "HfApi", destination: Destination, state: DestinationState, change: CommitRequest, marker: CommitMarker
) -> BranchHead:
    """The head with this result. Looks first: it may run again."""
    try:
        return _push_once(client, destination, state, change, marker)
    except Exception as error:
        if not commits.is_stale(error):
            raise
    # Somebody was quicker: another run with the same result, a person, or this run, whose answer was lost.
    return _push_once(client, destination, state, change, marker)


def _push_once(
    client: "HfApi", destination: Destination, state: DestinationState, change: CommitRequest, marker: CommitMarker
) -> BranchHead:
    last = _require_pushable_head(client, destination)
    if last.marker is not None and last.marker.result == marker.result:
        return last
    require_unoccupied(client, destination, last)
    as_it_was = last.revision == state.revision or (state.revision is None and last.tree.files.keys() <= {ATTRIBUTES})
    if destination.is_separate and not as_it_was:
        raise PublishConflict(
            f"{destination.repository} is no longer {f'at {state.revision}' if state.revision else 'empty'}",
            cause=f"{last.revision} was pushed during the run",
            hint="run the same command again",
        )
    gone = _obsolete_files(client, destination, last.tree, change)
    revision = commits.commit_to_branch(
        client, destination.repository, destination.branch, last.tree, replace(change, removed=gone)
    )
    return read_head(client, destination.repository, revision)


def _require_pushable_head(client: "HfApi", destination: Destination) -> BranchHead:
    found = read_last_head(client, destination)
    if found is None and destination.mode == "branch":
        client.create_branch(
            destination.repository, branch=destination.branch, revision=destination.revision, exist_ok=True
        )
        found = read_last_head(client, destination)
    if found is None:
        raise InfrastructureError(
            f"{destination.branch} of {destination.repository} has vanished",
            cause="it was deleted during the run",
            hint="run the same command again",
        )
    return found


def _obsolete_files(
    client: "HfApi", destination: Destination, there: CommitTree, change: CommitRequest
) -> tuple[str, ...]:
    """Files of our earlier result that this one does not have: beside it they would be half of another model."""
    if not destination.is_separate:
        return ()
    manifest = fetch_manifest(client, destination.repository, there)
    stale = {each.path for each in manifest.files} if manifest else set()
    stale |= {path for path in there.files if path.endswith((".safetensors", ".safetensors.index.json"))}
    return tuple(sorted(stale - change.contents.keys()))
