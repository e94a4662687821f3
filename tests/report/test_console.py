"""Steps, errors and progress of a command on stderr, and the marks that the GitHub Action reads."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Progress
from antidote_ci.report.console import LOG_INTERVAL, MARK_VARIABLE, Console, ProgressLog

SECONDS = {"s": 1, "min": 60, "h": 3600}
PROGRESS_LINE = re.compile(r"(\w+): (\d+) %, about (\d+) (s|min|h) left")


def test_a_step_in_a_log_has_a_begin_and_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().step("measure"):
        pass
    assert capsys.readouterr().err.splitlines() == ["measure ...", "measure: 0.0 s"]


def test_steps_and_errors_are_marked_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK_VARIABLE, "[mark]")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as workflows do; it does not make a log a terminal
    console = Console()
    with console.step("measure"):
        console.print("inside")
    with pytest.raises(ZeroDivisionError), console.step("fail"):
        _ = 1 / 0
    console.print_error(ConfigurationError("the thing\n::error::x", hint="what next \u2028 \ud800"))
    lines = capsys.readouterr().err.splitlines()
    marked = [line.removeprefix("[mark]").partition(" ") for line in lines if line.startswith("[mark]")]
    assert [(event, json.loads(text)) for event, _, text in marked] == [
        ("begin", "measure"),
        ("end", ""),
        ("begin", "fail"),
        ("end", ""),
        ("error", "the thing\n::error::x"),
        ("hint", "what next \u2028 \ud800"),
    ]
    assert [line for line in lines if not line.startswith("[mark]")] == ["inside", "measure: 0.0 s"]
    assert list(console.seconds) == ["measure"]


def test_printed_text_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print("\x1b[2Jclear \u202eturned :bug:\r\nand a \x9b31mnext line")
    assert capsys.readouterr().err == "\ufffd[2Jclear \ufffdturned :bug: \nand a \ufffd31mnext line\n"


def list_lines(
    log: ProgressLog, what: str, total: int, seconds_per_item: float, start: float
) -> list[tuple[float, int, str]]:
    """The lines of a step of constant speed: time, number of items done, and text."""
    lines = []
    for done in range(total + 1):
        now = start + done * seconds_per_item
        if line := log.format_line(Progress(what, done, total), now):
            lines.append((now, done, line))
    return lines


@given(st.integers(1, 400), st.floats(0.01, 500), st.floats(0, 1e6))
def test_the_remaining_time_of_a_constant_speed_is_within_a_half(
    total: int, seconds_per_item: float, start: float
) -> None:
    lines = list_lines(ProgressLog(start), "answers", total, seconds_per_item, start)
    times = [start, *(time for time, _, _ in lines)]
    assert all(later - earlier >= LOG_INTERVAL for earlier, later in pairwise(times))
    for _, done, line in lines:
        match = PROGRESS_LINE.fullmatch(line)
        assert match, line
        assert int(match[2]) == 100 * done // total
        left = (total - done) * seconds_per_item
        assert left / 1.5 - 1 <= int(match[3]) * SECONDS[match[4]] <= 1.5 * left + 1


def test_a_short_step_and_the_end_of_a_step_have_no_line() -> None:
    assert list_lines(ProgressLog(0), "answers", 100, 0.2, 0) == []
    log = ProgressLog(0)
    assert log.format_line(Progress("answers", 1, 2), 0) is None
    assert log.format_line(Progress("answers", 2, 2), 99) is None


@pytest.mark.parametrize("what", ["verdicts", "answers"])
def test_the_estimate_starts_anew_with_another_count(what: str) -> None:
    log = ProgressLog(0)
    list_lines(log, "answers", 10, 1, 0)
    assert list_lines(log, what, 10, 50, 100)[0] == (150, 1, f"{what}: 10 %, about 8 min left")
