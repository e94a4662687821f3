"""Pull a model at one commit: resolve it once, check the free disk space, then download and check every file."""

import glob
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub import cache
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import fetch_model_info
from antidote_ci.hub.remote import (
    REPOSITORY_NAME,
    RemoteFile,
    RemoteRepository,
    count_remote_bytes,
    parse_repository,
    require_safetensors,
)
from antidote_ci.paths import is_folder, is_path, require_space
from antidote_ci.records import OnProgress, Progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PARALLEL_DOWNLOADS = 8


def refuse_ambiguous_name(model: str, declared_by: str | None = None) -> None:
    """Raise ConfigurationError for a name that is not one of the Hub, or that a local folder has, too.

    Otherwise anyone who can add a folder to the working directory chooses what a name means. A path is accepted.
    `declared_by`: the file of a local model that names `model`; None for a name that the user wrote.
    """
    if is_path(model) or (REPOSITORY_NAME.fullmatch(model) and not is_folder(model)):
        return
    if not is_folder(model):
        raise _name_error(model, declared_by)
    option = "--reference " if declared_by else ""
    hint = f"write {option}./{model:.200} for the folder"
    if not REPOSITORY_NAME.fullmatch(model):
        raise _name_error(model, declared_by, hint)
    raise ConfigurationError(
        f"{model!r:.200} is ambiguous: it is a name on the Hub, and a local folder has this name",
        cause=f"a local folder must be written as a path{_describe_origin(declared_by)}",
        hint=f"{hint}; for the model on the Hub, run in another directory, or rename the folder",
    )


def _name_error(model: str, declared_by: str | None = None, hint: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        f"{model!r:.200} is not a model name",
        cause=f"a model name has the form organisation/name{_describe_origin(declared_by)}",
        hint=hint
        or f"write {'--reference ' if declared_by else ''}organisation/name, or ./folder for a local checkpoint",
    )


def _describe_origin(declared_by: str | None) -> str:
    return f"; the {declared_by} of the model names it" if declared_by else ""


def resolve_revision(identifier: str, revision: str | None, access: HubAccess) -> RemoteRepository:
    """Resolve `revision` (a branch, tag or commit; main when None) to one commit, from metadata alone.

    Sends no request for a commit that is completely in the cache. Raises InfrastructureError when the Hub cannot be
    asked, UnsafeCheckpoint when all weights are pickled or the Hub's scanners call a file unsafe, ConfigurationError
    when there are no weights or the name is invalid.
    """
    if not REPOSITORY_NAME.fullmatch(identifier):
        raise _name_error(identifier)
    remote = access.request(identifier, lambda client: _resolve_once(client, identifier, revision))
    require_safetensors(remote)
    return remote


def client_cache_folder() -> Path:
    """The folder of the client's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def count_missing_bytes(remote: RemoteRepository) -> int:
    """The total size of the files that are not in the cache."""
    return count_remote_bytes(remote) - sum(_cached_bytes(remote, file) for file in remote.files)


def download_snapshot(remote: RemoteRepository, access: HubAccess, progress: OnProgress) -> Path:
    """Download the files that are missing in the client's cache, check all files, and return the snapshot folder.

    A file without the right hash is removed and downloaded again while the retry budget of `access` lasts, which starts
    again with each checked file: the download of a large model may take hours. The folder may contain other files that
    other programs downloaded at this commit. `progress` is called from several threads, one at a time. Raises
    InfrastructureError when the disk is too small or a download fails.
    """
    require_space(client_cache_folder(), count_missing_bytes(remote), "HF_HOME")
    counter, checked = _DownloadProgress(count_remote_bytes(remote), progress), set[str]()

    def fetch(client: "HfApi", file: RemoteFile) -> None:
        on_bytes = partial(counter.receive, file.path)
        cache.fetch_file(client, remote.id, remote.revision, file, on_bytes=on_bytes)
        checked.add(file.path)
        counter.check(file.size)

    def fetch_missing(client: "HfApi") -> Path:
        folder = _cache_listing(client, remote)
        missing = [file for file in remote.files if file.path not in checked]
        for file in missing:
            counter.begin(file.path, _cached_bytes(remote, file))
        _call_parallel(partial(fetch, client), missing)
        return folder

    try:
        return access.request(remote.id, fetch_missing, count_finished=lambda: len(checked))
    finally:
        counter.stop()


def _call_parallel(fetch: Callable[[RemoteFile], None], files: Sequence[RemoteFile]) -> None:
    """Call `fetch` for each file in PARALLEL_DOWNLOADS threads. Raises the first error, after the threads have ended.

    After a signal it does not wait for them: a large file would delay the end of the process by minutes.
    """
    waiting, results = deque(files), queue.SimpleQueue[Exception | None]()

    def work() -> None:
        error = None
        while waiting and error is None:
            try:
                file = waiting.popleft()
            except IndexError:  # another thread has taken the last file
                break
            try:
                fetch(file)
            except Exception as raised:  # noqa: BLE001 - raised again in the calling thread
                error = raised
                waiting.clear()
        results.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(PARALLEL_DOWNLOADS, len(files)))]
    for thread in threads:
        thread.start()
    try:
        errors = [error for error in [results.get() for _ in threads] if error is not None]
    finally:
        waiting.clear()
    if errors:
        raise errors[0]


class _DownloadProgress:
    """Counts received and checked bytes of several files, for several threads."""

    def __init__(self, total: int, progress: OnProgress) -> None:
        self._total = total
        self._progress = progress
        self._received: dict[str, int] = {}
        self._checked = 0
        self._is_stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let every download that still runs end with an exception: a signal has ended the pull."""
        with self._lock:
            self._is_stopped = True

    def begin(self, path: str, received: int) -> None:
        with self._lock:
            self._received[path] = received

    def receive(self, path: str, size: int) -> None:
        with self._lock:
            if self._is_stopped:
                raise RuntimeError("the pull has ended")
            self._received[path] += size
            self._progress(Progress("download", sum(self._received.values()), self._total))

    def check(self, size: int) -> None:
        """Count a checked file. It is reported once all files are received."""
        with self._lock:
            self._checked += size
            if sum(self._received.values()) >= self._total:
                self._progress(Progress("verify", self._checked, self._total))


def _resolve_once(client: "HfApi", identifier: str, revision: str | None) -> RemoteRepository:
    cached = cache.find_commit(identifier, revision) if revision else None
    if cached is not None:
        return cached
    info = fetch_model_info(client, identifier, revision, files=True, security=True)
    # The Hub describes a gated repository to every account, and refuses only its files.
    if info.gated:
        client.auth_check(identifier)
    return parse_repository(identifier, info, revision)


def _cache_listing(client: "HfApi", remote: RemoteRepository) -> Path:
    """Make the client cache the file list of the commit, so that the next pull sends no request; the snapshot folder.

    The client does so only in `snapshot_download`, which fetches the smallest file here. The other files are fetched
    one by one, so that each is checked on arrival.
    """
    smallest = min(remote.files, key=lambda file: file.size)
    return Path(
        client.snapshot_download(
            remote.id,
            revision=remote.revision,
            allow_patterns=[glob.escape(smallest.path)],
            tqdm_class=cache.progress_bar_class(cache.limit_bytes(remote.id, smallest)),
        )
    )


def _cached_bytes(remote: RemoteRepository, file: RemoteFile) -> int:
    return file.size if cache.find_file(remote.id, remote.revision, file.path) else 0
