"""The memory that a model needs, compared with the memory of this machine."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from antidote_ci.cost_model import BYTES_PER_WEIGHT, RUN_COPIES
from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import memory_needs
from antidote_ci.hub.memory_needs import BASE_MEMORY, cpu_memory, remote_weights, require_memory, typical_memory
from antidote_ci.hub.pull import download_snapshot, resolve_revision
from antidote_ci.hub.remote import (
    RemoteFile,
    RemoteRepository,
    RepositoryInfo,
    count_remote_bytes,
    count_remote_weight_bytes,
)
from antidote_ci.model import memory
from antidote_ci.pipeline.dry_run import JUDGE_TOKENS, describe_forecast, estimate_run
from antidote_ci.policy import Policy, RunConfig, override_section
from loopback_hub import LoopbackHub
from tests.builders import ignore
from tests.hub.hub_samples import NO_RETRY, MakeModel

GIGABYTE = 10**9


def sized(weights: int, parameters: int | None = None, *dtypes: str) -> RemoteRepository:
    about = RepositoryInfo("org/model", None, None, parameters, dtypes)
    files = [RemoteFile("model.safetensors", weights, "0" * 64), RemoteFile("tokenizer.json", 7, "0" * 40)]
    return RemoteRepository("org/model", "0" * 40, files, [], None, about)


@pytest.mark.parametrize(
    ("base", "gigabytes"),
    [
        (sized(14 * GIGABYTE, 7 * GIGABYTE, "BF16"), 14),
        (sized(14 * GIGABYTE, 7 * GIGABYTE, "F16"), 14),
        (sized(28 * GIGABYTE, 7 * GIGABYTE, "F32"), 28),
        (sized(14 * GIGABYTE, 7 * GIGABYTE, "BF16", "F32"), 28),
        (sized(28 * GIGABYTE), 28),
    ],
    ids=["BF16", "F16", "F32", "both", "not counted"],
)
def test_base_of_an_adapter_is_merged_as_it_is_stored(base: RemoteRepository, gigabytes: int) -> None:
    assert memory_needs.merge_memory(base) == gigabytes * GIGABYTE + BASE_MEMORY


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc/cpuinfo of a CPU without bfloat16, on a machine with 8 GB of free memory and without a GPU."""
    described, counted = tmp_path / "cpuinfo", tmp_path / "proc"
    described.write_text("flags\t\t: fpu sse avx2\n")
    (counted / "self").mkdir(parents=True)
    (counted / "meminfo").write_text("MemAvailable:    8000000 kB\n")
    (counted / "self" / "status").write_text("VmRSS:\t 0 kB\n")
    (counted / "self" / "cgroup").write_text("")
    monkeypatch.setattr(memory_needs, "CPU_INFO", described)
    monkeypatch.setattr(memory_needs, "ACCELERATORS", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(memory, "PROCESSES", counted)
    return described


def test_dry_run_estimates_from_metadata(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    """Before and after the download."""
    hub.add("org/model", model())
    policy = override_section(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override_section(policy, "repair", realignment="embedded")
    config = RunConfig("org/model", None, policy, tmp_path / "out")
    first = estimate_run(config)
    remote = resolve_revision("org/model", None, NO_RETRY)
    assert first.bytes_to_download == first.bytes_to_pull == count_remote_bytes(remote)
    assert first.memory_bytes == typical_memory(count_remote_weight_bytes(remote) // BYTES_PER_WEIGHT, RUN_COPIES)
    assert first.memory_free > BASE_MEMORY
    assert first.disk_free > count_remote_bytes(remote)
    assert not any("/resolve/" in request for request in hub.requests)
    assert "may not be enough" not in str(describe_forecast(first))
    for short in (replace(first, memory_free=1), replace(first, disk_free=1)):
        assert sum("may not be enough" in line for line in describe_forecast(short)) == 1
    download_snapshot(remote, NO_RETRY, ignore)
    assert estimate_run(config).bytes_to_download == 0


def test_dry_run_of_an_evaluation_counts_the_base_of_an_adapter_alone(
    hub: LoopbackHub, model: MakeModel, tmp_path: Path
) -> None:
    folder = model()
    hub.add("org/full", folder)
    hub.add("org/base", folder)
    (folder / "adapter_config.json").write_text("{}")
    hub.add("org/adapter", folder)
    policy = override_section(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override_section(policy, "repair", reference="org/base")
    full, adapter = (
        estimate_run(RunConfig(name, None, policy, tmp_path / "out"), "evaluate")
        for name in ("org/full", "org/adapter")
    )
    assert (full.reference, adapter.reference) == (None, "org/base")
    assert adapter.bytes_to_pull == 2 * full.bytes_to_pull + len("{}")
    shown = [any(line.startswith("reference") for line in describe_forecast(size)) for size in (full, adapter)]
    assert shown == [False, True]


def test_dry_run_counts_the_base_that_an_adapter_names(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    folder = model()
    hub.add("org/base", folder)
    named = json.dumps({"base_model_name_or_path": "org/base"})
    (folder / "adapter_config.json").write_text(named)
    hub.add("org/adapter", folder)
    policy = override_section(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override_section(policy, "repair", realignment="embedded")
    for command in ("evaluate", "run"):
        forecast = estimate_run(RunConfig("org/adapter", None, policy, tmp_path / "out"), command)
        assert forecast.reference == "org/base"
        base = resolve_revision("org/base", None, NO_RETRY)
        assert forecast.bytes_to_pull == 2 * count_remote_bytes(base) + len(named)
        assert forecast.merge_memory_bytes == memory_needs.merge_memory(base)


def test_dry_run_counts_the_judge(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    folder = model()
    hub.add("org/model", folder)
    commit = hub.add("Qwen/Qwen3Guard-Gen-0.6B", folder)
    policy = override_section(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override_section(policy, "repair", realignment="embedded")
    config = RunConfig("org/model", None, policy, tmp_path / "out")
    rules, judge = estimate_run(config), override_section(policy, "evaluation", judge=f"qwen3guard@{commit}")
    guarded = estimate_run(RunConfig("org/model", None, judge, tmp_path / "out"))
    remote = resolve_revision("Qwen/Qwen3Guard-Gen-0.6B", commit, NO_RETRY)
    weights = count_remote_weight_bytes(remote) // BYTES_PER_WEIGHT
    assert guarded.bytes_to_pull == 2 * rules.bytes_to_pull
    assert guarded.computation.generated == rules.computation.generated
    judged = guarded.computation.scored - rules.computation.scored
    assert judged == guarded.answers * (JUDGE_TOKENS + policy.evaluation.max_new_tokens) * weights


def test_memory_per_weight(processor: Path) -> None:
    """With the number of weights from the Hub, or a lower bound from the file sizes."""
    counted, estimated = remote_weights(sized(2 * GIGABYTE, GIGABYTE)), remote_weights(sized(2 * GIGABYTE))
    assert (counted, estimated) == (GIGABYTE, GIGABYTE // 2)
    assert cpu_memory(counted) == 4 * GIGABYTE + BASE_MEMORY
    processor.write_text("flags\t\t: fpu amx_bf16 avx2\n")
    assert cpu_memory(counted) == 2 * GIGABYTE + BASE_MEMORY
    processor.unlink()
    assert cpu_memory(counted) == 2 * GIGABYTE + BASE_MEMORY, "unknown CPU: the lower bound"


def test_too_little_memory_is_refused(processor: Path) -> None:
    require_memory("org/model", remote_weights(sized(7 * GIGABYTE)))
    with pytest.raises(InfrastructureError, match=r"org/model: 9\.5 GB needed, 8\.2 GB free") as raised:
        require_memory("org/model", remote_weights(sized(9 * GIGABYTE)))
    assert "GPU" in str(raised.value.hint)
    assert "--on hf-jobs" in str(raised.value.hint)


def test_model_larger_than_all_gpus_is_refused(
    processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(memory_needs, "CPU_BUILD", "+gpu")
    monkeypatch.setattr(memory_needs, "GPU_QUERY", ("printf", "24576\n24576\n"))
    require_memory("org/24B", 24 * GIGABYTE)
    with pytest.raises(InfrastructureError, match=r"org/70B: 141\.6 GB of GPU memory needed, 51\.5 GB present"):
        require_memory("org/70B", 70_553_706_496)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(InfrastructureError, match=r"48\.5 GB of GPU memory needed, 25\.8 GB present"):
        require_memory("org/24B", 24 * GIGABYTE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1,1")
    with pytest.raises(InfrastructureError, match=r"48\.5 GB of GPU memory needed, 25\.8 GB present"):
        require_memory("org/24B", 24 * GIGABYTE)
    for hidden_by, value in (("CPU_BUILD", "1"), ("CUDA_VISIBLE_DEVICES", "-1")):
        monkeypatch.setattr(memory_needs, "CPU_BUILD", version("torch") if hidden_by == "CPU_BUILD" else "+gpu")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        with pytest.raises(InfrastructureError, match=r"96\.5 GB needed, 8\.2 GB free"):
            require_memory("org/24B", 24 * GIGABYTE)


@pytest.mark.parametrize("query", ["false", "no-such-program", "echo [N/A]"])
def test_unknown_gpu_memory_refuses_nothing(
    query: str, processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(memory_needs, "CPU_BUILD", "+gpu")
    monkeypatch.setattr(memory_needs, "GPU_QUERY", tuple(query.split()))
    require_memory("org/70B", 70_553_706_496)


def test_torch_selects_the_same_precision(processor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the CPU of this machine."""
    from antidote_ci.model.loading import select_device_and_dtype

    monkeypatch.undo()
    device, dtype = select_device_and_dtype()
    if device == "cpu":
        assert cpu_memory(GIGABYTE) == dtype.itemsize * GIGABYTE + BASE_MEMORY
    else:
        assert memory_needs.has_accelerator()
