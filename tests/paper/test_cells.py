from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.paper import cells
from benchmarks.paper.cells import PRESETS, Preset, all_cells, doses, merge_cells
from benchmarks.paper.data import REALIGNMENT
from benchmarks.paper.records import Attack, Training

ATTACK = Attack("sft", "sst2", Training(epochs=1, rate=1e-3))
OTHER = replace(ATTACK, seed=44)

each_preset = pytest.mark.parametrize("preset", [make() for make in PRESETS.values()], ids=list(PRESETS))


def test_an_attack_of_several_sweeps_is_one_cell_with_the_repairs_of_all() -> None:
    made = merge_cells(
        [
            ("rates", [(ATTACK, doses("taylor", 0.01)), (OTHER, doses("scale", 0.5))]),
            ("seeds", [(ATTACK, doses("taylor", 0.01, 0.03)), (ATTACK, doses("random", 0.2))]),
        ]
    )
    (shared,) = made["seeds"]
    assert made["rates"][0] is shared
    assert shared.repairs == doses("taylor", 0.01, 0.03) + doses("random", 0.2)
    assert shared.name == "rates"
    assert len(all_cells(made)) == 2


@each_preset
def test_no_attack_is_made_twice(preset: Preset) -> None:
    made = all_cells(preset.sweeps)
    assert set(Counter(cell.attack for cell in made).values()) == {1}
    assert len({cell.id for cell in made}) == len(made)


@each_preset
def test_the_paper_is_at_its_dose_wherever_rates_and_epochs_are_undefended(preset: Preset) -> None:
    for name in ("rates", "epochs"):
        for cell in preset.sweeps.get(name, ()):
            if cell.attack.defence == "sft":
                assert preset.dose in {repair.dose for repair in cell.repairs if repair.method == "antidote"}


def test_the_cpu_preset_is_of_some_thirty_cells_over_two_decades_and_five_defences() -> None:
    preset = cells.cpu()
    assert 30 <= len(all_cells(preset.sweeps)) <= 40
    assert preset.rates[-1] / preset.rates[0] == pytest.approx(100)
    assert {cell.attack.defence for cell in preset.sweeps["rates"]} == set(cells.DEFENCES)
    assert len(preset.sweeps["rates"]) == 15
    assert all(cell.attack.rows == 500 for cell in all_cells(preset.sweeps))


def test_doses_are_chosen_on_attacks_that_do_not_confirm_them() -> None:
    preset = cells.cpu()
    assert not {cell.attack for cell in preset.sweeps["headline"]} & {
        cell.attack for cell in preset.sweeps["confirmation"]
    }


@each_preset
def test_no_repair_reads_more_pairs_than_are_kept_from_attacks(preset: Preset) -> None:
    for cell in all_cells(preset.sweeps):
        assert max((repair.realignment for repair in cell.repairs), default=0) <= len(REALIGNMENT)
