"""The files and folders of a commit, as the client lists them."""

from itertools import pairwise
from pathlib import PurePosixPath

from loopback_hub import history
from loopback_hub.messages import Refused, Request, Response, as_json, as_page
from loopback_hub.records import Commit
from loopback_hub.security import file_status
from loopback_hub.store import Store

Item = dict[str, object]


def tree(store: Store, request: Request, name: str, revision: str, path: str = "") -> Response:
    """A page of what is in a folder, or with ?recursive=true of all beneath it."""
    commit = store.commit(name, revision)
    root = PurePosixPath(path)
    beneath = [known for known in _paths(commit) if root in PurePosixPath(known).parents]
    if path and not beneath:
        raise Refused(404, "Entry not found", "EntryNotFound")
    listed = [known for known in beneath if request.asks("recursive") or PurePosixPath(known).parent == root]
    items = [_item(commit, known) for known in listed]
    return as_page(_expanded(store, name, commit, items) if request.asks("expand") else items, request, store.page_size)


def paths_info(store: Store, request: Request, name: str, revision: str) -> Response:
    """Of the files and folders that are asked for, those that are there."""
    commit = store.commit(name, revision)
    sent, known = request.form(), set(_paths(commit))
    items = [_item(commit, path) for path in sent.get("paths", []) if path in known]
    return as_json(_expanded(store, name, commit, items) if sent.get("expand") == ["true"] else items)


def _expanded(store: Store, name: str, commit: Commit, items: list[Item]) -> list[Item]:
    """With the last commit of every file, and what the scanners say of it."""
    log = history.log(store, name, commit.revision)
    return [
        {
            **item,
            "lastCommit": _last_change(log, path),
            "securityFileStatus": file_status(store, path, commit.files[path]),
        }
        if (path := str(item["path"])) in commit.files
        else item
        for item in items
    ]


def _last_change(log: list[Commit], path: str) -> dict[str, str]:
    """The newest commit that has not just kept the file."""
    for commit, parent in pairwise(log):
        if commit.files.get(path) != parent.files.get(path):
            return _named(commit)
    return _named(log[-1])


def _named(commit: Commit) -> dict[str, str]:
    return {"id": commit.revision, "title": commit.title, "date": commit.created}


def _paths(commit: Commit) -> list[str]:
    """Folders first."""
    folders = {str(up) for path in commit.files for up in PurePosixPath(path).parents} - {"."}
    return [*sorted(folders), *commit.files]


def _item(commit: Commit, path: str) -> Item:
    entry = commit.files.get(path)
    if entry is None:
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    item: Item = {"type": "file", "path": path, "oid": entry.git_id, "size": entry.size}
    if entry.pointer_size is not None:
        item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return item
