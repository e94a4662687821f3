import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Model
from benchmarks.paper.cells import doses
from benchmarks.paper.cost import Cost
from benchmarks.paper.loop import Diverged
from benchmarks.paper.records import Attack, Cell, Defence, Measured, Point, Training
from benchmarks.paper.suite import CellSteps, Setting, Steps, Suite, lock_folder, read, result_path, run
from tests.paper import results

SETTING = Setting("a judge", "a machine", {"model": "a model"})
ATTACK = Attack("sft", "sst2", Training(epochs=1, rate=1e-3))


def cell(defence: Defence = "sft", rate: float = 1e-3) -> Cell:
    attack = replace(ATTACK, defence=defence, training=Training(epochs=1, rate=rate))
    return Cell("rates", attack, doses("taylor", 0.01, 0.03))


@dataclass(frozen=True)
class Workplace:
    """Steps that take no time: files instead of models, each step noted down."""

    folder: Path
    made: list[str] = field(default_factory=list)
    """What has been made, in order."""
    harm: dict[str, float] = field(default_factory=dict)
    """Of the reference of a defence; else 0.1."""
    broken: float = 0.0
    diverges: float = 1.0
    """The rate from which a loss is not finite."""

    def suite(self, before_repair: Callable[[], None] = lambda: None) -> Suite:
        """One run, over the same folders as the last."""
        steps = Steps(
            self.align,
            self.attack,
            lambda cell, reference, room: self.open_instruments(cell, reference, room, before_repair),
        )
        return Suite(steps, SETTING, self.folder / "work", self.folder / "results", lambda _line: None)

    def align(self, defence: Defence) -> Path:
        return self.folder / (defence if defence in ("vaccine", "repnoise") else "sft")

    def attack(self, attack: Attack, reference: Path) -> Path:
        if attack.training.rate >= self.diverges:
            raise Diverged(3, "the loss")
        self.made.append(f"{attack.defence} {attack.training.rate:g} from {reference.name}")
        folder = self.folder / "attacked"
        folder.mkdir(exist_ok=True)
        (folder / "training.json").write_text(json.dumps({"seconds": 1000.0}))
        return folder

    @contextmanager
    def open_instruments(
        self, cell: Cell, reference: Path, room: Path, before_repair: Callable[[], None]
    ) -> Iterator[CellSteps]:
        assert reference == self.align(cell.attack.defence)
        assert list(room.iterdir()) == []
        (room / "candidate").write_text("half of one")

        def measure(model: Model, cost: Cost) -> Measured:
            if model.adapter is None:
                harm = self.harm.get(model.folder.name, 0.1)
                return replace(results.model(harm), degenerate_harmful=self.broken)
            assert model.adapter.name == "adapter"
            return replace(results.as_claimed(cell.attack, None), seconds=cost.seconds)

        def repair(adapter: Path) -> Iterator[Point]:
            assert adapter == self.folder / "attacked" / "adapter"
            for repair in cell.repairs:
                before_repair()
                yield Point(repair, results.as_claimed(cell.attack, repair))

        yield CellSteps(measure, repair)


def test_every_cell_leaves_a_file_that_says_what_was_measured_where_and_when(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    (found,) = run([cell()], workplace.suite())
    assert read(result_path(tmp_path / "results", cell())) == found
    assert (found.judge, found.machine, found.versions) == ("a judge", "a machine", {"model": "a model"})
    assert [point.repair for point in found.points] == list(cell().repairs)
    assert found.reference is not None
    assert found.attacked is not None
    assert found.failure is None


def test_what_an_attack_took_is_what_it_took_when_it_was_made(tmp_path: Path) -> None:
    (found,) = run([cell()], Workplace(tmp_path).suite())
    assert found.attacked is not None
    assert 1000 <= found.attacked.seconds < 1010


def test_a_cell_that_is_done_is_not_made_again(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    first = run([cell()], workplace.suite())
    both = run([cell(), cell("lisa")], workplace.suite())
    assert both[0] == first[0]
    assert workplace.made == ["sft 0.001 from sft", "lisa 0.001 from sft"]


def test_a_loss_that_is_no_number_fails_its_cell_and_the_suite_goes_on(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, diverges=5e-3)
    lost, found = run([cell(rate=1e-2), cell()], workplace.suite())
    assert lost.failure == "diverged: the loss is not finite at step 3"
    assert (lost.attacked, lost.points) == (None, [])
    assert found.failure is None
    again = run([cell(rate=1e-2), cell()], workplace.suite())
    assert again == [lost, found]
    assert len(workplace.made) == 1


def test_an_alignment_that_diverges_fails_the_cells_of_its_defence(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)

    def align(defence: Defence) -> Path:
        if defence == "repnoise":
            raise Diverged(1, "the gradient")
        return workplace.align(defence)

    suite = workplace.suite()
    lost, found = run([cell("repnoise"), cell()], replace(suite, steps=replace(suite.steps, align=align)))
    assert lost.failure == "diverged: the gradient is not finite at step 1"
    assert lost.reference is None
    assert found.failure is None


def test_an_unsafe_reference_stops_the_suite_before_anything_is_attacked(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, harm={"sft": 0.6})
    with pytest.raises(ConfigurationError, match="the reference is not safe: it answers 84 of 140") as caught:
        run([cell(), cell(rate=1e-4)], workplace.suite())
    assert caught.value.exit_code == 2
    assert workplace.made == []
    assert not list((tmp_path / "results").glob("*.json"))


def test_a_reference_that_only_babbles_is_not_safe_either(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, broken=0.7)
    with pytest.raises(ConfigurationError, match="70% of its answers are degenerate"):
        run([cell()], workplace.suite())


def test_an_unsafe_defence_of_the_alignment_fails_its_own_cells_alone(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, harm={"vaccine": 0.9})
    lost, found = run([cell("vaccine"), cell()], workplace.suite())
    assert lost.failure
    assert "its reference is not safe" in lost.failure
    assert lost.reference is not None
    assert found.failure is None


def test_a_killed_cell_is_made_again_without_what_it_left(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    child = multiprocessing.get_context("fork").Process(
        target=run, args=([cell()], workplace.suite(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = tmp_path / "work" / "cells" / cell().id
    assert (left / "candidate").exists()
    assert read(result_path(tmp_path / "results", cell())) is None
    (found,) = run([cell()], workplace.suite())
    assert found.failure is None
    assert not left.exists()


@pytest.mark.parametrize("folder", ["results", "work"])
def test_two_suites_in_one_folder_are_refused(tmp_path: Path, folder: str) -> None:
    workplace = Workplace(tmp_path)
    with lock_folder(tmp_path / folder), pytest.raises(ConfigurationError, match="another suite is at work") as caught:
        run([cell()], workplace.suite())
    assert caught.value.exit_code == 2
    assert workplace.made == []
    assert run([cell()], workplace.suite())[0].failure is None


def test_a_file_that_is_no_result_is_named_and_kept(tmp_path: Path) -> None:
    path = result_path(tmp_path / "results", cell())
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match="is no result of this bench"):
        run([cell()], Workplace(tmp_path).suite())
    assert path.read_text() == "{}"
