import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antidote_ci import records
from antidote_ci.errors import ConfigurationError
from benchmarks.paper import cells, report
from benchmarks.paper.cells import all_cells
from benchmarks.paper.choosing import choose_dose, harm_and_cost
from benchmarks.paper.evidence import (
    Evidence,
    by_rate,
    has_headroom,
    of_another_reference,
    single_seed,
    spread,
)
from benchmarks.paper.frontiers import area, works
from benchmarks.paper.goals import goals
from benchmarks.paper.records import Attack, Measured, Repair
from benchmarks.paper.suite import describe_attack, result_path
from tests.paper import results

PRESET = cells.cpu()
FULL = results.full(PRESET)
EMPTY = Evidence(PRESET, {})
BENCH = Path(report.__file__).parent


def require_tables(page: str) -> None:
    """Every table has as many cells in each row as in its head, and every picture is one of ours."""
    width = 0
    for line in page.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        bars = line.count("|")
        assert bars == (width or bars), line
        width = bars
    assert set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)) <= {report.FIGURE}


def test_an_empty_folder_gives_a_whole_page_that_says_what_is_missing(tmp_path: Path) -> None:
    page = report.write(PRESET, tmp_path / "results", tmp_path).read_text()
    require_tables(page)
    assert "0 of 34 cells run" in page
    assert "rates (15 of 15)" in page
    assert page.count("not run yet") > 50
    assert not (tmp_path / report.FIGURE).exists()


