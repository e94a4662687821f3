"""Pull requests on the source: at most one open pull request for each result, with one comment that is kept current."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError, PublishConflict
from antidote_ci.hub import commits
from antidote_ci.hub.access import FORBIDDEN, WORKFLOW, HubAccess, read_account
from antidote_ci.hub.client import printable_endpoint
from antidote_ci.hub.commits import BranchHead, CommitMarker, CommitRequest, CommitTree, MarkerKind
from antidote_ci.hub.destination import Destination
from antidote_ci.records import PublishMode, PublishResult

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.community import DiscussionComment

COMMENT_MARKER = "<!-- antidote-ci:report -->"
"""The first line of the comment that is kept current."""


@dataclass(frozen=True)
class PullRequestText:
    """The texts of a pull request besides the description of its commit."""

    comment: Callable[[PublishResult], str]
    """Starts with COMMENT_MARKER."""
    closing: Callable[[int], str]
    """The comment on a duplicate, given the number of the pull request that stays open."""
    superseding: Callable[[int], str]
    """The comment on a pull request for an older commit, given the number of the newer one."""


@dataclass(frozen=True)
class ExistingPullRequest:
    """An open pull request of this account, with a marker in its last commit."""

    number: int
    url: str
    head: BranchHead
    marker: CommitMarker


def publish_pull_request(
    access: HubAccess, source: str, change: CommitRequest, marker: CommitMarker, texts: PullRequestText
) -> PublishResult:
    """Ensure that one open pull request on `source` contains the change to the tested commit.

    An open pull request with the same result is left alone; one for the same commit gets another commit; those for
    older commits are closed. Raises PublishConflict when main is not at the tested commit, or the pull request
    contains commits of others.
    """
    account = read_account(access, source).name
    mode: PublishMode = "pull-request" if marker.kind == "repair" else "report"
    created = access.request(source, lambda client: _ensure_pull_request(client, source, change, marker, account))
    if created is None:
        return PublishResult(mode, None, marker.source, source, (f"The {marker.kind} changes no file.",))
    current, notes = access.request(source, lambda client: _close_duplicates(client, source, created, account, texts))
    if current.marker.run != marker.run:
        notes = (*notes, f"Pull request {current.number} contains the same result, from run {current.marker.run}.")
    commits.require_committed(source, current.head, change, marker)
    published = PublishResult(mode, current.url, current.head.revision, source, notes)
    # The Hub vouches for the author of a comment, but everyone who may push can write a commit message.
    text = commits.add_marker(texts.comment(published), marker)
    allowed = access.request(source, lambda client: _ensure_comment(client, source, current, text, marker))
    return published if allowed else replace(published, notes=(*notes, "This token may not comment there."))


def find_waiting_result(destination: Destination, access: HubAccess, policy: str) -> tuple[CommitTree, str] | None:
    """The files and the address of an open pull request with this policy's result for the tested commit.

    None for a branch or a separate repository: the Hub does not tell who made a commit there.
    """
    if destination.mode != "pull-request":
        return None
    source = destination.source
    account = read_account(access, source).name
    for existing in access.request(source, lambda client: _list_own(client, source, account, "repair")):
        if existing.marker.source == destination.revision and existing.marker.policy == policy:
            return existing.head.tree, existing.url
    return None


def _ensure_pull_request(
    client: "HfApi", source: str, change: CommitRequest, marker: CommitMarker, account: str
) -> ExistingPullRequest | None:
    """The own pull request with this result, opened or updated if necessary; None when nothing changes."""
    own = _list_own(client, source, account, marker.kind)
    for existing in own:
        if existing.marker.result == marker.result:
            return existing
    main = _require_main(client, source, marker.source)
    earlier = next((existing for existing in own if existing.marker.source == marker.source), None)
    if earlier is not None:
        number: int | None = earlier.number
        commits.commit_to_branch(client, source, f"refs/pr/{number}", earlier.head.tree, change)
    else:
        commits.upload_large_files(client, source, main, change)
        _require_main(client, source, marker.source)
        number = commits.open_pull_request(client, source, main, change)
        if number is None:
            return None
    # A concurrent run with the same result may already have closed the pull request of this run as the later one.
    own = _list_own(client, source, account, marker.kind, number)
    own = [existing for existing in own if existing.marker.result == marker.result]
    own.sort(key=lambda existing: existing.marker.run != marker.run)
    if not own:
        raise InfrastructureError(
            f"the new pull request on {source} cannot be found",
            cause="it was closed or pushed to while it was opened",
            hint=f"check the pull requests of {source}, then run again",
        )
    return own[0]


def _list_own(
    client: "HfApi", source: str, account: str, kind: MarkerKind, known: int | None = None
) -> list[ExistingPullRequest]:
    """The open pull requests of this account with a marker of this kind, oldest first.

    `known` is the number of one that this run has opened or updated: it counts whatever name the Hub shows for its
    author. Raises PublishConflict for one whose last commit has no marker: a new commit would be added to the work of
    others.
    """
    opened = client.get_repo_discussions(
        source,
        discussion_type="pull_request",
        discussion_status="open",
        # No account has the name of a workflow, so the Hub may not find its pull requests by author.
        author=None if account == WORKFLOW else account,
    )
    numbers = {discussion.num for discussion in opened if discussion.author == account}
    if known is not None:
        numbers.add(known)
    own = [_read_own(client, source, number, kind) for number in sorted(numbers)]
    return [existing for existing in own if existing is not None]


def _read_own(client: "HfApi", source: str, number: int, kind: MarkerKind) -> ExistingPullRequest | None:
    """The pull request, if it is open, and its author or its last commit has left a marker of this kind.

    Raises as `_list_own`.
    """
    status, comments = _read_comments(client, source, number)
    if status not in ("open", "draft"):
        return None
    # Without credentials that the client's address may contain.
    url = f"{printable_endpoint()}/{source}/discussions/{number}"
    head = commits.read_head(client, source, f"refs/pr/{number}")
    if head.marker is not None:
        return ExistingPullRequest(number, url, head, head.marker) if head.marker.kind == kind else None
    markers = [commits.parse_marker(comment.content) for comment in comments]
    if all(marker is None or marker.kind != kind for marker in markers):
        return None  # opened by hand, or of the other kind
    raise PublishConflict(
        f"pull request {number} on {source} has a later commit by somebody else: {head.revision}",
        cause="somebody continued the work on the repair",
        hint=f"merge or close {url}, then run again",
    )


def _read_comments(client: "HfApi", source: str, number: int) -> "tuple[str, list[DiscussionComment]]":
    """The status of a pull request, and the comments of its author."""
    from huggingface_hub.community import DiscussionComment

    details = client.get_discussion_details(source, number)
    comments = [event for event in details.events if isinstance(event, DiscussionComment)]
    own = [comment for comment in comments if comment.author == details.author]
    return details.status, [comment for comment in own if isinstance(comment.content, str)]


def _require_main(client: "HfApi", source: str, revision: str) -> CommitTree:
    main = commits.read_tree(client, source, commits.MAIN)
    if main.revision != revision:
        raise PublishConflict(
            f"the main branch of {source} is not at {revision}, the revision that was tested",
            cause="it moved during the run, or another branch or an older commit was tested",
            hint=f"run again on {main.revision}",
        )
    return main


def _close_duplicates(
    client: "HfApi", source: str, created: ExistingPullRequest, account: str, texts: PullRequestText
) -> tuple[ExistingPullRequest, tuple[str, ...]]:
    """Close later pull requests with the same result and those for older commits; the one that stays, and notes."""
    own = _list_own(client, source, account, created.marker.kind, created.number)
    same = [existing for existing in own if existing.marker.result == created.marker.result] or [created]
    current, notes = same[0], []
    for existing in same[1:]:
        client.change_discussion_status(source, existing.number, "closed", comment=texts.closing(current.number))
        notes.append(f"Pull request {existing.number} was closed as a duplicate.")
    for existing in own:
        if existing.marker.source != created.marker.source:
            comment = texts.superseding(current.number)
            client.change_discussion_status(source, existing.number, "closed", comment=comment)
            notes.append(f"Pull request {existing.number} for an older commit was closed.")
    return current, tuple(notes)


def _ensure_comment(
    client: "HfApi", source: str, current: ExistingPullRequest, text: str, marker: CommitMarker
) -> bool:
    """Ensure that the comment of this account is `text`; False if the token may not comment.

    It ends with the marker, which the description of the pull request may have lost.
    """
    from huggingface_hub.errors import HfHubHTTPError

    _, comments = _read_comments(client, source, current.number)
    own = [comment for comment in comments if comment.content.startswith(COMMENT_MARKER)]
    try:
        if not own:
            client.comment_discussion(source, current.number, text)
        # The comment of another run describes the report of that run.
        elif own[0].content != text and current.marker.run == marker.run:
            client.edit_discussion_comment(source, current.number, own[0].id, text)
    except HfHubHTTPError as error:
        if error.response.status_code != FORBIDDEN:
            raise
        return False
    return True
