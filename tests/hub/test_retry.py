"""The retry policy, with a simulated clock."""

import logging
import re
from collections.abc import Callable
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.formatting import format_duration
from antidote_ci.hub.client import requested_wait
from antidote_ci.hub.retry import MAX_DELAY, MAX_DOUBLINGS, RetryPolicy
from tests.hub.hub_samples import Clock

NOW = 1_700_000_000


class Passing(Exception):
    """A transient error."""


def patient(clock: Clock, seconds: float, draws: list[float] | None = None) -> RetryPolicy:
    left = list(draws or [])
    return RetryPolicy(seconds, clock, clock.sleep, lambda: left.pop(0) if left else 0.5)


def failing(times: int, clock: Clock, lasting: float = 0.0) -> tuple[Callable[[], str], list[float]]:
    """A function that fails `times` times, and the list of its start times."""
    begun: list[float] = []

    def attempt() -> str:
        begun.append(clock.now)
        clock.now += lasting
        if len(begun) <= times:
            raise Passing(f"failure {len(begun)}")
        return "answer"

    return attempt, begun


def wait(seconds: float) -> Callable[[Exception], float | None]:
    return lambda error: seconds if isinstance(error, Passing) else None


@given(times=st.integers(0, 12), draws=st.lists(st.floats(0, 1, exclude_max=True), max_size=12))
def test_success_after_failures(times: int, draws: list[float]) -> None:
    clock = Clock()
    attempt, begun = failing(times, clock)
    assert patient(clock, 1e6, draws).call(attempt, wait(0.0)) == "answer"
    assert len(begun) == times + 1
    assert len(clock.slept) == times


def test_the_budget_starts_again_after_each_finished_part() -> None:
    clock = Clock()
    attempt, begun = failing(8, clock, lasting=50.0)
    assert patient(clock, 60.0).call(attempt, wait(0.0), count_finished=lambda: len(begun) // 2) == "answer"
    attempt, begun = failing(8, clock, lasting=50.0)
    with pytest.raises(Passing, match="failure 3"):
        patient(clock, 60.0).call(attempt, wait(0.0), count_finished=lambda: 1)


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20))
def test_jitter_is_full_and_bounded(draws: list[float]) -> None:
    clock = Clock()
    attempt, _ = failing(len(draws), clock)
    patient(clock, 1e9, draws).call(attempt, wait(0.0))
    for failure, (slept, draw) in enumerate(zip(clock.slept, draws, strict=True)):
        assert 0 <= slept <= min(MAX_DELAY, 2**failure)
        assert slept == draw * min(MAX_DELAY, 2 ** min(failure, MAX_DOUBLINGS))


@given(
    budget=st.floats(0, 1000),
    requested=st.floats(0, 300),
    lasting=st.floats(0, 30),
    draws=st.lists(st.floats(0, 1, exclude_max=True), max_size=40),
)
def test_no_attempt_starts_after_the_budget(
    budget: float, requested: float, lasting: float, draws: list[float]
) -> None:
    clock = Clock()
    attempt, begun = failing(2**30, clock, lasting)
    with pytest.raises(Passing) as raised:
        patient(clock, budget, draws).call(attempt, wait(requested))
    assert begun[-1] <= lasting + budget + 1e-6, "the budget starts with the first failure"
    assert all(slept >= requested for slept in clock.slept)
    assert str(raised.value) == f"failure {len(begun)}", "the last exception is raised"


@given(requested=st.floats(10.1, 1e9))
def test_requested_delay_above_the_budget_fails_at_once(requested: float) -> None:
    clock = Clock()
    attempt, begun = failing(2**30, clock)
    with pytest.raises(Passing) as raised:
        patient(clock, 10.0).call(attempt, wait(requested))
    assert (begun, clock.slept) == ([0.0], [])
    assert raised.value.__notes__ == [f"tried once, and the server asks to wait for {format_duration(requested)}"]


@given(times=st.integers(0, 5))
def test_other_exceptions_are_raised_at_once(times: int) -> None:
    clock = Clock()
    attempt, begun = failing(times, clock)

    def then_broken() -> str:
        attempt()
        raise KeyError("for good")

    with pytest.raises(KeyError) as raised:
        patient(clock, 1e6).call(then_broken, wait(0.0))
    assert len(begun) == times + 1
    assert not hasattr(raised.value, "__notes__")


def test_keyboard_interrupt_is_not_retried() -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        patient(clock, 1e6).call(interrupted, lambda _: 0.0)
    assert clock.slept == []


def test_last_exception_has_a_note_about_the_attempts() -> None:
    clock = Clock()
    attempt, begun = failing(2**30, clock)
    with pytest.raises(Passing) as raised:
        patient(clock, 600.0).call(attempt, wait(0.0))
    [note] = raised.value.__notes__
    assert note == f"tried {len(begun)} times in {format_duration(clock.now)}"
    assert re.fullmatch(r"tried \d+ times in (9|10) min", note)


def test_each_pause_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    attempt, _ = failing(2, clock)
    with caplog.at_level(logging.WARNING, "antidote_ci"):
        patient(clock, 600.0).call(attempt, wait(12.0), lambda _: "the Hub answered 503 about org/x")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        (
            "antidote_ci.hub.retry",
            f"the Hub answered 503 about org/x; retrying in 12 s, for at most {left} min more",
        )
        for left in (10, 10)
    ]


@given(seconds=st.integers(0, 10**6))
def test_retry_after_in_seconds_and_as_a_date(seconds: int) -> None:
    assert requested_wait({"Retry-After": str(seconds)}) == seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("antidote_ci.hub.client.time", SimpleNamespace(time=lambda: NOW))
        assert requested_wait({"Retry-After": formatdate(NOW + seconds, usegmt=True)}) == seconds
        assert requested_wait({"Retry-After": formatdate(NOW - seconds, usegmt=True)}) == 0


@given(text=st.text(max_size=30) | st.sampled_from(["²", "9" * 400, "-5", "Fri, 31 Dec 9999 23:59:59 -2359"]))
def test_invalid_headers_request_no_wait(text: str) -> None:
    for name in ("Retry-After", "RateLimit"):
        assert 0 <= requested_wait({name: text}) <= 1e12


def test_longer_requested_wait_counts() -> None:
    """The client obeys Retry-After after a 503, whatever RateLimit says."""
    assert requested_wait({"RateLimit": '"api";r=0;t=55', "Retry-After": "3"}) == 55
    assert requested_wait({"RateLimit": '"api";r=0;t=0', "Retry-After": "31536000"}) == 31536000
    assert requested_wait({"ratelimit": '"api";r=7;t=55', "Retry-After": "3"}) == 3
    assert requested_wait({}) == 0
