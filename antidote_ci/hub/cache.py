"""The client's own cache, read without the network: a commit that is wholly here, a file, a file that is damaged.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint import card as cards
from antidote_ci.checkpoint.files import is_allowed_file
from antidote_ci.hub.digests import DigestMismatch, has_digest
from antidote_ci.hub.remote import RemoteFile, RemoteRepository, parse_licence
from antidote_ci.identifiers import COMMIT, SHA256

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import tqdm

RepositoryKind = Literal["model", "dataset"]


def find_commit(identifier: str, revision: str) -> RemoteRepository | None:
    """A model's commit, if all of it is here that would be pulled: it never changes, so the Hub need not be asked."""
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
            # A blob is called as the Hub knows it: by its sha256, or by git's id. A disk without links has no blobs.
            digest = path.resolve().name
            if not SHA256.fullmatch(digest) and digest != entry.blob_id:
                return None
            files.append(RemoteFile(entry.path, entry.size, digest))
    card = find_file(identifier, revision, "README.md")
    licence = cards.read_licence(card) if card else None
    skipped = [entry.path for entry in tree if not is_allowed_file(entry.path)]
    return RemoteRepository(identifier, revision, files, skipped, parse_licence(licence), None)


def find_file(identifier: str, revision: str, path: str, kind: RepositoryKind = "model") -> Path | None:
    """Where the file of a commit lies, whatever is in it."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(identifier, path, revision=revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def fetch_file(
    client: "HfApi",
    identifier: str,
    revision: str,
    file: RemoteFile,
    bars: type["tqdm"],
    kind: RepositoryKind = "model",
) -> Path:
    """Where the file lies, downloaded if it is not here, and exactly what the Hub says it is.

    Raises WrongBytes for anything else, and removes it.
    """
    found = Path(client.hf_hub_download(identifier, file.path, repo_type=kind, revision=revision, tqdm_class=bars))
    if found.stat().st_size != file.size or not has_digest(found, file.digest):
        content = found.resolve()
        _remove_damaged(found, file.path)
        again = "run the same command again"
        raise DigestMismatch(
            f"{file.path} of {identifier} does not have the hash that the Hub names",
            cause="a broken transfer, disk or mirror",
            hint=f"delete {content}, then {again}" if content.exists() else again,
        )
    return found


def snapshot_folder(found: Path, path: str) -> Path:
    """The folder of the commit under which `path` was found."""
    return found.parents[len(PurePosixPath(path).parts) - 1]


def _remove_damaged(found: Path, path: str) -> None:
    """Remove a snapshot's file and the blob that it links to, as far as they lie in the repository's own folder.

    A blob that repositories share stays: it is not this one's to remove.
    """
    repository = snapshot_folder(found, path).parent.parent.resolve()
    blob = found.parent / found.readlink() if found.is_symlink() else found
    for each in (blob, found):
        if each.parent.resolve().is_relative_to(repository):
            each.unlink(missing_ok=True)
