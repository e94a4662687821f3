"""Branches, tags and the commits behind them, as the client reads and makes them."""

import re

from loopback_hub import history
from loopback_hub.messages import Refused, Request, Response, as_json, as_page
from loopback_hub.records import MAIN, Commit
from loopback_hub.store import Store

BRANCH = re.compile(r"(?!refs/|[0-9a-f]{40}$)[A-Za-z0-9_][A-Za-z0-9._/-]*")


def refs(store: Store, request: Request, name: str) -> Response:
    """Where every branch and tag stands, and with ?include_prs=1 every pull request."""
    repository = store.repository(name)
    branches = {key: value for key, value in repository.refs.items() if not key.startswith("refs/")}
    answer = {
        "branches": [_ref(key, f"refs/heads/{key}", value) for key, value in branches.items()],
        "tags": [_ref(key, f"refs/tags/{key}", value) for key, value in repository.tags.items()],
        "converts": [],
    }
    if request.asks("include_prs"):
        pulls = [(pull.ref, repository.refs[pull.ref]) for pull in repository.pull_requests]
        answer["pullRequests"] = [_ref(ref.removeprefix("refs/"), ref, value) for ref, value in pulls]
    return as_json(answer)


def log(store: Store, request: Request, name: str, revision: str) -> Response:
    """The history of a revision, newest first."""
    return as_page([_commit(commit) for commit in history.log(store, name, revision)], request, store.page_size)


def create_branch(store: Store, request: Request, name: str, branch: str) -> Response:
    if not BRANCH.fullmatch(branch):
        raise Refused(400, f"Invalid branch name: {branch}")
    history.create_branch(store, name, branch, request.json().get("startingPoint") or MAIN)
    return as_json({})


def delete_branch(store: Store, _request: Request, name: str, branch: str) -> Response:
    if branch == MAIN or not BRANCH.fullmatch(branch):
        raise Refused(403, f"{branch} cannot be deleted")
    history.delete_branch(store, name, branch)
    return as_json({})


def create_tag(store: Store, request: Request, name: str, revision: str) -> Response:
    history.create_tag(store, name, str(request.json().get("tag")), revision)
    return as_json({})


def delete_tag(store: Store, _request: Request, name: str, tag: str) -> Response:
    history.delete_tag(store, name, tag)
    return as_json({})


def _ref(name: str, ref: str, revision: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": revision}


def _commit(commit: Commit) -> dict[str, object]:
    return {
        "id": commit.revision,
        "title": commit.title,
        "message": commit.body,
        "authors": [{"user": commit.author}],
        "date": commit.created,
        "parents": [commit.parent] if commit.parent else [],
    }
