"""What the client asks when it pulls: who am I, what is in a repository, its files."""

import re
from pathlib import PurePosixPath

from antidote_ci.demo.hub.cards import front_matter
from antidote_ci.demo.hub.messages import HTML, Refused, Request, Response, as_json
from antidote_ci.demo.hub.records import MAIN, Commit, Entry, Repository
from antidote_ci.demo.hub.store import Store, is_path

SPAN = re.compile(r"bytes=(\d*)-(\d*)")
CONTENT_TYPES = {".html": HTML, ".json": "application/json", ".md": "text/plain; charset=utf-8"}
USER = "demo"


def whoami(_store: Store, request: Request) -> Response:
    if request.token is None:
        raise Refused(401, "Invalid username or password.")
    return as_json({"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": []})


def access(store: Store, request: Request, name: str) -> Response:
    """Whether this token may read the files, or write."""
    require_access(store.repository(name), request)
    return as_json({})


def require_access(repository: Repository, request: Request) -> None:
    """Any token opens a gated repository here; none does not."""
    if repository.gated and request.token is None:
        message = f"Access to {repository.id} is restricted. You must be authenticated."
        raise Refused(401, message, "GatedRepo")


def info(store: Store, request: Request, name: str, revision: str = MAIN) -> Response:
    """The description of a repository at a revision; public even where the files are gated."""
    repository = store.repository(name)
    commit = store.commit(name, revision)
    sizes = request.query.get("blobs", "").lower() in ("1", "true")
    return as_json(
        {
            "_id": commit.revision[:24],
            "id": name.removeprefix("datasets/"),
            "modelId": name,
            "author": name.removeprefix("datasets/").partition("/")[0],
            "sha": commit.revision,
            "private": False,
            "gated": "auto" if repository.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "createdAt": repository.created,
            "lastModified": commit.created,
            "cardData": _card_data(store, commit),
            "siblings": [_sibling(path, e, sizes) for path, e in commit.files.items()],
        }
    )


def _card_data(store: Store, commit: Commit) -> dict[str, object]:
    card = commit.files.get("README.md")
    path = store.blobs.path(card.sha256) if card else None
    try:
        return front_matter(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        # A card can be broken by a push with git, and the repository must still be readable.
        return {}


def _sibling(path: str, entry: Entry, sizes: bool) -> dict[str, object]:
    if not sizes:
        return {"rfilename": path}
    known: dict[str, object] = {"rfilename": path, "size": entry.size, "blobId": entry.git_id}
    if entry.pointer_size is not None:
        lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
        known["lfs"] = lfs
    return known


def tree(store: Store, request: Request, name: str, revision: str) -> Response:
    """Files and folders of a commit."""
    files = store.commit(name, revision).files
    folders = {str(up) for path in files for up in PurePosixPath(path).parents} - {"."}
    recursive = request.query.get("recursive", "").lower() in ("1", "true")
    listed: list[dict[str, object]] = [
        {"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)
    ]
    for path, entry in files.items():
        item = {"type": "file", "path": path, "oid": entry.git_id, "size": entry.size}
        if entry.pointer_size is not None:
            lfs = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
            item["lfs"] = lfs
        listed.append(item)
    return as_json([item for item in listed if recursive or "/" not in str(item["path"])])


def file(store: Store, request: Request, name: str, revision: str, path: str) -> Response:
    """A file's bytes, or a span of them."""
    require_access(store.repository(name), request)
    commit = store.commit(name, revision)
    entry = commit.files.get(path) if is_path(path) else None
    if entry is None:
        raise Refused(404, "Entry not found", "EntryNotFound")
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
        return Response(200, headers, blob, (0, entry.size))
    start, length = _span(request.headers["Range"], entry.size)
    content_range = f"bytes {start}-{start + length - 1}/{entry.size}"
    return Response(206, {**headers, "Content-Range": content_range}, blob, (start, length))


def _span(text: str, size: int) -> tuple[int, int]:
    """Start and length of `bytes=a-b`, `bytes=a-` or `bytes=-n`. https://www.rfc-editor.org/rfc/rfc9110#section-14"""
    span = SPAN.fullmatch(text)
    if span is None or span.groups() == ("", ""):
        raise Refused(416, f"cannot serve {text!r} of {size} bytes")
    first, last = span.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise Refused(416, f"cannot serve {text!r} of {size} bytes")
    return start, end - start
