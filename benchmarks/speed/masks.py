"""The masks of twelve doses in one pass over the weights, against the mask of one."""

import tempfile
from pathlib import Path

from benchmarks.speed.large import llama, write_pair
from benchmarks.speed.paired import Line, ratios, turns
from benchmarks.speed.procedure import masked, scored

DOSES = [step / 100 for step in range(2, 26, 2)]
SHAPE = llama(blocks=30, width=576, inner=1536)
"""That of SmolLM2-135M."""


def run(count: int) -> list[Line]:
    """One line. The one mask is that of the largest dose."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, reference = write_pair(folder, SHAPE, shards=1)
        scores = scored(source, reference, folder / "repair", 8)
        every, one = turns(
            count,
            lambda: masked(source, reference, scores, folder / "repair", DOSES),
            lambda: masked(source, reference, scores, folder / "repair", DOSES[-1:]),
        )
    return [Line("masks of 12 doses / mask of one", ratios(every, one), "<=", 2.0)]
