"""Single files of a dataset repository at one commit, checked against the hashes that the Hub names.

A repository `github:owner/name` is fetched from GitHub instead: hub/github.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import cache, github
from antidote_ci.hub.access import Access
from antidote_ci.hub.digests import is_file
from antidote_ci.hub.info import ANSWER_SECONDS
from antidote_ci.hub.remote import RemoteFile, commit_of, file_of
from antidote_ci.hub.transfer_progress import silent
from antidote_ci.identifiers import COMMIT

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo

FILE_BYTES = 64_000_000
ENDINGS = (".csv", ".jsonl", ".jsonl.xz")


@dataclass(frozen=True)
class Fetched:
    """Files of a repository under `folder`, as they are at `commit` (40 hex)."""

    commit: str
    folder: Path


def fetch(repository: str, revision: str | None, files: Mapping[str, str | None], access: Access) -> Fetched:
    """The files (path -> sha256 where it is known) of a dataset at `revision`: a branch, tag, commit, or None for main.

    Commits that are wholly in the cache are answered without the network. Raises ConfigurationError for what is
    not a small file of rows, InfrastructureError when the Hub cannot or will not give it.
    """
    for path in files:
        if not path.endswith(ENDINGS):
            raise ConfigurationError(f"{path} of {repository} is not read", cause=f"read are {', '.join(ENDINGS)}")
    if repository.startswith(github.PREFIX):
        name = repository.removeprefix(github.PREFIX)
        commit, folder = github.fetch(name, revision, files, FILE_BYTES, access.patience)
        return Fetched(commit, folder)
    known = _cached(repository, revision, files) if revision else None
    return known or access.ask(
        f"datasets/{repository}", lambda client: _downloaded(client, repository, revision, files)
    )


def _cached(repository: str, revision: str, files: Mapping[str, str | None]) -> Fetched | None:
    if not COMMIT.fullmatch(revision):
        return None
    folder = Path()
    for path in files:
        found = cache.stored(repository, revision, path, "dataset")
        # The cache names a file by the hash that the Hub gave.
        if found is None or not is_file(found, found.resolve().name):
            return None
        folder = cache.snapshot(found, path)
    return Fetched(revision, folder)


def _downloaded(client: "HfApi", repository: str, revision: str | None, files: Mapping[str, str | None]) -> Fetched:
    name = f"datasets/{repository}"
    info = client.dataset_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
    commit = commit_of(name, info.sha)
    # The Hub describes a gated repository to anyone, and refuses only its files.
    if info.gated:
        client.auth_check(repository, repo_type="dataset")
    folder = Path()
    for path in files:
        stored = cache.fetch(client, repository, commit, _listed(name, info, path), silent(), "dataset")
        folder = cache.snapshot(stored, path)
    return Fetched(commit, folder)


def _listed(name: str, info: "DatasetInfo", path: str) -> RemoteFile:
    """The file as the Hub describes it."""
    file = next((each for each in info.siblings or [] if each.rfilename == path), None)
    if file is None:
        raise InfrastructureError(
            f"{name} has no file {path} at {info.sha}",
            cause="the dataset was rearranged, or the commit is older than the file",
            hint="name another commit, or write the prompts into a JSONL file",
        )
    found = file_of(name, file)
    if found.size > FILE_BYTES:
        raise InfrastructureError(
            f"{path} of {name} is {found.size / 1e6:,.0f} MB, more than {FILE_BYTES / 1e6:.0f} MB",
            cause="no prompt set is that large",
        )
    return found
