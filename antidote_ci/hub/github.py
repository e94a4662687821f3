"""Files of a public GitHub repository at one commit, for the prompt sets that are published nowhere else."""

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
"""Where a mirror serves /OWNER/NAME/COMMIT/PATH instead, as HF_ENDPOINT says for the Hub."""


def fetch_github(
    repository: str, revision: str | None, files: Mapping[str, str | None], limit: int, retry_policy: RetryPolicy
) -> tuple[str, Path]:
    """The commit and the folder that holds the files (path -> sha256 where it is known), each at most `limit` bytes.

    What was fetched once is not asked for again. No token is sent. Raises ConfigurationError without a full commit,
    InfrastructureError when a file cannot be had or is another.
    """
    from huggingface_hub import cached_assets_path, constants

    if not COMMIT.fullmatch(revision or ""):
        raise ConfigurationError(f"{PREFIX}{repository} must be named at a commit of 40 hex digits")
    folder = cached_assets_path("antidote-ci", repository, str(revision), assets_dir=constants.HF_ASSETS_CACHE)
    for path, sha256 in files.items():
        stored = folder / path
        if not stored.is_file() or not _has_sha256(stored.read_bytes(), sha256):
            content = _download(f"{repository}/{revision}/{path}", limit, retry_policy)
            if not _has_sha256(content, sha256):
                raise InfrastructureError(
                    f"{path} of {PREFIX}{repository} does not have the sha256 that is known of it",
                    cause="a broken transfer or mirror",
                    hint="run the same command again; check " + ADDRESS_VARIABLE,
                )
            stored.parent.mkdir(parents=True, exist_ok=True)
            part = stored.with_name(f"{stored.name}.{os.getpid()}.part")
            part.write_bytes(content)
            part.replace(stored)
    return str(revision), folder


def _download(path: str, limit: int, retry_policy: RetryPolicy) -> bytes:
    import httpx2
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InfrastructureError(
            f"{path} is not in the local cache", cause="HF_HUB_OFFLINE is set, so GitHub was not asked"
        )
    try:
        return retry_policy.call(
            lambda: _download_once(path, limit), _retry_delay, lambda error: _describe_error(error, path)
        )
    except httpx2.HTTPStatusError as error:
        missing = error.response.status_code == 404
        raise InfrastructureError(
            _describe_error(error, path),
            cause=_with_detail(
                "the commit or the file is not there" if missing else "GitHub or a mirror refused it", error
            ),
            hint="check the commit" if missing else "run the same command again later",
        ) from None
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise InfrastructureError(
            _describe_error(error, path),
            cause=_with_detail(f"no network, a proxy, or a wrong {ADDRESS_VARIABLE}", error),
            hint="check the connection, or write the prompts into a JSONL file",
        ) from None


def _download_once(path: str, limit: int) -> bytes:
    import httpx2

    address = (os.environ.get(ADDRESS_VARIABLE) or ADDRESS).rstrip("/")
    with httpx2.stream("GET", f"{address}/{path}", timeout=30, follow_redirects=False) as answer:
        answer.raise_for_status()
        content = bytearray()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > limit:
                raise InfrastructureError(
                    f"{path} is more than {limit / 1e6:.0f} MB", cause="no prompt set is that large"
                )
    return bytes(content)


def _retry_delay(error: Exception) -> float | None:
    import httpx2

    match error:
        case httpx2.HTTPStatusError():
            return (
                requested_wait(error.response.headers)
                if meaning_of_status(error.response.status_code).transient
                else None
            )
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


def _with_detail(cause: str, error: Exception) -> str:
    return "; ".join((cause, *getattr(error, "__notes__", ())))


def _has_sha256(content: bytes, sha256: str | None) -> bool:
    return sha256 is None or hashlib.sha256(content).hexdigest() == sha256
