"""Pull requests: commits beside main, and their way onto it."""

from loopback_hub import conversations, history
from loopback_hub.records import MAIN, Commit, Discussion, FileChanges, FileEntry
from loopback_hub.store import HubStore, UnknownRevision

Files = dict[str, FileEntry]


class MergeConflict(Exception):
    """The pull request is not open, or main has changed what it changes."""


def add_pull_request(store: HubStore, name: str, change: FileChanges, base: str) -> tuple[Commit, Discussion]:
    """A pull request of one commit upon `base` (a branch or commit), however old that is."""
    with store.writing:
        parent = store.commit(name, base)
        commit = history.write_commit(store, name, parent, change)
        opened = conversations.open_discussion(
            store, name, change.author, change.title, change.body, "open", parent.revision
        )
        history.move_ref(store, store.repository(name), opened.ref, commit.revision)
        return commit, conversations.record_push(store, name, opened.number, commit)


def open_draft(store: HubStore, name: str, author: str, title: str, body: str) -> Discussion:
    """A pull request with no commit of its own yet."""
    with store.writing:
        head = store.commit(name, MAIN).revision
        opened = conversations.open_discussion(store, name, author, title, body, "draft", head)
        history.move_ref(store, store.repository(name), opened.ref, head)
    return opened


def push_to_pull_request(store: HubStore, name: str, number: int, change: FileChanges, parent: str | None) -> Commit:
    """A further commit; raises Stale like any push, and Unmergeable once it is merged."""
    with store.writing:
        proposal = conversations.find_discussion(store.repository(name), number)
        if proposal.base is None:
            raise UnknownRevision(proposal.ref)
        if proposal.status == "merged":
            raise MergeConflict(f"pull request {number} is merged")
        commit = history.push_commit(store, name, proposal.ref, change, parent)
        conversations.record_push(store, name, number, commit)
    return commit


def merge_pull_request(store: HubStore, name: str, number: int, author: str) -> Commit:
    """Squash the pull request onto main; raises Unmergeable."""
    with store.writing:
        repository = store.repository(name)
        proposal = conversations.find_discussion(repository, number)
        if proposal.base is None or proposal.status != "open":
            raise MergeConflict(f"discussion {number} is no open pull request")
        if found := find_conflicts(store, name, proposal):
            raise MergeConflict(f"main has changed {', '.join(found)} since")
        base, head, main = (store.commit(name, at) for at in (proposal.base, proposal.ref, MAIN))
        files = dict(sorted(_merge_files(base.files, head.files, main.files).items()))
        squashed = [
            commit for commit in history.read_history(store, name, proposal.ref) if _is_commit_of(proposal, commit)
        ]
        body = "\n".join(f"- {commit.title} ({commit.revision})" for commit in reversed(squashed))
        commit = store.write_commit(name, main.revision, f"{proposal.title} (#{number})", body, author, files)
        history.move_ref(store, repository, MAIN, commit.revision)
        conversations.change_status(store, name, number, author, "merged", commit.revision)
    return commit


def find_conflicts(store: HubStore, name: str, proposal: Discussion) -> list[str]:
    """What both the pull request and main have changed since they parted, each in its own way."""
    base, head, main = (store.commit(name, at).files for at in (str(proposal.base), proposal.ref, MAIN))
    ours, theirs = _changed_paths(base, head), _changed_paths(base, main)
    return sorted(path for path in ours & theirs if head.get(path) != main.get(path))


def _merge_files(base: Files, head: Files, main: Files) -> Files:
    ours = _changed_paths(base, head)
    return {path: entry for path, entry in main.items() if path not in ours} | {
        path: entry for path, entry in head.items() if path in ours
    }


def _changed_paths(before: Files, after: Files) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def _is_commit_of(proposal: Discussion, commit: Commit) -> bool:
    """The pull request's own commits: those it shows as events."""
    return any(event.type == "commit" and event.revision == commit.revision for event in proposal.events)
