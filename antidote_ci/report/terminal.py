"""What a terminal shows of a report, a plan and a calibration: lines, and what rich draws. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from antidote_ci.records import Calibration, LayerDrift, Rate, RepairPlan, Report
from antidote_ci.report import judges, pairs, plans, rows, statements
from antidote_ci.report.text import flatten, format_interval, format_percent

LABEL_WIDTH = 11
RAMP = ".:-=+*#%@"
"""From light to dark, where there are no colours."""
HEAT = tuple(f"rgb({255 - 13 * step},{240 - 24 * step},{220 - 22 * step})" for step in range(11))
"""From light to dark, as a terminal's background."""


def show_comparison(report: Report) -> Iterator[RenderableType]:
    """The models of a run side by side, then what two judges and the pairs of answers say."""
    models = [
        (
            f"{row.label} {row.by}".rstrip(),
            format_percent(row.score)
            + ("" if row.corrected is None else f"\n{format_percent(row.corrected)} corrected"),
            row.bounds_text,
            *map(format_percent, (row.task_accuracy, row.over_refusal, row.degenerate)),
            row.against,
        )
        for row in rows.comparison_rows(report)
    ]
    bounds = judges.format_bounds_heading(report.evaluations)
    shares = ("Task accuracy", "Over-refusal", "Degenerate")
    yield from _build_table(("Model", rows.measure_name(report), bounds, *shares, "Threshold"), models)
    readings = [
        (each.model, each.judge, each.measure, each.score, each.corrected, each.bounds, each.against)
        for each in judges.judge_rows(report.evaluations)
    ]
    yield from _build_table(("Model", "Judge", "Measure", "Score", "Corrected", bounds, "Threshold"), readings)
    if disagreement := judges.describe_disagreement(report.evaluations):
        yield disagreement
    compared = [
        (each.what, each.only_before, each.only_after, each.p_value, each.rise, each.rise_bound, each.limit)
        for each in pairs.paired_rows(report)
    ]
    yield from _build_table(
        ("Prompt by prompt", "Only before", "Only after", "p", "Rise, points", "95 % bound", "Limit"), compared
    )
    for label, value in pairs.distance_rows(report) + rows.change_rows(report.repair):
        yield f"{label}: {flatten(value)}"
    for rival in statements.rival_controls(report):
        yield flatten(rival)


def show_plan(planned: RepairPlan) -> Iterator[RenderableType]:
    """What a repair will do, and how far fine-tuning moved each layer."""
    for label, value in plans.plan_rows(planned):
        yield f"{label:<{LABEL_WIDTH}}{value}"
    if planned.drift:
        yield DriftStrip(planned.drift)
        yield f"{'':<{LABEL_WIDTH}}{plans.drift_legend(planned.drift)}"


@dataclass(frozen=True)
class DriftStrip:
    """Drift, one cell a layer: shades of a colour, or characters where there are none."""

    layers: Sequence[LayerDrift]

    def __rich_console__(self, console: RichConsole, _options: ConsoleOptions) -> RenderResult:
        """The strip, as that console can show it."""
        colours = console.color_system is not None and not console.no_color
        shades = HEAT if colours else RAMP
        strip = Text(f"{'drift':<{LABEL_WIDTH}}")
        for level in plans.drift_levels(self.layers, len(shades)):
            strip.append(*((" ", f"on {shades[level]}") if colours else (shades[level],)))
        yield strip


def show_calibration(found: Calibration) -> Iterator[RenderableType]:
    """A judge's worth, with its bounds, by category."""
    kinds: list[tuple[str, Sequence[Rate | None]]] = [("all", (found.positives, found.negatives))]
    # Where no row has a category, they are all of one without a name.
    if any(found.categories):
        kinds += [(name or "no category", rates) for name, rates in found.categories.items()]
    shares = ("Sensitivity", "95 % bounds", "n", "Specificity", "95 % bounds", "n")
    yield from _build_table((found.judge.name, *shares), [(name, *_rate_cells(rates)) for name, rates in kinds])
    yield f"balanced accuracy {format_percent(found.balanced_accuracy)}, unparsed {found.unparsed} of {found.n}"


def _rate_cells(rates: Sequence[Rate | None]) -> list[str]:
    return [
        cell
        for each in rates
        for cell in (
            (format_percent(each.share), format_interval(each.bounds), str(each.n)) if each else ("-", "-", "0")
        )
    ]


def _build_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[Table]:
    """Nothing where there are no lines. Names come from strangers: they are text, never console markup."""
    if not lines:
        return
    table = Table(box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
    for line in lines:
        table.add_row(*(Text("\n".join(map(flatten, cell.split("\n")))) for cell in line))
    yield table
