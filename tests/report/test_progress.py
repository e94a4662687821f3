"""Lines of progress in a log: seldom, and of an estimate that is right where the pace is even."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.records import Progress
from antidote_ci.report.console import LOG_INTERVAL, ProgressLog

UNITS = {"s": 1, "min": 60, "h": 3600}
LINE = re.compile(r"(\w+): (\d+) %, about (\d+) (s|min|h) left")


def told(pace: ProgressLog, what: str, total: int, seconds_each: float, start: float) -> list[tuple[float, int, str]]:
    """The lines of an even step, with when and at how many of it done they were said."""
    found = []
    for done in range(total + 1):
        now = start + done * seconds_each
        if line := pace.format_line(Progress(what, done, total), now):
            found.append((now, done, line))
    return found


@given(st.integers(1, 400), st.floats(0.01, 500), st.floats(0, 1e6))
def test_what_is_left_of_an_even_step_is_told_within_a_half(total: int, each: float, start: float) -> None:
    lines = told(ProgressLog(start), "answers", total, each, start)
    times = [start, *(when for when, _, _ in lines)]
    assert all(later - sooner >= LOG_INTERVAL for sooner, later in pairwise(times))
    for _, done, line in lines:
        found = LINE.fullmatch(line)
        assert found, line
        assert int(found[2]) == 100 * done // total
        left = (total - done) * each
        assert left / 1.5 - 1 <= int(found[3]) * UNITS[found[4]] <= 1.5 * left + 1


def test_nothing_is_said_of_what_is_over_at_once() -> None:
    assert told(ProgressLog(0), "answers", 100, 0.2, 0) == []


def test_nothing_is_said_at_the_end() -> None:
    pace = ProgressLog(0)
    assert pace.format_line(Progress("answers", 1, 2), 0) is None
    assert pace.format_line(Progress("answers", 2, 2), 99) is None


def test_what_is_counted_next_has_a_pace_of_its_own() -> None:
    pace = ProgressLog(0)
    assert told(pace, "answers", 10, 5, 0)
    (when, done, line), *_ = told(pace, "verdicts", 10, 50, 100)
    assert (when, done, line) == (150, 1, "verdicts: 10 %, about 8 min left")


def test_a_count_that_begins_again_has_one_too() -> None:
    pace = ProgressLog(0)
    told(pace, "answers", 10, 1, 0)
    assert next(line for _, _, line in told(pace, "answers", 10, 40, 50)) == "answers: 10 %, about 6 min left"
