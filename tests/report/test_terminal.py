"""What a terminal shows of a report, a plan and a calibration."""

from dataclasses import replace

import pytest

from antidote_ci.records import LayerDrift, RepairPlan, Report, ReportedSource
from antidote_ci.report import terminal
from antidote_ci.report.console import Console
from antidote_ci.report.terminal import HEAT, RAMP
from tests.report.samples import CALIBRATED_REPAIR, CALIBRATION, EVERY_KIND, TWO_JUDGES, disguised


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_tables_show_every_model_and_leave_stdout_alone(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_comparison(report))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("After" in shown.err) == (report.evaluations.after is not None)


def test_two_judges_and_the_pairs_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_comparison(TWO_JUDGES))
    Console().show(terminal.show_comparison(CALIBRATED_REPAIR))
    shown = capsys.readouterr().err
    for words in ("qwen3guard", "tested 3.1 %", "Harmless prompts refused", "+10.3", "Perplexity ratio: 1.043"):
        assert words in shown


def test_names_are_no_console_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_comparison(disguised(TWO_JUDGES, ["[red]x[/red] [/]"] * 8)))
    assert "[red]x[/red]" in capsys.readouterr().err


def test_a_category_of_a_labels_file_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    rates = CALIBRATION.categories["Fraud"]
    Console().show(
        terminal.show_calibration(replace(CALIBRATION, categories=dict.fromkeys(["[/b]", "\x1b[2Jclear", ""], rates)))
    )
    shown = capsys.readouterr().err
    assert all(words in shown for words in ("[/b]", "\ufffd[2Jclear", "no category", "91.0 %"))


def test_without_categories_a_judge_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    whole = (CALIBRATION.positives, CALIBRATION.negatives)
    Console().show(terminal.show_calibration(replace(CALIBRATION, categories={"": whole})))
    assert capsys.readouterr().err.count("91.0 %") == 1


def planned(*drift: float) -> RepairPlan:
    return RepairPlan(
        source=ReportedSource("[red]stranger[/red]/model", None, "full"),
        reference=None,
        method="antidote",
        target="delta",
        per="row",
        dose=0.1,
        effective_dose=0.125,
        tensors=[],
        left_alone=[],
        entries_covered=0,
        bytes_written=0,
        memory_bytes=0,
        seconds=0,
        drift=[LayerDrift(f"layers.{number}", each) for number, each in enumerate(drift)],
        notes=[],
    )


def test_drift_is_a_strip_of_characters_where_there_are_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_plan(planned(0.0, 0.1, 0.2)))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"drift      {RAMP[0]}{RAMP[len(RAMP) // 2]}{RAMP[-1]}\n" in shown.err
    assert "most in layers.2: 20.0 %" in shown.err
    assert "[red]stranger[/red]/model" in shown.err


def test_drift_is_a_strip_of_coloured_cells_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Console().show(terminal.show_plan(planned(0.0, 0.2)))
    shown = capsys.readouterr().err
    for colour in (HEAT[0], HEAT[-1]):
        numbers = colour.removeprefix("rgb(").removesuffix(")").replace(",", ";")
        assert f"\x1b[48;2;{numbers}m \x1b[0m" in shown


def test_no_drift_no_strip(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_plan(planned()))
    Console().show(terminal.show_plan(planned(0.0, 0.0)))
    assert capsys.readouterr().err.count("drift") == 1
