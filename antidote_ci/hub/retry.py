"""Retry with full jitter, the server's requested delay and a time budget. Independent of HTTP.

https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from antidote_ci.formatting import format_duration

Answer = TypeVar("Answer")
logger = logging.getLogger(__name__)

DEFAULT_BUDGET = 600.0
"""Seconds. The client alone retries for about 30 seconds."""
FIRST_CONTACT_BUDGET = 60.0
"""Seconds, until the server has answered once: before that, a wrong address is more likely than an outage."""
FIRST_DELAY = 1.0
MAX_DELAY = 60.0
"""The longest pause in seconds between two attempts, unless the server asks for a longer one."""
MAX_DOUBLINGS = 10


@dataclass(frozen=True)
class RetryPolicy:
    """Repeats a failed call after a random, exponentially growing pause, until a time budget is used up.

    `seconds` is the budget, counted from the first failure, and `first_contact_seconds` that of a server which has
    never answered. Tests replace `clock`, `sleep` and `random`.
    """

    seconds: float = DEFAULT_BUDGET
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    first_contact_seconds: float = FIRST_CONTACT_BUDGET

    def call(
        self,
        attempt: Callable[[], Answer],
        retry_delay: Callable[[Exception], float | None],
        describe: Callable[[Exception], str] = lambda error: type(error).__name__,
        has_answered: Callable[[], bool] = lambda: True,
        count_finished: Callable[[], int] = lambda: 0,
    ) -> Answer:
        """Return `attempt()`, and repeat it after transient exceptions while the budget lasts.

        `retry_delay` returns the minimum number of seconds before the next attempt, or None for an exception that is
        not transient. `describe` summarises an exception for the log. `has_answered`: whether the server has answered
        this process. `count_finished`: the parts of the work that no attempt repeats. The budget starts with the first
        failure, and again with the first after a part was finished. Raises the last exception, with a note about the
        number of attempts, when the budget does not allow another.
        """
        first_failure, failures, finished = None, 0, count_finished()
        while True:
            try:
                return attempt()
            except Exception as error:
                delay = retry_delay(error)
                if delay is None:
                    raise
                if (count := count_finished()) > finished:
                    first_failure, failures, finished = None, 0, count
                failures += 1
                now = self.clock()
                first_failure = now if first_failure is None else first_failure
                budget = self.seconds if has_answered() else min(self.seconds, self.first_contact_seconds)
                left = first_failure + budget - now
                backoff = min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures - 1, MAX_DOUBLINGS))
                pause = max(delay, self.random() * backoff)
                if pause > left:
                    error.add_note(_describe_attempts(failures, now - first_failure, delay))
                    raise
                logger.warning(
                    "%s; retrying in %s, for at most %s more",
                    describe(error),
                    format_duration(pause),
                    format_duration(left),
                )
            self.sleep(pause)


def _describe_attempts(count: int, seconds: float, delay: float) -> str:
    attempts = f"tried {count} times in {format_duration(seconds)}" if count > 1 else "tried once"
    return attempts + (f", and the server asks to wait for {format_duration(delay)}" if delay >= 1 else "")
