"""Credentials, access checks, and the endpoints `whoami` and `auth-check`.

The checks raise HttpError with the status and the error code that the client expects.
"""

import hashlib
import time
from dataclasses import replace

from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.records import Accounts, Credential, Repository, TrustedPublisher
from loopback_hub.store import HubStore, MovedRepository, UnknownRepository

ANYONE = Credential("demo", "", "all")
"""The account of every token until the first account is registered."""
OK = 200
DISABLED = "Access to this resource is disabled."
"""The client recognises a disabled repository by this text."""
ROLES = {"all": "write", "write": "write", "read": "read", "fine-grained": "fineGrained"}
PERMISSIONS = ["repo.content.read", "repo.write", "discussion.write"]


def add_credential(store: HubStore, credential: Credential) -> None:
    """Register a token. After the first registration, unknown tokens are rejected."""
    with store.writing:
        accounts = store.accounts()
        others = [old for old in accounts.credentials if old.sha256 != credential.sha256]
        store.save_accounts(replace(accounts, credentials=[*others, credential]))


def add_publisher(store: HubStore, publisher: TrustedPublisher) -> None:
    """Register a workflow that may publish. After the first registration, unknown tokens are rejected."""
    with store.writing:
        accounts = store.accounts()
        others = [old for old in accounts.publishers if old != publisher]
        store.save_accounts(replace(accounts, publishers=[*others, publisher]))


def end_exchanged(store: HubStore) -> None:
    """Expire all tokens that have an expiry."""
    with store.writing:
        accounts = store.accounts()
        credentials = [old if old.expires is None else replace(old, expires=0.0) for old in accounts.credentials]
        store.save_accounts(replace(accounts, credentials=credentials))


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def optional_credential(store: HubStore, request: HttpRequest) -> Credential | None:
    """Return the credential, or None without a token. Raises HttpError for an unknown or expired token."""
    if request.token is None:
        return None
    accounts = store.accounts()
    if accounts == Accounts():
        return ANYONE
    sha256 = hash_token(request.token)
    for credential in accounts.credentials:
        if credential.sha256 == sha256 and (credential.expires is None or time.time() < credential.expires):
            return credential
    raise HttpError(401, "Invalid credentials in Authorization header")


def require_credential(store: HubStore, request: HttpRequest) -> Credential:
    """Return the credential. Raises HttpError without a token, or for an unknown or expired one."""
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
    if repository.namespace not in credential.organisations:
        return is_owner(credential, repository.namespace)
    is_creator = credential.role == "contributor" and repository.creator == credential.account
    return credential.rights == "all" or credential.role in ("write", "admin") or is_creator


def may_create(credential: Credential, namespace: str) -> bool:
    """Whether the account may have repositories in the namespace."""
    if namespace not in credential.organisations:
        return is_owner(credential, namespace)
    return credential.rights == "all" or credential.role in ("contributor", "write", "admin")


def may_comment(credential: Credential, repository: Repository) -> bool:
    """Whether the credential may open discussions and pull requests, and comment."""
    if credential.rights == "fine-grained":
        return repository.id in credential.repositories
    return credential.rights != "read"


def is_owner(credential: Credential, namespace: str) -> bool:
    """Whether the namespace belongs to the account or to one of its organisations."""
    return credential.rights == "all" or namespace in (credential.account, *credential.organisations)


def require_reader(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """Require the right to see the repository and its file list."""
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
    """Require the right to read the files, which a gate may restrict."""
    repository = require_reader(store, request, name)
    if not repository.is_gated:
        return repository
    credential = optional_credential(store, request)
    restricted = f"Access to {repository.kind} {repository.short_name} is restricted"
    if credential is None:
        message = f"{restricted}. You must have access to it and be authenticated to access it."
        raise HttpError(401, message, "GatedRepo")
    if not is_owner(credential, repository.namespace) and not may_write(credential, repository):
        message = f"{restricted} and you are not in the authorized list."
        raise HttpError(403, f"{message} Visit {request.base}/{name} to ask for access.", "GatedRepo")
    return repository


def require_commenter(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """Require the right to open discussions and pull requests, and to comment."""
    repository = require_reader(store, request, name)
    if not may_comment(require_credential(store, request), repository):
        raise HttpError(403, "Forbidden: this token may not write to discussions and pull requests")
    return repository


def require_writer(store: HubStore, request: HttpRequest, name: str) -> Repository:
    """Require the right to push to branches, merge and change the settings."""
    repository = require_reader(store, request, name)
    if not may_write(require_credential(store, request), repository):
        raise HttpError(403, f"Forbidden: this token may not write to {name}")
    return repository


def whoami(store: HubStore, request: HttpRequest) -> HttpResponse:
    credential = require_credential(store, request)
    if credential.expires is not None and store.strictness.workflow_whoami != OK:
        raise HttpError(store.strictness.workflow_whoami, "this token has no account")
    token: dict[str, object] = {"displayName": credential.account, "role": ROLES[credential.rights]}
    if credential.rights == "fine-grained":
        scopes = [{"entity": _entity_json(name), "permissions": PERMISSIONS} for name in credential.repositories]
        token["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": scopes}
    return json_response({**_user_json(credential), "auth": {"type": "access_token", "accessToken": token}})


def check_access(_store: HubStore, _request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001
    """Confirm access. The route has checked it already."""
    return json_response({})


def _user_json(credential: Credential) -> dict[str, object]:
    organisations = [
        {**_names_json(credential, name), "type": "org", "roleInOrg": credential.role}
        for name in credential.organisations
    ]
    return {**_names_json(credential, credential.account), "type": "user", "isPro": False, "orgs": organisations}


def _names_json(credential: Credential, name: str) -> dict[str, object]:
    return {"id": name, "name": name, "fullname": credential.full_names.get(name, name)}


def _entity_json(name: str) -> dict[str, str]:
    kind = "dataset" if name.startswith("datasets/") else "model"
    return {"_id": name, "type": kind, "name": name.removeprefix("datasets/")}
