"""A pull request on the source: opened once, brought up to date, never doubled, with one comment kept current."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError, PublishConflict
from antidote_ci.hub import commit_marker, commits
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import printable_endpoint
from antidote_ci.hub.commit_marker import CommitMarker, add_marker
from antidote_ci.hub.commits import BranchHead, CommitRequest, read_head
from antidote_ci.hub.identity import FORBIDDEN, read_account
from antidote_ci.hub.trees import CommitTree, read_tree
from antidote_ci.records import PublishResult

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.community import DiscussionWithDetails

COMMENT_MARKER = "<!-- antidote-ci:report -->"
"""How the one comment that is kept current begins."""


@dataclass(frozen=True)
class PullRequestText:
    """What is said besides the commit."""

    comment: Callable[[PublishResult], str]
    """Begins with COMMENT."""
    closing: Callable[[int], str]
    """Why a pull request is closed whose result is in that earlier one already."""
    superseding: Callable[[int], str]
    """Why one is closed whose source has moved on to that newer one."""


@dataclass(frozen=True)
class ExistingPullRequest:
    """An open pull request of this account whose last commit carries our mark."""

    number: int
    url: str
    head: BranchHead
    marker: CommitMarker


def publish_pull_request(
    access: HubAccess, source: str, change: CommitRequest, marker: CommitMarker, texts: PullRequestText
) -> PublishResult:
    """Have one open pull request on `source` with the change upon the tested commit, main being there still.

    An open one of ours for the same commit gets another commit, the same result is left as it is, those for older
    commits are closed. Raises PublishConflict when main has moved, or somebody has gone on with ours.
    """
    author = access.request(source, read_account).name
    found = access.request(source, lambda client: _ensure_pull_request(client, source, change, marker, author))
    if found is None:
        return PublishResult("pull-request", None, marker.source, source, ("Nothing was to be changed.",))
    kept, notes = access.request(source, lambda client: _close_duplicates(client, source, found, author, texts))
    if kept.marker.run != marker.run:
        notes = (*notes, f"Pull request {kept.number} holds the same result, from run {kept.marker.run}.")
    commits.require_committed(source, kept.head, change, marker)
    published = PublishResult("pull-request", kept.url, kept.head.revision, source, notes)
    # The Hub says whose words these are; a commit, anyone who may push there can make.
    text = add_marker(texts.comment(published), marker)
    allowed = access.request(source, lambda client: _ensure_comment(client, source, kept, text, marker, author))
    return published if allowed else replace(published, notes=(*notes, "This token may not comment there."))


def find_existing(access: HubAccess, source: str, revision: str, policy: str) -> ExistingPullRequest | None:
    """The open pull request in which this policy's result for `revision` waits already."""
    author = access.request(source, read_account).name
    ours = access.request(source, lambda client: _list_own(client, source, author))
    return next((each for each in ours if each.marker.source == revision and each.marker.policy == policy), None)


def _ensure_pull_request(
    client: "HfApi", source: str, change: CommitRequest, marker: CommitMarker, author: str
) -> ExistingPullRequest | None:
    """Ours with this result, opened or brought up to date where it is not there yet. Looks first: it may run again."""
    ours = _list_own(client, source, author)
    same = next((each for each in ours if each.marker.result == marker.result), None)
    if same is not None:
        return same
    main = _require_main(client, source, marker.source)
    earlier = next((each for each in ours if each.marker.source == marker.source), None)
    if earlier is not None:
        commits.commit_to_branch(client, source, f"refs/pr/{earlier.number}", earlier.head.tree, change)
    else:
        commits.upload_large_files(client, source, main, change)
        _require_main(client, source, marker.source)
        if not commits.open_pull_request(client, source, main, change):
            return None
    now = _list_own(client, source, author)
    # Another run with the same result may have closed ours, being the later one, before it was seen here.
    own = [each for each in now if each.marker.run == marker.run]
    made = next(iter(own or [each for each in now if each.marker.result == marker.result]), None)
    if made is None:
        raise InfrastructureError(
            f"the pull request on {source} cannot be found again",
            cause="it was closed or pushed to while it was opened",
            hint=f"look at the pull requests of {source}, then run again",
        )
    return made


