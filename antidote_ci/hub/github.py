"""Files of a public GitHub repository at one commit, for prompt sets that are not on the Hub."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub.client import requested_wait
from antidote_ci.hub.errors import meaning_of_status, retry_delay
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.identifiers import COMMIT

PREFIX = "github:"
ADDRESS = "https://raw.githubusercontent.com"
ADDRESS_VARIABLE = "ANTIDOTE_GITHUB_RAW"
"""The address of a mirror that serves /OWNER/NAME/COMMIT/PATH."""


def fetch_github(
    repository: str, revision: str | None, files: Mapping[str, str | None], limit: int, retry_policy: RetryPolicy
) -> tuple[str, Path]:
    """Download `files` (path -> sha256, or None if unknown), and return the commit and the folder.

    Files in the cache are not downloaded again. No token is sent. Raises ConfigurationError unless `revision` has 40
    hex digits, InfrastructureError when a file cannot be downloaded, exceeds `limit` bytes or has another sha256.
    """
    from huggingface_hub import cached_assets_path, constants

    if not COMMIT.fullmatch(revision or ""):
        raise ConfigurationError(f"{PREFIX}{repository} requires a commit of 40 hex digits")
    folder = cached_assets_path("antidote-ci", repository, str(revision), assets_dir=constants.HF_ASSETS_CACHE)
    for path, sha256 in files.items():
        file = folder / path
        if not file.is_file() or not _has_sha256(file.read_bytes(), sha256):
            content = _download(f"{repository}/{revision}/{path}", limit, retry_policy)
            if not _has_sha256(content, sha256):
                raise InfrastructureError(
                    f"{path} of {PREFIX}{repository} does not have the expected sha256",
                    cause="a broken transfer or mirror",
                    hint=f"run the same command again; check {ADDRESS_VARIABLE}",
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f"{file.name}.{os.getpid()}.part")
            part.write_bytes(content)
            part.replace(file)
    return str(revision), folder


def _download(path: str, limit: int, retry_policy: RetryPolicy) -> bytes:
    import httpx2
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise InfrastructureError(
            f"{path} is not in the local cache", cause="HF_HUB_OFFLINE is set, so no request was sent"
        )
    try:
        return retry_policy.call(lambda: _download_once(path, limit), _retry_delay, _describe_error)
    except (httpx2.HTTPStatusError, httpx2.RequestError, httpx2.InvalidURL) as error:
        # RetryPolicy adds a note with the number of attempts.
        notes = getattr(error, "__notes__", ())
        raise InfrastructureError(
            f"{_describe_error(error)} for {path}",
            cause="; ".join((f"no network, a proxy, a wrong {ADDRESS_VARIABLE}, commit or path", *notes)),
            hint="check the commit and the connection, or use a local JSONL file with the prompts",
        ) from None


def _download_once(path: str, limit: int) -> bytes:
    import httpx2

    address = (os.environ.get(ADDRESS_VARIABLE) or ADDRESS).rstrip("/")
    with httpx2.stream("GET", f"{address}/{path}", timeout=30, follow_redirects=False) as response:
        response.raise_for_status()
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > limit:
                raise InfrastructureError(
                    f"{path} has more than {limit / 1e6:.0f} MB", cause="it is too large for a prompt set"
                )
    return bytes(content)


def _retry_delay(error: Exception) -> float | None:
    import httpx2

    if not isinstance(error, httpx2.HTTPStatusError):
        return retry_delay(error)
    transient = meaning_of_status(error.response.status_code).transient
    return requested_wait(error.response.headers) if transient else None


def _describe_error(error: Exception) -> str:
    import httpx2

    if isinstance(error, httpx2.HTTPStatusError):
        return f"GitHub answered {error.response.status_code}"
    return f"GitHub cannot be reached ({type(error).__name__})"


def _has_sha256(content: bytes, sha256: str | None) -> bool:
    return sha256 is None or hashlib.sha256(content).hexdigest() == sha256
