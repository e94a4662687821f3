"""What people see during a run and at its end, and what a program is told that folds its steps."""

import json

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.report.console import MARK_VARIABLE, Console


def test_a_log_has_the_step_its_end_and_no_mark(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().step("measure"):
        pass
    assert capsys.readouterr().err.splitlines() == ["measure ...", "measure: 0.0 s"]


def test_who_hands_over_a_mark_is_told_of_steps_and_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK_VARIABLE, "[mark]")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as workflows do; a log is no terminal for that
    talk = Console()
    with talk.step("measure"):
        talk.print("inside")
    with pytest.raises(ZeroDivisionError), talk.step("fail"):
        _ = 1 / 0
    talk.print_error(ConfigurationError("the thing\n::error::x", hint="what next \u2028 \ud800"))
    lines = capsys.readouterr().err.splitlines()
    told = [line.removeprefix("[mark]").partition(" ") for line in lines if line.startswith("[mark]")]
    assert [(what, json.loads(words)) for what, _, words in told] == [
        ("begin", "measure"),
        ("end", ""),
        ("begin", "fail"),
        ("end", ""),
        ("error", "the thing\n::error::x"),
        ("hint", "what next \u2028 \ud800"),
    ]
    assert [line for line in lines if not line.startswith("[mark]")] == ["inside", "measure: 0.0 s"]
    assert list(talk.seconds) == ["measure"]


def test_what_is_said_moves_no_cursor_and_turns_no_text_round(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print("\x1b[2Jclear \u202eturned :bug:\r\nand a \x9b31mnext line")
    assert capsys.readouterr().err == "\ufffd[2Jclear \ufffdturned :bug: \nand a \ufffd31mnext line\n"
