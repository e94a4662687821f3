"""What people see at the end of a run."""

import pytest

from antidote_ci.console import Talk
from antidote_ci.records import Report
from tests.report.samples import CALIBRATED_REPAIR, EVERY_KIND, TWO_JUDGES, disguised


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_tables_show_every_model_and_leave_stdout_alone(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    Talk().compare(report)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("After" in shown.err) == (report.evaluations.after is not None)


def test_two_judges_and_the_pairs_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Talk().compare(TWO_JUDGES)
    Talk().compare(CALIBRATED_REPAIR)
    shown = capsys.readouterr().err
    for words in ("qwen3guard", "tested 3.1 %", "Harmless prompts refused", "+10.3", "Perplexity ratio: 1.043"):
        assert words in shown


def test_names_are_no_console_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Talk().compare(disguised(TWO_JUDGES, ["[red]x[/red] [/]"] * 8))
    assert "[red]x[/red]" in capsys.readouterr().err
