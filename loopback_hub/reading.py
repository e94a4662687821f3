"""Endpoints that read a repository: its description, file lists and files."""

import re
import secrets
import time
from itertools import pairwise
from pathlib import PurePosixPath
from urllib.parse import parse_qs

from loopback_hub import history
from loopback_hub.accounts import may_read, optional_credential
from loopback_hub.cards import parse_card
from loopback_hub.messages import HTML, HttpError, HttpRequest, HttpResponse, json_response, page_response
from loopback_hub.records import MAIN, Commit, FileEntry
from loopback_hub.store import HubStore, is_path
from loopback_hub.xet import TOKEN_SECONDS

TreeItem = dict[str, object]
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
SAFE_REPOSITORY = {"scansDone": True, "filesWithIssues": []}
SAFE_FILE = {
    "status": "safe",
    "avScan": {"status": "safe", "virusFound": False, "virusNames": None},
    "pickleImportScan": {"status": "safe", "pickleImports": []},
}
"""The results of the Hub's scanners: this Hub has none. https://huggingface.co/docs/hub/security-pickle"""
CONTENT_TYPES = {".html": HTML, ".json": "application/json", ".md": "text/plain; charset=utf-8"}


def show_repository(store: HubStore, request: HttpRequest, name: str, revision: str = MAIN) -> HttpResponse:
    """Describe a repository at a revision. The description of a gated repository is public."""
    repository = store.repository(name)
    commit = store.commit(name, revision)
    security = {"securityRepoStatus": SAFE_REPOSITORY} if request.has_flag("securityStatus") else {}
    return json_response(
        {
            "_id": commit.revision[:24],
            "id": repository.short_name,
            "modelId": repository.short_name,
            "author": repository.namespace,
            "sha": commit.revision,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": repository.disabled,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "createdAt": repository.created,
            "lastModified": store.commit(name, MAIN).created,
            "cardData": _card_data(store, commit),
            "siblings": [_sibling_json(path, entry, request.has_flag("blobs")) for path, entry in commit.files.items()],
            **security,
        }
    )


def list_models(store: HubStore, request: HttpRequest) -> HttpResponse:
    """List the visible models of `?author=`, each with its id and the head of its main branch."""
    credential, author = optional_credential(store, request), request.query.get("author")
    models = [store.repository(name) for name in store.names() if not name.startswith("datasets/")]
    listed = [
        {"_id": model.id, "id": model.id, "sha": model.refs.get(MAIN)}
        for model in models
        if author in (None, model.namespace) and may_read(credential, model)
    ]
    return page_response(listed, request, store.page_size)


