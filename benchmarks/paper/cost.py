"""What a piece of work takes: seconds, and the memory of this process and its children at their fullest."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SAMPLING_SECONDS = 0.02
PROCESSES = Path("/proc")


@dataclass
class Cost:
    """So far. The figures grow while the work goes on."""

    started: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.started


@contextmanager
def watching() -> Iterator[Cost]:
    """The cost of what is done within.

    Sampled: the system's own maximum (getrusage) speaks of children that have ended, of the largest of them alone, and
    never falls from one piece of work to the next.
    """
    cost = Cost(time.monotonic(), resident_bytes())
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLING_SECONDS):
            cost.peak_bytes = max(cost.peak_bytes, resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        ended.set()
        watcher.join()


def resident_bytes() -> int:
    """Of this process and its children together, now; 0 where the system has no /proc. A GPU's memory is not in it."""
    try:
        listings = [listing.read_text() for listing in (PROCESSES / "self" / "task").glob("*/children")]
    except OSError:  # a thread has ended
        listings = []
    return sum(resident(each) for each in ("self", *" ".join(listings).split()))


def resident(process: str) -> int:
    """Bytes that a process, named by its number, has in memory now; 0 for one that has ended."""
    try:
        pages = int((PROCESSES / process / "statm").read_text().split()[1])
    except (OSError, IndexError):  # it has ended
        return 0
    return pages * resource.getpagesize()
