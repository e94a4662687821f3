"""A repository at one commit: resolved once, weighed before the download, checked after it."""

import glob
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.files import allowed, is_pickled_weights, sha256_file
from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.hub.client import api, endpoint, explained
from antidote_ci.records import Progress

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo
    from huggingface_hub.utils.tqdm import tqdm

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ANSWER_SECONDS = 30.0
"""How long the Hub may take to describe a repository: the client itself would wait for ever."""


@dataclass(frozen=True)
class RemoteFile:
    """One file to download. `sha256` is the Hub's word, known for files in large-file storage."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Remote:
    """A repository at one commit: what will be downloaded, and what stays where it is."""

    id: str
    revision: str
    files: list[RemoteFile]
    skipped: list[str]
    licence: str | None


def is_local(model: str) -> bool:
    """Whether `model` names a folder of this machine and not a repository of the Hub."""
    return model.startswith((".", "/", "~")) or Path(model).is_dir()


def resolve(identifier: str, revision: str | None, token: str | None) -> Remote:
    """`revision` (a branch, tag or commit; main when None) as one commit, from metadata alone.

    A commit that is wholly in the cache is answered without the network. Raises InfrastructureError
    when the Hub cannot or will not answer, UnsafeCheckpoint for a repository whose weights are all
    pickled, ConfigurationError for one without weights.
    """
    with explained(identifier, token):
        remote = _cached(identifier, revision) if revision else None
        if remote is None:
            client = api(token)
            info = client.model_info(identifier, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS)
            # The Hub describes a gated repository to anyone, and refuses only its files.
            if info.gated:
                client.auth_check(identifier)
            remote = _described(identifier, info)
    _require_safetensors(remote)
    return remote


def total_bytes(remote: Remote) -> int:
    """Bytes of the files to download."""
    return sum(file.size for file in remote.files)


def ensure_space(folder: Path, needed: int) -> None:
    """Raise InfrastructureError unless `needed` bytes fit on the disk of `folder`, made or not."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InfrastructureError(
            f"not enough disk space: {needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free",
            cause=f"the disk of {folder} is too small",
            hint="free some space, or choose a larger disk with HF_HOME (downloads) or --out (results)",
        )


def download(remote: Remote, token: str | None, progress: Callable[[Progress], None]) -> Path:
    """The snapshot's folder in the client's own cache; nothing is sent when it is there already.

    The folder may hold other files that other programs downloaded at this commit. `progress` counts
    bytes and may be called from several threads, never from two at once.
    """
    from huggingface_hub import constants, snapshot_download

    present = sum(file.size for file in remote.files if _in_cache(remote, file.path))
    ensure_space(Path(constants.HF_HUB_CACHE), total_bytes(remote) - present)
    with explained(remote.id, token):
        folder = Path(
            snapshot_download(
                remote.id,
                revision=remote.revision,
                allow_patterns=[glob.escape(file.path) for file in remote.files],
                token=token or False,
                endpoint=endpoint(),
                tqdm_class=_meter(progress, present, total_bytes(remote)),
            )
        )
    checked = 0
    for file in remote.files:
        _verify(remote, file, folder / file.path)
        checked += file.size
        progress(Progress("verify", checked, total_bytes(remote)))
    return folder


def _described(identifier: str, info: "ModelInfo") -> Remote:
    if not COMMIT.fullmatch(info.sha or ""):
        raise InfrastructureError(
            f"the Hub named no commit for {identifier}",
            cause=f"{endpoint()} does not answer like a Hub",
            hint="check HF_ENDPOINT",
        )
    siblings = info.siblings or []
    files = [
        RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
        for file in siblings
        if allowed(file.rfilename)
    ]
    skipped = [file.rfilename for file in siblings if not allowed(file.rfilename)]
    licence = info.card_data.license if info.card_data else None
    return Remote(identifier, str(info.sha), files, skipped, _licence(licence))


def _cached(identifier: str, revision: str) -> Remote | None:
    """A commit that is wholly in the cache: it never changes, so the Hub need not be asked."""
    from huggingface_hub import ModelCard, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    if not COMMIT.fullmatch(revision):
        return None
    try:
        tree = get_cached_repo_tree(identifier, revision=revision)
    except CachedRepoTreeNotFoundError:
        return None
    remote = Remote(identifier, revision, [], [entry.path for entry in tree], None)
    files = []
    for entry in tree:
        if allowed(entry.path):
            stored = _in_cache(remote, entry.path)
            if stored is None:
                return None
            # The cache names a file of the large-file storage by the sha256 the Hub gave.
            name = stored.resolve().name
            files.append(RemoteFile(entry.path, entry.size, name if SHA256.fullmatch(name) else None))
    if any(file.path.endswith(".safetensors") and file.sha256 is None for file in files):
        return None
    kept = {file.path for file in files}
    card = _in_cache(remote, "README.md") if "README.md" in kept else None
    licence = ModelCard.load(card, ignore_metadata_errors=True).data.license if card else None
    skipped = [path for path in remote.skipped if path not in kept]
    return Remote(identifier, revision, files, skipped, _licence(licence))


def _in_cache(remote: Remote, path: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(remote.id, path, revision=remote.revision)
    return Path(found) if isinstance(found, str) else None


def _licence(value: object) -> str | None:
    """The card's licence as text; a card may name several, or anything else."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return str(value) if value else None


def _require_safetensors(remote: Remote) -> None:
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


def _verify(remote: Remote, file: RemoteFile, path: Path) -> None:
    """Raise InfrastructureError unless `path` holds what the Hub says `file` is."""
    if not path.is_file() or path.stat().st_size != file.size:
        raise InfrastructureError(
            f"{file.path} of {remote.id} was not downloaded whole",
            cause="the download was interrupted, or a cached copy was cut short",
            hint=f"delete {path.resolve()} and run the same command again",
        )
    if file.sha256 is None:
        return
    digest = sha256_file(path)
    if digest != file.sha256:
        raise InfrastructureError(
            f"{file.path} of {remote.id} does not have the sha256 that the Hub names",
            cause=f"{digest} was read, {file.sha256} expected: a broken transfer, disk or mirror",
            hint=f"delete {path.resolve()} and run the same command again",
        )


def _meter(progress: Callable[[Progress], None], done: int, total: int) -> type["tqdm"]:
    """A progress bar's class that draws nothing and reports bytes written, starting at `done`."""
    from huggingface_hub.utils.tqdm import tqdm

    lock = threading.Lock()

    class Meter(tqdm):
        def __init__(self, *args: object, **options: object) -> None:
            # The client opens three bars: files, bytes received, and this one, bytes written.
            self.reports = options.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            nonlocal done
            if self.reports:
                with lock:
                    done += int(n or 0)
                    progress(Progress("download", done, total))

    return Meter
