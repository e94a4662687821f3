"""What the Hub says of a repository at one commit, checked before any of it is believed. Asks nothing itself."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint.files import is_allowed_file, is_pickled_weights
from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.hub.digests import SHA256_DIGITS
from antidote_ci.identifiers import COMMIT, SHA256

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

NAME = re.compile(r"[\w.-]{1,96}(?:/[\w.-]{1,96})?", re.ASCII)
MAX_FILES = 2_000
"""More files than any model has shards that we could load."""
MAX_FILE_BYTES = 1 << 50
"""Bytes of one file; the Hub itself takes 500 GB."""
ACCEPTED_LEVELS = {"safe", "caution", "suspicious"}
"""What the Hub's scanners say of a file that they would not keep anyone from: all other words, new ones too, warn."""


@dataclass(frozen=True)
class RemoteFile:
    """One file to download."""

    path: str
    size: int
    digest: str
    """By which the Hub knows the content: its sha256 in large-file storage, else the id that git gives it."""

    @property
    def sha256(self) -> str | None:
        return self.digest if len(self.digest) == SHA256_DIGITS else None


@dataclass(frozen=True)
class RepositoryInfo:
    """What the Hub says of the whole repository."""

    name: str
    """As the Hub answered: another than was asked for when the repository was renamed or moved."""
    private: bool
    gated: Literal["auto", "manual"] | None
    created: datetime | None
    modified: datetime | None
    unsafe: list[str]
    """Files that the Hub's scanners warn of. What they let through is not therefore safe."""
    parameters: int | None
    """Entries of all weights in safetensors, where the Hub has counted them."""


@dataclass(frozen=True)
class RemoteRepository:
    """A repository at one commit: what will be downloaded, and what stays where it is."""

    id: str
    revision: str
    files: list[RemoteFile]
    skipped: list[str]
    licence: str | None
    info: RepositoryInfo | None
    """None for a commit that is wholly in the cache: the Hub was not asked."""


def count_remote_bytes(remote: RemoteRepository) -> int:
    """Bytes of the files to download."""
    return sum(file.size for file in remote.files)


def count_remote_weight_bytes(remote: RemoteRepository) -> int:
    """Bytes of the weights among them."""
    return sum(file.size for file in remote.files if file.path.endswith(".safetensors"))


def parse_repository(identifier: str, info: "ModelInfo") -> RemoteRepository:
    """The answer of the Hub, refused where no honest Hub would give it.

    Raises InfrastructureError for what is no description of a repository, UnsafeCheckpoint for names that leave the
    repository and for files that the Hub's scanners warn of.
    """
    commit = parse_commit(identifier, info.sha)
    siblings = info.siblings or []
    names = [file.rfilename for file in siblings]
    for name in names:
        if not isinstance(name, str) or _leaves_folder(name):
            raise UnsafeCheckpoint(
                f"{identifier} lists a file that lies outside of it: {name!r:.80}",
                cause="git knows no such names: the Hub, or what answers in its place, was tampered with",
                hint="check HF_ENDPOINT; do not use this repository",
            )
    wanted = [file for file in siblings if is_allowed_file(file.rfilename)]
    if len(wanted) > MAX_FILES:
        raise ConfigurationError(
            f"{identifier} has {len(wanted):,} files that a model may consist of, more than {MAX_FILES:,}",
            cause="it is not one model",
            hint="name a repository that holds one checkpoint",
        )
    if len({file.rfilename for file in wanted}) < len(wanted):
        raise _strange_answer_error(identifier, "it lists a file twice")
    files = [parse_file(identifier, file) for file in wanted]
    about = _parse_info(identifier, info)
    for path in about.unsafe:
        if is_allowed_file(path):
            raise UnsafeCheckpoint(
                f"the Hub's scanners call {path} of {identifier} unsafe",
                cause="what they found is shown beside the file",
                hint=f"read it on the page of {about.name}, and choose another model or commit",
            )
    licence = getattr(info.card_data, "license", None)
    skipped = [name for name in names if not is_allowed_file(name)]
    return RemoteRepository(identifier, commit, files, skipped, parse_licence(licence), about)


def parse_commit(identifier: str, sha: str | None) -> str:
    """The commit that the Hub names; InfrastructureError where it names none."""
    if not isinstance(sha, str) or not COMMIT.fullmatch(sha):
        raise InfrastructureError(
            f"the Hub named no commit for {identifier}",
            cause="what answers is no Hub",
            hint="check HF_ENDPOINT and the proxy settings",
        )
    return sha


def parse_file(identifier: str, file: "RepoSibling") -> RemoteFile:
    """A file as the Hub describes it; InfrastructureError without a size or a hash that are possible."""
    if type(file.size) is not int or not 0 <= file.size <= MAX_FILE_BYTES:
        raise _strange_answer_error(identifier, f"it says that {file.rfilename} has {file.size!r:.40} bytes")
    named, like = (file.lfs.sha256, SHA256) if file.lfs else (file.blob_id, COMMIT)
    if not isinstance(named, str) or not like.fullmatch(named):
        raise _strange_answer_error(identifier, f"it names no hash for {file.rfilename}")
    return RemoteFile(file.rfilename, file.size, named)


def parse_licence(value: object) -> str | None:
    """The card's licence as text; a card may name several, or anything else."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return str(value) if value else None


def require_safetensors(remote: RemoteRepository) -> None:
    """Raise UnsafeCheckpoint for weights that are all pickled, ConfigurationError for none at all."""
    if any(file.path.endswith(".safetensors") for file in remote.files):
        return
    pickled = [path for path in remote.skipped if is_pickled_weights(path)]
    if pickled:
        raise UnsafeCheckpoint(
            f"{remote.id} has only pickled weights: {pickled[0]}",
            cause="opening a pickle runs whatever code it holds",
            hint="convert them with https://huggingface.co/spaces/safetensors/convert first",
        )
    raise ConfigurationError(
        f"{remote.id} holds no weights in safetensors at {remote.revision}",
        cause="it is not a model or LoRA adapter, or its weights are in another format",
        hint="name a repository with model.safetensors or adapter_model.safetensors",
    )


def _strange_answer_error(identifier: str, fault: str) -> InfrastructureError:
    """For an answer that a Hub would not give."""
    return InfrastructureError(
        f"the Hub's description of {identifier} makes no sense",
        cause=fault,
        hint="check HF_ENDPOINT and the proxy settings, then run the same command again",
    )


def _leaves_folder(name: str) -> bool:
    """Whether a path would leave its folder, on this system or on another."""
    parts = re.split(r"[/\\]", name)
    return parts[0] == "" or "\0" in name or not {".", ".."}.isdisjoint(parts)


def _parse_info(identifier: str, info: "ModelInfo") -> RepositoryInfo:
    if not isinstance(info.id, str) or not NAME.fullmatch(info.id):
        raise _strange_answer_error(identifier, "it names no repository")
    counted = info.safetensors.total if info.safetensors else None
    return RepositoryInfo(
        name=info.id,
        private=bool(info.private),
        gated=None if not info.gated else "auto" if info.gated == "auto" else "manual",
        created=info.created_at,
        modified=info.last_modified,
        unsafe=_parse_unsafe(info.security_repo_status),
        parameters=counted if type(counted) is int and counted > 0 else None,
    )


def _parse_unsafe(status: object) -> list[str]:
    """Paths from `{"filesWithIssues": [{"path": ..., "level": ...}]}`; undocumented, so read with care."""
    issues = status.get("filesWithIssues") if isinstance(status, dict) else None
    found = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return sorted({str(issue.get("path")) for issue in found if issue.get("level") not in ACCEPTED_LEVELS})
