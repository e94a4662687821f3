"""What is said about a repository: discussions, and pull requests apart from their commits."""

import hashlib
from dataclasses import replace

from loopback_hub.records import (
    Announcement,
    Comment,
    Commit,
    Discussion,
    Pushed,
    Repository,
    Status,
    StatusChange,
    TitleChange,
    now,
)
from loopback_hub.store import Store


class UnknownDiscussion(LookupError):
    """The repository has no discussion, or no comment, of this number."""


def find(repository: Repository, number: int) -> Discussion:
    """Raises UnknownDiscussion."""
    for discussion in repository.discussions:
        if discussion.number == number:
            return discussion
    raise UnknownDiscussion(f"{repository.id} has no discussion {number}")


def open_discussion(
    store: Store, name: str, author: str, title: str, body: str, status: Status = "open", base: str | None = None
) -> Discussion:
    """A discussion, or a pull request that starts from `base`; its first comment is `body`."""
    with store.writing:
        repository = store.repository(name)
        empty = Discussion(len(repository.discussions) + 1, title, author, now(), status, base, [])
        first = Comment(_next_id(repository, empty), author, empty.created, body, empty.created, author)
        opened = replace(empty, events=[first])
        kept = replace(repository, discussions=[*repository.discussions, opened])
        store.save(kept)
        store.announce(Announcement("create", "discussion", kept, discussion=opened, comment=first))
    return opened


def comment(store: Store, name: str, number: int, author: str, content: str) -> Comment:
    """Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _find(store, name, number)
        made = now()
        event = Comment(next_id, author, made, content, made, author)
        said = replace(discussion, events=[*discussion.events, event])
        kept = _keep(store, repository, said)
        store.announce(Announcement("create", "discussion.comment", kept, discussion=said, comment=event))
    return event


def edit(store: Store, name: str, number: int, comment_id: str, editor: str, content: str) -> Comment:
    """Another wording of a comment; raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, _ = _find(store, name, number)
        old = find_comment(discussion, comment_id)
        new = replace(old, content=content, updated=now(), editor=editor, earlier=[*old.earlier, old.content])
        events = [new if event.id == comment_id else event for event in discussion.events]
        edited = replace(discussion, events=events)
        kept = _keep(store, repository, edited)
        store.announce(Announcement("update", "discussion.comment", kept, discussion=edited, comment=new))
    return new


def find_comment(discussion: Discussion, comment_id: str) -> Comment:
    """Raises UnknownDiscussion."""
    for found in discussion.comments:
        if found.id == comment_id:
            return found
    raise UnknownDiscussion(f"discussion {discussion.number} has no comment {comment_id}")


def change_status(
    store: Store, name: str, number: int, author: str, status: Status, merged: str | None = None
) -> StatusChange:
    """`merged` is the commit of a merge. Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _find(store, name, number)
        event = StatusChange(next_id, author, now(), status)
        changed = replace(discussion, status=status, merged=merged, events=[*discussion.events, event])
        kept = _keep(store, repository, changed)
        store.announce(Announcement("update", "discussion", kept, discussion=changed))
    return event


def rename(store: Store, name: str, number: int, author: str, title: str) -> TitleChange:
    """Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _find(store, name, number)
        event = TitleChange(next_id, author, now(), discussion.title, title)
        renamed = replace(discussion, title=title, events=[*discussion.events, event])
        kept = _keep(store, repository, renamed)
        store.announce(Announcement("update", "discussion", kept, discussion=renamed))
    return event


def pushed(store: Store, name: str, number: int, commit: Commit) -> Discussion:
    """A pull request has a further commit; raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _find(store, name, number)
        event = Pushed(next_id, commit.author, now(), commit.title, commit.revision)
        longer = replace(discussion, events=[*discussion.events, event])
        _keep(store, repository, longer)
    return longer


def _keep(store: Store, repository: Repository, changed: Discussion) -> Repository:
    """Save a discussion in place of what it was."""
    discussions = [changed if old.number == changed.number else old for old in repository.discussions]
    kept = replace(repository, discussions=discussions)
    store.save(kept)
    return kept


def _find(store: Store, name: str, number: int) -> tuple[Repository, Discussion, str]:
    repository = store.repository(name)
    discussion = find(repository, number)
    return repository, discussion, _next_id(repository, discussion)


def _next_id(repository: Repository, discussion: Discussion) -> str:
    """Of the discussion's next event: 24 hex digits, as the Hub's are."""
    said = f"{repository.id} {discussion.number} {len(discussion.events)}".encode()
    return hashlib.sha256(said).hexdigest()[:24]
