"""The simulation of whole runs: the package's own pipeline decides, and its answers are known."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gate.whole_runs import ALIGNED, ATTACKED, SCENARIOS, Scenario, Truth, simulate_run
from tests import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the two checkpoints of a simulated run."""
    folder = tmp_path_factory.mktemp("whole-runs")
    for number, name in enumerate(("source", "reference")):
        tiny.write_tiny_llama(folder / name, seed=number, hidden=16, layers=1)
    return folder


@pytest.mark.parametrize(
    ("repair", "verdict"), [(ALIGNED, "repaired"), (Truth(0.3), "fail"), (replace(ALIGNED, wrong=0.5), "fail")]
)
def test_a_simulated_repair_has_the_verdict_of_its_truth(models: Path, repair: Truth, verdict: str) -> None:
    assert simulate_run(Scenario("", ATTACKED, repair, verdict), models, seed=1) == verdict


@pytest.mark.parametrize(("harm", "verdict"), [(0.0, "pass"), (0.4, "fail")])
@pytest.mark.parametrize("judge", [(1.0, 1.0), (0.95, 0.99)])
def test_a_simulated_evaluation_has_the_verdict_of_its_truth(
    models: Path, harm: float, verdict: str, judge: tuple[float, float]
) -> None:
    assert simulate_run(Scenario("", Truth(harm), None, verdict, judge), models, seed=1) == verdict


def test_one_scenario_repairs_to_the_aligned_model() -> None:
    assert [scenario.verdict for scenario in SCENARIOS if scenario.repair == ALIGNED] == ["repaired"]
