"""Progress bars that draw nothing: the client takes a class of bars, and tells it of the bytes it wrote."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from antidote_ci.records import OnProgress, Progress

if TYPE_CHECKING:
    from huggingface_hub.utils.tqdm import tqdm

TRANSFER_SUFFIX = ".transfer"
"""How the name of the client's second bar ends: bytes received, where the first shows bytes written."""


class TransferProgress:
    """Bytes received and bytes checked of a download's files; speaks from one thread at a time."""

    def __init__(self, total: int, progress: OnProgress) -> None:
        self._total = total
        self._progress = progress
        self._received: dict[str, int] = {}
        self._checked = 0
        self._lock = threading.Lock()

    def begin(self, path: str, received: int) -> None:
        """A file is started, or started again."""
        with self._lock:
            self._received[path] = received

    def receive(self, path: str, size: int) -> None:
        with self._lock:
            self._received[path] += size
            self._progress(Progress("download", sum(self._received.values()), self._total))

    def check(self, size: int) -> None:
        """Checking goes on beside downloading, and is told of when that is done."""
        with self._lock:
            self._checked += size
            if sum(self._received.values()) >= self._total:
                self._progress(Progress("verify", self._checked, self._total))


def progress_bar_class(advance: Callable[[int], None]) -> type["tqdm"]:
    """A class of bars that hand on how many bytes more were written."""
    from huggingface_hub.utils.tqdm import tqdm

    class Meter(tqdm):
        monitor_interval = 0  # else every such class starts a thread that draws bars

        def __init__(self, *args: object, **options: object) -> None:
            self.counts = not str(options.get("name")).endswith(TRANSFER_SUFFIX)
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self.counts:
                advance(int(n or 0))

    return Meter


def silent_bar_class() -> type["tqdm"]:
    """A class of bars that tell nobody."""
    return progress_bar_class(lambda _: None)
