"""Where a result goes, what stands there, and whether a commit may stand upon it."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import PublishConflict
from antidote_ci.hub.client import printable_endpoint
from antidote_ci.hub.commits import BranchHead, read_head
from antidote_ci.hub.digests import SHA256_DIGITS
from antidote_ci.hub.trees import CommitTree, read_small_file
from antidote_ci.records import Manifest, WeightFile, from_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
ATTRIBUTES = ".gitattributes"
"""All that a new repository holds."""
NEW_REPOSITORY_FILES = {ATTRIBUTES, CARD, "LICENSE"}
"""What a repository may hold and still count as empty."""


@dataclass(frozen=True)
class Destination:
    """Where a result of `source` at `revision` is to go."""

    mode: Literal["pull-request", "branch", "repo"]
    source: str
    revision: str
    """The tested commit."""
    name: str
    """The branch, or the repository; that of the source for a pull request."""

    @property
    def is_separate(self) -> bool:
        """A repository of its own, and not one of the source."""
        return self.mode == "repo"

    @property
    def repository(self) -> str:
        """The repository that gets the commit."""
        return self.name if self.is_separate else self.source

    @property
    def branch(self) -> str:
        """The branch that gets the commit."""
        return self.name if self.mode == "branch" else MAIN

    @property
    def address(self) -> str:
        """Where a person sees it."""
        place = f"{printable_endpoint()}/{self.repository}"
        return f"{place}/tree/{self.branch}" if self.mode == "branch" else place


@dataclass(frozen=True)
class DestinationState:
    """What was found at the destination before the work began."""

    revision: str | None
    """Its head; None where it is still to be made."""
    card: str | None
    """README.md of a repository of its own that has one: its owner's words stay."""
    private: bool
    """Whether a new repository is to be private, as its source is private or gated."""
    gated: Literal["auto", "manual"] | None


def read_last_head(client: "HfApi", destination: Destination) -> BranchHead | None:
    """None where the branch or the repository is not there."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return read_head(client, destination.repository, destination.branch)
    except RevisionNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        if destination.is_separate and not isinstance(error, GatedRepoError):
            return None
        raise


def require_unoccupied(client: "HfApi", destination: Destination, last: BranchHead) -> None:
    """Raise PublishConflict where a commit would stand upon somebody else's work."""
    repository, revision = destination.repository, last.revision
    if destination.mode == "branch":
        ours = last.marker is not None and last.marker.source == destination.revision
        if revision == destination.revision or ours:
            return
        raise PublishConflict(
            f"the branch {destination.branch} of {repository} is at {revision}, not at {destination.revision}, the "
            "revision that was tested",
            cause="it moved during the run, or it was made for something else",
            hint="run again on its new head, or name another branch with --publish-to",
        )
    if _is_occupied(client, destination, last.tree):
        raise PublishConflict(
            f"{repository} holds a model that is no repair of {destination.source}",
            cause="somebody else, or another job, put it there",
            hint="name a new repository with --publish-to, or empty this one",
        )


def _is_occupied(client: "HfApi", destination: Destination, there: CommitTree) -> bool:
    """Whether a repository holds anything but our own earlier result for this source, untouched."""
    if set(there.files) <= NEW_REPOSITORY_FILES:
        return False
    manifest = fetch_manifest(client, destination.repository, there)
    if manifest is None or manifest.source.id != destination.source:
        return True
    return not all(_is_unchanged(client, destination.repository, there, each) for each in manifest.files)


def fetch_manifest(client: "HfApi", repository: str, there: CommitTree) -> Manifest | None:
    """What lies there as the manifest of a repair; None where that is none."""
    text = read_small_file(client, repository, there, MANIFEST_FILE)
    try:
        return from_json(Manifest, text) if text is not None else None
    except ValueError:
        return None


def _is_unchanged(client: "HfApi", repository: str, there: CommitTree, file: WeightFile) -> bool:
    digest = there.files.get(file.path)
    if digest is None or len(digest) == SHA256_DIGITS:
        return digest == file.sha256_out
    # The Hub names small files by git's id, of which the manifest knows nothing.
    text = read_small_file(client, repository, there, file.path)
    return text is not None and hashlib.sha256(text).hexdigest() == file.sha256_out
