"""Endpoints for repositories, branches and commits."""

import io
import re
from dataclasses import replace

from loopback_hub import history
from loopback_hub.accounts import may_create, require_credential, require_writer
from loopback_hub.blobs import LARGE_SUFFIXES
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response, page_response
from loopback_hub.records import MAIN, Commit, Repository, RepositoryEvent, utc_now
from loopback_hub.store import NAME, HubStore

COMMITS_PER_PAGE = 50
KINDS = {"model": "", "dataset": "datasets/"}
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LARGE_SUFFIXES))
BRANCH = re.compile(r"(?!refs/|[0-9a-f]{40}$)[A-Za-z0-9_][A-Za-z0-9._/-]*")


def handle_create(store: HubStore, request: HttpRequest) -> HttpResponse:
    """Create a repository with one commit, whose .gitattributes lists the suffixes for git-lfs."""
    sent = request.json()
    credential = require_credential(store, request)
    namespace = sent.get("organization") or credential.account
    name = f"{_prefix(sent)}{namespace}/{sent.get('name')}"
    if not NAME.fullmatch(name):
        raise HttpError(400, f"{name} is not a repository's name")
    if credential.rights not in ("all", "write") or not may_create(credential, namespace):
        raise HttpError(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
    attributes = {".gitattributes": store.blobs.put_file(".gitattributes", io.BytesIO(ATTRIBUTES.encode()))}
    answer = {"url": f"{request.base}/{name}", "name": name.removeprefix("datasets/")}
    with store.writing:
        if name.lower() in (other.lower() for other in store.names()):
            raise HttpError(409, "You already created this model repo", body=answer)
        repository = Repository(name, utc_now(), {}, private=_is_private(sent) or False, creator=credential.account)
        history.create_repository(store, repository, "initial commit", credential.account, attributes)
    return json_response(answer)


def handle_delete(store: HubStore, request: HttpRequest) -> HttpResponse:
    sent = request.json()
    name = f"{_prefix(sent)}{sent.get('organization') or require_credential(store, request).account}/{sent.get('name')}"
    with store.writing:
        repository = require_writer(store, request, name)
        store.delete(name)
        store.announce(RepositoryEvent("delete", "repo", repository))
    return json_response({})


def update_settings(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Change gating and visibility."""
    sent = request.json()
    gated, private = sent.get("gated"), _is_private(sent)
    if gated not in (None, "auto", "manual", False):
        raise HttpError(400, f"gated must be auto, manual or false, not {gated!r}")
    with store.writing:
        repository = store.repository(name)
        changed = replace(
            repository,
            gated=repository.gated if gated is None else gated,
            private=repository.private if private is None else private,
        )
        store.save(changed)
        store.announce(RepositoryEvent("update", "repo.config", changed))
    return json_response({"gated": changed.gated, "private": changed.private})


def handle_move(store: HubStore, request: HttpRequest) -> HttpResponse:
    """Rename a repository or move it to another namespace."""
    sent = request.json()
    old, new = (f"{_prefix(sent)}{sent.get(key)}" for key in ("fromRepo", "toRepo"))
    with store.writing:
        require_writer(store, request, old)
        if not NAME.fullmatch(new):
            raise HttpError(400, f"{new} is not a repository's name")
        namespace = new.removeprefix("datasets/").partition("/")[0]
        if not may_create(require_credential(store, request), namespace):
            raise HttpError(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
        before = store.repository(old)
        store.move(old, new)
        store.announce(RepositoryEvent("move", "repo", before, moved_to=new))
    return json_response({"url": f"{request.base}/{new}"})


def _prefix(sent: dict[str, object]) -> str:
    """The prefix of the store's name for the requested repository type."""
    kind = sent.get("type") or "model"
    if not isinstance(kind, str) or kind not in KINDS:
        raise HttpError(400, f"repository type {kind} is not supported; use model or dataset")
    return KINDS[kind]


def _is_private(sent: dict[str, object]) -> bool | None:
    """The requested visibility, or None if the request does not name it."""
    if "visibility" in sent:
        return sent["visibility"] == "private"
    private = sent.get("private")
    return private if isinstance(private, bool) else None


def list_commits(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """List the history of a revision, newest first."""
    listed = [_commit_json(commit) for commit in history.read_history(store, name, revision)]
    return page_response(listed, request, min(store.page_size, COMMITS_PER_PAGE))


def handle_create_branch(store: HubStore, request: HttpRequest, name: str, branch: str) -> HttpResponse:
    if not BRANCH.fullmatch(branch):
        raise HttpError(400, f"Invalid branch name: {branch}")
    history.create_branch(store, name, branch, request.json().get("startingPoint") or MAIN)
    return json_response({})


def handle_delete_branch(store: HubStore, _request: HttpRequest, name: str, branch: str) -> HttpResponse:
    if branch == MAIN:
        raise HttpError(403, f"Cannot delete refs/heads/{MAIN}")
    history.delete_branch(store, name, branch)
    return json_response({})


def list_refs(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """List the branches, and with ?include_prs=1 the heads of pull requests."""
    refs = store.repository(name).refs
    listed: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    for ref, head in refs.items():
        if ref.startswith("refs/pr/"):
            listed["pullRequests"].append({"name": ref.removeprefix("refs/pr/"), "ref": ref, "targetCommit": head})
        else:
            listed["branches"].append({"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": head})
    if not request.has_flag("include_prs"):
        del listed["pullRequests"]
    return json_response(listed)


def _commit_json(commit: Commit) -> dict[str, object]:
    return {
        "id": commit.revision,
        "title": commit.title,
        "message": commit.body,
        "authors": [{"user": commit.author}],
        "date": commit.created,
        "parents": [commit.parent] if commit.parent else [],
    }
