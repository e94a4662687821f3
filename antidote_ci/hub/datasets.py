"""Single files of a dataset repository at one commit, checked against the hashes that the Hub names.

A repository `github:OWNER/NAME` is downloaded from GitHub instead, for prompt sets that are not on the Hub.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci import http_limits
from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub import cache
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import INFO_SECONDS, REQUEST_SECONDS, requested_wait
from antidote_ci.hub.errors import meaning_of_status, retry_delay
from antidote_ci.hub.remote import RemoteFile, parse_commit, parse_file
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.paths import write_file
from antidote_ci.records import COMMIT

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo

FILE_BYTES = 64_000_000
ENDINGS = (".csv", ".jsonl")
GITHUB_PREFIX = "github:"
GITHUB_ADDRESS = "https://raw.githubusercontent.com"
GITHUB_VARIABLE = "ANTIDOTE_GITHUB_RAW"
"""The address of a mirror that serves /OWNER/NAME/COMMIT/PATH."""


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
    ENDINGS and for a GitHub repository without a commit of 40 hex digits, InfrastructureError when a file is missing,
    exceeds FILE_BYTES or cannot be downloaded.
    """
    for path in files:
        if not path.endswith(ENDINGS):
            raise ConfigurationError(
                f"{path} of {repository} has an unsupported format",
                cause=f"supported are {', '.join(ENDINGS)}",
                hint="convert it to JSON lines: docs/task.md",
            )
    if repository.startswith(GITHUB_PREFIX):
        return _fetch_from_github(repository.removeprefix(GITHUB_PREFIX), revision, files, access.retry_policy)
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
        if file is None or not cache.has_digest(file, cache.blob_name(file)):
            return None
        folder = cache.snapshot_folder(file, path)
    return FetchedDataset(revision, folder)


def _download(
    client: "HfApi", repository: str, revision: str | None, files: Mapping[str, str | None]
) -> FetchedDataset:
    name = f"datasets/{repository}"
    info = client.dataset_info(repository, revision=revision, files_metadata=True, timeout=INFO_SECONDS)
    commit = parse_commit(name, info.sha, revision)
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


def _fetch_from_github(
    repository: str, revision: str | None, files: Mapping[str, str | None], retry_policy: RetryPolicy
) -> FetchedDataset:
    """Download files of a public GitHub repository, without a token. Files in the cache are not downloaded again."""
    from huggingface_hub import cached_assets_path, constants

    if not COMMIT.fullmatch(revision or ""):
        raise ConfigurationError(f"{GITHUB_PREFIX}{repository} requires a commit of 40 hex digits")
    folder = cached_assets_path("antidote-ci", repository, str(revision), assets_dir=constants.HF_ASSETS_CACHE)
    for path, sha256 in files.items():
        file = folder / path
        if not file.is_file() or not _has_sha256(file.read_bytes(), sha256):
            content = _download_from_github(f"{repository}/{revision}/{path}", retry_policy)
            if not _has_sha256(content, sha256):
                raise InfrastructureError(
                    f"{path} of {GITHUB_PREFIX}{repository} does not have the expected sha256",
                    cause="a broken transfer or mirror",
                    hint=f"run the same command again; check {GITHUB_VARIABLE}",
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f"{file.name}.{os.getpid()}.part")
            write_file(part, content)
            part.replace(file)
    return FetchedDataset(str(revision), folder)


def _download_from_github(path: str, retry_policy: RetryPolicy) -> bytes:
    import httpx2
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise InfrastructureError(
            f"{path} is not in the local cache", cause="HF_HUB_OFFLINE is set, so no request was sent"
        )
    try:
        return retry_policy.call(lambda: _download_once(path), _github_retry_delay, _describe_github_error)
    except (httpx2.HTTPStatusError, httpx2.RequestError, httpx2.InvalidURL) as error:
        # RetryPolicy adds a note with the number of attempts.
        notes = getattr(error, "__notes__", ())
        raise InfrastructureError(
            f"{_describe_github_error(error)} for {path}",
            cause="; ".join((f"no network, a proxy, a wrong {GITHUB_VARIABLE}, commit or path", *notes)),
            hint="check the commit and the connection, or use a local JSONL file with the prompts",
        ) from None


def _download_once(path: str) -> bytes:
    address = (os.environ.get(GITHUB_VARIABLE) or GITHUB_ADDRESS).rstrip("/")
    with (
        http_limits.create_client(REQUEST_SECONDS, timeout=30, follow_redirects=False) as client,
        client.stream("GET", f"{address}/{path}") as response,
    ):
        response.raise_for_status()
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > FILE_BYTES:
                raise InfrastructureError(
                    f"{path} has more than {FILE_BYTES / 1e6:.0f} MB", cause="it is too large for a prompt set"
                )
    return bytes(content)


def _github_retry_delay(error: Exception) -> float | None:
    import httpx2

    if not isinstance(error, httpx2.HTTPStatusError):
        return retry_delay(error)
    transient = meaning_of_status(error.response.status_code).transient
    return requested_wait(error.response.headers) if transient else None


def _describe_github_error(error: Exception) -> str:
    import httpx2

    if isinstance(error, httpx2.HTTPStatusError):
        return f"GitHub answered {error.response.status_code}"
    return f"GitHub cannot be reached ({type(error).__name__})"


def _has_sha256(content: bytes, sha256: str | None) -> bool:
    return sha256 is None or hashlib.sha256(content).hexdigest() == sha256
