"""Terminal output for a report, a repair plan and a calibration, as lines and rich renderables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from antidote_ci.formatting import format_interval, format_percent
from antidote_ci.records import Calibration, Rate, RepairPlan, Report
from antidote_ci.report import statements, tables
from antidote_ci.report.console import LOG_WIDTH
from antidote_ci.report.measures import BOUNDS_HEADING, measure_name
from antidote_ci.report.origins import FOUND_BY, full_name
from antidote_ci.report.text import flatten, format_number

LABEL_WIDTH = 11
DOSE_UNITS = {"row": "of each row", "tensor": "of each tensor", None: "of the whole difference"}


def show_report(report: Report) -> Iterator[RenderableType]:
    """Show the models side by side, then the results per judge and the paired comparison."""
    shares = ("Task accuracy", "Over-refusal", "Degenerate")
    headings = (measure_name(report), BOUNDS_HEADING, *shares, "Threshold")
    yield from build_table(("Model", *headings), model_cells(tables.model_rows(report)))
    if worst_kind := statements.describe_worst_kind(report):
        yield worst_kind
    yield from map(flatten, statements.describe_mode(report))
    judges = [
        (row.model, row.judge, row.measure, row.score, row.corrected, row.bounds, row.status)
        for row in tables.judge_rows(report.evaluations)
    ]
    yield from build_table(("Model", "Judge", "Measure", "Score", "Corrected", BOUNDS_HEADING, "Threshold"), judges)
    if disagreement := tables.describe_disagreement(report.evaluations):
        yield disagreement
    yield from build_paired_table(tables.paired_rows(report), ("before", "after"))
    for label, value in tables.distance_rows(report) + tables.change_rows(report.repair):
        yield f"{label}: {flatten(value)}"
    yield from build_table(("Sanity check", *headings), model_cells(tables.control_rows(report)))
    for label, sentence in statements.describe_controls(report):
        yield f"{flatten(label)}: {sentence}"
    yield from map(flatten, statements.list_matching_controls(report))
    if warning := statements.warn_of_weights(report):
        yield warning


def show_plan(plan: RepairPlan) -> Iterator[RenderableType]:
    """Show what a repair would do."""
    for label, value in _plan_rows(plan):
        yield f"{label:<{LABEL_WIDTH}}{flatten(value)}"


def show_calibration(calibration: Calibration) -> Iterator[RenderableType]:
    """Show a judge's sensitivity and specificity with their bounds, overall and by category."""
    groups: list[tuple[str, Sequence[Rate | None]]] = [("all", (calibration.positives, calibration.negatives))]
    # Labels without categories have one category, the empty string.
    if any(calibration.categories):
        groups += [(name or "no category", rates) for name, rates in calibration.categories.items()]
    headings = (calibration.judge.name, "Sensitivity", "95 % bounds", "n", "Specificity", "95 % bounds", "n")
    yield from build_table(headings, [(name, *_rate_cells(rates)) for name, rates in groups])
    accuracy = format_percent(calibration.balanced_accuracy)
    yield f"balanced accuracy {accuracy}, unparsed {calibration.unparsed} of {calibration.n}"


def build_paired_table(
    rows: Sequence[tables.PairedRow], names: Sequence[str], *, has_limit: bool = True
) -> "Iterator[_FittingTable]":
    """Yield the table of a paired comparison of the models with these names, or nothing without rows."""
    headings = ["Paired by prompt", *(f"Only {name}" for name in names), "p", "Rise, points", "95 % bound"]
    cells = [
        (row.name, row.only_before, row.only_after, row.p_value, row.rise, row.rise_bound, *((row.limit,) * has_limit))
        for row in rows
    ]
    yield from build_table([*headings, *(("Limit",) * has_limit)], cells)


def model_cells(rows: Sequence[tables.ModelRow]) -> list[tuple[str, ...]]:
    """Return the cells of models: name, score, bounds, task accuracy, over-refusal, degenerate answers and status."""
    return [
        (
            f"{row.label}, {row.judge}" if row.judge else row.label,
            format_percent(row.score)
            + ("" if row.corrected is None else f"\n{format_percent(row.corrected)} corrected"),
            row.bounds_text,
            *map(format_percent, (row.task_accuracy, row.over_refusal, row.degenerate)),
            row.status,
        )
        for row in rows
    ]


def _plan_rows(plan: RepairPlan) -> list[tuple[str, str]]:
    reference = "none"
    if plan.reference:
        reference = f"{full_name(plan.reference.id, plan.reference.revision)}, {FOUND_BY[plan.reference.found_by]}"
    scored = sum(tensor.entries for tensor in plan.tensors)
    effect = "" if plan.effective_dose == plan.dose else f", effective dose {format_number(plan.effective_dose)}"
    return [
        ("model", full_name(plan.source.id, plan.source.revision)),
        ("reference", reference),
        ("method", tables.METHODS[plan.method]),
        ("target", tables.TARGETS[plan.target]),
        ("dose", f"{format_number(plan.dose)} {DOSE_UNITS[plan.per]}{effect}"),
        ("changes", f"up to {plan.entries_covered:,} of {scored:,} weights, in {len(plan.tensors):,} tensors"),
        *(("left alone", f"{item.what} ({item.weights:,} weights): {item.why}") for item in plan.left_alone),
        ("write", f"{plan.bytes_written / 1e6:,.1f} MB"),
        ("memory", f"about {plan.memory_bytes / 1e6:,.1f} MB in addition to the libraries"),
        ("time", f"about {max(plan.seconds, 1):,.0f} s on two cores, less on a GPU"),
        *(("note", note) for note in plan.notes),
    ]


def _rate_cells(rates: Sequence[Rate | None]) -> list[str]:
    cells: list[str] = []
    for rate in rates:
        cells += (format_percent(rate.share), format_interval(rate.bounds), str(rate.n)) if rate else ("-", "-", "0")
    return cells


def build_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> "Iterator[_FittingTable]":
    """Yield a table, or nothing without rows. Cells are plain text, never console markup."""
    if rows:
        yield _FittingTable(headings, [["\n".join(map(flatten, cell.split("\n"))) for cell in row] for row in rows])


@dataclass(frozen=True)
class _FittingTable:
    """A table that loses no character in a narrow terminal: its rows become columns, or each cell becomes a line."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        lines = [self.headings, *self.rows]
        for heading, *rows in (lines, list(zip(*lines, strict=True))):
            table = Table(box=box.SIMPLE_HEAD)
            for index, text in enumerate(heading):
                table.add_column(Text(text), justify="right" if index else "left", no_wrap=True)
            for row in rows:
                table.add_row(*map(Text, row))
            if console.measure(table, options=options.update(width=LOG_WIDTH)).maximum <= options.max_width:
                yield table
                return
        for row in self.rows:
            yield Text(row[0])
            for text, cell in zip(self.headings[1:], row[1:], strict=True):
                yield Text(f"  {text}: {cell}".replace("\n", ", "))
