"""The files and folders of a commit, as the client lists them."""

from itertools import pairwise
from pathlib import PurePosixPath

from loopback_hub import history
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response, page_response
from loopback_hub.records import Commit
from loopback_hub.security import scan_file
from loopback_hub.store import HubStore

TreeItem = dict[str, object]


def list_tree(store: HubStore, request: HttpRequest, name: str, revision: str, path: str = "") -> HttpResponse:
    """A page of what is in a folder, or with ?recursive=true of all beneath it."""
    commit = store.commit(name, revision)
    root = PurePosixPath(path)
    beneath = [known for known in _sorted_paths(commit) if root in PurePosixPath(known).parents]
    if path and not beneath:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    listed = [known for known in beneath if request.has_flag("recursive") or PurePosixPath(known).parent == root]
    items = [_item_json(commit, known) for known in listed]
    return page_response(
        _expand_items(store, name, commit, items) if request.has_flag("expand") else items, request, store.page_size
    )


def list_paths(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """Of the files and folders that are asked for, those that are there."""
    commit = store.commit(name, revision)
    sent, known = request.form(), set(_sorted_paths(commit))
    items = [_item_json(commit, path) for path in sent.get("paths", []) if path in known]
    return json_response(_expand_items(store, name, commit, items) if sent.get("expand") == ["true"] else items)


def _expand_items(store: HubStore, name: str, commit: Commit, items: list[TreeItem]) -> list[TreeItem]:
    """With the last commit of every file, and what the scanners say of it."""
    log = history.read_history(store, name, commit.revision)
    return [
        {
            **item,
            "lastCommit": _find_last_change(log, path),
            "securityFileStatus": scan_file(store, path, commit.files[path]),
        }
        if (path := str(item["path"])) in commit.files
        else item
        for item in items
    ]


def _find_last_change(log: list[Commit], path: str) -> dict[str, str]:
    """The newest commit that has not just kept the file."""
    for commit, parent in pairwise(log):
        if commit.files.get(path) != parent.files.get(path):
            return _commit_summary(commit)
    return _commit_summary(log[-1])


def _commit_summary(commit: Commit) -> dict[str, str]:
    return {"id": commit.revision, "title": commit.title, "date": commit.created}


def _sorted_paths(commit: Commit) -> list[str]:
    """Folders first."""
    folders = {str(up) for path in commit.files for up in PurePosixPath(path).parents} - {"."}
    return [*sorted(folders), *commit.files]


def _item_json(commit: Commit, path: str) -> TreeItem:
    entry = commit.files.get(path)
    if entry is None:
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    item: TreeItem = {"type": "file", "path": path, "oid": entry.git_id, "size": entry.size}
    if entry.pointer_size is not None:
        item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return item