def _card_data(store: HubStore, commit: Commit) -> dict[str, object]:
    card = commit.files.get("README.md")
    path = store.blobs.path(card.sha256) if card else None
    try:
        return parse_card(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        # A push with git can break the card; the repository must stay readable.
        return {}


def _sibling_json(path: str, entry: FileEntry, sizes: bool) -> dict[str, object]:
    if not sizes:
        return {"rfilename": path}
    sibling: dict[str, object] = {"rfilename": path, "size": entry.size, "blobId": entry.git_id}
    if entry.pointer_size is not None:
        sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    return sibling


def serve_file(store: HubStore, request: HttpRequest, name: str, revision: str, path: str) -> HttpResponse:
    """Send a file or a byte range of it."""
    commit = store.commit(name, revision)
    entry = commit.files.get(path) if is_path(path) else None
    if entry is None:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    blob = store.blobs.path(entry.sha256)
    if blob is None:
        raise FileNotFoundError(f"the blob of {path} in {name} is missing")
    headers = {
        "Content-Type": CONTENT_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"),
        # A page in a repository is untrusted and must not have the origin of the Hub.
        "Content-Security-Policy": "sandbox allow-scripts allow-popups",
        "X-Repo-Commit": commit.revision,
        "ETag": f'"{entry.tag}"',
        "Accept-Ranges": "bytes",
    }
    if store.xet is not None and entry.pointer_size is not None:
        headers["X-Xet-Hash"] = store.xet.hash_of(entry.sha256)
        headers["X-Xet-Refresh-Route"] = f"{request.base}{api_path(name)}/xet-read-token/{commit.revision}"
    if "Range" not in request.headers:
        return HttpResponse(200, headers, blob, (0, entry.size))
    start, length = _parse_range(request.headers["Range"], entry.size)
    content_range = f"bytes {start}-{start + length - 1}/{entry.size}"
    return HttpResponse(206, {**headers, "Content-Range": content_range}, blob, (start, length))


def api_path(name: str) -> str:
    return f"/api/{name}" if name.startswith("datasets/") else f"/api/models/{name}"


def issue_xet_token(store: HubStore, _request: HttpRequest, name: str, revision: str) -> HttpResponse:  # noqa: ARG001
    """Return the address of the Xet storage and a token, as JSON and in headers."""
    if store.xet is None:
        raise HttpError(404, "Not found")
    token, expiry = secrets.token_urlsafe(24), int(time.time()) + TOKEN_SECONDS
    headers = {
        "X-Xet-Cas-Url": store.xet.address,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(expiry),
    }
    return json_response({"casUrl": store.xet.address, "accessToken": token, "exp": expiry}, headers=headers)


def _parse_range(text: str, size: int) -> tuple[int, int]:
    """Return start and length of `bytes=a-b`, `bytes=a-` or `bytes=-n`. https://www.rfc-editor.org/rfc/rfc9110#section-14"""
    span = RANGE.fullmatch(text)
    if span is None or span.groups() == ("", ""):
        raise HttpError(416, f"cannot serve {text!r} of {size} bytes")
    first, last = span.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise HttpError(416, f"cannot serve {text!r} of {size} bytes")
    return start, end - start


def list_tree(store: HubStore, request: HttpRequest, name: str, revision: str, path: str = "") -> HttpResponse:
    """List a folder, or with ?recursive=true also its subfolders."""
    commit = store.commit(name, revision)
    root = PurePosixPath(path)
    descendants = [item for item in _sorted_paths(commit) if root in PurePosixPath(item).parents]
    if path and not descendants:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    listed = [item for item in descendants if request.has_flag("recursive") or PurePosixPath(item).parent == root]
    items = [_item_json(store, commit, item) for item in listed]
    return page_response(
        _expand_items(store, name, commit, items) if request.has_flag("expand") else items, request, store.page_size
    )


def describe_paths(store: HubStore, request: HttpRequest, name: str, revision: str) -> HttpResponse:
    """List the files and folders of the form field `paths` that exist."""
    form = parse_qs(request.body.read().decode())
    commit = store.commit(name, revision)
    listed = [path for path in form.get("paths", []) if path in _sorted_paths(commit)]
    items = [_item_json(store, commit, path) for path in listed]
    return json_response(_expand_items(store, name, commit, items) if form.get("expand") == ["true"] else items)


def _expand_items(store: HubStore, name: str, commit: Commit, items: list[TreeItem]) -> list[TreeItem]:
    """Add the last commit and the scan result to every file."""
    log = history.read_history(store, name, commit.revision)
    return [
        {
            **item,
            "lastCommit": _find_last_change(log, path),
            "securityFileStatus": SAFE_FILE,
        }
        if (path := str(item["path"])) in commit.files
        else item
        for item in items
    ]


def _find_last_change(log: list[Commit], path: str) -> dict[str, str]:
    """Return the newest commit that changed the file."""
    for commit, parent in pairwise(log):
        if commit.files.get(path) != parent.files.get(path):
            return _commit_summary(commit)
    return _commit_summary(log[-1])


def _commit_summary(commit: Commit) -> dict[str, str]:
    return {"id": commit.revision, "title": commit.title, "date": commit.created}


def _sorted_paths(commit: Commit) -> list[str]:
    """Return all folders, then all files."""
    folders = {str(up) for path in commit.files for up in PurePosixPath(path).parents} - {"."}
    return [*sorted(folders), *commit.files]


def _item_json(store: HubStore, commit: Commit, path: str) -> TreeItem:
    entry = commit.files.get(path)
    if entry is None:
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    item: TreeItem = {"type": "file", "path": path, "oid": entry.git_id, "size": entry.size}
    if entry.pointer_size is not None:
        item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
        if store.xet is not None:
            item["xetHash"] = store.xet.hash_of(entry.sha256)
    return item
