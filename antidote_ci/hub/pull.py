"""A repository at one commit: resolved once, weighed before the download, every file checked as it arrives."""

import glob
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.hub import cache
from antidote_ci.hub.access import Access
from antidote_ci.hub.info import model_info
from antidote_ci.hub.remote import Remote, RemoteFile, described, require_safetensors, total_bytes
from antidote_ci.hub.transfer_progress import Tally, meter, silent
from antidote_ci.paths import ensure_space
from antidote_ci.records import OnProgress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FILES_AT_ONCE = 8


def is_local(model: str) -> bool:
    """Whether `model` names a folder of this machine and not a repository of the Hub."""
    # An unset variable of a shell is no name of the folder that one is in.
    return model.startswith((".", "/", "~")) or os.path.isdir(model)  # noqa: PTH112 - Path.is_dir raises for a long name


def resolve(identifier: str, revision: str | None, access: Access) -> Remote:
    """`revision` (a branch, tag or commit; main when None) as one commit, from metadata alone.

    A commit that is wholly in the cache is answered without the network. Raises InfrastructureError when the Hub
    cannot or will not answer, UnsafeCheckpoint for a repository whose weights are all pickled, or of which the Hub's
    scanners warn, ConfigurationError for one without weights.
    """
    remote = access.ask(identifier, lambda client: _resolved(client, identifier, revision))
    require_safetensors(remote)
    return remote


def cache_folder() -> Path:
    """Where the client keeps what it downloads."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def missing_bytes(remote: Remote) -> int:
    """Bytes of the files that are not in the cache."""
    return total_bytes(remote) - sum(_bytes_here(remote, file) for file in remote.files)


def download(remote: Remote, access: Access, progress: OnProgress) -> Path:
    """The snapshot's folder in the client's own cache; nothing is sent when it is there already.

    What is not what the Hub names is removed and fetched again while the patience of `access` lasts; what is whole is
    kept. The folder may hold other files that other programs downloaded at this commit. `progress` counts bytes and
    may be called from several threads, never from two at once.
    """
    ensure_space(cache_folder(), missing_bytes(remote), "HF_HOME")
    tally, checked = Tally(total_bytes(remote), progress), set[str]()

    def fetch(client: "HfApi", file: RemoteFile) -> None:
        cache.fetch(client, remote.id, remote.revision, file, meter(partial(tally.receive, file.path)))
        checked.add(file.path)
        tally.check(file.size)

    def fetch_missing(client: "HfApi") -> Path:
        folder = _listed(client, remote)
        left = [file for file in remote.files if file.path not in checked]
        for file in left:
            tally.begin(file.path, _bytes_here(remote, file))
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(pool.map(partial(fetch, client), left))
        return folder

    return access.ask(remote.id, fetch_missing)


def _resolved(client: "HfApi", identifier: str, revision: str | None) -> Remote:
    known = cache.commit(identifier, revision) if revision else None
    if known is not None:
        return known
    info = model_info(client, identifier, revision, files=True, security=True)
    # The Hub describes a gated repository to anyone, and refuses only its files.
    if info.gated:
        client.auth_check(identifier)
    return described(identifier, info)


def _listed(client: "HfApi", remote: Remote) -> Path:
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
            tqdm_class=silent(),
        )
    )


def _bytes_here(remote: Remote, file: RemoteFile) -> int:
    return file.size if cache.stored(remote.id, remote.revision, file.path) else 0
