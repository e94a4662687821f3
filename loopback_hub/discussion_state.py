"""Discussions and pull requests in the store."""

import hashlib
import re
from dataclasses import replace

from loopback_hub import history
from loopback_hub.records import (
    MAIN,
    CommentEvent,
    Commit,
    Discussion,
    DiscussionStatus,
    FileChanges,
    FileEntry,
    PushEvent,
    Repository,
    RepositoryEvent,
    StatusEvent,
    utc_now,
)
from loopback_hub.store import HubStore, UnknownRevision

Files = dict[str, FileEntry]
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class UnknownDiscussion(LookupError):
    """The repository has no discussion or comment of this number."""


class MergeConflict(Exception):
    """The pull request is not open, or main has changed the same files."""


def find_discussion(repository: Repository, number: int) -> Discussion:
    """Return a discussion. Raises UnknownDiscussion."""
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
    branch: str = MAIN,
) -> Discussion:
    """Open a discussion, or a pull request from `base` to `branch`, with `body` as the first comment."""
    with store.writing:
        repository = store.repository(name)
        if not store.strictness.keeps_opening_comments:
            body = HTML_COMMENT.sub("", body)
        empty = Discussion(len(repository.discussions) + 1, title, author, utc_now(), status, base, [], branch=branch)
        first = CommentEvent(_next_id(repository, empty), author, empty.created, body, empty.created, author)
        opened = replace(empty, events=[first])
        updated = replace(repository, discussions=[*repository.discussions, opened])
        store.save(updated)
        store.announce(RepositoryEvent("create", "discussion", updated, discussion=opened, comment=first))
    return opened


def add_comment(store: HubStore, name: str, number: int, author: str, content: str) -> CommentEvent:
    """Add a comment. Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        now = utc_now()
        event = CommentEvent(next_id, author, now, content, now, author)
        commented = replace(discussion, events=[*discussion.events, event])
        updated = _replace_discussion(store, repository, commented)
        store.announce(RepositoryEvent("create", "discussion.comment", updated, discussion=commented, comment=event))
    return event


def edit_comment(store: HubStore, name: str, number: int, comment_id: str, editor: str, content: str) -> CommentEvent:
    """Replace the text of a comment. Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, _ = _load_discussion(store, name, number)
        old = find_comment(discussion, comment_id)
        new = replace(old, content=content, updated=utc_now(), editor=editor, earlier=[*old.earlier, old.content])
        events = [new if event.id == comment_id else event for event in discussion.events]
        edited = replace(discussion, events=events)
        updated = _replace_discussion(store, repository, edited)
        store.announce(RepositoryEvent("update", "discussion.comment", updated, discussion=edited, comment=new))
    return new


def find_comment(discussion: Discussion, comment_id: str) -> CommentEvent:
    """Return a comment. Raises UnknownDiscussion."""
    for comment in discussion.comments:
        if comment.id == comment_id:
            return comment
    raise UnknownDiscussion(f"discussion {discussion.number} has no comment {comment_id}")


