"""Single files of a dataset repository at one commit, checked against the hashes that the Hub names.

A repository `github:owner/name` is fetched from GitHub instead: hub/github.py.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import github
from antidote_ci.hub.client import api, endpoint, explained
from antidote_ci.hub.pull import ANSWER_SECONDS, COMMIT

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

FILE_BYTES = 64_000_000
ENDINGS = (".csv", ".jsonl", ".jsonl.xz")


@dataclass(frozen=True)
class Fetched:
    """Files of a repository under `folder`, as they are at `commit` (40 hex)."""

    repository: str
    commit: str
    folder: Path


def fetch(repository: str, revision: str | None, files: Mapping[str, str | None], token: str | None) -> Fetched:
    """The files (path -> sha256 where it is known) of a dataset at `revision`: a branch, tag, commit, or None for main.

    Commits that are wholly in the cache are answered without the network. Raises ConfigurationError for what is
    not a small file of rows, InfrastructureError when the Hub cannot or will not give it.
    """
    for path in files:
        if not path.endswith(ENDINGS):
            raise ConfigurationError(f"{path} of {repository} is not read", cause=f"read are {', '.join(ENDINGS)}")
    if repository.startswith(github.PREFIX):
        commit, folder = github.fetch(repository.removeprefix(github.PREFIX), revision, files, FILE_BYTES)
        return Fetched(repository, commit, folder)
    with explained(f"datasets/{repository}", token):
        known = _cached(repository, revision, files) if revision else None
        return known or _downloaded(repository, revision, files, token)


def _cached(repository: str, revision: str, files: Mapping[str, str | None]) -> Fetched | None:
    from huggingface_hub import try_to_load_from_cache

    if not COMMIT.fullmatch(revision):
        return None
    folder = Path()
    for path in files:
        stored = try_to_load_from_cache(repository, path, revision=revision, repo_type="dataset")
        # The cache names a file by the hash that the Hub gave.
        if not isinstance(stored, str) or not _is(Path(stored), Path(stored).resolve().name):
            return None
        folder = _snapshot(stored, path)
    return Fetched(repository, revision, folder)


def _downloaded(repository: str, revision: str | None, files: Mapping[str, str | None], token: str | None) -> Fetched:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    client = api(token)
    info = client.dataset_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
    if not COMMIT.fullmatch(info.sha or ""):
        raise InfrastructureError(
            f"the Hub named no commit for datasets/{repository}",
            cause=f"{endpoint()} does not answer like a Hub",
            hint="check HF_ENDPOINT",
        )
    commit = str(info.sha)
    # The Hub describes a gated repository to anyone, and refuses only its files.
    if info.gated:
        client.auth_check(repository, repo_type="dataset")
    there = {file.rfilename: file for file in info.siblings or []}
    folder = Path()
    for path in files:
        digest = _digest(repository, commit, path, there)
        stored = hf_hub_download(
            repository,
            path,
            repo_type="dataset",
            revision=commit,
            token=token or False,
            endpoint=endpoint(),
            tqdm_class=Silent,
        )
        if not _is(Path(stored), digest):
            raise InfrastructureError(
                f"{path} of datasets/{repository} does not have the hash that the Hub names",
                cause="a broken transfer, disk or mirror",
                hint=f"delete {Path(stored).resolve()} and run the same command again",
            )
        folder = _snapshot(stored, path)
    return Fetched(repository, commit, folder)


def _digest(repository: str, commit: str, path: str, there: Mapping[str, "RepoSibling"]) -> str:
    """The hash that the Hub names: sha256 of what lies in large-file storage, else git's id."""
    file = there.get(path)
    if file is None:
        raise InfrastructureError(
            f"datasets/{repository} has no file {path} at {commit}",
            cause="the dataset was rearranged, or the commit is older than the file",
            hint="name another commit, or write the prompts into a JSONL file",
        )
    if (file.size or 0) > FILE_BYTES:
        raise InfrastructureError(
            f"{path} of datasets/{repository} is {(file.size or 0) / 1e6:,.0f} MB, more than {FILE_BYTES / 1e6:.0f} MB",
            cause="no prompt set is that large",
        )
    return file.lfs.sha256 if file.lfs else str(file.blob_id)


def _is(path: Path, digest: str) -> bool:
    """Whether the file has this sha256 (64 hex digits) or this id of git (40)."""
    if path.stat().st_size > FILE_BYTES:
        return False
    content = path.read_bytes()
    if len(digest) == 64:
        return hashlib.sha256(content).hexdigest() == digest
    # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == digest


def _snapshot(stored: str, path: str) -> Path:
    """The folder under which the repository's `path` was stored."""
    return Path(stored).parents[len(PurePosixPath(path).parts) - 1]
