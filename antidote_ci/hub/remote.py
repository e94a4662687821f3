"""The Hub's description of a repository at one commit, and its validation. This module sends no requests."""

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.files import is_allowed_file, is_pickled_weights, max_bytes
from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.records import COMMIT, SHA256

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

logger = logging.getLogger(__name__)

_PART = r"\w(?:[\w.-]{0,94}\w)?"
REPOSITORY_NAME = re.compile(rf"(?!.*(?:--|\.\.)){_PART}(?:/{_PART})?(?<!\.git)", re.ASCII)
"""Names of repositories as the Hub allows them. They cannot leave a folder, and are safe in a shell or a log. Old
repositories have no organisation: `gpt2`."""
MAX_FILES = 2_000
"""More files than the shards of any model that can be loaded here."""
MAX_FILE_BYTES = 1 << 50
"""The Hub itself accepts files of up to 500 GB."""
UNSAFE_LEVEL = "unsafe"
ACCEPTED_LEVELS = {"safe", "caution", "suspicious"}
"""The results of the Hub's scanners that are accepted without a warning. The Hub does not document the levels."""
SHA256_DIGITS = 64


@dataclass(frozen=True)
class RemoteFile:
    """A file to download."""

    path: str
    size: int
    digest: str
    """The sha256 in large-file storage (64 hex digits), else the git blob id (40)."""


@dataclass(frozen=True)
class RepositoryInfo:
    """The Hub's description of the repository, at any commit."""

    name: str
    """The current name, which differs from the requested one if the repository was renamed or moved."""
    created: datetime | None
    modified: datetime | None
    parameters: int | None
    """The number of weights in safetensors files, if the Hub has counted them."""
    dtypes: tuple[str, ...] = ()
    """The dtypes of these weights, such as BF16. Empty if the Hub has not counted them."""


@dataclass(frozen=True)
class RemoteRepository:
    """A repository at one commit, with the files to download and the paths that are skipped."""

    id: str
    revision: str
    files: list[RemoteFile]
    skipped: list[str]
    licence: str | None
    info: RepositoryInfo | None
    """None for a commit that is completely in the cache: no request is sent for it."""


def count_remote_bytes(remote: RemoteRepository) -> int:
    """The total size of the files to download."""
    return sum(file.size for file in remote.files)


def count_remote_weight_bytes(remote: RemoteRepository) -> int:
    """The total size of the safetensors files to download."""
    return sum(file.size for file in remote.files if file.path.endswith(".safetensors"))


def parse_repository(identifier: str, info: "ModelInfo", revision: str | None = None) -> RemoteRepository:
    """Validate the Hub's answer about `revision`.

    Raises InfrastructureError when the answer is not a valid description, UnsafeCheckpoint when a path leaves the
    repository or the Hub's scanners call a file to download unsafe, ConfigurationError for too many files.
    """
    commit = parse_commit(identifier, info.sha, revision)
    siblings = info.siblings or []
    paths = [file.rfilename for file in siblings]
    for path in paths:
        if not isinstance(path, str) or _leaves_folder(path):
            raise UnsafeCheckpoint(
                f"{identifier} lists a file outside the repository: {path!r:.80}",
                cause="git does not allow such paths, so the Hub or another server has changed the list",
                hint="check HF_ENDPOINT; do not use this repository",
            )
    allowed = [file for file in siblings if is_allowed_file(file.rfilename)]
    if len(allowed) > MAX_FILES:
        raise ConfigurationError(
            f"{identifier} has {len(allowed):,} files of a model, more than {MAX_FILES:,}",
            cause="it contains more than one model",
            hint="name a repository with a single checkpoint",
        )
    if len({file.rfilename for file in allowed}) < len(allowed):
        raise _invalid_answer_error(identifier, "it lists a file twice")
    files = [parse_file(identifier, file) for file in allowed]
    for file in files:
        limit = max_bytes(file.path)
        if limit is not None and file.size > limit:
            raise UnsafeCheckpoint(
                f"{file.path} of {identifier} has {file.size:,} bytes, more than {limit:,}",
                cause="no real file of this kind has; it may be meant to exhaust the disk or the memory",
                hint="choose another model or commit",
            )
    repository = _parse_info(identifier, info)
    for path, level in _parse_issues(info.security_repo_status):
        if not is_allowed_file(path):
            continue
        if level == UNSAFE_LEVEL:
            raise UnsafeCheckpoint(
                f"the Hub's scanners call {path} of {identifier} unsafe",
                cause="the page of the file shows the finding",
                hint=f"read it on the page of {repository.name}, and choose another model or commit",
            )
        if level not in ACCEPTED_LEVELS:
            # The scan has not ended or failed, or the level is new. Every file is checked here as well.
            logger.warning("the Hub's scanners do not call %.200r of %s safe: %.40r", path, identifier, level)
    licence = parse_licence(getattr(info.card_data, "license", None))
    skipped = [path for path in paths if not is_allowed_file(path)]
    return RemoteRepository(identifier, commit, files, skipped, licence, repository)


