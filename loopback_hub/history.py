"""Commits and branches in the store."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from loopback_hub.records import MAIN, Commit, FileChanges, FileEntry, Repository, RepositoryEvent, UpdatedRef
from loopback_hub.store import (
    AlreadyExists,
    HubStore,
    MovedRepository,
    StaleParent,
    UnknownEntry,
    UnknownRepository,
    UnknownRevision,
)

AUTHOR = "demo"
"""The author of commits that are made without a request."""


def commit_folder(store: HubStore, settings: Repository, folder: Path) -> str:
    """Commit exactly the files of `folder` to main and return the commit id; no new commit if nothing changed.

    An existing repository takes only gating and visibility from `settings`.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder).as_posix()
        with path.open("rb") as stream:
            files[relative] = store.blobs.put_file(relative, stream)
    with store.writing:
        try:
            old = store.repository(settings.id)
        except (UnknownRepository, MovedRepository):  # the name is free
            create_repository(store, settings, f"Upload {folder.name}", AUTHOR, files)
            return store.repository(settings.id).refs[MAIN]
        repository = replace(old, gated=settings.gated, private=settings.private, disabled=settings.disabled)
        head = store.commit(repository.id, MAIN)
        store.save(repository)
        if head.files == files:
            return head.revision
        commit = store.write_commit(repository.id, head.revision, f"Upload {folder.name}", "", AUTHOR, files)
        move_ref(store, repository, MAIN, commit.revision)
    return commit.revision


def create_repository(
    store: HubStore, repository: Repository, title: str, author: str, files: dict[str, FileEntry]
) -> None:
    """Create a repository with one commit on main."""
    with store.writing:
        commit = store.write_commit(repository.id, None, title, "", author, files)
        created = replace(repository, refs={MAIN: commit.revision})
        store.save(created)
        store.announce(RepositoryEvent("create", "repo", created))
        store.announce(
            RepositoryEvent(
                "update", "repo.content", created, (UpdatedRef(f"refs/heads/{MAIN}", None, commit.revision),)
            )
        )


def push_commit(store: HubStore, name: str, branch: str, change: FileChanges, parent: str | None) -> Commit:
    """Commit to `branch`. Raises StaleParent if `parent` is given and not the head of the branch."""
    with store.writing:
        repository = store.repository(name)
        if branch not in repository.refs:
            raise UnknownRevision(branch)
        head = store.commit(name, branch)
        if parent not in (None, head.revision):
            raise StaleParent("The branch was updated since you opened this page. Please refresh and try again.")
        commit = write_commit(store, name, head, change)
        move_ref(store, repository, branch, commit.revision)
    return commit


def write_commit(store: HubStore, name: str, parent: Commit, change: FileChanges) -> Commit:
    """Create the commit without moving a ref. Raises UnknownEntry if a deleted path does not exist."""
    for deleted in change.deleted:
        if not any(_is_under(deleted, path) for path in parent.files):
            raise UnknownEntry(f"A file with this name doesn't exist: {deleted}")
    unchanged = {
        path: entry
        for path, entry in parent.files.items()
        if not any(_is_under(deleted, path) for deleted in change.deleted)
    }
    files = dict(sorted({**unchanged, **change.added}.items()))
    return store.write_commit(name, parent.revision, change.title, change.body, change.author, files)


def move_ref(store: HubStore, repository: Repository, branch: str, revision: str) -> None:
    """Set a branch or the head of a pull request to `revision`."""
    moved = replace(repository, refs={**repository.refs, branch: revision})
    store.save(moved)
    ref = branch if branch.startswith("refs/") else f"refs/heads/{branch}"
    updated = UpdatedRef(ref, repository.refs.get(branch), revision)
    store.announce(RepositoryEvent("update", "repo.content", moved, (updated,)))


def create_branch(store: HubStore, name: str, branch: str, start: str) -> None:
    """Create a branch at `start`. Raises AlreadyExists or UnknownRevision."""
    with store.writing:
        repository = store.repository(name)
        if branch in repository.refs:
            raise AlreadyExists(f"Reference refs/heads/{branch} already exists")
        move_ref(store, repository, branch, store.commit(name, start).revision)


def delete_branch(store: HubStore, name: str, branch: str) -> None:
    """Delete a branch. Its commits stay. Raises UnknownRevision."""
    with store.writing:
        repository = store.repository(name)
        if branch not in repository.refs or branch.startswith("refs/"):
            raise UnknownRevision(branch)
        left = replace(repository, refs={ref: head for ref, head in repository.refs.items() if ref != branch})
        store.save(left)
        updated = UpdatedRef(f"refs/heads/{branch}", repository.refs[branch], None)
        store.announce(RepositoryEvent("update", "repo.content", left, (updated,)))


def read_history(store: HubStore, name: str, revision: str) -> list[Commit]:
    """Return the commit of a revision and its ancestors, newest first."""
    commits = [store.commit(name, revision)]
    while (parent := commits[-1].parent) is not None:
        commits.append(store.commit(name, parent))
    return commits


def _is_under(target: str, path: str) -> bool:
    """Whether `path` is the file `target`, or is in the folder `target`."""
    return PurePosixPath(path).is_relative_to(target)
