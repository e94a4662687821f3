"""Single files of a dataset repository at one commit, checked against the hashes that the Hub names.

A repository `github:owner/name` is fetched from GitHub instead: hub/github.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import cache, github
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.digests import has_digest
from antidote_ci.hub.info import ANSWER_SECONDS
from antidote_ci.hub.remote import RemoteFile, parse_commit, parse_file
from antidote_ci.hub.transfer_progress import silent_bar_class
from antidote_ci.identifiers import COMMIT

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo

FILE_BYTES = 64_000_000
ENDINGS = (".csv", ".jsonl", ".jsonl.xz")


@dataclass(frozen=True)
class FetchedDataset:
    """Files of a repository under `folder`, as they are at `commit` (40 hex)."""

    commit: str
    folder: Path


def fetch_dataset(
    repository: str, revision: str | None, files: Mapping[str, str | None], access: HubAccess
) -> FetchedDataset:
    """The files (path -> sha256 where it is known) of a dataset at `revision`: a branch, tag, commit, or None for main.

    Commits that are wholly in the cache are answered without the network. Raises ConfigurationError for what is
    not a small file of rows, InfrastructureError when the Hub cannot or will not give it.
    """
    for path in files:
        if not path.endswith(ENDINGS):
            raise ConfigurationError(f"{path} of {repository} is not read", cause=f"read are {', '.join(ENDINGS)}")
    if repository.startswith(github.PREFIX):
        name = repository.removeprefix(github.PREFIX)
        commit, folder = github.fetch_github(name, revision, files, FILE_BYTES, access.retry_policy)
        return FetchedDataset(commit, folder)
    known = _find_cached(repository, revision, files) if revision else None
    return known or access.request(
        f"datasets/{repository}", lambda client: _download(client, repository, revision, files)
    )


def _find_cached(repository: str, revision: str, files: Mapping[str, str | None]) -> FetchedDataset | None:
    if not COMMIT.fullmatch(revision):
        return None
    folder = Path()
    for path in files:
        found = cache.find_file(repository, revision, path, "dataset")
        # The cache names a file by the hash that the Hub gave.
        if found is None or not has_digest(found, found.resolve().name):
            return None
        folder = cache.snapshot_folder(found, path)
    return FetchedDataset(revision, folder)


def _download(
    client: "HfApi", repository: str, revision: str | None, files: Mapping[str, str | None]
) -> FetchedDataset:
    name = f"datasets/{repository}"
    info = client.dataset_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
    commit = parse_commit(name, info.sha)
    # The Hub describes a gated repository to anyone, and refuses only its files.
    if info.gated:
        client.auth_check(repository, repo_type="dataset")
    folder = Path()
    for path in files:
        stored = cache.fetch_file(
            client, repository, commit, _find_listed(name, info, path), silent_bar_class(), "dataset"
        )
        folder = cache.snapshot_folder(stored, path)
    return FetchedDataset(commit, folder)


def _find_listed(name: str, info: "DatasetInfo", path: str) -> RemoteFile:
    """The file as the Hub describes it."""
    file = next((each for each in info.siblings or [] if each.rfilename == path), None)
    if file is None:
        raise InfrastructureError(
            f"{name} has no file {path} at {info.sha}",
            cause="the dataset was rearranged, or the commit is older than the file",
            hint="name another commit, or write the prompts into a JSONL file",
        )
    found = parse_file(name, file)
    if found.size > FILE_BYTES:
        raise InfrastructureError(
            f"{path} of {name} is {found.size / 1e6:,.0f} MB, more than {FILE_BYTES / 1e6:.0f} MB",
            cause="no prompt set is that large",
        )
    return found
