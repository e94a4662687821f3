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

DEFAULT_BUDGET = 600.0
"""An outage of the Hub that a run survives; the client alone gives up after half a minute."""
FIRST_DELAY = 1.0
MAX_DELAY = 60.0
"""The most seconds between two attempts, unless the Hub itself asks for more."""
MAX_DOUBLINGS = 10


def _error_kind(error: Exception) -> str:
    return type(error).__name__


@dataclass(frozen=True)
class RetryPolicy:
    """The budget, with its clock: tests wait for nothing."""

    seconds: float = DEFAULT_BUDGET
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    def call(
        self,
        attempt: Callable[[], Answer],
        retry_delay: Callable[[Exception], float | None],
        describe: Callable[[Exception], str] = _error_kind,
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
                asked = retry_delay(error)
                if asked is None:
                    raise
                failures += 1
                now = self.clock()
                first = now if first is None else first
                left = first + self.seconds - now
                pause = max(asked, self.random() * min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures - 1, MAX_DOUBLINGS)))
                if pause > left:
                    error.add_note(_describe_attempts(failures, now - first, asked))
                    raise
                logger.warning(
                    "%s; asking again in %s, for at most %s more",
                    describe(error),
                    format_duration(pause),
                    format_duration(left),
                )
            self.sleep(pause)


def format_duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:,.0f} h"


def _describe_attempts(times: int, seconds: float, asked: float) -> str:
    tried = f"tried {times} times in {format_duration(seconds)}" if times > 1 else "tried once"
    return tried + (f", and it asks to wait for {format_duration(asked)}" if asked >= 1 else "")
