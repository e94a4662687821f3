"""What a model needs of this machine, refused early and with numbers."""

from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import memory_needs
from antidote_ci.hub.memory_needs import ROOM, memory_needed, require_memory
from antidote_ci.hub.pull import download, resolve
from antidote_ci.hub.remote import About, Remote, RemoteFile, total_bytes
from antidote_ci.model import memory
from antidote_ci.pipeline.dry_run import forecast
from antidote_ci.policy import Policy, RunConfig, override
from loopback_hub import LoopbackHub
from tests.builders import ignore
from tests.hub.hub_samples import HASTY, MakeModel

GIGABYTE = 10**9


def sized(weights: int, parameters: int | None = None) -> Remote:
    about = About("org/model", False, None, None, None, [], parameters)
    files = [RemoteFile("model.safetensors", weights, "0" * 64), RemoteFile("tokenizer.json", 7, "0" * 40)]
    return Remote("org/model", "0" * 40, files, [], None, about)


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which Linux describes the processor, here one that computes in float32; no GPU, 8 GB free."""
    described, counted = tmp_path / "cpuinfo", tmp_path / "proc"
    described.write_text("flags\t\t: fpu sse avx2\n")
    (counted / "self").mkdir(parents=True)
    (counted / "meminfo").write_text("MemAvailable:    8000000 kB\n")
    (counted / "self" / "status").write_text("VmRSS:\t 0 kB\n")
    (counted / "self" / "cgroup").write_text("")
    monkeypatch.setattr(memory_needs, "PROCESSOR", described)
    monkeypatch.setattr(memory_needs, "ACCELERATORS", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(memory, "PROCESSES", counted)
    return described


def test_a_forecast_has_the_numbers(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    """Of a model on the Hub, from metadata alone, and again when it is here."""
    hub.add("org/model", model())
    policy = override(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override(policy, "repair", realignment="embedded")
    config = RunConfig("org/model", None, policy, tmp_path / "out")
    first = forecast(config)
    remote = resolve("org/model", None, HASTY)
    assert first.bytes_to_download == first.bytes_to_pull == total_bytes(remote)
    assert first.memory_bytes == memory_needed(remote)
    assert first.memory_free > ROOM
    assert first.disk_free > total_bytes(remote)
    assert not any("/resolve/" in request for request in hub.history)
    download(remote, HASTY, ignore)
    assert forecast(config).bytes_to_download == 0


def test_bytes_of_a_weight(processor: Path) -> None:
    """As counted by the Hub; else there are at least as many as if they were stored in float32."""
    assert memory_needed(sized(2 * GIGABYTE, GIGABYTE)) == 4 * GIGABYTE + ROOM
    assert memory_needed(sized(2 * GIGABYTE)) == 2 * GIGABYTE + ROOM
    processor.write_text("flags\t\t: fpu amx_bf16 avx2\n")
    assert memory_needed(sized(2 * GIGABYTE, GIGABYTE)) == 2 * GIGABYTE + ROOM
    assert memory_needed(sized(2 * GIGABYTE)) == GIGABYTE + ROOM
    assert memory_needed(sized(2 * GIGABYTE, GIGABYTE), merged=True) == 4 * GIGABYTE + ROOM
    processor.unlink()
    assert memory_needed(sized(2 * GIGABYTE, GIGABYTE)) == 2 * GIGABYTE + ROOM, "unknown: the least"


def test_memory_too_small(processor: Path, tmp_path: Path) -> None:
    require_memory("org/model", memory_needed(sized(7 * GIGABYTE)))
    with pytest.raises(InfrastructureError, match=r"org/model: 9\.5 GB needed, 8\.2 GB free") as raised:
        require_memory("org/model", memory_needed(sized(9 * GIGABYTE)))
    assert "GPU" in str(raised.value.hint)
    assert "--on hf-jobs" in str(raised.value.hint)
    (tmp_path / "nvidiactl").touch()
    require_memory("org/model", memory_needed(sized(9 * GIGABYTE)))


def test_torch_says_the_same(processor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine's own processor."""
    from antidote_ci.model.loading import device_and_dtype

    monkeypatch.undo()
    device, dtype = device_and_dtype()
    if device == "cpu":
        assert memory_needed(sized(0, GIGABYTE)) == dtype.itemsize * GIGABYTE + ROOM
    else:
        assert memory_needs.has_accelerator()
