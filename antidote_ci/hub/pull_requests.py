"""A pull request on the source: opened once, brought up to date, never doubled, with one comment kept current."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError, PublishConflict
from antidote_ci.hub import commit_marker, commits
from antidote_ci.hub.access import Access
from antidote_ci.hub.client import address
from antidote_ci.hub.commit_marker import Mark, marked
from antidote_ci.hub.commits import Change, Head, head
from antidote_ci.hub.identity import FORBIDDEN, identity
from antidote_ci.hub.trees import Tree, tree
from antidote_ci.records import Published

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.community import DiscussionWithDetails

COMMENT = "<!-- antidote-ci:report -->"
"""How the one comment that is kept current begins."""


@dataclass(frozen=True)
class Words:
    """What is said besides the commit."""

    comment: Callable[[Published], str]
    """Begins with COMMENT."""
    closing: Callable[[int], str]
    """Why a pull request is closed whose result is in that earlier one already."""
    superseded: Callable[[int], str]
    """Why one is closed whose source has moved on to that newer one."""


@dataclass(frozen=True)
class Ours:
    """An open pull request of this account whose last commit carries our mark."""

    number: int
    url: str
    head: Head
    mark: Mark


def publish(access: Access, source: str, change: Change, mark: Mark, words: Words) -> Published:
    """Have one open pull request on `source` with the change upon the tested commit, main being there still.

    An open one of ours for the same commit gets another commit, the same result is left as it is, those for older
    commits are closed. Raises PublishConflict when main has moved, or somebody has gone on with ours.
    """
    author = access.ask(source, identity).name
    found = access.ask(source, lambda client: _ensured(client, source, change, mark, author))
    if found is None:
        return Published("pull-request", None, mark.source, source, ("Nothing was to be changed.",))
    kept, notes = access.ask(source, lambda client: _settled(client, source, found, author, words))
    if kept.mark.run != mark.run:
        notes = (*notes, f"Pull request {kept.number} holds the same result, from run {kept.mark.run}.")
    commits.require_there(source, kept.head, change, mark)
    published = Published("pull-request", kept.url, kept.head.revision, source, notes)
    # The Hub says whose words these are; a commit, anyone who may push there can make.
    text = marked(words.comment(published), mark)
    allowed = access.ask(source, lambda client: _commented(client, source, kept, text, mark, author))
    return published if allowed else replace(published, notes=(*notes, "This token may not comment there."))


def held(access: Access, source: str, revision: str, policy: str) -> Ours | None:
    """The open pull request in which this policy's result for `revision` waits already."""
    author = access.ask(source, identity).name
    ours = access.ask(source, lambda client: _ours(client, source, author))
    return next((each for each in ours if each.mark.source == revision and each.mark.policy == policy), None)


def _ensured(client: "HfApi", source: str, change: Change, mark: Mark, author: str) -> Ours | None:
    """Ours with this result, opened or brought up to date where it is not there yet. Looks first: it may run again."""
    ours = _ours(client, source, author)
    same = next((each for each in ours if each.mark.result == mark.result), None)
    if same is not None:
        return same
    main = _require_main(client, source, mark.source)
    earlier = next((each for each in ours if each.mark.source == mark.source), None)
    if earlier is not None:
        commits.push(client, source, f"refs/pr/{earlier.number}", earlier.head.tree, change)
    else:
        commits.upload(client, source, main, change)
        _require_main(client, source, mark.source)
        if not commits.propose(client, source, main, change):
            return None
    now = _ours(client, source, author)
    # Another run with the same result may have closed ours, being the later one, before it was seen here.
    own = [each for each in now if each.mark.run == mark.run]
    made = next(iter(own or [each for each in now if each.mark.result == mark.result]), None)
    if made is None:
        raise InfrastructureError(
            f"the pull request on {source} cannot be found again",
            cause="it was closed or pushed to while it was opened",
            hint=f"look at the pull requests of {source}, then run again",
        )
    return made


def _ours(client: "HfApi", source: str, author: str) -> list[Ours]:
    """Open ones whose text and last commit carry our mark, oldest first.

    Raises PublishConflict for one whose last commit is somebody else's: theirs would be lost among ours.
    """
    found = []
    listed = client.get_repo_discussions(
        source, discussion_type="pull_request", discussion_status="open", author=author
    )
    for each in listed:
        details = client.get_discussion_details(source, each.num)
        opened = _opening_mark(details)
        if opened is None:
            continue
        last = head(client, source, f"refs/pr/{each.num}")
        if last.mark is None:
            raise PublishConflict(
                f"pull request {each.num} on {source} has a commit after ours: {last.revision}",
                cause="somebody has gone on from the repair",
                hint=f"merge or close {_url(source, each.num)}, then run again",
            )
        found.append(Ours(each.num, _url(source, each.num), last, last.mark))
    return sorted(found, key=lambda each: each.number)


def _url(source: str, number: int) -> str:
    """Where a person sees it, without credentials that the client's address may hold."""
    return f"{address()}/{source}/discussions/{number}"


def _opening_mark(details: "DiscussionWithDetails") -> Mark | None:
    from huggingface_hub.community import DiscussionComment

    texts = [event.content for event in details.events if isinstance(event, DiscussionComment)]
    return commit_marker.read(texts[0]) if texts else None


def _require_main(client: "HfApi", source: str, revision: str) -> Tree:
    main = tree(client, source, "main")
    if main.revision != revision:
        raise PublishConflict(
            f"the main branch of {source} is not at {revision}, the revision that was tested",
            cause="it moved during the run, or another branch or an older commit was tested",
            hint=f"run again on {main.revision}",
        )
    return main


def _settled(client: "HfApi", source: str, found: Ours, author: str, words: Words) -> tuple[Ours, tuple[str, ...]]:
    """The oldest one with this result; the later ones, and those for older commits, are closed."""
    ours = _ours(client, source, author)
    same = [each for each in ours if each.mark.result == found.mark.result] or [found]
    kept, notes = same[0], []
    for each in same[1:]:
        client.change_discussion_status(source, each.number, "closed", comment=words.closing(kept.number))
        notes.append(f"Pull request {each.number} was closed, as the later one.")
    for each in ours:
        if each.mark.source != found.mark.source:
            client.change_discussion_status(source, each.number, "closed", comment=words.superseded(kept.number))
            notes.append(f"Pull request {each.number}, upon an older commit, was closed.")
    return kept, tuple(notes)


def _commented(client: "HfApi", source: str, kept: Ours, text: str, mark: Mark, author: str) -> bool:
    """Have our one comment say `text`; False where the token may not. Looks first: it may run again."""
    from huggingface_hub.community import DiscussionComment
    from huggingface_hub.errors import HfHubHTTPError

    events = client.get_discussion_details(source, kept.number).events
    said = [each for each in events if isinstance(each, DiscussionComment) and each.author == author]
    there = [each for each in said if each.content.startswith(COMMENT)]
    try:
        if not there:
            client.comment_discussion(source, kept.number, text)
        # What another run said of its own report stays.
        elif there[0].content != text and kept.mark.run == mark.run:
            client.edit_discussion_comment(source, kept.number, there[0].id, text)
    except HfHubHTTPError as error:
        if error.response.status_code != FORBIDDEN:
            raise
        return False
    return True
