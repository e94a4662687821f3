"""Repositories in a folder: immutable commits, branches and pull requests that point at them.

    blobs/<sha256>                           content
    repositories/<org>/<name>/state.json     refs and pull requests
    repositories/<org>/<name>/<commit>.json  path -> entry

A dataset's name is datasets/<org>/<name> throughout, as in its address.
Everything is on disk, so a store opened again on the same folder goes on where it was.
"""

import hashlib
import json
import re
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from antidote_ci.demo.hub.blobs import Blobs
from antidote_ci.demo.hub.records import MAIN, Change, Commit, Entry, PullRequest, Repository
from antidote_ci.records import dump, load

NAME = re.compile(r"(?:datasets/)?(?!datasets/)[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")


class UnknownRepository(LookupError):
    """No repository of this name."""


class UnknownRevision(LookupError):
    """The repository has no such branch or commit."""


class Stale(Exception):
    """The branch is no longer at the parent that the commit names."""


class Store:
    """Reads take the files as they are; writes go one at a time."""

    def __init__(self, root: Path) -> None:
        self.blobs = Blobs(root / "blobs")
        self._repositories = root / "repositories"
        self._repositories.mkdir(parents=True, exist_ok=True)
        self._writing = threading.RLock()

    def names(self) -> list[str]:
        """Every repository."""
        states = [*self._repositories.glob("*/*/state.json"), *self._repositories.glob("datasets/*/*/state.json")]
        return sorted(str(path.parent.relative_to(self._repositories)) for path in states)

    def repository(self, name: str) -> Repository:
        """The repository as it is now; raises UnknownRepository."""
        state = self._repositories / name / "state.json"
        if not NAME.fullmatch(name) or not state.is_file():
            raise UnknownRepository(name)
        return load(Repository, state.read_bytes())

    def commit(self, name: str, revision: str) -> Commit:
        """The commit of a branch or commit id; raises UnknownRepository or UnknownRevision."""
        revision = self.repository(name).refs.get(revision, revision)
        path = self._repositories / name / f"{revision}.json"
        if not COMMIT.fullmatch(revision) or not path.is_file():
            raise UnknownRevision(revision)
        return load(Commit, path.read_bytes())

    def add(self, name: str, folder: Path, gated: bool) -> str:
        """Make main hold exactly the files of `folder`; the commit's id, new if they differ."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a repository's name")
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            relative = path.relative_to(folder).as_posix()
            with path.open("rb") as stream:
                files[relative] = self.blobs.entry(relative, stream)
        with self._writing:
            try:
                repository = replace(self.repository(name), gated=gated)
            except UnknownRepository:
                repository = Repository(name, gated, _now(), {})
            head = repository.refs.get(MAIN)
            if head is None or self.commit(name, head).files != files:
                head = self._write(name, head, f"Upload {folder.name}", "", files).revision
            self._save(replace(repository, refs={**repository.refs, MAIN: head}))
        return head

    def push(self, name: str, branch: str, change: Change, parent: str | None) -> Commit:
        """A commit on `branch`; Stale unless that is still at `parent` (any state when None)."""
        with self._writing:
            repository = self.repository(name)
            if branch not in repository.refs:
                raise UnknownRevision(branch)
            head = self.commit(name, branch)
            if parent not in (None, head.revision):
                raise Stale(f"{branch} is at {head.revision}, not at {parent}")
            commit = self._apply(name, head, change)
            self._save(replace(repository, refs={**repository.refs, branch: commit.revision}))
        return commit

    def propose(self, name: str, change: Change, base: str) -> tuple[Commit, PullRequest]:
        """A pull request of one commit upon `base` (a branch or commit)."""
        with self._writing:
            repository = self.repository(name)
            parent = self.commit(name, base)
            commit = self._apply(name, parent, change)
            number = len(repository.pull_requests) + 1
            opened = PullRequest(number, change.title, change.body, parent.revision, _now())
            self._save(
                replace(
                    repository,
                    refs={**repository.refs, opened.ref: commit.revision},
                    pull_requests=[*repository.pull_requests, opened],
                )
            )
        return commit, opened

    def _apply(self, name: str, parent: Commit, change: Change) -> Commit:
        kept = {
            path: entry
            for path, entry in parent.files.items()
            if not any(_covers(gone, path) for gone in change.deleted)
        }
        files = dict(sorted({**kept, **change.added}.items()))
        return self._write(name, parent.revision, change.title, change.body, files)

    def _write(self, name: str, parent: str | None, title: str, body: str, files: dict[str, Entry]) -> Commit:
        """The id hashes what is said and not when, so the same folder gives the same commit."""
        said = [name, parent, title, body, {path: asdict(e) for path, e in files.items()}]
        content = json.dumps(said, sort_keys=True).encode()
        revision = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        commit = Commit(revision, parent, title, body, _now(), files)
        path = self._repositories / name / f"{revision}.json"
        if not path.exists():
            _replace(path, dump(commit))
        return commit

    def _save(self, repository: Repository) -> None:
        _replace(self._repositories / repository.id / "state.json", dump(repository))


def is_path(path: str) -> bool:
    """Whether `path` stays inside its repository."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in parts)


def _covers(gone: str, path: str) -> bool:
    return path == gone or (gone.endswith("/") and PurePosixPath(path).is_relative_to(gone))


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
