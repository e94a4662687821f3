"""Publishing a result: a pull request, a branch of the source, or a repository of its own. One commit each.

Nothing is forced and nothing squashed; whoever looks sees the old head or the complete new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError, PublishConflict
from antidote_ci.hub import commits, pull_requests
from antidote_ci.hub.access import Access
from antidote_ci.hub.commit_marker import Mark, marked
from antidote_ci.hub.commits import Change, Head, head
from antidote_ci.hub.destination import ATTRIBUTES, Destination, Standing, last_head, manifest_of, require_free
from antidote_ci.hub.info import model_info
from antidote_ci.hub.pull_requests import Words
from antidote_ci.hub.trees import Content, Tree
from antidote_ci.records import Published

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Result:
    """What is to be published."""

    contents: Mapping[str, Content]
    """Every file of the repaired checkpoint, by its path."""
    title: str
    description: str
    words: Words
    mark: Mark


def publish(destination: Destination, standing: Standing, result: Result, access: Access) -> Published:
    """Publish once, whatever fails in between: repeated, it finds what is there already.

    Raises PublishConflict when the destination has moved or is somebody else's, ConfigurationError when the Hub refuses
    the model card, InfrastructureError when it cannot be reached or does not hold what was sent.
    """
    change = Change(result.contents, (), result.title, marked(result.description, result.mark))
    if destination.mode == "pull-request":
        return pull_requests.publish(access, destination.source, change, result.mark, result.words)
    repository = destination.repository
    if destination.own and standing.revision is None:
        access.ask(repository, lambda client: _create(client, repository, standing))
    found = access.ask(repository, lambda client: _pushed(client, destination, standing, change, result.mark))
    commits.require_there(repository, found, change, result.mark)
    published = Published(destination.mode, destination.address, found.revision, repository)
    if found.mark is None or found.mark.run == result.mark.run:
        return published
    return replace(published, notes=(f"The same result was there already, from run {found.mark.run}.",))


def _create(client: "HfApi", repository: str, standing: Standing) -> None:
    """A repository no more open than the source. Repeated, it finds its own.

    Raises PublishConflict where somebody else made it meanwhile, and made it public.
    """
    client.create_repo(repository, private=standing.private, exist_ok=True)
    if standing.private and not model_info(client, repository).private:
        raise PublishConflict(
            f"{repository} is public, and its source is private or gated",
            cause="somebody made it during the run",
            hint=f"make {repository} private or gated, then run the same command again",
        )
    if standing.gated is not None:
        client.update_repo_settings(repository, gated=standing.gated)


def _pushed(client: "HfApi", destination: Destination, standing: Standing, change: Change, mark: Mark) -> Head:
    """The head with this result. Looks first: it may run again."""
    try:
        return _pushed_once(client, destination, standing, change, mark)
    except Exception as error:
        if not commits.is_stale(error):
            raise
    # Somebody was quicker: another run with the same result, a person, or this run, whose answer was lost.
    return _pushed_once(client, destination, standing, change, mark)


def _pushed_once(client: "HfApi", destination: Destination, standing: Standing, change: Change, mark: Mark) -> Head:
    last = _head_to_push_on(client, destination)
    if last.mark is not None and last.mark.result == mark.result:
        return last
    require_free(client, destination, last)
    as_it_was = last.revision == standing.revision or (
        standing.revision is None and last.tree.files.keys() <= {ATTRIBUTES}
    )
    if destination.own and not as_it_was:
        raise PublishConflict(
            f"{destination.repository} is no longer {f'at {standing.revision}' if standing.revision else 'empty'}",
            cause=f"{last.revision} was pushed during the run",
            hint="run the same command again",
        )
    gone = _gone(client, destination, last.tree, change)
    revision = commits.push(client, destination.repository, destination.branch, last.tree, replace(change, gone=gone))
    return head(client, destination.repository, revision)


def _head_to_push_on(client: "HfApi", destination: Destination) -> Head:
    found = last_head(client, destination)
    if found is None and destination.mode == "branch":
        client.create_branch(
            destination.repository, branch=destination.branch, revision=destination.revision, exist_ok=True
        )
        found = last_head(client, destination)
    if found is None:
        raise InfrastructureError(
            f"{destination.branch} of {destination.repository} has vanished",
            cause="it was deleted during the run",
            hint="run the same command again",
        )
    return found


def _gone(client: "HfApi", destination: Destination, there: Tree, change: Change) -> tuple[str, ...]:
    """Files of our earlier result that this one does not have: beside it they would be half of another model."""
    if not destination.own:
        return ()
    manifest = manifest_of(client, destination.repository, there)
    stale = {each.path for each in manifest.files} if manifest else set()
    stale |= {path for path in there.files if path.endswith((".safetensors", ".safetensors.index.json"))}
    return tuple(sorted(stale - change.contents.keys()))
