"""How a long step gets on, for a log that nobody can overwrite: a line now and then. Pure, the clock is given."""

from antidote_ci.records import Progress

LOG_INTERVAL = 30.0
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
MIN_UNITS = 1.5
"""Of a unit, to speak in it."""


class ProgressLog:
    """Of one step, begun at `now`. What it counts may change on the way, and is then estimated anew."""

    def __init__(self, now: float) -> None:
        self._said = now
        self._counted: tuple[str, int] | None = None
        self._began, self._first, self._last = now, 0, 0

    def format_line(self, progress: Progress, now: float) -> str | None:
        """How much is done of what is counted, and how long the rest may take; None where a line would be too much."""
        counted = (progress.what, progress.total)
        if counted != self._counted or progress.done < self._last:
            self._counted, self._began, self._first = counted, now, progress.done
        self._last = progress.done
        gone, made = now - self._began, progress.done - self._first
        if now - self._said < LOG_INTERVAL or not made or progress.done >= progress.total:
            return None
        self._said = now
        left = gone / made * (progress.total - progress.done)
        return f"{progress.what}: {100 * progress.done // progress.total} %, about {_format_duration(left)} left"


def _format_duration(seconds: float) -> str:
    """In the largest unit of which it has enough."""
    size, unit = next((each for each in UNITS if seconds >= MIN_UNITS * each[0]), UNITS[-1])
    return f"{max(1, round(seconds / size))} {unit}"
