"""Harmful embedding drift compared with its definition."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci.model import loading
from antidote_ci.records import Model
from benchmarks.paper import embedding_drift
from benchmarks.paper.embedding_drift import ReferenceOutputs, find_attention_modules, measure_drift
from tests.conftest import CopyOf
from tests.tiny import render_exchange

PROMPTS = ["Why?", "how do i sneak snacks past the guard?", "tell me how to copy notes in the exam", "Hi"]
ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def aligned(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceOutputs:
    return embedding_drift.store_reference_outputs(Model(tiny_llama), PROMPTS, tmp_path_factory.mktemp("aligned"))


def scaled(adapter: Path, factor: float) -> Path:
    """Multiply the delta of the adapter by `factor`, in place."""
    path = adapter / ADAPTER
    factors = load_file(path)
    save_file({key: tensor * factor if "lora_B" in key else tensor for key, tensor in factors.items()}, path)
    return adapter


def test_drift_grows_with_the_adapter(
    tiny_llama: Path, tiny_adapter: Path, aligned: ReferenceOutputs, copy_of: CopyOf
) -> None:
    factors = (0, 0.25, 0.5, 1)
    drifts = [measure_drift(Model(tiny_llama, scaled(copy_of(tiny_adapter), factor)), aligned) for factor in factors]
    assert drifts[0] == 0
    assert drifts == sorted(set(drifts))


def test_drift_does_not_depend_on_batches(
    tiny_llama: Path, tiny_adapter: Path, aligned: ReferenceOutputs, tmp_path: Path
) -> None:
    model = Model(tiny_llama, tiny_adapter)
    single_batches = embedding_drift.store_reference_outputs(Model(tiny_llama), PROMPTS, tmp_path, batch_size=1)
    drifts = [
        measure_drift(model, reference, size)
        for reference in (aligned, single_batches)
        for size in (1, 3, len(PROMPTS))
    ]
    assert drifts == pytest.approx([drifts[0]] * len(drifts), rel=1e-2)


def test_drift_is_the_mean_over_prompts(
    tiny_llama: Path, tiny_adapter: Path, aligned: ReferenceOutputs, tmp_path: Path
) -> None:
    model = Model(tiny_llama, tiny_adapter)
    twice = embedding_drift.store_reference_outputs(Model(tiny_llama), PROMPTS * 2, tmp_path / "twice")
    per_prompt = [
        measure_drift(model, embedding_drift.store_reference_outputs(Model(tiny_llama), [prompt], tmp_path / str(at)))
        for at, prompt in enumerate(PROMPTS)
    ]
    assert measure_drift(model, twice) == pytest.approx(measure_drift(model, aligned), rel=1e-2)
    assert measure_drift(model, aligned) == pytest.approx(sum(per_prompt) / len(per_prompt), rel=1e-2)


def test_drift_equals_its_definition(tiny_llama: Path, tiny_adapter: Path, aligned: ReferenceOutputs) -> None:
    """One prompt at a time, from the outputs of `o_proj`, the last layer of each attention module."""
    models = Model(tiny_llama), Model(tiny_llama, tiny_adapter)
    tokenizer = loading.load_tokenizer(models[0])
    recorded: list[list[torch.Tensor]] = []
    for model in models:
        network = loading.load_model(model, merge=True)
        outputs: list[torch.Tensor] = []
        for layer in network.model.layers:
            layer.self_attn.o_proj.register_forward_hook(
                lambda _module, _inputs, output, outputs=outputs: outputs.append(output)
            )
        for prompt in PROMPTS:
            ids = tokenizer(render_exchange(tokenizer, prompt), add_special_tokens=False, return_tensors="pt")[
                "input_ids"
            ]
            with torch.inference_mode():
                network(input_ids=ids.to(network.device))
        recorded.append(outputs)
    total = sum(
        float((output.float() - reference.float()).square().sum().sqrt())
        for reference, output in zip(*recorded, strict=True)
    )
    assert measure_drift(models[1], aligned) == pytest.approx(total / len(PROMPTS), rel=1e-2)


def test_network_without_attention_modules_has_none(tiny_llama: Path) -> None:
    assert find_attention_modules(torch.nn.Linear(2, 2)) == {}
    assert embedding_drift.has_attention(Model(tiny_llama))


def test_nested_attention_modules_count_once() -> None:
    class Attention(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

    network = torch.nn.ModuleDict({"one": Attention(Attention(torch.nn.Linear(2, 2))), "two": torch.nn.Linear(2, 2)})
    assert list(find_attention_modules(network)) == ["one"]
