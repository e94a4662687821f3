"""Block by block, every architecture computes what it computes in one piece, bit for bit."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.loading import make_head_contiguous
from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import SequentialForward
from antidote_ci.records import Model
from tests.model.streaming import architectures
from tests.model.streaming.architectures import ARCHITECTURES, batches
from tests.model.streaming.streamed import LARGE, equal, plain_logits, streamed_logits


def logits_agree(folder: Path, scratch: Path, dtype: torch.dtype = torch.bfloat16) -> bool:
    skeleton = MetaModel(Model(folder), dtype, "cpu")
    network = make_head_contiguous(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval())
    expected = plain_logits(network, batches())
    return all(equal(streamed_logits(skeleton, batches(), scratch, budget), expected) for budget in (LARGE, 0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_the_whole_network_whatever_the_budget(architecture: str, tmp_path: Path) -> None:
    assert logits_agree(architectures.write(architecture, tmp_path), tmp_path / "scratch")


@pytest.mark.parametrize("stored", ["float16", "float32"])
@pytest.mark.parametrize("run", [torch.bfloat16, torch.float32])
def test_stored_and_computed_precision_may_differ(stored: str, run: torch.dtype, tmp_path: Path) -> None:
    assert logits_agree(architectures.write("mixtral", tmp_path, dtype=stored), tmp_path / "scratch", run)


def test_a_checkpoint_saved_without_its_head_s_prefix_is_placed_too(tmp_path: Path) -> None:
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


def test_two_sweeps_share_a_reservoir_and_a_network(tmp_path: Path) -> None:
    folder = architectures.write("llama", tmp_path)
    skeleton, reservoir = MetaModel(Model(folder), torch.bfloat16, "cpu"), ActivationCache(tmp_path / "scratch", 0)
    sweeps = [SequentialForward(skeleton, reservoir, [batch], f"sweep-{at}") for at, batch in enumerate(batches())]
    for sweep in sweeps:
        sweep.embed()
    for sweep in sweeps:
        sweep.run_blocks(lambda _block: nullcontext(), lambda _block: None)
    together = SequentialForward(skeleton, ActivationCache(tmp_path / "other", LARGE), batches(), "together")
    together.embed()
    passed: list[str] = []
    together.run_blocks(lambda _block: nullcontext(), passed.append)
    assert passed == skeleton.blocks
    assert equal([sweep.get_hidden(0) for sweep in sweeps], [together.get_hidden(at) for at in range(2)])


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = architectures.write("llama", tmp_path)
    capfd.readouterr()
    streamed_logits(MetaModel(Model(folder), torch.bfloat16, "cpu"), batches(), tmp_path / "scratch")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("architecture", "cause"),
    [("rwkv", "one after another"), ("gemma4_unified_text", "handed a KVSharingDict")],
)
def test_what_is_no_chain_of_blocks_is_refused(architecture: str, cause: str, tmp_path: Path) -> None:
    folder = architectures.write(architecture, tmp_path, head_dim=8)
    sweep = SequentialForward(
        MetaModel(Model(folder), torch.bfloat16, "cpu"), ActivationCache(tmp_path / "scratch", LARGE), batches(), "test"
    )
    with pytest.raises(ConfigurationError, match="cannot be run block by block") as refused:
        sweep.embed()
    assert refused.value.cause is not None
    assert cause in refused.value.cause
