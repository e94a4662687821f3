"""Terminal output for a report, a plan and a calibration."""

from dataclasses import replace
from io import StringIO

import pytest
import rich.console

from antidote_ci.records import RepairPlan, Report, ReportedSource
from antidote_ci.report import tables, terminal
from antidote_ci.report.console import Console
from tests.report.samples import CALIBRATED_REPAIR, CALIBRATION, EVERY_KIND, REPAIRED, TWO_JUDGES, disguised


@pytest.mark.parametrize("report", EVERY_KIND)
def test_tables_show_every_model_on_stderr(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_report(report))
    output = capsys.readouterr()
    assert output.out == ""
    assert ("After" in output.err) == (report.evaluations.after is not None)


def test_comparison_shows_judges_and_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_report(TWO_JUDGES))
    Console().show(terminal.show_report(CALIBRATED_REPAIR))
    output = capsys.readouterr().err
    for text in ("qwen3guard", "tested 3.1 %", "Refusals of harmless prompts", "+10.3", "Perplexity ratio: 1.043"):
        assert text in output


@pytest.mark.parametrize("width", [100, 80, 60, 40, 20])
def test_no_figure_is_cut_in_a_narrow_terminal(width: int) -> None:
    output = StringIO()
    console = rich.console.Console(file=output, width=width)
    for part in terminal.show_report(REPAIRED):
        if not isinstance(part, str):
            console.print(part)
    text = output.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for row in tables.model_rows(REPAIRED):
        assert row.bounds_text in words


def test_names_are_not_console_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(terminal.show_report(disguised(TWO_JUDGES, ["[red]x[/red] [/]"] * 8)))
    assert "[red]x[/red]" in capsys.readouterr().err


def test_categories_of_a_labels_file_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    rates = CALIBRATION.categories["Fraud"]
    Console().show(
        terminal.show_calibration(replace(CALIBRATION, categories=dict.fromkeys(["[/b]", "\x1b[2Jclear", ""], rates)))
    )
    output = capsys.readouterr().err
    assert all(text in output for text in ("[/b]", "\ufffd[2Jclear", "no category", "91.0 %"))


def test_calibration_without_categories_has_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    rates = (CALIBRATION.positives, CALIBRATION.negatives)
    Console().show(terminal.show_calibration(replace(CALIBRATION, categories={"": rates})))
    assert capsys.readouterr().err.count("91.0 %") == 1


def test_a_plan_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    plan = RepairPlan(
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
        notes=[],
    )
    Console().show(terminal.show_plan(plan))
    output = capsys.readouterr()
    assert output.out == ""
    assert "[red]stranger[/red]/model" in output.err
