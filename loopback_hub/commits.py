"""Branches, tags and the commits behind them, as the client reads and makes them."""

import re

from loopback_hub import history
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response, page_response
from loopback_hub.records import MAIN, Commit
from loopback_hub.store import HubStore

BRANCH = re.compile(r"(?!refs/|[0-9a-f]{40}$)[A-Za-z0-9_][A-Za-z0-9._/-]*")


def list_refs(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Where every branch and tag stands, and with ?include_prs=1 every pull request."""
    repository = store.repository(name)
    branches = {key: value for key, value in repository.refs.items() if not key.startswith("refs/")}
    answer = {
        "branches": [_ref_json(key, f"refs/heads/{key}", value) for key, value in branches.items()],
        "tags": [_ref_json(key, f"refs/tags/{key}", value) for key, value in repository.tags.items()],
        "converts": [],
    }
    if request.has_flag("include_prs"):
        pulls = [(pull.ref, repository.refs[pull.ref]) for pull in repository.pull_requests]
        answer["pullRequests"] = [_ref_json(ref.removeprefix("refs/"), ref, value) for ref, value in pulls]
    return json_response(answer)


def list_commits(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """The history of a revision, newest first."""
    return page_response(
        [_commit_json(commit) for commit in history.read_history(store, name, revision)], request, store.page_size
    )


def handle_create_branch(store: HubStore, request: HttpRequest, name: str, branch: str) -> HttpResponse:
    if not BRANCH.fullmatch(branch):
        raise HttpError(400, f"Invalid branch name: {branch}")
    history.create_branch(store, name, branch, request.json().get("startingPoint") or MAIN)
    return json_response({})


def handle_delete_branch(store: HubStore, _request: HttpRequest, name: str, branch: str) -> HttpResponse:
    if branch == MAIN or not BRANCH.fullmatch(branch):
        raise HttpError(403, f"{branch} cannot be deleted")
    history.delete_branch(store, name, branch)
    return json_response({})


def handle_create_tag(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    history.create_tag(store, name, str(request.json().get("tag")), revision)
    return json_response({})


def handle_delete_tag(store: HubStore, _request: HttpRequest, name: str, tag: str) -> HttpResponse:
    history.delete_tag(store, name, tag)
    return json_response({})


def _ref_json(name: str, ref: str, revision: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": revision}


def _commit_json(commit: Commit) -> dict[str, object]:
    return {
        "id": commit.revision,
        "title": commit.title,
        "message": commit.body,
        "authors": [{"user": commit.author}],
        "date": commit.created,
        "parents": [commit.parent] if commit.parent else [],
    }
