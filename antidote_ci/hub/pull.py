"""A repository at one commit: resolved once, weighed before the download, every file checked as it arrives."""

import glob
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.hub import cache
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.info import fetch_model_info
from antidote_ci.hub.remote import (
    RemoteFile,
    RemoteRepository,
    count_remote_bytes,
    parse_repository,
    require_safetensors,
)
from antidote_ci.hub.transfer_progress import TransferProgress, progress_bar_class, silent_bar_class
from antidote_ci.paths import require_space
from antidote_ci.records import OnProgress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FILES_AT_ONCE = 8


def is_local(model: str) -> bool:
    """Whether `model` names a folder of this machine and not a repository of the Hub."""
    # An unset variable of a shell is no name of the folder that one is in.
    return model.startswith((".", "/", "~")) or os.path.isdir(model)  # noqa: PTH112 - Path.is_dir raises for a long name


def resolve_revision(identifier: str, revision: str | None, access: HubAccess) -> RemoteRepository:
    """`revision` (a branch, tag or commit; main when None) as one commit, from metadata alone.

    A commit that is wholly in the cache is answered without the network. Raises InfrastructureError when the Hub
    cannot or will not answer, UnsafeCheckpoint for a repository whose weights are all pickled, or of which the Hub's
    scanners warn, ConfigurationError for one without weights.
    """
    remote = access.request(identifier, lambda client: _resolve_once(client, identifier, revision))
    require_safetensors(remote)
    return remote


def client_cache_folder() -> Path:
    """Where the client keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def count_missing_bytes(remote: RemoteRepository) -> int:
    """Bytes of the files that are not in the cache."""
    return count_remote_bytes(remote) - sum(_cached_bytes(remote, file) for file in remote.files)


def download_snapshot(remote: RemoteRepository, access: HubAccess, progress: OnProgress) -> Path:
    """The snapshot's folder in the client's own cache; nothing is sent when it is there already.

    What is not what the Hub names is removed and fetched again while the patience of `access` lasts; what is whole is
    kept. The folder may hold other files that other programs downloaded at this commit. `progress` counts bytes and
    may be called from several threads, never from two at once.
    """
    require_space(client_cache_folder(), count_missing_bytes(remote), "HF_HOME")
    tally, checked = TransferProgress(count_remote_bytes(remote), progress), set[str]()

    def fetch(client: "HfApi", file: RemoteFile) -> None:
        cache.fetch_file(
            client, remote.id, remote.revision, file, progress_bar_class(partial(tally.receive, file.path))
        )
        checked.add(file.path)
        tally.check(file.size)

    def fetch_missing(client: "HfApi") -> Path:
        folder = _list_snapshot(client, remote)
        left = [file for file in remote.files if file.path not in checked]
        for file in left:
            tally.begin(file.path, _cached_bytes(remote, file))
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(pool.map(partial(fetch, client), left))
        return folder

    return access.request(remote.id, fetch_missing)


def _resolve_once(client: "HfApi", identifier: str, revision: str | None) -> RemoteRepository:
    known = cache.find_commit(identifier, revision) if revision else None
    if known is not None:
        return known
    info = fetch_model_info(client, identifier, revision, files=True, security=True)
    # The Hub describes a gated repository to anyone, and refuses only its files.
    if info.gated:
        client.auth_check(identifier)
    return parse_repository(identifier, info)


def _list_snapshot(client: "HfApi", remote: RemoteRepository) -> Path:
    """The snapshot's folder, beside which the client now keeps the commit's listing: the next time, nothing is asked.

    It does so for snapshots only, so the smallest file is fetched as one. The others are fetched singly, to be checked
    as they arrive.
    """
    smallest = min(remote.files, key=lambda file: file.size)
    return Path(
        client.snapshot_download(
            remote.id,
            revision=remote.revision,
            allow_patterns=[glob.escape(smallest.path)],
            tqdm_class=silent_bar_class(),
        )
    )


def _cached_bytes(remote: RemoteRepository, file: RemoteFile) -> int:
    return file.size if cache.find_file(remote.id, remote.revision, file.path) else 0
