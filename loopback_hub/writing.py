"""What the client sends when it publishes: a card, upload modes, one commit."""

import base64
import io
import json
import re
from typing import Any

from loopback_hub import conversations, history, proposals
from loopback_hub.accounts import known_caller, may_write
from loopback_hub.blobs import is_large, large
from loopback_hub.cards import faults
from loopback_hub.messages import Refused, Request, Response, as_json
from loopback_hub.records import Change, Commit, Entry
from loopback_hub.store import Store, is_path

PULL_REQUEST = re.compile(r"refs/pr/(?P<number>\d{1,9})")


def validate_card(_store: Store, request: Request) -> Response:
    found = faults(str(request.json().get("content", "")))
    errors = [{"message": fault} for fault in found]
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


def preupload(store: Store, request: Request, name: str, revision: str) -> Response:
    """How each file is to be sent, and what the branch holds under its name; asked with the rights of the commit."""
    if not request.asks("create_pr"):
        _require_right(store, request, name, revision)
    files = store.commit(name, revision).files
    return as_json(
        {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
                    "shouldIgnore": False,
                    "oid": files[file["path"]].tag if file["path"] in files else None,
                }
                for file in request.json()["files"]
            ]
        }
    )


def commit(store: Store, request: Request, name: str, revision: str) -> Response:
    """One commit on a branch or pull request; with ?create_pr=1 a pull request upon it or the named parent.

    A pull request is made from a parent that main has left, too: only a push can be stale.
    """
    author = known_caller(store, request).account
    lines = [json.loads(line) for line in request.body.read().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    change = _change(store, author, header, [line for line in lines if line["key"] != "header"])
    parent = header.get("parentCommit")
    address = f"{request.base}/{name}"
    if request.asks("create_pr"):
        made, opened = proposals.propose(store, name, change, parent or revision)
        link = {"pullRequestUrl": f"{address}/discussions/{opened.number}"}
    else:
        made, link = _push(store, request, name, revision, change, parent), {}
    answer = {"success": True, "commitOid": made.revision, **link}
    return as_json({**answer, "commitUrl": f"{address}/commit/{made.revision}"})


def _push(store: Store, request: Request, name: str, revision: str, change: Change, parent: str | None) -> Commit:
    _require_right(store, request, name, revision)
    if found := PULL_REQUEST.fullmatch(revision):
        return proposals.push(store, name, int(found["number"]), change, parent)
    return history.push(store, name, revision, change, parent)


def _require_right(store: Store, request: Request, name: str, revision: str) -> None:
    """Onto a branch by a writer, onto a pull request by its author too."""
    repository, caller = store.repository(name), known_caller(store, request)
    if may_write(caller, repository):
        return
    if (found := PULL_REQUEST.fullmatch(revision)) is None:
        raise Refused(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
    if conversations.find(repository, int(found["number"])).author != caller.account:
        raise Refused(403, f"Forbidden: pull request {found['number']} is someone else's")


def _change(store: Store, author: str, header: dict[str, Any], lines: list[dict[str, Any]]) -> Change:
    added: dict[str, Entry] = {}
    deleted: list[str] = []
    for line in lines:
        value, path = line["value"], line["value"]["path"]
        if not is_path(path.rstrip("/")):
            raise Refused(400, f"{path!r} leaves the repository")
        match line["key"]:
            case "file":
                content = base64.b64decode(value["content"], validate=True)
                _require_card(path, content)
                added[path] = store.blobs.regular(*store.blobs.put(io.BytesIO(content)))
            case "lfsFile":
                blob = store.blobs.path(value["oid"])
                if blob is None:
                    raise Refused(400, f"the content of {path} was not uploaded")
                added[path] = large(value["oid"], blob.stat().st_size)
            case "deletedFile":
                deleted.append(path)
            case "deletedFolder":
                deleted.append(path.rstrip("/") + "/")
            case other:
                raise Refused(400, f"unknown operation {other!r}")
    title = str(header.get("summary", ""))
    return Change(title, str(header.get("description", "")), author, added, deleted)


def _require_card(path: str, content: bytes) -> None:
    if path == "README.md" and (found := faults(content.decode("utf-8", "replace"))):
        raise Refused(400, f"Invalid metadata in README.md: {'; '.join(found)}")
