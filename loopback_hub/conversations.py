"""What is said about a repository: discussions, and pull requests apart from their commits."""

import hashlib
from dataclasses import replace

from loopback_hub.records import (
    CommentEvent,
    Commit,
    Discussion,
    DiscussionStatus,
    PushEvent,
    Repository,
    RepositoryEvent,
    StatusEvent,
    TitleEvent,
    utc_now,
)
from loopback_hub.store import HubStore


class UnknownDiscussion(LookupError):
    """The repository has no discussion, or no comment, of this number."""


def find_discussion(repository: Repository, number: int) -> Discussion:
    """Raises UnknownDiscussion."""
    for discussion in repository.discussions:
        if discussion.number == number:
            return discussion
    raise UnknownDiscussion(f"{repository.id} has no discussion {number}")


def open_discussion(
    store: HubStore,
    name: str,
    author: str,
    title: str,
    body: str,
    status: DiscussionStatus = "open",
    base: str | None = None,
) -> Discussion:
    """A discussion, or a pull request that starts from `base`; its first comment is `body`."""
    with store.writing:
        repository = store.repository(name)
        empty = Discussion(len(repository.discussions) + 1, title, author, utc_now(), status, base, [])
        first = CommentEvent(_next_id(repository, empty), author, empty.created, body, empty.created, author)
        opened = replace(empty, events=[first])
        kept = replace(repository, discussions=[*repository.discussions, opened])
        store.save(kept)
        store.announce(RepositoryEvent("create", "discussion", kept, discussion=opened, comment=first))
    return opened


def add_comment(store: HubStore, name: str, number: int, author: str, content: str) -> CommentEvent:
    """Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        made = utc_now()
        event = CommentEvent(next_id, author, made, content, made, author)
        said = replace(discussion, events=[*discussion.events, event])
        kept = _replace_discussion(store, repository, said)
        store.announce(RepositoryEvent("create", "discussion.comment", kept, discussion=said, comment=event))
    return event


def edit_comment(store: HubStore, name: str, number: int, comment_id: str, editor: str, content: str) -> CommentEvent:
    """Another wording of a comment; raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, _ = _load_discussion(store, name, number)
        old = find_comment(discussion, comment_id)
        new = replace(old, content=content, updated=utc_now(), editor=editor, earlier=[*old.earlier, old.content])
        events = [new if event.id == comment_id else event for event in discussion.events]
        edited = replace(discussion, events=events)
        kept = _replace_discussion(store, repository, edited)
        store.announce(RepositoryEvent("update", "discussion.comment", kept, discussion=edited, comment=new))
    return new


def find_comment(discussion: Discussion, comment_id: str) -> CommentEvent:
    """Raises UnknownDiscussion."""
    for found in discussion.comments:
        if found.id == comment_id:
            return found
    raise UnknownDiscussion(f"discussion {discussion.number} has no comment {comment_id}")


def change_status(
    store: HubStore, name: str, number: int, author: str, status: DiscussionStatus, merged: str | None = None
) -> StatusEvent:
    """`merged` is the commit of a merge. Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        event = StatusEvent(next_id, author, utc_now(), status)
        changed = replace(discussion, status=status, merged=merged, events=[*discussion.events, event])
        kept = _replace_discussion(store, repository, changed)
        store.announce(RepositoryEvent("update", "discussion", kept, discussion=changed))
    return event


def change_title(store: HubStore, name: str, number: int, author: str, title: str) -> TitleEvent:
    """Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        event = TitleEvent(next_id, author, utc_now(), discussion.title, title)
        renamed = replace(discussion, title=title, events=[*discussion.events, event])
        kept = _replace_discussion(store, repository, renamed)
        store.announce(RepositoryEvent("update", "discussion", kept, discussion=renamed))
    return event


def record_push(store: HubStore, name: str, number: int, commit: Commit) -> Discussion:
    """A pull request has a further commit; raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        event = PushEvent(next_id, commit.author, utc_now(), commit.title, commit.revision)
        longer = replace(discussion, events=[*discussion.events, event])
        _replace_discussion(store, repository, longer)
    return longer


def _replace_discussion(store: HubStore, repository: Repository, changed: Discussion) -> Repository:
    """Save a discussion in place of what it was."""
    discussions = [changed if old.number == changed.number else old for old in repository.discussions]
    kept = replace(repository, discussions=discussions)
    store.save(kept)
    return kept


def _load_discussion(store: HubStore, name: str, number: int) -> tuple[Repository, Discussion, str]:
    repository = store.repository(name)
    discussion = find_discussion(repository, number)
    return repository, discussion, _next_id(repository, discussion)


def _next_id(repository: Repository, discussion: Discussion) -> str:
    """Of the discussion's next event: 24 hex digits, as the Hub's are."""
    said = f"{repository.id} {discussion.number} {len(discussion.events)}".encode()
    return hashlib.sha256(said).hexdigest()[:24]