def change_status(
    store: HubStore, name: str, number: int, author: str, status: DiscussionStatus, merged: str | None = None
) -> StatusEvent:
    """Change the status; `merged` is the merge commit. Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        event = StatusEvent(next_id, author, utc_now(), status)
        changed = replace(discussion, status=status, merged=merged, events=[*discussion.events, event])
        updated = _replace_discussion(store, repository, changed)
        store.announce(RepositoryEvent("update", "discussion", updated, discussion=changed))
    return event


def record_push(store: HubStore, name: str, number: int, commit: Commit) -> Discussion:
    """Add a commit event to a pull request. Raises UnknownDiscussion."""
    with store.writing:
        repository, discussion, next_id = _load_discussion(store, name, number)
        event = PushEvent(next_id, commit.author, utc_now(), commit.title, commit.revision)
        pushed = replace(discussion, events=[*discussion.events, event])
        _replace_discussion(store, repository, pushed)
    return pushed


def _replace_discussion(store: HubStore, repository: Repository, changed: Discussion) -> Repository:
    """Save a changed discussion."""
    discussions = [changed if old.number == changed.number else old for old in repository.discussions]
    updated = replace(repository, discussions=discussions)
    store.save(updated)
    return updated


def _load_discussion(store: HubStore, name: str, number: int) -> tuple[Repository, Discussion, str]:
    repository = store.repository(name)
    discussion = find_discussion(repository, number)
    return repository, discussion, _next_id(repository, discussion)


def _next_id(repository: Repository, discussion: Discussion) -> str:
    """Return the id of the next event: 24 hex digits, like on the Hub."""
    key = f"{repository.id} {discussion.number} {len(discussion.events)}".encode()
    return hashlib.sha256(key).hexdigest()[:24]


def add_pull_request(
    store: HubStore, name: str, change: FileChanges, branch: str, base: str | None
) -> tuple[Commit, Discussion]:
    """Open a pull request to `branch` with one commit on `base`, a commit of any age, by default its head.

    Raises UnknownRevision.
    """
    with store.writing:
        if branch not in store.repository(name).refs:
            raise UnknownRevision(branch)
        parent = store.commit(name, base or branch)
        commit = history.write_commit(store, name, parent, change)
        opened = open_discussion(store, name, change.author, change.title, change.body, "open", parent.revision, branch)
        history.move_ref(store, store.repository(name), opened.ref, commit.revision)
        return commit, record_push(store, name, opened.number, commit)


def open_draft(store: HubStore, name: str, author: str, title: str, body: str) -> Discussion:
    """Open a draft pull request without commits."""
    with store.writing:
        head = store.commit(name, MAIN).revision
        opened = open_discussion(store, name, author, title, body, "draft", head)
        history.move_ref(store, store.repository(name), opened.ref, head)
    return opened


def push_to_pull_request(store: HubStore, name: str, number: int, change: FileChanges, parent: str | None) -> Commit:
    """Push a commit to a pull request. Raises StaleParent, or MergeConflict if it is merged."""
    with store.writing:
        pull_request = find_discussion(store.repository(name), number)
        if pull_request.base is None:
            raise UnknownRevision(pull_request.ref)
        if pull_request.status == "merged":
            raise MergeConflict(f"pull request {number} is merged")
        commit = history.push_commit(store, name, pull_request.ref, change, parent)
        record_push(store, name, number, commit)
    return commit


def merge_pull_request(store: HubStore, name: str, number: int, author: str) -> Commit:
    """Squash-merge a pull request into its branch. Raises MergeConflict, or UnknownRevision without the branch."""
    with store.writing:
        repository = store.repository(name)
        pull_request = find_discussion(repository, number)
        if pull_request.base is None or pull_request.status != "open":
            raise MergeConflict(f"discussion {number} is not an open pull request")
        if conflicts := find_conflicts(store, name, pull_request):
            raise MergeConflict(f"{pull_request.branch} has changed {', '.join(conflicts)} since")
        ends = (pull_request.base, pull_request.ref, pull_request.branch)
        base, head, branch = (store.commit(name, end) for end in ends)
        files = dict(sorted(_merge_files(base.files, head.files, branch.files).items()))
        squashed = [
            commit
            for commit in history.read_history(store, name, pull_request.ref)
            if _is_commit_of(pull_request, commit)
        ]
        body = "\n".join(f"- {commit.title} ({commit.revision})" for commit in reversed(squashed))
        commit = store.write_commit(name, branch.revision, f"{pull_request.title} (#{number})", body, author, files)
        history.move_ref(store, repository, pull_request.branch, commit.revision)
        change_status(store, name, number, author, "merged", commit.revision)
    return commit


def find_conflicts(store: HubStore, name: str, pull_request: Discussion) -> list[str]:
    """Return the paths that the pull request and its branch have changed differently since their common base."""
    ends = (str(pull_request.base), pull_request.ref, pull_request.branch)
    base, head, branch = (store.commit(name, end).files for end in ends)
    ours, theirs = _changed_paths(base, head), _changed_paths(base, branch)
    return sorted(path for path in ours & theirs if head.get(path) != branch.get(path))


def _merge_files(base: Files, head: Files, branch: Files) -> Files:
    ours = _changed_paths(base, head)
    return {path: entry for path, entry in branch.items() if path not in ours} | {
        path: entry for path, entry in head.items() if path in ours
    }


def _changed_paths(before: Files, after: Files) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def _is_commit_of(pull_request: Discussion, commit: Commit) -> bool:
    """Whether the commit was pushed to the pull request."""
    return any(event.type == "commit" and event.revision == commit.revision for event in pull_request.events)
