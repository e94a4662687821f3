"""Endpoints that write to a repository: card validation, git-lfs uploads and commits.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

import base64
import io
import json
import re
from typing import Any

from loopback_hub import discussion_state, history
from loopback_hub.accounts import may_write, require_credential
from loopback_hub.blobs import is_large, large_entry
from loopback_hub.cards import find_faults, parse_card
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.patterns import is_ignored, is_in_lfs
from loopback_hub.reading import issue_xet_token
from loopback_hub.records import Commit, FileChanges, FileEntry
from loopback_hub.store import HubStore, is_path

PULL_REQUEST = re.compile(r"refs/pr/(?P<number>\d{1,9})")


def validate_card(_store: HubStore, request: HttpRequest) -> HttpResponse:
    card = str(request.json().get("content", ""))
    faults = find_faults(card)
    errors = [{"message": fault} for fault in faults]
    warnings = [] if errors or parse_card(card) else [{"message": "empty or missing yaml metadata in repo card"}]
    return json_response({"errors": errors, "warnings": warnings}, 400 if errors else 200)


def list_upload_modes(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """Return how to upload each file, whether to leave it out, and its current id.

    Requires the same rights as the commit. A `.gitignore` in the same commit counts instead of that of the revision.
    """
    if not request.has_flag("create_pr"):
        _require_push_access(store, request, name, revision)
    sent, files = request.json(), store.commit(name, revision).files
    attributes = _read_text(store, files, ".gitattributes")
    rules = sent.get("gitIgnore") or _read_text(store, files, ".gitignore")
    listed = [
        {
            "path": path,
            "uploadMode": "lfs" if is_large(path, size) or (size and is_in_lfs(attributes, path)) else "regular",
            "shouldIgnore": is_ignored(rules, path),
            "oid": files[path].tag if path in files else None,
        }
        for path, size in ((file["path"], file["size"]) for file in sent["files"])
    ]
    return json_response({"files": listed})


def _read_text(store: HubStore, files: dict[str, FileEntry], path: str) -> str:
    """Return the text of a file in git, empty if there is none."""
    blob = store.blobs.path(files[path].sha256) if path in files else None
    return blob.read_text(encoding="utf-8", errors="replace") if blob else ""


def issue_xet_write_token(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """Requires the same rights as the commit. For a new pull request the client writes `None` as the revision."""
    if not request.has_flag("create_pr"):
        _require_push_access(store, request, name, revision)
    return issue_xet_token(store, request, name, revision)


def handle_commit(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """Commit to a branch or pull request; with ?create_pr=1 open a pull request to the branch `revision`.

    A pull request may start from an old commit, `parentCommit`. Only a push can be stale.
    """
    author = require_credential(store, request).account
    lines = [json.loads(line) for line in request.body.read().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    change = _parse_change(store, author, header, [line for line in lines if line["key"] != "header"])
    parent = header.get("parentCommit")
    address = f"{request.base}/{name}"
    if request.has_flag("create_pr"):
        commit, opened = discussion_state.add_pull_request(store, name, change, revision, parent)
        link = {"pullRequestUrl": f"{address}/discussions/{opened.number}"}
    else:
        commit, link = _push_change(store, request, name, revision, change, parent), {}
    answer = {"success": True, "commitOid": commit.revision, **link}
    return json_response({**answer, "commitUrl": f"{address}/commit/{commit.revision}"})


def _push_change(
    store: HubStore, request: HttpRequest, name: str, revision: str, change: FileChanges, parent: str | None
) -> Commit:
    _require_push_access(store, request, name, revision)
    if match := PULL_REQUEST.fullmatch(revision):
        return discussion_state.push_to_pull_request(store, name, int(match["number"]), change, parent)
    return history.push_commit(store, name, revision, change, parent)


def _require_push_access(store: HubStore, request: HttpRequest, name: str, revision: str) -> None:
    """Require a writer of the repository, or the author of the pull request."""
    repository, caller = store.repository(name), require_credential(store, request)
    if may_write(caller, repository):
        return
    if (match := PULL_REQUEST.fullmatch(revision)) is None:
        raise HttpError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
    if discussion_state.find_discussion(repository, int(match["number"])).author != caller.account:
        raise HttpError(403, f"Forbidden: pull request {match['number']} belongs to another account")


def _parse_change(store: HubStore, author: str, header: dict[str, Any], lines: list[dict[str, Any]]) -> FileChanges:
    added: dict[str, FileEntry] = {}
    deleted: list[str] = []
    for line in lines:
        value, path = line["value"], line["value"]["path"]
        if not is_path(path.rstrip("/")):
            raise HttpError(422, f"{path!r} leaves the repository")
        match line["key"]:
            case "file":
                content = base64.b64decode(value["content"], validate=True)
                _require_valid_card(path, content)
                added[path] = store.blobs.put_regular(*store.blobs.put(io.BytesIO(content)))
            case "lfsFile":
                blob = store.blobs.path(value["oid"])
                if blob is None and store.xet is not None:
                    blob = store.xet.fetch(value["oid"], value["size"])
                if blob is None:
                    raise HttpError(400, f"the content of {path} was not uploaded")
                added[path] = large_entry(value["oid"], blob.stat().st_size)
            case "deletedFile" | "deletedFolder":
                deleted.append(path.rstrip("/"))
            case other:
                raise HttpError(400, f"unknown operation {other!r}")
    title = str(header.get("summary", ""))
    return FileChanges(title, str(header.get("description", "")), author, added, deleted)


def _require_valid_card(path: str, content: bytes) -> None:
    if path == "README.md" and (faults := find_faults(content.decode("utf-8", "replace"))):
        raise HttpError(400, f"Invalid metadata in README.md: {'; '.join(faults)}")


def handle_batch(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Return an upload URL for each file that the store does not have."""
    objects = []
    for requested in request.json()["objects"]:
        item: dict[str, object] = {"oid": requested["oid"], "size": requested["size"]}
        if store.blobs.path(requested["oid"]) is None:
            address = f"{request.base}/{name}.git/info/lfs/objects"
            item["actions"] = {
                "upload": {"href": f"{address}/{requested['oid']}"},
                "verify": {"href": f"{address}/verify"},
            }
        objects.append(item)
    return json_response({"transfer": "basic", "objects": objects})


def handle_upload(store: HubStore, request: HttpRequest, name: str, sha256: str) -> HttpResponse:
    """Store one git-lfs file."""
    store.repository(name)
    try:
        store.blobs.put(request.body, expected=sha256)
    except ValueError as error:
        raise HttpError(400, str(error)) from error
    return json_response({})


def handle_verify(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001
    sent = request.json()
    path = store.blobs.path(str(sent.get("oid")))
    if path is None or path.stat().st_size != sent.get("size"):
        raise HttpError(404, "the object was not uploaded completely")
    return json_response({})
