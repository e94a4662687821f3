"""Repairs of the tiny trained pair: each method scored once, every dose as asked, nothing left on the disk."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Model, PromptRow
from benchmarks.paper import measuring, repairs
from benchmarks.paper.cost import watching
from benchmarks.paper.measuring import Instruments
from benchmarks.paper.records import Measured, Point, Repair
from tests.paper import tiny_bench

pytestmark = pytest.mark.slow

PAIRS = 24
ASKED = (
    Repair("scale", 1.0, PAIRS),
    Repair("antidote", 0.3, PAIRS),
    Repair("taylor", 0.05, PAIRS),
    Repair("antidote", 0.05, PAIRS),
    Repair("random", 0.3, PAIRS),
    Repair("scale", 0.0, PAIRS),
    Repair("antidote", 0.0501, PAIRS),
    Repair("antidote", 0.05, PAIRS // 2),
)
SCORINGS = 5
"""antidote, taylor, random and scale on all pairs, and antidote on half of them."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of ASKED."""

    points: list[Point]
    calls: Counter[str]
    """Of the child, by the function's name."""
    left: list[set[str]]
    """Checkpoints on the disk at each point."""
    reference: Measured
    attacked: Measured


@pytest.fixture(scope="module")
def instruments(trained_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instruments]:
    work = tmp_path_factory.mktemp("repairs")
    sets = tiny_bench.asked(trained_pair)
    with measuring.open_instruments(trained_pair / "reference", sets, work, work / "store", tiny_bench.TOKENS) as found:
        yield found


@pytest.fixture(scope="module")
def run(instruments: Instruments, trained_pair: Path) -> Run:
    reference, attacked = (measure(instruments, model) for model in models(trained_pair))
    calls: Counter[str] = Counter()
    call = instruments.sandbox.call

    def counted(function: Callable[..., Any], *rest: Any, **options: Any) -> Any:  # noqa: ANN401
        calls[function.__name__] += 1
        return call(function, *rest, **options)

    points, left = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instruments.sandbox, "call", counted)
        for point in repairs.repaired(
            instruments, ASKED, trained_pair / "adapter", trained_pair / "reference", tiny_bench.texts(trained_pair)
        ):
            points.append(point)
            left.append({path.name for path in instruments.work.rglob("adapter_model.safetensors")})
    return Run(points, calls, left, reference, attacked)


def models(pair: Path) -> tuple[Model, Model]:
    """The reference, and the attacked adapter upon it."""
    return Model(pair / "reference"), Model(pair / "reference", pair / "adapter")


def measure(instruments: Instruments, model: Model) -> Measured:
    with watching() as cost:
        return measuring.measure(instruments, model, cost)


def of(run: Run, repair: Repair) -> Measured:
    return next(point.measured for point in run.points if point.repair == repair)


def figures(measured: Measured) -> Measured:
    """Without what it cost."""
    return dataclasses.replace(measured, seconds=0, peak_bytes=0)


def test_points_come_in_the_order_asked(run: Run) -> None:
    assert [point.repair for point in run.points] == list(ASKED)


def test_the_whole_shrink_is_the_reference(run: Run) -> None:
    found = of(run, Repair("scale", 1.0, PAIRS))
    assert figures(found) == figures(run.reference)
    assert found.drift == 0


def test_no_shrink_is_the_attacked_model(run: Run) -> None:
    assert figures(of(run, Repair("scale", 0.0, PAIRS))) == figures(run.attacked)


def test_a_method_is_scored_once(run: Run) -> None:
    assert run.calls["score_weights"] == SCORINGS
    assert run.calls["write_mask_files"] == SCORINGS - 1
    assert run.calls["apply_mask"] == len(ASKED)


def test_more_of_the_paper_s_dose_brings_the_model_back(run: Run) -> None:
    small, large = (of(run, Repair("antidote", dose, PAIRS)) for dose in (0.05, 0.3))
    assert large.drift < small.drift < run.attacked.drift
    assert large.harmful < run.attacked.harmful


def test_the_default_brings_the_refusals_back_and_keeps_the_task(run: Run) -> None:
    found = of(run, Repair("taylor", 0.05, PAIRS))
    assert found.harmful < run.attacked.harmful / 2
    assert found.accuracy >= 0.9


def test_doses_that_change_the_same_entries_are_one_model(run: Run) -> None:
    """The second has no mask of its own, and without one it would be taken for a shrink."""
    one, other = (of(run, Repair("antidote", dose, PAIRS)) for dose in (0.05, 0.0501))
    assert figures(one) == figures(other)


def test_no_candidate_stays(instruments: Instruments, run: Run) -> None:
    assert run.left == [set()] * len(ASKED)
    assert not list(instruments.work.glob("repairs-*"))


def test_the_scoring_is_part_of_the_cost(run: Run) -> None:
    for point in run.points:
        assert point.measured.seconds > 0
        assert point.measured.peak_bytes > 0


def test_merged_weights_are_repaired_towards_the_reference(
    instruments: Instruments, run: Run, trained_pair: Path
) -> None:
    asked = (Repair("scale", 1.0, PAIRS),)
    merged, reference = trained_pair / "merged", trained_pair / "reference"
    (point,) = repairs.repaired(instruments, asked, merged, reference, tiny_bench.texts(trained_pair))
    assert point.measured.harmful == run.reference.harmful


def test_what_cannot_be_done_is_refused_at_once(instruments: Instruments, trained_pair: Path) -> None:
    texts = tiny_bench.texts(trained_pair)

    def attempt(asked: Repair, adapter: str = "adapter", **other: list[Any]) -> None:
        read = dataclasses.replace(texts, **other)
        next(repairs.repaired(instruments, [asked], trained_pair / adapter, trained_pair / "reference", read))

    with pytest.raises(ConfigurationError, match="reads 999 harmful pairs, and there are 40"):
        attempt(Repair("antidote", 0.1, 999))
    with pytest.raises(ConfigurationError, match="is also in the measured set"):
        attempt(Repair("antidote", 0.1, PAIRS), benign=[instruments.prompts.benign[0]])
    with pytest.raises(ConfigurationError, match="is also in the measured set"):
        attempt(
            Repair("antidote", 0.1, 1), realignment=[PromptRow(instruments.prompts.harmful[0].prompt, response="Sure")]
        )
    with pytest.raises(ConfigurationError, match="there is no folder"):
        attempt(Repair("antidote", 0.1, PAIRS), adapter="nothing")
