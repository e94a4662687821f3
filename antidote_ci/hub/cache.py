"""The client's cache: lookups without the network, and downloads whose bytes are checked against the Hub's hashes.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint.files import is_allowed_file
from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.remote import SHA256_DIGITS, RemoteFile, RemoteRepository, parse_licence
from antidote_ci.records import COMMIT, SHA256

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import tqdm

RepositoryKind = Literal["model", "dataset"]
CHUNK = 1 << 20
SHARED_STORE = "blobs"
"""The folder of the client's cache in which repositories share the files that arrived by Xet, under their Xet hash."""
TRANSFER_SUFFIX = ".transfer"
"""The end of the name of the client's progress bar for received bytes. Its other bar counts written bytes."""


class DigestMismatch(InfrastructureError, ConnectionError):
    """A file does not have the hash that the Hub names. A ConnectionError, since another download may succeed."""


def find_commit(identifier: str, revision: str) -> RemoteRepository | None:
    """A model's commit (40 hex digits) from the cache, without a request; None unless all allowed files are there."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    if not COMMIT.fullmatch(revision):
        return None
    try:
        tree = get_cached_repo_tree(identifier, revision=revision)
    except CachedRepoTreeNotFoundError:
        return None
    files = []
    for entry in tree:
        if is_allowed_file(entry.path):
            path = find_file(identifier, revision, entry.path)
            if path is None:
                return None
            digest = blob_name(path)
            if not SHA256.fullmatch(digest) and digest != entry.blob_id:
                return None
            files.append(RemoteFile(entry.path, entry.size, digest))
    card = find_file(identifier, revision, "README.md")
    licence = cards.read_licence(card) if card else None
    skipped = [entry.path for entry in tree if not is_allowed_file(entry.path)]
    return RemoteRepository(identifier, revision, files, skipped, parse_licence(licence), None)


def find_file(identifier: str, revision: str, path: str, kind: RepositoryKind = "model") -> Path | None:
    """The cached file of a commit, unchecked; None if it is not in the cache."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(identifier, path, revision=revision, repo_type=kind)
    return Path(cached) if isinstance(cached, str) else None


def blob_name(file: Path) -> str:
    """The name of a cached file's blob: its sha256 or its git id. A file system without links has no blobs.

    The blob may itself be a link to the client's shared store, where the names are Xet hashes.
    """
    return file.readlink().name if file.is_symlink() else file.name


def fetch_file(
    client: "HfApi",
    identifier: str,
    revision: str,
    file: RemoteFile,
    kind: RepositoryKind = "model",
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Path:
    """The cached file, downloaded if necessary, with its size and hash checked. `on_bytes` counts received bytes.

    Raises DigestMismatch, and removes the file, when it is not the file that the Hub describes, and as soon as it is
    longer.
    """
    bars = progress_bar_class(limit_bytes(identifier, file, on_bytes))
    path = Path(client.hf_hub_download(identifier, file.path, repo_type=kind, revision=revision, tqdm_class=bars))
    if path.stat().st_size != file.size or not has_digest(path, file.digest):
        blob = path.resolve()
        _remove_damaged(path, file.path)
        rerun = "run the same command again"
        raise DigestMismatch(
            f"{file.path} of {identifier} does not have the hash that the Hub names",
            cause="a broken transfer, disk or mirror",
            hint=f"delete {blob}, then {rerun}" if blob.exists() else rerun,
        )
    return path


def limit_bytes(
    identifier: str, file: RemoteFile, on_bytes: Callable[[int], None] = lambda _: None
) -> Callable[[int], None]:
    """`on_bytes`, raising DigestMismatch when more bytes than those of the file arrive: they would fill the disk.

    A bar of the client may also count one file.
    """
    left = file.size + 1

    def count(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise DigestMismatch(
                f"{file.path} of {identifier} has more than the {file.size:,} bytes that the Hub names",
                cause="a broken transfer or mirror",
                hint="run the same command again",
            )
        on_bytes(size)

    return count


def snapshot_folder(file: Path, path: str) -> Path:
    """The snapshot folder of a cached file, given its path in the repository."""
    return file.parents[len(PurePosixPath(path).parts) - 1]


def hash_like(path: Path, digest: str) -> str:
    """The hash of the file, of the same kind as `digest`: sha256 for 64 hex digits, else the git blob id.

    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    if len(digest) == SHA256_DIGITS:
        state = hashlib.sha256()
    else:
        state = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            state.update(data)
    return state.hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Whether the content of `path` has the hash `digest`."""
    return hash_like(path, digest) == digest


def progress_bar_class(on_bytes: Callable[[int], None] = lambda _: None) -> type["tqdm"]:
    """A progress bar for the client that draws nothing, and passes the number of newly written bytes to `on_bytes`."""
    from huggingface_hub.utils.tqdm import tqdm

    class SilentBar(tqdm):
        monitor_interval = 0  # otherwise each class starts a monitor thread

        def __init__(self, *args: object, **options: object) -> None:
            self.counts = not str(options.get("name")).endswith(TRANSFER_SUFFIX)
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self.counts:
                on_bytes(int(n or 0))

    return SilentBar


def _remove_damaged(file: Path, path: str) -> None:
    """Remove a snapshot's file and the blob that it links to, but only inside the client's cache.

    A blob may be a link to the client's store of files that arrived by Xet. From there the client would take the
    damaged file again. Blobs in other places are shared with other programs.
    """
    repository = snapshot_folder(file, path).parent.parent
    folders = repository.resolve(), (repository.parent / SHARED_STORE).resolve()
    blob = file.parent / file.readlink() if file.is_symlink() else file
    for damaged in (blob.resolve(), blob, file):
        if any(damaged.parent.resolve().is_relative_to(folder) for folder in folders):
            damaged.unlink(missing_ok=True)