def _list_own(client: "HfApi", source: str, author: str) -> list[ExistingPullRequest]:
    """Open ones whose text and last commit carry our mark, oldest first.

    Raises PublishConflict for one whose last commit is somebody else's: theirs would be lost among ours.
    """
    found = []
    listed = client.get_repo_discussions(
        source, discussion_type="pull_request", discussion_status="open", author=author
    )
    for each in listed:
        details = client.get_discussion_details(source, each.num)
        opened = _read_opening_marker(details)
        if opened is None:
            continue
        last = read_head(client, source, f"refs/pr/{each.num}")
        if last.marker is None:
            raise PublishConflict(
                f"pull request {each.num} on {source} has a commit after ours: {last.revision}",
                cause="somebody has gone on from the repair",
                hint=f"merge or close {_pull_request_url(source, each.num)}, then run again",
            )
        found.append(ExistingPullRequest(each.num, _pull_request_url(source, each.num), last, last.marker))
    return sorted(found, key=lambda each: each.number)


def _pull_request_url(source: str, number: int) -> str:
    """Where a person sees it, without credentials that the client's address may hold."""
    return f"{printable_endpoint()}/{source}/discussions/{number}"


def _read_opening_marker(details: "DiscussionWithDetails") -> CommitMarker | None:
    from huggingface_hub.community import DiscussionComment

    texts = [event.content for event in details.events if isinstance(event, DiscussionComment)]
    return commit_marker.parse_marker(texts[0]) if texts else None


def _require_main(client: "HfApi", source: str, revision: str) -> CommitTree:
    main = read_tree(client, source, "main")
    if main.revision != revision:
        raise PublishConflict(
            f"the main branch of {source} is not at {revision}, the revision that was tested",
            cause="it moved during the run, or another branch or an older commit was tested",
            hint=f"run again on {main.revision}",
        )
    return main


def _close_duplicates(
    client: "HfApi", source: str, found: ExistingPullRequest, author: str, texts: PullRequestText
) -> tuple[ExistingPullRequest, tuple[str, ...]]:
    """The oldest one with this result; the later ones, and those for older commits, are closed."""
    ours = _list_own(client, source, author)
    same = [each for each in ours if each.marker.result == found.marker.result] or [found]
    kept, notes = same[0], []
    for each in same[1:]:
        client.change_discussion_status(source, each.number, "closed", comment=texts.closing(kept.number))
        notes.append(f"Pull request {each.number} was closed, as the later one.")
    for each in ours:
        if each.marker.source != found.marker.source:
            client.change_discussion_status(source, each.number, "closed", comment=texts.superseding(kept.number))
            notes.append(f"Pull request {each.number}, upon an older commit, was closed.")
    return kept, tuple(notes)


def _ensure_comment(
    client: "HfApi", source: str, kept: ExistingPullRequest, text: str, marker: CommitMarker, author: str
) -> bool:
    """Have our one comment say `text`; False where the token may not. Looks first: it may run again."""
    from huggingface_hub.community import DiscussionComment
    from huggingface_hub.errors import HfHubHTTPError

    events = client.get_discussion_details(source, kept.number).events
    said = [each for each in events if isinstance(each, DiscussionComment) and each.author == author]
    there = [each for each in said if each.content.startswith(COMMENT_MARKER)]
    try:
        if not there:
            client.comment_discussion(source, kept.number, text)
        # What another run said of its own report stays.
        elif there[0].content != text and kept.marker.run == marker.run:
            client.edit_discussion_comment(source, kept.number, there[0].id, text)
    except HfHubHTTPError as error:
        if error.response.status_code != FORBIDDEN:
            raise
        return False
    return True