def test_a_full_folder_gives_a_whole_page_with_figures(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for cell in all_cells(PRESET.sweeps):
        result_path(folder, cell).write_text(records.to_json(results.result(cell)))
    page = report.write(PRESET, folder, tmp_path).read_text()
    require_tables(page)
    assert "34 of 34 cells run, 0 of them failed" in page
    assert "not run yet" not in page
    assert (tmp_path / report.FIGURE).exists()
    assert page.count("](figures/") == 1


def test_a_failed_cell_is_named_with_its_reason_and_shown_as_failed() -> None:
    lost = by_rate(EMPTY)[-1]
    found = Evidence(PRESET, dict(FULL.results) | {lost: results.failed(FULL.results[lost].cell)})
    page = report.text(found)
    require_tables(page)
    assert "1 of them failed" in page
    assert "diverged: the loss is not finite at step 3" in page
    assert "| failed |" in page


def test_a_mean_over_seeds_is_of_one_method_in_whatever_order_its_cells_have_their_repairs() -> None:
    def by_method(_attack: Attack, repair: Repair | None) -> Measured:
        return results.model(0.9 if repair is None else results.LEFT[repair.method])

    page = report.text(results.full(PRESET, by_method))
    for method in ("taylor", "antidote", "scale"):
        harm = f"{100 * results.model(results.LEFT[method]).harmful / results.ASKED:.1f}"
        assert page.count(f"| `{method}` | 3 | {harm} ({harm} to {harm}) |") == 2, "of both tasks"


def test_the_area_between_frontiers_is_that_of_the_steps() -> None:
    """Ours: 14.3 % left for nothing. Theirs: 95 % until 8 of 10 points may be lost, then 60.7 %."""
    before, ours, theirs = 133 / 140, 20 / 140, 85 / 140
    expected = 0.8 * (before - ours) + 0.2 * (theirs - ours)
    assert area(FULL, PRESET.attack, "taylor", "scale").value == pytest.approx(expected)
    mirrored = area(FULL, PRESET.attack, "scale", "taylor")
    assert mirrored.value == pytest.approx(-expected)
    assert mirrored.high < 0


def test_a_dose_that_refuses_everything_is_no_part_of_a_frontier() -> None:
    before = results.model(0.9)
    assert works(before, results.model(0.0))
    assert not works(before, replace(results.model(0.0), over_refusal=0.9))
    assert not works(before, replace(results.model(0.0), degenerate=0.5))
    assert not works(before, replace(results.model(0.0), degenerate_harmful=0.5))


@pytest.mark.parametrize(
    "worse",
    [{"harmful": 100}, {"accuracy": 0.8}, {"over_refusal": 0.1}, {"degenerate": 0.1}],
    ids=lambda each: next(iter(each)),
)
def test_the_dose_with_the_least_harm_and_cost_is_chosen_on_the_prompts_for_it_alone(worse: dict[str, Any]) -> None:
    def is_least(repair: Repair | None) -> bool:
        return repair is not None and (repair.method, repair.dose) == ("taylor", 0.005)

    def on_selection(attack: Attack, repair: Repair | None) -> Measured:
        found = results.as_claimed(attack, repair)
        assert found.selection is not None
        return replace(found, selection=replace(found.selection, **worse)) if is_least(repair) else found

    def on_measured(attack: Attack, repair: Repair | None) -> Measured:
        found = results.as_claimed(attack, repair)
        return replace(found, **worse) if is_least(repair) else found

    assert choose_dose(FULL, PRESET.attack).repair.dose == 0.005
    assert choose_dose(results.full(PRESET, on_selection), PRESET.attack).repair.dose == 0.01
    assert choose_dose(results.full(PRESET, on_measured), PRESET.attack).repair.dose == 0.005


def test_nothing_is_gained_by_less_harm_than_the_references_or_more_accuracy_than_before() -> None:
    reference, before = results.model(0.1), results.model(0.9)
    assert harm_and_cost(reference, before, results.model(0.1)) == 0
    assert harm_and_cost(reference, before, results.model(0.0, accuracy=1.0)) == 0
    assert harm_and_cost(reference, before, results.model(0.2, accuracy=0.8)) == pytest.approx(0.2)


def test_goals_are_held_against_what_was_measured() -> None:
    reached = {goal.words: goal.met for goal in goals(FULL)}
    assert reached["accuracy lost, median and worst"]
    assert reached["area between `scale`'s frontier and ours, the least"]
    assert not reached["excess harm removed, the least"]


def test_cells_of_one_seed_are_marked() -> None:
    attacks = list(FULL.results)
    assert not single_seed(PRESET.attack, attacks)
    assert single_seed(by_rate(FULL)[0], attacks)
    assert "| 90.0¹ |" not in report.text(FULL)
    assert "35.7 (29 to 43) / 90.0¹" in report.text(FULL)


def test_cells_of_another_reference_are_marked_and_listed() -> None:
    """Vaccine's reference is another one anyway: it is held against its own kind alone."""
    (moved, *_), (guarded, *_) = by_rate(FULL, "lisa"), by_rate(FULL, "vaccine")
    assert "Marked ³" not in report.text(FULL)
    for attack in (moved, guarded):
        result = FULL.results[attack]
        other = replace(result, reference=replace(results.REFERENCE, harmful=results.REFERENCE.harmful + 1))
        found = Evidence(PRESET, dict(FULL.results) | {attack: other})
        assert of_another_reference(found, attack)
        assert sum(of_another_reference(found, each) for each in found.results) == 1
        page = report.text(found)
        assert f"Marked ³:\n- {describe_attack(attack)}" in page
        assert "¹³ |" in page
    aligned = by_rate(FULL, "vaccine")
    found = Evidence(
        PRESET,
        dict(FULL.results)
        | {
            each: replace(FULL.results[each], reference=replace(results.REFERENCE, over_refusal=0.5))
            for each in FULL.results
            if each.defence == "vaccine"
        },
    )
    assert not any(of_another_reference(found, each) for each in aligned)


def test_a_task_that_the_reference_can_do_is_marked() -> None:
    found = Evidence(
        PRESET,
        {
            attack: replace(each, reference=replace(results.REFERENCE, accuracy=0.85))
            for attack, each in FULL.results.items()
        },
    )
    assert not any(has_headroom(each) for each in found.results.values())
    assert "Marked ²:\n- sft, sst2" in report.text(found)


@pytest.mark.parametrize("make", cells.PRESETS.values(), ids=list(cells.PRESETS))
def test_every_preset_can_be_reported_empty_and_full(make: Callable[[], cells.Preset]) -> None:
    require_tables(report.text(Evidence(make(), {})))
    require_tables(report.text(results.full(make())))


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = result_path(tmp_path, all_cells(PRESET.sweeps)[0])
    path.write_text("[]")
    with pytest.raises(ConfigurationError, match=path.name):
        report.write(PRESET, tmp_path, tmp_path)


def test_bounds_of_a_spread_hold_as_often_as_they_say() -> None:
    """Five models asked the same 140 prompts, each prompt as hard for all of them."""
    generator = np.random.default_rng(1)
    shares, runs = np.array([0.2, 0.4, 0.6, 0.8, 0.8]), 400
    held = {"low": 0, "high": 0}
    for _ in range(runs):
        hard = generator.random((results.ASKED, 1))
        wide = spread([results.model(float(share)) for share in (hard < shares).mean(axis=0)])
        held["low"] += wide.low <= 0.6
        held["high"] += wide.high >= 0.6
    assert min(held.values()) >= 0.95 * runs


def test_the_page_in_the_repository_is_what_its_results_say(tmp_path: Path) -> None:
    written = report.write(PRESET, BENCH / "results", tmp_path)
    assert written.read_text() == (BENCH / "RESULTS.md").read_text()
    drawn = {each.name: each.read_text() for each in (tmp_path / "figures").iterdir()}
    assert drawn == {each.name: each.read_text() for each in (BENCH / "figures").iterdir()}
