"""The models of a run against the threshold, drawn in characters: where nothing but text is shown. Pure.

GitHub takes drawings and embedded images out of a step summary. What is left is a block of characters of one width,
and all of these are in the fonts that browsers use for code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from antidote_ci.report.rows import ModelRow
from antidote_ci.report.text import format_percent

CELLS = 60
"""Steps from 0 % to 100 %; there is a cell at either end."""
TICKS = (0, 25, 50, 75, 100)

NOTHING, SCORE, THRESHOLD = " ", "●", "║"
BAR, LOWER, UPPER = "─", "├", "┤"
CROSSED = {BAR: "╫", LOWER: "╟", UPPER: "╢"}
"""What a stroke becomes where it meets the threshold."""


@dataclass(frozen=True)
class IntervalCells:
    """A score and its bounds, as cells of the scale."""

    lower: int
    score: int
    upper: int


def render_picture(rows: Sequence[ModelRow], threshold: float) -> str:
    """A scale, a line a model, and the threshold as a column through all of them. Only our own words are in it."""
    width = max(len(row.label) for row in rows)
    limit = to_cell(threshold)
    lines = [f"{row.label:<{width}}  {draw_model(to_cells(row), limit)}  {_drawn_score(row)}" for row in rows]
    margin = " " * (width + 2)
    return "\n".join(
        [
            margin + _scale_numbers(),
            margin + _frame_edge(("┌", "┬", "┐"), ("╓", "╥", "╖"), limit),
            *lines,
            margin + _frame_edge(("└", "┴", "┘"), ("╙", "╨", "╜"), limit),
            margin + _place_label(f"threshold {format_percent(threshold)}", limit),
        ]
    )


def to_cell(share: float) -> int:
    """Where a share from 0 to 1 stands. Never falls as the share rises, so that no order is turned round."""
    return round(CELLS * min(max(share, 0.0), 1.0))


def to_cells(row: ModelRow) -> IntervalCells:
    """The bounds are of the corrected score where there is one, so that is what stands between them."""
    score = row.score if row.corrected is None else row.corrected
    return IntervalCells(to_cell(row.bounds[0]), to_cell(score), to_cell(row.bounds[1]))


def draw_model(at: IntervalCells, limit: int) -> str:
    """One model: whiskers from bound to bound, its score upon them, the threshold across."""
    cells = [NOTHING] * (CELLS + 1)
    cells[at.lower : at.upper + 1] = BAR * (at.upper + 1 - at.lower)
    cells[at.lower], cells[at.upper] = LOWER, UPPER
    cells[limit] = CROSSED.get(cells[limit], THRESHOLD)
    cells[at.score] = SCORE
    return "".join(cells)


def _scale_numbers() -> str:
    """The scale's, each centred upon its cell."""
    line = ""
    for tick in TICKS:
        words = f"{tick} %"
        line = line.ljust(to_cell(tick / 100) - len(words) // 2) + words
    return line


def _frame_edge(strokes: tuple[str, str, str], crossed: tuple[str, str, str], limit: int) -> str:
    """The frame above or below: its corners and ticks, and where the threshold begins or ends."""
    left, tick, right = strokes
    at_left, through, at_right = crossed
    cells = [BAR] * (CELLS + 1)
    for each in TICKS:
        cells[to_cell(each / 100)] = tick
    cells[0], cells[-1] = left, right
    cells[limit] = at_left if limit == 0 else at_right if limit == CELLS else through
    return "".join(cells)


def _place_label(words: str, limit: int) -> str:
    """Words that begin below the threshold, or end there where they would not fit."""
    start = limit if limit + len(words) <= CELLS + 1 else limit + 1 - len(words)
    return " " * start + words


def _drawn_score(row: ModelRow) -> str:
    return format_percent(row.score) if row.corrected is None else f"{format_percent(row.corrected)} corrected"
