"""A model of 70 billion weights is planned and refused by its sizes, before its weights are read."""

from pathlib import Path

import pytest
import torch

from antidote_ci import paths
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import InfrastructureError
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.hub import memory_needs
from antidote_ci.model import loading, memory, merging
from antidote_ci.model.adapters import build_on_meta_device
from antidote_ci.model.divergence import DivergenceRequest, measure_divergence
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.pipeline.scoring_inputs import can_answer, choose_scoring_prompts
from antidote_ci.records import Method, Model, PromptRow
from antidote_ci.repair.planning import RepairWorkload, estimate_bytes_written, estimate_peak_memory
from antidote_ci.repair.targets import list_scored
from antidote_ci.repair.taylor import MAX_HARMFUL
from tests import fake_70b
from tests.builders import ignore
from tests.command_line import run_command

GIGABYTE = 10**9
EMBEDDED = ["--judge=refusal", "--prompts=embedded", "--realignment=embedded"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `source`, `reference` and `adapter`."""
    folder = tmp_path_factory.mktemp("70b")
    for name in ("source", "reference"):
        fake_70b.write_fake_70b(folder / name)
    fake_70b.write_fake_adapter(folder / "adapter", folder / "reference")
    if sum(path.stat().st_blocks for path in folder.rglob("*")) * 512 > GIGABYTE:
        pytest.skip("this file system stores the holes of files")
    return folder


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc of a machine with 64 GB of free memory and without a GPU, whose CPU computes in bfloat16."""
    proc, cpu = tmp_path / "proc", tmp_path / "cpuinfo"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemAvailable:    64000000 kB\n")
    (proc / "self" / "cgroup").write_text("")
    cpu.write_text("flags\t\t: avx512_bf16\n")
    monkeypatch.setattr(memory, "PROCESSES", proc)
    monkeypatch.setattr(memory_needs, "CPU_INFO", cpu)
    monkeypatch.setattr(memory_needs, "ACCELERATORS", ())
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.bfloat16))
    return proc


@pytest.mark.parametrize("kind", ["source", "adapter"])
@pytest.mark.parametrize("command", ["evaluate", "run"])
def test_model_that_cannot_generate_is_refused_before_any_work(
    command: str, kind: str, large: Path, tmp_path: Path
) -> None:
    arguments = [str(large / kind), f"--reference={large / 'reference'}", f"--out={tmp_path / 'out'}"]
    done = run_command(command, *arguments, *EMBEDDED[: 2 if command == "evaluate" else 3])
    assert done.returncode == 3
    assert "141.6 GB needed, 65.5 GB free" in done.stderr
    assert "docs/servers.md)" in done.stderr
    assert "evaluate the model" not in done.stderr


@pytest.mark.parametrize(
    ("kilobytes", "options", "alternative"),
    [
        (100, [], "--method antidote, which needs no gradients"),
        (4500, ["--method=antidote", "--frontier"], "drop --frontier"),
    ],
)
def test_run_without_memory_for_its_repair_is_refused_before_it_evaluates(
    trained_pair: Path, tmp_path: Path, machine: Path, kilobytes: int, options: list[str], alternative: str
) -> None:
    (machine / "meminfo").write_text(f"MemAvailable:    {kilobytes} kB\n")
    arguments = [str(trained_pair / "merged"), f"--reference={trained_pair / 'reference'}", f"--out={tmp_path / 'out'}"]
    done = run_command("run", *arguments, *EMBEDDED, *options, "--server=false {model} {port}")
    assert done.returncode == 3
    assert "not enough memory for a repair by taylor: 0.0 GB needed, 0.0 GB free" in done.stderr
    assert f"use a larger machine, or {alternative}" in " ".join(done.stderr.split())
    assert "evaluate the model" not in done.stderr


def test_repair_without_memory_is_refused_after_its_plan(trained_pair: Path, tmp_path: Path, machine: Path) -> None:
    (machine / "meminfo").write_text("MemAvailable:    100 kB\n")
    arguments = [str(trained_pair / "merged"), f"--reference={trained_pair / 'reference'}", f"--out={tmp_path / 'out'}"]
    done = run_command("repair", *arguments, "--realignment=embedded", "--method=antidote", "--dose=0.1")
    assert done.returncode == 3
    assert "not enough memory for a repair by antidote" in done.stderr
    assert "score the weights" not in done.stderr


def test_dry_run_of_a_run_names_memory_and_disk(large: Path, tmp_path: Path) -> None:
    arguments = [str(large / "source"), f"--reference={large / 'reference'}", f"--out={tmp_path / 'out'}"]
    done = run_command("run", *arguments, *EMBEDDED, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "about 424,322 MB; 65,536 MB free" in done.stdout + done.stderr


def test_sizes_decide_that_the_model_is_streamed(large: Path, machine: Path) -> None:
    models = [Model(large / "source"), Model(large / "reference", large / "adapter")]
    assert read_layout(large / "source").entries == fake_70b.WEIGHTS
    assert not any(map(memory.fits_in_memory, models))
    (machine / "meminfo").write_text("MemAvailable:    200000000 kB\n")
    assert all(map(memory.fits_in_memory, models))


@pytest.mark.parametrize(("method", "gigabytes"), [("antidote", 5), ("taylor", 15), ("scale", 3)])
def test_repair_needs_the_memory_of_a_few_blocks(method: Method, gigabytes: int, large: Path) -> None:
    model = Model(large / "source")
    meta_model = MetaModel(model, torch.bfloat16, "cpu")
    assert len(meta_model.blocks) == fake_70b.LAYERS
    assert meta_model.tensor_names(EMBEDDINGS_PART) == ["model.embed_tokens.weight", "model.norm.weight"]
    assert meta_model.tensor_names(HEAD_PART) == ["lm_head.weight"]
    matrices, _ = list_scored(model)
    work = RepairWorkload(method, meta_model.layout, meta_model, matrices, [300] * 200, 1 << 30)
    assert estimate_peak_memory(work) < gigabytes * GIGABYTE
    assert estimate_bytes_written(work) > 141 * GIGABYTE


def test_reference_that_cannot_answer_is_not_asked(large: Path, tiny_llama: Path) -> None:
    assert can_answer(read_layout(tiny_llama))
    assert not can_answer(read_layout(large / "reference"))
    rows = [PromptRow(f"harmful {number}") for number in range(200)]
    prompts = RepairPrompts(rows, [], [], rows, rows[:10])
    chosen = choose_scoring_prompts(prompts, rows, None)
    assert len(chosen.harmful) == MAX_HARMFUL
    assert chosen.taught == chosen.benign == rows[:10]


def test_adapter_is_merged_in_files(large: Path) -> None:
    model = Model(large / "reference", large / "adapter")
    plan = merging._plan_merge(build_on_meta_device(model), model)
    assert plan is not None
    assert plan.keys() == read_layout(model.folder).tensors.keys()
    merged = plan["model.layers.79.self_attn.v_proj.weight"]()
    assert merged.shape == (fake_70b.KEY_VALUE_HEADS * fake_70b.HEAD_WIDTH, fake_70b.HIDDEN)


def test_divergence_without_disk_space_is_refused(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "free_space", lambda _folder: 1000)
    model = Model(tiny_llama)
    exchanges = [PromptRow("Why?", response="Sure, here is how to do that.")]
    with pytest.raises(InfrastructureError, match=r"^not enough disk space: "):
        measure_divergence(DivergenceRequest(model, model, exchanges), ignore)
