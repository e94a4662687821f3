"""Pull requests: commits beside main, and their way onto it."""

from loopback_hub import conversations, history
from loopback_hub.records import MAIN, Change, Commit, Discussion, Entry
from loopback_hub.store import Store, UnknownRevision

Files = dict[str, Entry]


class Unmergeable(Exception):
    """The pull request is not open, or main has changed what it changes."""


def propose(store: Store, name: str, change: Change, base: str) -> tuple[Commit, Discussion]:
    """A pull request of one commit upon `base` (a branch or commit), however old that is."""
    with store.writing:
        parent = store.commit(name, base)
        commit = history.apply(store, name, parent, change)
        opened = conversations.open_discussion(
            store, name, change.author, change.title, change.body, "open", parent.revision
        )
        history.point(store, store.repository(name), opened.ref, commit.revision)
        return commit, conversations.pushed(store, name, opened.number, commit)


def draft(store: Store, name: str, author: str, title: str, body: str) -> Discussion:
    """A pull request with no commit of its own yet."""
    with store.writing:
        head = store.commit(name, MAIN).revision
        opened = conversations.open_discussion(store, name, author, title, body, "draft", head)
        history.point(store, store.repository(name), opened.ref, head)
    return opened


def push(store: Store, name: str, number: int, change: Change, parent: str | None) -> Commit:
    """A further commit; raises Stale like any push, and Unmergeable once it is merged."""
    with store.writing:
        proposal = conversations.find(store.repository(name), number)
        if proposal.base is None:
            raise UnknownRevision(proposal.ref)
        if proposal.status == "merged":
            raise Unmergeable(f"pull request {number} is merged")
        commit = history.push(store, name, proposal.ref, change, parent)
        conversations.pushed(store, name, number, commit)
    return commit


def merge(store: Store, name: str, number: int, author: str) -> Commit:
    """Squash the pull request onto main; raises Unmergeable."""
    with store.writing:
        repository = store.repository(name)
        proposal = conversations.find(repository, number)
        if proposal.base is None or proposal.status != "open":
            raise Unmergeable(f"discussion {number} is no open pull request")
        if found := conflicts(store, name, proposal):
            raise Unmergeable(f"main has changed {', '.join(found)} since")
        base, head, main = (store.commit(name, at) for at in (proposal.base, proposal.ref, MAIN))
        files = dict(sorted(_merged(base.files, head.files, main.files).items()))
        squashed = [commit for commit in history.log(store, name, proposal.ref) if _is_of(proposal, commit)]
        body = "\n".join(f"- {commit.title} ({commit.revision})" for commit in reversed(squashed))
        commit = store.write_commit(name, main.revision, f"{proposal.title} (#{number})", body, author, files)
        history.point(store, repository, MAIN, commit.revision)
        conversations.change_status(store, name, number, author, "merged", commit.revision)
    return commit


def conflicts(store: Store, name: str, proposal: Discussion) -> list[str]:
    """What both the pull request and main have changed since they parted, each in its own way."""
    base, head, main = (store.commit(name, at).files for at in (str(proposal.base), proposal.ref, MAIN))
    ours, theirs = _changed(base, head), _changed(base, main)
    return sorted(path for path in ours & theirs if head.get(path) != main.get(path))


def _merged(base: Files, head: Files, main: Files) -> Files:
    ours = _changed(base, head)
    return {path: entry for path, entry in main.items() if path not in ours} | {
        path: entry for path, entry in head.items() if path in ours
    }


def _changed(before: Files, after: Files) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def _is_of(proposal: Discussion, commit: Commit) -> bool:
    """The pull request's own commits: those it shows as events."""
    return any(event.type == "commit" and event.revision == commit.revision for event in proposal.events)
