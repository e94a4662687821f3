"""Input norms computed block by block equal those of a plain forward pass bit for bit, without padding."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.input_norms import (
    TOKENS_AT_ONCE,
    InputNormRequest,
    accumulate_squares,
    measure_input_norms,
    sum_squares,
)
from antidote_ci.model.loading import load_model, load_tokenizer
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, Inputs
from antidote_ci.records import Model, Progress, PromptRow
from tests.builders import ignore
from tests.model.streaming import architectures
from tests.model.streaming.architectures import ARCHITECTURES, batches
from tests.model.streaming.test_lora import ADAPTERS, wrapped, write_adapter
from tests.tiny import render_exchange

PROMPTS = ["Hi", "Tell me a story about a lighthouse and a very long voyage of a ship", "Why?", "Name a bird"]
ROWS = [PromptRow(prompt, response=f"Sure, here is number {n}.") for n, prompt in enumerate(PROMPTS)]
Sums = dict[str, torch.Tensor]


def request(model: Model, folder: Path, rows: list[PromptRow] = ROWS, budget: int = 1 << 20) -> InputNormRequest:
    return InputNormRequest(model, rows, folder / "statistics.safetensors", folder / "scratch", budget)


def plain_sums(network: Any, inputs: list[Inputs]) -> Sums:  # noqa: ANN401 - transformers is untyped
    """Module name -> sum of squares over all tokens without padding, from a forward pass with hooks."""
    sums: Sums = {}
    for batch in inputs:
        real = batch["attention_mask"].bool()

        def hook(name: str, real: torch.Tensor = real) -> Any:  # noqa: ANN401
            def add(_module: torch.nn.Module, inputs_of_layer: tuple[torch.Tensor, ...]) -> None:
                features = inputs_of_layer[0].reshape(*real.shape, -1)[real]
                sums[name] = sums.get(name, torch.zeros(())) + features.float().square().sum(dim=0)

            return add

        handles = [
            module.register_forward_pre_hook(hook(name))
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.Linear)
        ]
        with torch.no_grad():
            network(**batch, use_cache=False)
        for handle in handles:
            handle.remove()
    return sums


def same(actual: Sums, expected: Sums) -> bool:
    return actual.keys() == expected.keys() and all(torch.equal(actual[name], expected[name]) for name in actual)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sums_equal_those_of_a_plain_forward_pass(architecture: str, tmp_path: Path) -> None:
    folder = architectures.write(architecture, tmp_path)
    meta_model = MetaModel(Model(folder), torch.bfloat16, "cpu")
    plain = plain_sums(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval(), batches())
    tensors = {linear.tensor: linear.path for block in meta_model.blocks for linear in meta_model.linear_layers(block)}
    expected = {tensor: plain[path] for tensor, path in tensors.items()}
    assert expected
    for budget in (1 << 30, 0):
        actual = accumulate_squares(meta_model, ActivationCache(tmp_path / "scratch", budget), batches(), ignore)
        assert same(actual, expected)


@pytest.mark.parametrize(
    "kind", ["patterns", "a linear layer saved", "fused layers", "attention of a mixture of experts"]
)
def test_inputs_of_an_adapter_s_factors_are_measured(kind: str, tmp_path: Path) -> None:
    architecture, config = ADAPTERS[kind]
    base, adapter = architectures.write(architecture, tmp_path / "base"), tmp_path / "adapter"
    write_adapter(adapter, base, config)
    plain = plain_sums(wrapped(base, adapter, torch.bfloat16), batches())
    meta_model = MetaModel(Model(base, adapter), torch.bfloat16, "cpu")
    actual = accumulate_squares(meta_model, ActivationCache(tmp_path / "scratch", 1 << 30), batches(), ignore)
    assert meta_model.lora is not None
    expected = {
        tensor: plain[tensor.removesuffix(".weight") + ".default"]
        for names in meta_model.lora.modules.values()
        for tensor in (names.a, names.b)
    }
    assert same(actual, expected)


def test_norms_equal_those_of_single_rows_without_padding(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    for model in (Model(tiny_llama), Model(tiny_llama, tiny_adapter)):
        measure_input_norms(request(model, tmp_path), ignore)
        norms_by_name = load_file(tmp_path / "statistics.safetensors")
        tokenizer, network = load_tokenizer(model), load_model(model, merge=False)
        texts = [render_exchange(tokenizer, row.prompt, row.response) for row in ROWS]
        rows = [dict(tokenizer(text, add_special_tokens=False, return_tensors="pt")) for text in texts]
        sums = plain_sums(network, [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows])
        for name, norms in norms_by_name.items():
            module = name.removesuffix(".weight") + ("" if model.adapter is None else ".default")
            # bfloat16 activations of differently shaped batches differ in their last bits
            torch.testing.assert_close(norms, (sums[module] / len(ROWS)).sqrt(), rtol=0.02, atol=0.02)


def test_output_is_the_same_for_every_budget_and_scratch_is_cleaned(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "unrelated").touch()
    written = set()
    for budget in (1 << 20, 3000, 0):
        reports: list[Progress] = []
        plan = measure_input_norms(request(Model(tiny_llama), tmp_path, budget=budget), reports.append)
        assert reports == [Progress("layers scored", 1, 2), Progress("layers scored", 2, 2)]
        assert plan.batch_size == 16
        written.add((tmp_path / "statistics.safetensors").read_bytes())
    assert len(written) == 1
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["unrelated"]


def test_scratch_is_cleaned_after_a_failure(tiny_llama: Path, tmp_path: Path) -> None:
    def fail(_: Progress) -> None:
        assert list((tmp_path / "scratch").rglob("*.hidden"))
        raise OSError("the report failed")

    with pytest.raises(OSError, match="failed"):
        measure_input_norms(request(Model(tiny_llama), tmp_path, budget=0), fail)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_empty_sets_and_rows_beyond_the_context_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the realignment set is empty"):
        measure_input_norms(request(Model(tiny_llama), tmp_path, rows=[]), ignore)
    rows = [*ROWS, PromptRow("a secret " * 200, response="Sure.")]
    with pytest.raises(ConfigurationError, match=r"row 5 has \d+ tokens, and llama reads at most 256") as refused:
        measure_input_norms(request(Model(tiny_llama), tmp_path, rows=rows), ignore)
    assert not re.search("secret", f"{refused.value.what} {refused.value.cause} {refused.value.hint}")
    assert not (tmp_path / "statistics.safetensors").exists()


def test_layer_whose_weight_is_used_without_calling_it_is_refused(tmp_path: Path) -> None:
    meta_model = MetaModel(Model(architectures.write("mamba", tmp_path / "base")), torch.bfloat16, "cpu")
    with pytest.raises(ConfigurationError, match=r"dt_proj\.weight is never called"):
        accumulate_squares(meta_model, ActivationCache(tmp_path / "scratch", 1 << 30), batches(), ignore)


@given(tokens=st.integers(1, 1500), columns=st.integers(1, 9), dtype=st.sampled_from([torch.bfloat16, torch.float32]))
def test_sum_of_squares_is_accurate_to_float32(tokens: int, columns: int, dtype: torch.dtype) -> None:
    features = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens)).to(dtype)
    before = features.clone()
    sums = sum_squares(features, torch.empty(TOKENS_AT_ONCE * columns))
    torch.testing.assert_close(sums, features.double().square().sum(dim=0).float(), rtol=1e-5, atol=0)
    assert torch.equal(features, before)
