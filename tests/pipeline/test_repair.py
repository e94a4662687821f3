"""The command `repair`: every method on every target, invalid input, and a resumed repair."""

import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from antidote_ci import records
from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.errors import ConfigurationError
from antidote_ci.model.edits import unpack_mask
from antidote_ci.pipeline import output
from antidote_ci.pipeline import repair as pipeline
from antidote_ci.records import Manifest, RepairPlan, ScoreMethod
from tests.command_line import run_command, start_command, wait_for_step
from tests.tiny import write_tiny_llama

DOSES = {
    ("adapter", "antidote"): 0.2,
    ("adapter", "taylor"): 0.05,
    ("adapter", "scale"): 0.5,
    ("merged", "antidote"): 0.05,
    ("merged", "taylor"): 0.01,
    ("merged", "scale"): 0.5,
    ("merged", "random"): 0.05,
}
"""By target and method."""
SLOW = {("adapter", "antidote"), ("adapter", "taylor"), ("merged", "scale"), ("merged", "random")}
EVERY = [pytest.param(*case, marks=pytest.mark.slow if case in SLOW else ()) for case in DOSES]


@dataclass(frozen=True)
class Ended:
    """A finished command and its output folder."""

    out: Path
    code: int
    stdout: str
    stderr: str

    @property
    def manifest(self) -> Manifest:
        return records.from_json(Manifest, (self.out / "model" / "antidote" / "manifest.json").read_bytes())

    @property
    def plan(self) -> RepairPlan:
        return records.from_json(RepairPlan, (self.out / "plan.json").read_bytes())


def command(
    pair: Path, target: str, method: str, dose: float, out: Path, changed: Mapping[str, str | None] | None = None
) -> list[str]:
    """The arguments of a repair. Options that are None are left out."""
    options: dict[str, str | None] = {
        "method": method,
        "dose": str(dose),
        "out": str(out),
        "reference": str(pair / "reference"),
    }
    if method in get_args(ScoreMethod):
        options["realignment"] = str(pair / "realignment.jsonl")
    if method == "taylor":
        options |= {"benign": str(pair / "benign.jsonl"), "task": str(pair / "task.jsonl")}
    options |= changed or {}
    model = options.pop("model", None) or str(pair / ("adapter" if target == "adapter" else "merged"))
    return ["repair", model, *(f"--{name}={value}" for name, value in options.items() if value is not None)]


ENVIRONMENT = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_THRESHOLD": "0.3"}


def run(arguments: list[str], out: Path) -> Ended:
    done = run_command(*arguments, **ENVIRONMENT)
    return Ended(out, done.returncode, done.stdout, done.stderr)


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


Repaired = Callable[[str, str], Ended]


