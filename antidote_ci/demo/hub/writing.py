"""What the client sends when it publishes: upload modes, large files, one commit.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md for the large files.
"""

import base64
import io
import json
from typing import Any

from antidote_ci.demo.hub.blobs import is_large, large
from antidote_ci.demo.hub.cards import faults
from antidote_ci.demo.hub.messages import Refused, Request, Response, as_json
from antidote_ci.demo.hub.records import Change, Entry
from antidote_ci.demo.hub.store import Store, is_path


def require_token(store: Store, request: Request, name: str) -> None:
    """Any token may write here; none may not."""
    store.repository(name)
    if request.token is None:
        raise Refused(401, "Invalid username or password.")


def validate_card(_store: Store, request: Request) -> Response:
    found = faults(str(request.json().get("content", "")))
    errors = [{"message": fault} for fault in found]
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


def preupload(store: Store, request: Request, name: str, revision: str) -> Response:
    """How each file is to be sent, and what the branch holds under its name."""
    require_token(store, request, name)
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


def large_batch(store: Store, request: Request, name: str) -> Response:
    """Where to send each large file; nothing for one that is here already."""
    require_token(store, request, name)
    objects = []
    for wanted in request.json()["objects"]:
        known: dict[str, object] = {"oid": wanted["oid"], "size": wanted["size"]}
        if store.blobs.path(wanted["oid"]) is None:
            address = f"{request.base}/{name}.git/info/lfs/objects"
            known["actions"] = {
                "upload": {"href": f"{address}/{wanted['oid']}"},
                "verify": {"href": f"{address}/verify"},
            }
        objects.append(known)
    return as_json({"transfer": "basic", "objects": objects})


def large_upload(store: Store, request: Request, name: str, sha256: str) -> Response:
    """One large file. The address is the permission, as with the Hub's signed ones."""
    store.repository(name)
    try:
        store.blobs.put(request.body, expected=sha256)
    except ValueError as error:
        raise Refused(400, str(error)) from error
    return as_json({})


def large_verify(store: Store, request: Request, name: str) -> Response:
    require_token(store, request, name)
    sent = request.json()
    path = store.blobs.path(str(sent.get("oid")))
    if path is None or path.stat().st_size != sent.get("size"):
        raise Refused(404, "the object was not uploaded whole")
    return as_json({})


def commit(store: Store, request: Request, name: str, revision: str) -> Response:
    """One commit on a branch; with ?create_pr=1 a pull request upon it or the named parent."""
    require_token(store, request, name)
    lines = [json.loads(line) for line in request.body.read().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    change = _change(store, header, [line for line in lines if line["key"] != "header"])
    parent = header.get("parentCommit")
    address = f"{request.base}/{name}"
    if request.query.get("create_pr") == "1":
        made, opened = store.propose(name, change, parent or revision)
        link = {"pullRequestUrl": f"{address}/discussions/{opened.number}"}
    else:
        made, link = store.push(name, revision, change, parent), {}
    answer = {"success": True, "commitOid": made.revision, **link}
    return as_json({**answer, "commitUrl": f"{address}/commit/{made.revision}"})


def _change(store: Store, header: dict[str, Any], lines: list[dict[str, Any]]) -> Change:
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
    return Change(title, str(header.get("description", "")), added, deleted)


def _require_card(path: str, content: bytes) -> None:
    if path == "README.md" and (found := faults(content.decode("utf-8", "replace"))):
        raise Refused(400, f"Invalid metadata in README.md: {'; '.join(found)}")
