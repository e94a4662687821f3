"""Stores repositories, accounts, webhooks and Jobs in a folder.

    blobs/<sha256>                           content of a file
    repositories/<org>/<name>/state.json     refs, discussions, settings
    repositories/<org>/<name>/<commit>.json  path -> entry
    repositories/<org>/<name>/moved          the new name of a renamed repository
    accounts.json, webhooks.json             credentials, webhooks
    jobs/<account>/<id>.json, .log           status and log of a Job
    xet/                                     large files as Xet stores them, if they are transferred so

The name of a dataset is datasets/<org>/<name>, as in its URL.
A store that is opened again on the same folder continues with the same state.
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

from antidote_ci.records import COMMIT, from_json, to_json
from loopback_hub.blobs import BlobStore, replace_file
from loopback_hub.job_processes import JobProcesses
from loopback_hub.records import Accounts, Commit, FileEntry, Repository, RepositoryEvent, StoredWebhook, utc_now
from loopback_hub.strictness import Strictness, read_strictness
from loopback_hub.xet import XetStorage

NAME = re.compile(r"(?:datasets/)?(?!datasets/)[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")


class UnknownRepository(LookupError):
    """There is no repository of this name."""


class MovedRepository(LookupError):
    """The repository was renamed, or its name is written with other letters in upper case."""

    def __init__(self, before: str, after: str) -> None:
        super().__init__(f"{before} is now {after}")
        self.before = before
        self.after = after


class UnknownRevision(LookupError):
    """The repository has no such branch, pull request or commit."""


class UnknownEntry(LookupError):
    """The revision has no such file or folder."""


class StaleParent(Exception):
    """The branch is no longer at the parent that the commit names."""


class AlreadyExists(Exception):
    """A repository or branch of this name exists."""


@dataclass(frozen=True)
class WebhookList:
    """The webhooks of all accounts."""

    all: list[StoredWebhook]


class HubStore:
    """The state of a loopback Hub. Changes hold the lock `writing`."""

    def __init__(self, root: Path, page_size: int = 1000, strictness: Strictness | None = None) -> None:
        """Open or create the store in `root`.

        `page_size` is the number of items per page of a listing. `strictness` is that of the environment if it is not
        given.
        """
        self.blobs = BlobStore(root / "blobs")
        self.page_size = page_size
        self.strictness = read_strictness() if strictness is None else strictness
        self.xet = XetStorage(root / "xet", self.blobs) if self.strictness.has_xet else None
        self.token_seconds = self.strictness.token_seconds
        self.key = secrets.token_bytes(32)
        """Key for signatures. It changes with every start."""
        self.writing = threading.RLock()
        self.jobs = JobProcesses(root / "jobs")
        self.announce: Callable[[RepositoryEvent], None] = lambda _: None
        self._root = root
        self._repositories = root / "repositories"
        self._repositories.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """The names of all repositories."""
        states = [*self._repositories.glob("*/*/state.json"), *self._repositories.glob("datasets/*/*/state.json")]
        return sorted(str(path.parent.relative_to(self._repositories)) for path in states)

    def repository(self, name: str) -> Repository:
        """Return the current state. Raises UnknownRepository or MovedRepository."""
        if not NAME.fullmatch(name):
            raise UnknownRepository(name)
        folder = self._repositories / name
        # A change may take several steps, so wait until it is complete.
        with self.writing:
            if (folder / "state.json").is_file():
                return from_json(Repository, (folder / "state.json").read_bytes())
            if (folder / "moved").is_file():
                raise MovedRepository(name, (folder / "moved").read_text(encoding="utf-8"))
        for other in self.names():
            if other.lower() == name.lower():
                raise MovedRepository(name, other)
        raise UnknownRepository(name)

    def commit(self, name: str, revision: str) -> Commit:
        """Return the commit of a branch, pull request or commit id. Raises UnknownRepository or UnknownRevision."""
        repository = self.repository(name)
        revision = repository.refs.get(revision, revision)
        path = self._repositories / name / f"{revision}.json"
        if not COMMIT.fullmatch(revision) or not path.is_file():
            raise UnknownRevision(revision)
        return from_json(Commit, path.read_bytes())

    def write_commit(
        self, name: str, parent: str | None, title: str, body: str, author: str, files: dict[str, FileEntry]
    ) -> Commit:
        """Store a commit. Its id does not depend on the time, so the same content gives the same commit."""
        fields = [name, parent, title, body, author, {path: asdict(entry) for path, entry in files.items()}]
        content = json.dumps(fields, sort_keys=True).encode()
        revision = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        path = self._repositories / name / f"{revision}.json"
        if path.exists():
            return from_json(Commit, path.read_bytes())
        commit = Commit(revision, parent, title, body, author, utc_now(), files)
        replace_file(path, to_json(commit))
        return commit

    def save(self, repository: Repository) -> None:
        """Store the state of a new or existing repository."""
        if not NAME.fullmatch(repository.id):
            raise ValueError(f"{repository.id!r} is not a repository's name")
        replace_file(self._repositories / repository.id / "state.json", to_json(repository))

    def delete(self, name: str) -> None:
        """Delete the repository. Its name becomes free."""
        shutil.rmtree(self._repositories / self.repository(name).id)

    def move(self, name: str, new: str) -> None:
        """Rename a repository. The old name redirects until it is used again."""
        repository = replace(self.repository(name), id=new)
        if not NAME.fullmatch(new):
            raise ValueError(f"{new!r} is not a repository's name")
        old, folder = self._repositories / name, self._repositories / new
        if (folder / "state.json").exists():
            raise AlreadyExists(f"A {repository.kind} repository called {repository.short_name} already exists")
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
    """Whether `path` stays inside its repository. The Hub also refuses a parent folder of Windows at the beginning."""
    parts = path.split("/")
    is_outside = path.startswith("..\\") or any(part in ("", ".", "..") for part in parts)
    return bool(path) and "\0" not in path and not is_outside