@pytest.fixture(scope="module")
def repaired(trained_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Repaired:
    """Runs a method on a target, once per module."""
    folder = tmp_path_factory.mktemp("repaired")

    @cache
    def one(target: str, method: str) -> Ended:
        out, before = folder / f"{target}-{method}", hashes(trained_pair)
        done = run(command(trained_pair, target, method, DOSES[target, method], out), out)
        assert hashes(trained_pair) == before
        return done

    return one


@pytest.mark.parametrize(("target", "method"), EVERY)
def test_every_method_repairs_every_target(repaired: Repaired, trained_pair: Path, target: str, method: str) -> None:
    done, dose = repaired(target, method), DOSES[target, method]
    assert done.code == 0, done.stderr
    assert done.stdout == ""
    name = "adapter_model.safetensors" if target == "adapter" else "model.safetensors"
    before = load_file(trained_pair / ("adapter" if target == "adapter" else "merged") / name)
    aligned = load_file(trained_pair / "reference" / "model.safetensors")
    after = load_file(done.out / "model" / name)
    manifest, plan = done.manifest, done.plan
    assert (manifest.method, manifest.dose, manifest.target) == (method, dose, plan.target)
    assert manifest.source.id == str(trained_pair / ("adapter" if target == "adapter" else "merged"))
    assert manifest.effective_dose == plan.effective_dose
    changed = 0
    for key, weight in before.items():
        other = after[key] != weight
        changed += int(other.sum())
        come_back = aligned[key] if target == "merged" else torch.zeros_like(weight)
        if method == "scale":
            come_back = come_back + 0.5 * (weight - come_back)
        assert torch.allclose(after[key][other], come_back[other], atol=1e-6), key
    assert 0 < changed == sum(manifest.changed.values()) <= plan.entries_covered
    assert {path.name for path in done.out.iterdir()} == {"model", "repair", "plan.json", "child.log", ".lock"} - (
        set() if method != "scale" else {"repair"}
    )


@pytest.mark.parametrize(("target", "method"), EVERY)
def test_the_plan_counts_the_entries_of_the_mask(repaired: Repaired, target: str, method: str) -> None:
    done = repaired(target, method)
    masks = list((done.out / "repair").glob(f"{method}-*.safetensors"))
    assert len(masks) == (method != "scale")
    for mask in masks:
        packed = load_file(mask)
        held = sum(int(unpack_mask(packed[each.name], each.rows, each.columns).sum()) for each in done.plan.tensors)
        assert held == done.plan.entries_covered


def test_a_dry_run_shows_the_same_plan_and_writes_nothing(
    repaired: Repaired, trained_pair: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "out", hashes(trained_pair)
    done = run([*command(trained_pair, "merged", "antidote", 0.05, out), "--dry-run", "--json"], out)
    assert done.code == 0, done.stderr
    assert not out.exists()
    assert hashes(trained_pair) == before
    plan = records.from_json(RepairPlan, done.stdout)
    assert plan == repaired("merged", "antidote").plan
    for words in (f"up to {plan.entries_covered:,} of", "left alone", "norms and biases"):
        assert words in done.stderr


def test_a_killed_repair_is_resumed_and_writes_the_same_bytes(
    repaired: Repaired, trained_pair: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", repaired("merged", "taylor")
    arguments = command(trained_pair, "merged", "taylor", 0.01, out)
    process = start_command(*arguments, **ENVIRONMENT)
    wait_for_step(process, "write the weights")
    with pytest.raises(ConfigurationError, match="has not ended"):
        output.require_own_output(out, pipeline.REPAIR_OUTPUT_NAMES)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    scores = (out / "repair" / "taylor.safetensors").stat()
    done = run([*arguments, "--json"], out)
    assert done.code == 0, done.stderr
    assert hashes(out / "model") == hashes(whole.out / "model")
    assert records.from_json(Manifest, done.stdout) == whole.manifest
    assert not (out / "model.partial").exists()
    assert (out / "repair" / "taylor.safetensors").stat().st_mtime_ns == scores.st_mtime_ns  # not scored again


def test_harmful_answers_of_the_model_are_used_for_realignment(trained_pair: Path, tmp_path: Path) -> None:
    policy, out = tmp_path / "antidote.toml", tmp_path / "out"
    policy.write_text(f'[evaluation]\njudge = "refusal"\nprompts = "{trained_pair / "evaluation.jsonl"}"\n')
    changed = {"realignment": "self", "policy": str(policy)}
    done = run(command(trained_pair, "adapter", "antidote", 0.2, out, changed), out)
    assert done.code == 0, done.stderr
    assert "pull the judge" in done.stderr
    assert not list(out.glob(".work-*"))
    assert sum(done.manifest.changed.values()) > 0


Options = dict[str, str | None]


def changed(**options: str | None) -> Callable[[Path, Path], Options]:
    return lambda _pair, _folder: options


def other_architecture(_pair: Path, folder: Path) -> Options:
    return {"reference": str(write_tiny_llama(folder / "other", hidden=32))}


def empty_realignment(_pair: Path, folder: Path) -> Options:
    (folder / "empty.jsonl").write_text("")
    return {"realignment": str(folder / "empty.jsonl")}


def nameless(pair: Path, folder: Path) -> Options:
    (shutil.copytree(pair / "merged", folder / "nameless") / "README.md").unlink()
    return {"model": str(folder / "nameless"), "reference": None}


def foreign_files(_pair: Path, folder: Path) -> Options:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("mine")
    return {}


def a_report(_pair: Path, folder: Path) -> Options:
    (folder / "out").mkdir()
    (folder / "out" / "report.json").write_text("{}")
    return {}


def a_reference_in_the_output(pair: Path, folder: Path) -> Options:
    """It would be replaced by the repair that is made from it."""
    shutil.copytree(pair / "reference", folder / "out" / "model")
    (folder / "out" / "model" / "antidote").mkdir()
    (folder / "out" / "model" / "antidote" / "manifest.json").touch()
    (folder / "out" / "child.log").touch()
    return {"reference": str(folder / "out" / "model")}


REFUSED = [
    ("merged", "antidote", changed(dose=None), "--dose"),
    ("merged", "antidote", changed(method=None), "--method"),
    ("merged", "antidote", changed(dose="5"), "did you mean 0.05?"),
    ("merged", "antidote", changed(dose="nan"), "outside 0..1"),
    ("merged", "scale", nameless, "--reference"),
    ("merged", "antidote", other_architecture, "it is not the model that was fine-tuned"),
    ("adapter", "scale", other_architecture, "it was trained on another model"),
    ("merged", "antidote", empty_realignment, "holds no prompts"),
    ("merged", "scale", foreign_files, "thesis.tex"),
    ("merged", "scale", a_report, "report.json"),
    ("merged", "scale", a_reference_in_the_output, "lie in one another"),
]
"""Target, method, changed options, and a part of the message."""


@pytest.mark.parametrize(("target", "method", "change", "message"), REFUSED, ids=[case[-1] for case in REFUSED])
def test_invalid_input_is_named_and_writes_nothing(
    trained_pair: Path,
    tmp_path: Path,
    target: str,
    method: str,
    change: Callable[[Path, Path], Options],
    message: str,
) -> None:
    options, before = change(trained_pair, tmp_path), hashes(tmp_path)
    done = run(command(trained_pair, target, method, 0.05, tmp_path / "out", options), tmp_path / "out")
    assert hashes(tmp_path) == before
    assert done.code == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
