"""How the cost of scoring and applying grows: twice the layers, the samples, the shards."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.speed.large import llama, write_pair
from benchmarks.speed.paired import Line, ratios, turns
from benchmarks.speed.procedure import BUDGET, repaired

SHAPE, SHARDS = llama(blocks=10, width=576, inner=1536), 2
ROWS = 48


def run(count: int) -> list[Line]:
    """Three lines. Twice the layers is nearly twice the weights; twice the shards leaves the bytes as they are."""
    variants = {
        "plain": (SHAPE, SHARDS, ROWS),
        "2x layers": (replace(SHAPE, blocks=2 * SHAPE.blocks), SHARDS, ROWS),
        "2x samples": (SHAPE, SHARDS, 2 * ROWS),
        "2x shards": (SHAPE, 2 * SHARDS, ROWS),
    }
    with tempfile.TemporaryDirectory() as name:
        works = []
        for variant, (shape, shards, rows) in variants.items():
            folder = Path(name) / variant
            folder.mkdir()
            pair = write_pair(folder, shape, shards)
            works.append(lambda pair=pair, folder=folder, rows=rows: afresh(pair, folder, rows))
        plain, *grown = turns(count, *works)
    names = list(variants)[1:]
    return [Line(f"growth: {name}", ratios(times, plain), "<=", 2.1) for name, times in zip(names, grown, strict=True)]


def afresh(pair: tuple[Path, Path], folder: Path, rows: int) -> None:
    """A repair that finds nothing done."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    repaired(*pair, folder / "out", rows, BUDGET)
