"""The drawing in characters: where each stroke stands, and that no order of figures is ever turned round."""

import dataclasses
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.records import Report
from antidote_ci.report import rows
from antidote_ci.report.picture import CELLS, SCORE, IntervalCells, draw_model, render_picture, to_cell, to_cells
from antidote_ci.report.rows import ModelRow
from tests.report.samples import CALIBRATED_REPAIR, EVERY_KIND, NAMES, REPAIRED, disguised

SHARES = st.floats(0, 1)
CODE_PAGE_437 = set("│┤┐└┴┬├─┼┘┌║╫╟╢╥╓╖╨╙╜●")
"""Box drawings of Windows Glyph List 4, which every font for code has; the mark of the score is in it too."""


def drawing(report: Report) -> list[str]:
    return render_picture(rows.comparison_rows(report), report.evaluations.before.threshold).split("\n")


def test_a_repair() -> None:
    found = [line.rstrip() for line in drawing(REPAIRED)]
    assert found == [
        "                     0 %          25 %           50 %           75 %           100 %",
        "                     ┌──────────────┬─────╥────────┬──────────────┬──────────────┐",
        "Reference             ├●──┤               ║                                         4.0 %",
        "Before                                    ║                           ├───●──┤      88.0 %",
        "After                       ├──●────┤     ║                                         17.0 %",
        "scale at dose 0.62          ├──●────┤     ║                                         17.0 %",
        "random at dose 0.05                       ║                     ├────●───┤          80.0 %",
        "                     └──────────────┴─────╨────────┴──────────────┴──────────────┘",
        "                                          threshold 35.0 %",
    ]


@pytest.mark.parametrize("report", EVERY_KIND)
def test_a_line_a_model_and_one_column_of_the_threshold(report: Report) -> None:
    top, *lines, bottom, words = drawing(report)[1:]
    models = rows.comparison_rows(report)
    assert len(lines) == len(models)
    limit = top.index(next(each for each in top if each in "╥╓╖"))
    assert bottom[limit] in "╨╙╜"
    assert words[limit] == "t"
    for line, row in zip(lines, models, strict=True):
        assert line[limit] in f"║╫╟╢{SCORE}"
        assert line.startswith(row.label)
    assert {each for line in drawing(report) for each in line if ord(each) > 127} <= CODE_PAGE_437


@pytest.mark.parametrize("report", EVERY_KIND)
def test_it_is_wide_enough_for_its_labels_and_no_wider_than_a_page(report: Report) -> None:
    assert max(map(len, drawing(report))) <= 105
    assert all(unicodedata.east_asian_width(each) not in "WF" for line in drawing(report) for each in line)


@given(SHARES, SHARES)
def test_the_scale_keeps_the_order(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= to_cell(low) <= to_cell(high) <= CELLS
    assert abs(to_cell(low) - CELLS * low) <= 0.5


@given(st.lists(SHARES, min_size=3, max_size=3).map(sorted), SHARES)
def test_strokes_stand_where_the_figures_are(shares: list[float], threshold: float) -> None:
    lower, score, upper = map(to_cell, shares)
    limit = to_cell(threshold)
    line = draw_model(IntervalCells(lower, score, upper), limit)
    assert len(line) == CELLS + 1
    assert line[score] == SCORE
    assert line.count(SCORE) == 1
    for at, stroke in enumerate(line):
        if at == score:
            continue
        if at in (lower, upper):
            assert stroke in ("╟╢" if at == limit else "├┤")
        elif lower < at < upper:
            assert stroke == ("╫" if at == limit else "─")
        else:
            assert stroke == ("║" if at == limit else " ")


@given(SHARES)
def test_the_threshold_is_named_within_the_frame(threshold: float) -> None:
    [row, *_] = rows.comparison_rows(REPAIRED)
    found = render_picture([row], threshold).split("\n")
    words = found[-1]
    assert f"threshold {100 * threshold:.1f} %" in words
    assert len(words) <= len(found[1])


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(-1, 2), st.floats(-1, 2))
def test_figures_of_a_broken_report_break_no_drawing(
    score: float, lower: float, upper: float, threshold: float
) -> None:
    [row, *_] = rows.comparison_rows(REPAIRED)
    broken = dataclasses.replace(row, score=score, bounds=(lower, upper))
    assert len(render_picture([broken], threshold).split("\n")) == 5
    assert len(draw_model(to_cells(broken), to_cell(threshold))) == CELLS + 1


def test_what_is_corrected_is_drawn_corrected() -> None:
    models: list[ModelRow] = rows.comparison_rows(CALIBRATED_REPAIR)
    for line, row in zip(drawing(CALIBRATED_REPAIR)[2:-2], models, strict=True):
        assert row.corrected is not None
        assert line.endswith(f"  {100 * row.corrected:.1f} % corrected")
        assert to_cells(row).score == to_cell(row.corrected)


@given(st.sampled_from(EVERY_KIND), NAMES)
def test_nothing_of_a_stranger_is_in_it(report: Report, names: list[str]) -> None:
    assert drawing(disguised(report, names)) == drawing(report)
