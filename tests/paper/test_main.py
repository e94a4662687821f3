"""The command line, and the steps that it binds: one cell of a tiny model from alignment to repair."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.paper import __main__ as main
from benchmarks.paper import cells, suite
from benchmarks.paper.cells import all_cells, doses, merge_cells
from benchmarks.paper.data import Data
from benchmarks.paper.measuring import Counts
from benchmarks.paper.records import Attack, Training
from benchmarks.paper.stages import Alignment
from tests.paper import small

TRAINING = Training(epochs=1, rate=1e-2, batch=4, rank=4)
COUNTS = Counts(4, 3, 4, tokens=3, selection_harmful=3, selection_harmless=2, selection_task=2)
REPAIRS = (
    doses("antidote", 0.3, realignment=4) + doses("scale", 0.5, realignment=4) + doses("taylor", 0.1, realignment=4)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With as many harmless prompts and task rows as measuring and scoring keep apart."""
    folder = small.write_data(tmp_path_factory.mktemp("data"))
    prompts = [{"prompt": f"how to cook {n} beans?"} for n in range(2100)]
    (folder / "harmless_instructions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    plays = [{"sentence": f"play {n} was fine", "label": n % 2} for n in range(80)]
    (folder / "sst2_dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plays))
    return folder


def tiny_preset() -> cells.Preset:
    """One cell."""
    attack = Attack("sft", "sst2", TRAINING, rows=8, poison=0.5)
    return replace(
        cells.smoke(),
        alignment=Alignment(TRAINING, rows=10),
        counts=COUNTS,
        attack=attack,
        sweeps=merge_cells([("headline", [(attack, REPAIRS)])]),
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr("sys.argv", ["paper", *map(str, arguments)])
    return main.main()


@pytest.mark.slow
def test_a_cell_goes_from_alignment_to_repair(
    monkeypatch: pytest.MonkeyPatch, data: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    preset = tiny_preset()
    monkeypatch.setattr(suite, "UNSAFE", 1.0)  # a random model refuses nothing
    steps = main.steps(preset, Data(data), tmp_path / "work", tiny_llama)
    lines: list[str] = []
    one_suite = suite.Suite(steps, main.setting(tiny_llama), tmp_path / "work", tmp_path / "results", lines.append)
    (found,) = suite.run(all_cells(preset.sweeps), one_suite)
    assert found.failure is None
    assert [point.repair for point in found.points] == list(REPAIRS)
    assert found.reference is not None
    assert found.attacked is not None
    assert found.reference.drift == 0
    assert found.attacked.drift > found.points[1].measured.drift > 0
    choosing = [each.selection for each in (found.reference, found.attacked, found.points[2].measured)]
    assert [each.asked for each in choosing if each] == [COUNTS.selection_harmful] * 3
    assert [point.measured.selection for point in found.points[:2]] == [None, None]
    assert found.versions["model"] == "llama"
    assert re.fullmatch("[0-9a-f]{12}", found.versions["commit"])
    assert not (tmp_path / "work" / "cells" / found.cell.id).exists()
    assert str(tmp_path) not in (tmp_path / "results" / f"{found.cell.id}.json").read_text()


@pytest.mark.slow
def test_a_model_that_cannot_be_aligned_ends_with_exit_2(
    monkeypatch: pytest.MonkeyPatch,
    data: Path,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(cells.PRESETS, "smoke", tiny_preset)
    assert run(monkeypatch, "--smoke", "--data", data, "--model", tiny_llama, "--work", tmp_path) == 2
    assert "the reference is not safe" in capsys.readouterr().err
    assert not list((tmp_path / "results").glob("*.json"))


def test_a_missing_data_folder_ends_with_exit_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--work", tmp_path) == 2
    assert run(monkeypatch, "--work", tmp_path, "--data", tmp_path / "nowhere") == 2
    said = capsys.readouterr().err
    assert "no data folder is named" in said
    assert "there is no data folder" in said


def test_a_sweep_that_is_not_there_ends_with_exit_2_and_the_names_that_are(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--data", data, "--sweep", "rate", "--work", tmp_path) == 2
    assert "rates, epochs" in capsys.readouterr().err


def test_too_little_data_for_the_last_cell_is_said_before_the_first_is_made(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--data", data, "--sweep", "tasks", "--work", tmp_path / "work", "--results", tmp_path) == 2
    assert "has 60 rows" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_some_sweeps_are_their_cells_alone() -> None:
    preset = cells.cpu()
    assert main.select_cells(preset, ["tasks"]) == preset.sweeps["tasks"]
    assert len(main.select_cells(preset, ["rates", "epochs"])) == 21
    assert main.select_cells(preset, None) == all_cells(preset.sweeps)


def test_a_report_alone_needs_no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, "--report", "--results", tmp_path / "results") == 0
    assert "0 of 34 cells run" in (tmp_path / "RESULTS.md").read_text()
