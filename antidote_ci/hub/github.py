"""Files of a public GitHub repository at one commit, for prompt sets that are not on the Hub."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub.client import requested_wait
from antidote_ci.hub.errors import meaning_of_status
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
        return retry_policy.call(
            lambda: _download_once(path, limit), _retry_delay, lambda error: _describe_error(error, path)
        )
    except httpx2.HTTPStatusError as error:
        missing = error.response.status_code == 404
        cause = "the commit or the file does not exist" if missing else "GitHub or a mirror refused the request"
        hint = "check the commit" if missing else "run the same command again later"
        raise InfrastructureError(_describe_error(error, path), cause=_add_notes(cause, error), hint=hint) from None
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise InfrastructureError(
            _describe_error(error, path),
            cause=_add_notes(f"no network, a proxy, or a wrong {ADDRESS_VARIABLE}", error),
            hint="check the connection, or use a local JSONL file with the prompts",
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

    match error:
        case httpx2.HTTPStatusError():
            transient = meaning_of_status(error.response.status_code).transient
            return requested_wait(error.response.headers) if transient else None
        case httpx2.UnsupportedProtocol() | httpx2.LocalProtocolError():
            return None
        case httpx2.TransportError():
            return 0.0
    return None


def _describe_error(error: Exception, path: str) -> str:
    import httpx2

    if isinstance(error, httpx2.HTTPStatusError):
        return f"GitHub answered {error.response.status_code} for {path}"
    return f"GitHub cannot be reached ({type(error).__name__})"


def _add_notes(cause: str, error: Exception) -> str:
    """`cause` with the notes that RetryPolicy adds to an exception."""
    return "; ".join((cause, *getattr(error, "__notes__", ())))


def _has_sha256(content: bytes, sha256: str | None) -> bool:
    return sha256 is None or hashlib.sha256(content).hexdigest() == sha256
