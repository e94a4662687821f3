"""Every architecture computes the same bits block by block as a whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.loading import make_head_contiguous
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, SequentialForward
from antidote_ci.records import Model
from tests.model.streaming import architectures
from tests.model.streaming.architectures import ARCHITECTURES, batches
from tests.model.streaming.streamed import LARGE, equal, plain_logits, streamed_logits


def logits_agree(folder: Path, scratch: Path, dtype: torch.dtype = torch.bfloat16) -> bool:
    meta_model = MetaModel(Model(folder), dtype, "cpu")
    network = make_head_contiguous(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval())
    expected = plain_logits(network, batches())
    return all(equal(streamed_logits(meta_model, batches(), scratch, budget), expected) for budget in (LARGE, 0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_streamed_logits_equal_plain_logits_with_and_without_disk(architecture: str, tmp_path: Path) -> None:
    assert logits_agree(architectures.write(architecture, tmp_path), tmp_path / "scratch")


@pytest.mark.parametrize("stored", ["float16", "float32"])
@pytest.mark.parametrize("run", [torch.bfloat16, torch.float32])
def test_streamed_logits_are_equal_when_file_and_compute_dtypes_differ(
    stored: str, run: torch.dtype, tmp_path: Path
) -> None:
    assert logits_agree(architectures.write("mixtral", tmp_path, dtype=stored), tmp_path / "scratch", run)


def test_checkpoint_saved_without_the_model_prefix_is_loaded(tmp_path: Path) -> None:
    folder = architectures.write("llama-tied", tmp_path)
    for shard in folder.glob("*.safetensors"):
        renamed = {name.removeprefix("model."): tensor for name, tensor in load_file(shard).items()}
        save_file(renamed, shard, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {name.removeprefix("model."): shard for name, shard in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    linears = MetaModel(Model(folder), torch.bfloat16, "cpu").linear_layers("model.layers.0")
    assert {f"model.{linear.tensor}" for linear in linears} == {f"{linear.path}.weight" for linear in linears}
    assert logits_agree(folder, tmp_path / "scratch")


def test_streaming_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = architectures.write("llama", tmp_path)
    capfd.readouterr()
    streamed_logits(MetaModel(Model(folder), torch.bfloat16, "cpu"), batches(), tmp_path / "scratch")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("architecture", "cause"),
    [("rwkv", "do not form a chain"), ("gemma4_unified_text", "take a KVSharingDict")],
)
def test_architectures_whose_blocks_are_not_a_chain_are_refused(architecture: str, cause: str, tmp_path: Path) -> None:
    folder = architectures.write(architecture, tmp_path, head_dim=8)
    forward = SequentialForward(
        MetaModel(Model(folder), torch.bfloat16, "cpu"), ActivationCache(tmp_path / "scratch", LARGE), batches()
    )
    with pytest.raises(ConfigurationError, match="cannot be run block by block") as refused:
        forward.embed()
    assert refused.value.cause is not None
    assert cause in refused.value.cause
