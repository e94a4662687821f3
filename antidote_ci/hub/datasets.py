"""Single files of a dataset repository at one commit, checked against the hashes that the Hub names.

A repository `github:OWNER/NAME` is downloaded from GitHub instead: see `github`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import cache, github
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import INFO_SECONDS
from antidote_ci.hub.remote import RemoteFile, parse_commit, parse_file
from antidote_ci.identifiers import COMMIT

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo

FILE_BYTES = 64_000_000
ENDINGS = (".csv", ".jsonl", ".jsonl.xz")


@dataclass(frozen=True)
class FetchedDataset:
    """Downloaded files of a dataset: `folder` contains them under their paths at `commit` (40 hex digits)."""

    commit: str
    folder: Path


def fetch_dataset(
    repository: str, revision: str | None, files: Mapping[str, str | None], access: HubAccess
) -> FetchedDataset:
    """Download `files` (path -> sha256, or None if unknown) at `revision` (a branch, tag, commit, or None for main).

    Sends no request for a commit whose files are all in the cache. Raises ConfigurationError for other formats than
    ENDINGS, InfrastructureError when a file is missing, exceeds FILE_BYTES or cannot be downloaded.
    """
    for path in files:
        if not path.endswith(ENDINGS):
            raise ConfigurationError(
                f"{path} of {repository} has an unsupported format", cause=f"supported are {', '.join(ENDINGS)}"
            )
    if repository.startswith(github.PREFIX):
        name = repository.removeprefix(github.PREFIX)
        commit, folder = github.fetch_github(name, revision, files, FILE_BYTES, access.retry_policy)
        return FetchedDataset(commit, folder)
    cached = _find_cached(repository, revision, files) if revision else None
    return cached or access.request(
        f"datasets/{repository}", lambda client: _download(client, repository, revision, files)
    )


def _find_cached(repository: str, revision: str, files: Mapping[str, str | None]) -> FetchedDataset | None:
    if not COMMIT.fullmatch(revision):
        return None
    folder = Path()
    for path in files:
        file = cache.find_file(repository, revision, path, "dataset")
        # The name of a cached blob is the hash that the Hub named.
        if file is None or not cache.has_digest(file, file.resolve().name):
            return None
        folder = cache.snapshot_folder(file, path)
    return FetchedDataset(revision, folder)


def _download(
    client: "HfApi", repository: str, revision: str | None, files: Mapping[str, str | None]
) -> FetchedDataset:
    name = f"datasets/{repository}"
    info = client.dataset_info(repository, revision=revision, files_metadata=True, timeout=INFO_SECONDS)
    commit = parse_commit(name, info.sha)
    # The Hub describes a gated repository to every account, and refuses only its files.
    if info.gated:
        client.auth_check(repository, repo_type="dataset")
    folder = Path()
    for path in files:
        file = cache.fetch_file(client, repository, commit, _find_listed(name, info, path), "dataset")
        folder = cache.snapshot_folder(file, path)
    return FetchedDataset(commit, folder)


def _find_listed(name: str, info: "DatasetInfo", path: str) -> RemoteFile:
    sibling = next((sibling for sibling in info.siblings or [] if sibling.rfilename == path), None)
    if sibling is None:
        raise InfrastructureError(
            f"{name} has no file {path} at {info.sha}",
            cause="the files of the dataset were renamed, or the commit is older than the file",
            hint="name another commit, or use a local JSONL file with the prompts",
        )
    file = parse_file(name, sibling)
    if file.size > FILE_BYTES:
        raise InfrastructureError(
            f"{path} of {name} has {file.size / 1e6:,.0f} MB, more than {FILE_BYTES / 1e6:.0f} MB",
            cause="it is too large for a prompt set",
        )
    return file