def parse_commit(identifier: str, sha: str | None, revision: str | None = None) -> str:
    """Validate the commit id that the Hub names for `revision`.

    Raises InfrastructureError unless it has 40 hex digits, and for another commit than the requested one: a branch can
    have the name of a commit.
    """
    if not isinstance(sha, str) or not COMMIT.fullmatch(sha):
        raise InfrastructureError(
            f"the Hub named no commit for {identifier}",
            cause="the server is not a Hub",
            hint="check HF_ENDPOINT and the proxy settings",
        )
    if revision is not None and COMMIT.fullmatch(revision) and sha != revision:
        raise InfrastructureError(
            f"the Hub names commit {sha} for {revision} of {identifier}",
            cause="a branch or a tag of the repository has the name of that commit",
            hint="do not use this repository, or name another commit",
        )
    return sha


def parse_file(identifier: str, file: "RepoSibling") -> RemoteFile:
    """Validate the description of a file. Raises InfrastructureError for an impossible path, size or hash."""
    if not isinstance(file.rfilename, str):
        raise _invalid_answer_error(identifier, "it names no path of a file")
    if type(file.size) is not int or not 0 <= file.size <= MAX_FILE_BYTES:
        raise _invalid_answer_error(identifier, f"it says that {file.rfilename} has {file.size!r:.40} bytes")
    digest, form = (file.lfs.sha256, SHA256) if file.lfs else (file.blob_id, COMMIT)
    if not isinstance(digest, str) or not form.fullmatch(digest):
        raise _invalid_answer_error(identifier, f"it names no hash for {file.rfilename}")
    return RemoteFile(file.rfilename, file.size, digest)


def parse_licence(value: object) -> str | None:
    """The licence of a model card as text. A card may name several licences, or contain any other value."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return str(value) if value else None


def require_safetensors(remote: RemoteRepository) -> None:
    """Raise UnsafeCheckpoint if all weights are pickled, ConfigurationError if there are no weights."""
    if any(file.path.endswith(".safetensors") for file in remote.files):
        return
    pickled = [path for path in remote.skipped if is_pickled_weights(path)]
    if pickled:
        raise UnsafeCheckpoint(
            f"{remote.id} has only pickled weights: {pickled[0]}",
            cause="loading a pickle executes any code in it",
            hint="convert them with https://huggingface.co/spaces/safetensors/convert first",
        )
    raise ConfigurationError(
        f"{remote.id} holds no weights in safetensors at {remote.revision}",
        cause="it is not a model or LoRA adapter, or its weights have another format",
        hint="name a repository with model.safetensors or adapter_model.safetensors",
    )


def _invalid_answer_error(identifier: str, fault: str) -> InfrastructureError:
    return InfrastructureError(
        f"the Hub's description of {identifier} is not valid",
        cause=fault,
        hint="check HF_ENDPOINT and the proxy settings, then run the same command again",
    )


def _leaves_folder(path: str) -> bool:
    """Whether the path leaves its folder on any operating system."""
    parts = re.split(r"[/\\]", path)
    return parts[0] == "" or "\0" in path or not {".", ".."}.isdisjoint(parts)


def _parse_info(identifier: str, info: "ModelInfo") -> RepositoryInfo:
    if not isinstance(info.id, str) or not REPOSITORY_NAME.fullmatch(info.id):
        raise _invalid_answer_error(identifier, "it names no repository")
    total = info.safetensors.total if info.safetensors else None
    dtypes = info.safetensors.parameters if info.safetensors else None
    return RepositoryInfo(
        name=info.id,
        created=info.created_at,
        modified=info.last_modified,
        parameters=total if type(total) is int and total > 0 else None,
        dtypes=tuple(map(str, dtypes)) if isinstance(dtypes, dict) else (),
    )


def _parse_issues(status: object) -> list[tuple[str, str]]:
    """Path and level of each item of `{"filesWithIssues": [{"path": ..., "level": ...}]}`, which is not documented.

    Files that are not listed are not necessarily safe.
    """
    issues = status.get("filesWithIssues") if isinstance(status, dict) else None
    valid = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return sorted({(str(issue.get("path")), str(issue.get("level"))) for issue in valid})
