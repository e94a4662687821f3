"""Repositories in a folder: immutable commits, and what points at them.

    blobs/<sha256>                           content
    repositories/<org>/<name>/state.json     refs, discussions, settings
    repositories/<org>/<name>/<commit>.json  path -> entry
    repositories/<org>/<name>/moved          the name it has now
    accounts.json, webhooks.json             who is known, who is told
    jobs/<account>/<id>.json, .log           what ran, and what it said

A dataset's name is datasets/<org>/<name> throughout, as in its address.
Everything is on disk, so a store opened again on the same folder goes on where it was.
"""

import hashlib
import json
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from antidote_ci.identifiers import COMMIT
from antidote_ci.records import from_json, to_json
from loopback_hub.blobs import BlobStore, replace_file
from loopback_hub.job_processes import JobProcesses
from loopback_hub.records import Commit, FileEntry, Repository, RepositoryEvent, utc_now
from loopback_hub.registered import Accounts, StoredWebhook

TOKEN_SECONDS = 3600
"""How long an exchanged token is valid on the real Hub."""
NAME = re.compile(r"(?:datasets/)?(?!datasets/)[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")


class UnknownRepository(LookupError):
    """No repository of this name."""


class MovedRepository(LookupError):
    """The repository has another name now."""

    def __init__(self, before: str, after: str) -> None:
        super().__init__(f"{before} is {after} now")
        self.before = before
        self.after = after


class UnknownRevision(LookupError):
    """The repository has no such branch, tag or commit."""


class UnknownEntry(LookupError):
    """The revision has no such file or folder."""


class StaleParent(Exception):
    """The branch is no longer at the parent that the commit names."""


class AlreadyExists(Exception):
    """There is one of this name already."""


@dataclass(frozen=True)
class WebhookList:
    """Every webhook of every account."""

    all: list[StoredWebhook]


class HubStore:
    """Reads take the files as they are; changes go one at a time, under `writing`."""

    def __init__(self, root: Path, page_size: int = 1000, token_seconds: int = TOKEN_SECONDS) -> None:
        """`page_size` is how much of a listing one answer holds.

        `token_seconds` is how long the token is valid for which a workflow exchanges its identity.
        """
        self.blobs = BlobStore(root / "blobs")
        self.page_size = page_size
        self.token_seconds = token_seconds
        self.key = secrets.token_bytes(32)
        """What this Hub signs is good as long as it runs."""
        self.writing = threading.RLock()
        self.jobs = JobProcesses(root / "jobs")
        self.announce: Callable[[RepositoryEvent], None] = lambda _: None
        self._root = root
        self._repositories = root / "repositories"
        self._repositories.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """Every repository."""
        states = [*self._repositories.glob("*/*/state.json"), *self._repositories.glob("datasets/*/*/state.json")]
        return sorted(str(path.parent.relative_to(self._repositories)) for path in states)

    def repository(self, name: str) -> Repository:
        """The repository as it is now; raises UnknownRepository or MovedRepository."""
        if not NAME.fullmatch(name):
            raise UnknownRepository(name)
        folder = self._repositories / name
        # A change may take several steps: nobody sees it half done.
        with self.writing:
            if (folder / "state.json").is_file():
                return from_json(Repository, (folder / "state.json").read_bytes())
            if (folder / "moved").is_file():
                raise MovedRepository(name, (folder / "moved").read_text(encoding="utf-8"))
        raise UnknownRepository(name)

    def commit(self, name: str, revision: str) -> Commit:
        """The commit of a branch, tag or commit id; raises UnknownRepository or UnknownRevision."""
        repository = self.repository(name)
        revision = repository.refs.get(revision) or repository.tags.get(revision) or revision
        path = self._repositories / name / f"{revision}.json"
        if not COMMIT.fullmatch(revision) or not path.is_file():
            raise UnknownRevision(revision)
        return from_json(Commit, path.read_bytes())

    def write_commit(
        self, name: str, parent: str | None, title: str, body: str, author: str, files: dict[str, FileEntry]
    ) -> Commit:
        """The id hashes what is said and not when, so the same folder gives the same commit."""
        said = [name, parent, title, body, author, {path: asdict(entry) for path, entry in files.items()}]
        content = json.dumps(said, sort_keys=True).encode()
        revision = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        path = self._repositories / name / f"{revision}.json"
        if path.exists():
            return from_json(Commit, path.read_bytes())
        commit = Commit(revision, parent, title, body, author, utc_now(), files)
        replace_file(path, to_json(commit))
        return commit

    def save(self, repository: Repository) -> None:
        """Make this the state of the repository; one that is not there yet begins here."""
        if not NAME.fullmatch(repository.id):
            raise ValueError(f"{repository.id!r} is not a repository's name")
        replace_file(self._repositories / repository.id / "state.json", to_json(repository))

    def delete(self, name: str) -> None:
        """Without a trace: another may take the name."""
        shutil.rmtree(self._repositories / self.repository(name).id)

    def move(self, name: str, new: str) -> None:
        """Give a repository another name; the old one leads there until someone takes it."""
        repository = replace(self.repository(name), id=new)
        if not NAME.fullmatch(new):
            raise ValueError(f"{new!r} is not a repository's name")
        old, folder = self._repositories / name, self._repositories / new
        if (folder / "state.json").exists():
            raise AlreadyExists(new)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        old.rename(folder)
        self.save(repository)
        replace_file(old / "moved", new)

    def accounts(self) -> Accounts:
        path = self._root / "accounts.json"
        return from_json(Accounts, path.read_bytes()) if path.is_file() else Accounts()

    def save_accounts(self, accounts: Accounts) -> None:
        replace_file(self._root / "accounts.json", to_json(accounts))

    def webhooks(self) -> list[StoredWebhook]:
        path = self._root / "webhooks.json"
        return from_json(WebhookList, path.read_bytes()).all if path.is_file() else []

    def save_webhooks(self, webhooks: list[StoredWebhook]) -> None:
        replace_file(self._root / "webhooks.json", to_json(WebhookList(webhooks)))


def is_path(path: str) -> bool:
    """Whether `path` stays inside its repository."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in parts)
