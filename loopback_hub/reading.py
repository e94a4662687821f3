"""What the client asks when it pulls: the description of a repository, and its files."""

import re
from pathlib import PurePosixPath

from loopback_hub.cards import parse_card
from loopback_hub.messages import HTML, HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.records import MAIN, Commit, FileEntry
from loopback_hub.security import scan_commit
from loopback_hub.store import HubStore, is_path

RANGE = re.compile(r"bytes=(\d*)-(\d*)")
CONTENT_TYPES = {".html": HTML, ".json": "application/json", ".md": "text/plain; charset=utf-8"}


def show_repository(store: HubStore, request: HttpRequest, name: str, revision: str = MAIN) -> HttpResponse:
    """The description of a repository at a revision; public even where the files are gated."""
    repository = store.repository(name)
    commit = store.commit(name, revision)
    security = {"securityRepoStatus": scan_commit(store, commit)} if request.has_flag("securityStatus") else {}
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


def _card_data(store: HubStore, commit: Commit) -> dict[str, object]:
    card = commit.files.get("README.md")
    path = store.blobs.path(card.sha256) if card else None
    try:
        return parse_card(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        # A card can be broken by a push with git, and the repository must still be readable.
        return {}


def _sibling_json(path: str, entry: FileEntry, sizes: bool) -> dict[str, object]:
    if not sizes:
        return {"rfilename": path}
    known: dict[str, object] = {"rfilename": path, "size": entry.size, "blobId": entry.git_id}
    if entry.pointer_size is not None:
        lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
        known["lfs"] = lfs
    return known


def serve_file(store: HubStore, request: HttpRequest, name: str, revision: str, path: str) -> HttpResponse:
    """A file's bytes, or a span of them."""
    commit = store.commit(name, revision)
    entry = commit.files.get(path) if is_path(path) else None
    if entry is None:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    blob = store.blobs.path(entry.sha256)
    if blob is None:
        raise FileNotFoundError(f"the blob of {path} in {name} is gone")
    headers = {
        "Content-Type": CONTENT_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"),
        # A repository's page is a stranger's: it may not speak to the Hub as if it were the Hub.
        "Content-Security-Policy": "sandbox allow-scripts allow-popups",
        "X-Repo-Commit": commit.revision,
        "ETag": f'"{entry.tag}"',
        "Accept-Ranges": "bytes",
    }
    if "Range" not in request.headers:
        return HttpResponse(200, headers, blob, (0, entry.size))
    start, length = _parse_range(request.headers["Range"], entry.size)
    content_range = f"bytes {start}-{start + length - 1}/{entry.size}"
    return HttpResponse(206, {**headers, "Content-Range": content_range}, blob, (start, length))


def _parse_range(text: str, size: int) -> tuple[int, int]:
    """Start and length of `bytes=a-b`, `bytes=a-` or `bytes=-n`. https://www.rfc-editor.org/rfc/rfc9110#section-14"""
    span = RANGE.fullmatch(text)
    if span is None or span.groups() == ("", ""):
        raise HttpError(416, f"cannot serve {text!r} of {size} bytes")
    first, last = span.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise HttpError(416, f"cannot serve {text!r} of {size} bytes")
    return start, end - start
