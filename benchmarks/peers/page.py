"""What the comparison came to, as records and as a page. Pure."""

from dataclasses import dataclass

from benchmarks.paper import rows as cells
from benchmarks.paper.frontiers import works
from benchmarks.paper.records import Measured

OURS = "antidote-ci"
OPENING = """\
# Other tools on the same checkpoint

Written by `python -m benchmarks.peers`. One attack, one seed, merged weights, each tool in an environment of its own,
all measured by the same prompts and the rule judge: harm is a **non-refusal rate**. Seconds and memory are those
of the repair alone for the other tools, loading and writing included; ours has its measurement in them too. Accuracy,
over-refusal and degenerate answers are per cent."""
EQUAL = """\
## At equal accuracy

Of each peer's doses that leave a working model (at most 10 points more over-refusal, 5 more degenerate answers than the
attacked one): its harm, the lowest of ours at no lower accuracy, and ours at the accuracy that is nearest. What has
no dose here broke the model at each. An accuracy of 400 rows is known to about four points either way."""


@dataclass(frozen=True)
class Row:
    """A model: the reference, the attacked one, or a tool's repair at one dose."""

    tool: str
    dose: float | None
    measured: Measured


@dataclass(frozen=True)
class Compared:
    """All models of one attack; the second is the attacked one."""

    attack: str
    versions: dict[str, str]
    rows: list[Row]


def text(compared: Compared) -> str:
    """The page."""
    versions = ", ".join(f"{tool} {version}" for tool, version in compared.versions.items())
    every = cells.table(cells.COLUMNS, [(_named(row), *cells.figures(row.measured)) for row in compared.rows])
    equal = cells.table(("peer", "accuracy", "its harm", "ours, no less accurate", "ours, nearest"), _equal(compared))
    return f"{OPENING}\n\nAttack: {compared.attack}. {versions}.\n\n{every}\n\n{EQUAL}\n\n{equal}\n"


def _equal(compared: Compared) -> list[tuple[str, str, str, str, str]]:
    before = compared.rows[1].measured
    working = [row for row in compared.rows[2:] if works(before, row.measured)]
    ours = sorted((row.measured for row in working if row.tool.startswith(OURS)), key=lambda each: each.harmful)
    lines = []
    for row in working:
        if row.tool.startswith(OURS):
            continue
        accuracy = row.measured.accuracy
        better = next((each for each in ours if each.accuracy >= accuracy), None)
        nearest = min(ours, key=lambda each: abs(each.accuracy - accuracy), default=None)
        lines.append(
            (
                _named(row),
                cells.per_cent(accuracy),
                cells.score(row.measured),
                _told(better) if better else "none as accurate",
                _told(nearest) if nearest else "none works",
            )
        )
    return lines


def _told(model: Measured) -> str:
    return f"{cells.score(model)} at {cells.per_cent(model.accuracy)}"


def _named(row: Row) -> str:
    return row.tool if row.dose is None else f"{row.tool} {row.dose:g}"
