"""How long a failing Hub is waited for: full jitter, its own Retry-After, and a budget. Knows nothing of HTTP.

https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)

SECONDS = 600.0
"""An outage of the Hub that a run survives; the client alone gives up after half a minute."""
FIRST = 1.0
LONGEST = 60.0
"""The most seconds between two attempts, unless the Hub itself asks for more."""
DOUBLINGS = 10


def _kind(error: Exception) -> str:
    return type(error).__name__


@dataclass(frozen=True)
class Patience:
    """The budget, with its clock: tests wait for nothing."""

    seconds: float = SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    def insist(
        self,
        attempt: Callable[[], Answer],
        passing: Callable[[Exception], float | None],
        told: Callable[[Exception], str] = _kind,
    ) -> Answer:
        """What `attempt` returns, tried again while it fails in passing and the budget lasts.

        `passing` says of an exception how many seconds to wait at least, or None when waiting would not help; `told`
        says in a few words what happened. When the budget, counted from the first failure, does not reach another
        attempt, the last exception is raised, with a note that says how long it was tried.
        """
        first, failures = None, 0
        while True:
            try:
                return attempt()
            except Exception as error:
                asked = passing(error)
                if asked is None:
                    raise
                failures += 1
                now = self.clock()
                first = now if first is None else first
                left = first + self.seconds - now
                pause = max(asked, self.random() * min(LONGEST, FIRST * 2 ** min(failures - 1, DOUBLINGS)))
                if pause > left:
                    error.add_note(_tried(failures, now - first, asked))
                    raise
                logger.warning(
                    "%s; asking again in %s, for at most %s more", told(error), spelled(pause), spelled(left)
                )
            self.sleep(pause)


def spelled(seconds: float) -> str:
    """A duration for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:,.0f} h"


def _tried(times: int, seconds: float, asked: float) -> str:
    tried = f"tried {times} times in {spelled(seconds)}" if times > 1 else "tried once"
    return tried + (f", and it asks to wait for {spelled(asked)}" if asked >= 1 else "")
