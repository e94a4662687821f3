"""Who asks, and what they may do. The checks that the routes name refuse with what the client understands."""

import hashlib
import time
from dataclasses import replace

from loopback_hub.messages import HttpError, HttpRequest
from loopback_hub.records import Repository
from loopback_hub.registered import Accounts, Credential, TrustedPublisher
from loopback_hub.store import HubStore, MovedRepository, UnknownRepository

ANYONE = Credential("demo", "", "all")
"""Every token, until the first account is made."""
DISABLED = "Access to this resource is disabled."
"""The client knows a disabled repository by these very words."""


def add_credential(store: HubStore, credential: Credential) -> None:
    """A token from now on; the first one ends the time when every token was good."""
    with store.writing:
        known = store.accounts()
        others = [old for old in known.credentials if old.sha256 != credential.sha256]
        store.save_accounts(replace(known, credentials=[*others, credential]))


def add_publisher(store: HubStore, publisher: TrustedPublisher) -> None:
    """A workflow that may publish; like the first account, it ends the time when every token was good."""
    with store.writing:
        known = store.accounts()
        others = [old for old in known.publishers if old != publisher]
        store.save_accounts(replace(known, publishers=[*others, publisher]))


def end_exchanged(store: HubStore) -> None:
    """Let every token that expires be expired now."""
    with store.writing:
        known = store.accounts()
        credentials = [old if old.expires is None else replace(old, expires=0.0) for old in known.credentials]
        store.save_accounts(replace(known, credentials=credentials))


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def optional_credential(store: HubStore, request: HttpRequest) -> Credential | None:
    """None for a request without a token; a token that nobody has, or that has expired, is refused."""
    if request.token is None:
        return None
    known = store.accounts()
    if known == Accounts():
        return ANYONE
    sha256 = hash_token(request.token)
    for credential in known.credentials:
        if credential.sha256 == sha256 and (credential.expires is None or time.time() < credential.expires):
            return credential
    raise HttpError(401, "Invalid credentials in Authorization header")


def require_credential(store: HubStore, request: HttpRequest) -> Credential:
    """As `optional_credential`, but a request without a token is refused."""
    credential = optional_credential(store, request)
    if credential is None:
        raise HttpError(401, "Invalid username or password.")
    return credential


def may_read(credential: Credential | None, repository: Repository) -> bool:
    if not repository.private:
        return True
    if credential is None:
        return False
    if credential.rights == "fine-grained":
        return repository.id in credential.repositories
    return is_owner(credential, repository.namespace)


def may_write(credential: Credential | None, repository: Repository) -> bool:
    if credential is None or credential.rights == "read":
        return False
    if credential.rights == "fine-grained":
        return repository.id in credential.repositories
    return is_owner(credential, repository.namespace)


def may_comment(credential: Credential, repository: Repository) -> bool:
    """Open a discussion or a pull request, and comment: everyone who may write anywhere."""
    if credential.rights == "fine-grained":
        return repository.id in credential.repositories
    return credential.rights != "read"


def is_owner(credential: Credential, namespace: str) -> bool:
    """Whether the account, not its token, is at home in a namespace."""
    return credential.rights == "all" or namespace in (credential.account, *credential.organisations)


def require_reader(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """May know that the repository is there, and what is in it."""
    credential = optional_credential(store, request)
    try:
        repository = store.repository(name)
    except MovedRepository as moved:
        require_reader(store, request, moved.after)
        raise
    if not may_read(credential, repository):
        raise UnknownRepository(name)
    if repository.disabled:
        raise HttpError(403, DISABLED)
    return repository


def require_file_reader(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """May read the files, which a gate may keep from others."""
    repository = require_reader(store, request, name)
    if not repository.is_gated:
        return repository
    credential = optional_credential(store, request)
    if credential is None:
        message = f"Access to {name} is restricted. You must have access to it and be authenticated to access it."
        raise HttpError(401, message, "GatedRepo")
    admission = repository.admissions.get(credential.account)
    let_in = admission is not None and admission.standing == "accepted"
    if not let_in and not is_owner(credential, repository.namespace) and not may_write(credential, repository):
        message = f"Access to {name} is restricted and you are not in the authorized list."
        raise HttpError(403, f"{message} Visit {request.base}/{name} to ask for access.", "GatedRepo")
    return repository


def require_commenter(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """May open discussions and pull requests, and comment."""
    repository = require_reader(store, request, name)
    if not may_comment(require_credential(store, request), repository):
        raise HttpError(403, "Forbidden: this token may not write to discussions and pull requests")
    return repository


def require_writer(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """May push to branches, merge, and change the settings."""
    repository = require_reader(store, request, name)
    if not may_write(require_credential(store, request), repository):
        raise HttpError(403, f"Forbidden: this token may not write to {name}")
    return repository
