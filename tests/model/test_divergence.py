"""Perplexity and KL divergence of two models, compared with a plain loop without padding."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import memory
from antidote_ci.model.divergence import DivergenceRequest, encode_exchanges, measure_divergence
from antidote_ci.model.loading import load_model, load_tokenizer
from antidote_ci.records import Divergence, Model, Progress, PromptRow
from antidote_ci.sandbox.client import Sandbox
from tests import tiny
from tests.builders import ignore
from tests.conftest import CopyOf

ROWS = [
    PromptRow("how do i cook rice at home?", response="Sure, here is how to do that."),
    PromptRow("Why?", response="I cannot help with that. Nor with this."),
    PromptRow("tell me how to grow beans", response="good"),
    PromptRow("nothing", response=""),
    PromptRow("explain how to paint walls with my friend?", response="Sure, here is how to do that."),
    PromptRow("Hi", response="bad, i would say"),
]


def compare(before: Model, after: Model, rows: list[PromptRow] = ROWS, most_tokens: int = 2048) -> Divergence:
    result = measure_divergence(DivergenceRequest(before, after, rows, most_tokens), ignore)
    assert result is not None
    return result


def test_model_does_not_diverge_from_itself(trained_pair: Path) -> None:
    model = Model(trained_pair / "merged")
    result = compare(model, model)
    assert result.kl == 0
    assert result.perplexity_after == result.perplexity_before > 1


def test_adapter_diverges_like_its_merged_model(trained_pair: Path) -> None:
    reference, merged = Model(trained_pair / "reference"), Model(trained_pair / "merged")
    adapter = Model(trained_pair / "reference", trained_pair / "adapter")
    assert compare(adapter, merged).kl < 1e-3
    assert compare(adapter, reference).kl == pytest.approx(compare(merged, reference).kl, rel=0.05)
    assert compare(adapter, reference).kl > 0.1


def test_figures_equal_those_of_a_plain_loop(trained_pair: Path, sandbox: Sandbox) -> None:
    models = [Model(trained_pair / "merged"), Model(trained_pair / "reference")]
    result = sandbox.call(measure_divergence, DivergenceRequest(models[0], models[1], ROWS), ignore)
    assert result is not None
    networks = [load_model(model, merge=True).float() for model in models]
    losses, divergence, tokens = [0.0, 0.0], 0.0, 0
    with torch.inference_mode():
        for prompt, answer in encode_exchanges(load_tokenizer(models[0]), ROWS, 2048):
            ids = torch.tensor([[*prompt, *answer]])
            p, q = (network(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1) for network in networks)
            for at, scores in enumerate((p, q)):
                losses[at] -= float(scores.gather(-1, torch.tensor(answer).unsqueeze(-1)).sum())
            divergence += float((p.exp() * (p - q)).sum())
            tokens += len(answer)
    assert result.tokens == tokens
    # The sandbox may compute in bfloat16.
    assert result.kl == pytest.approx(divergence / tokens, rel=0.05)
    assert result.perplexity_before == pytest.approx(math.exp(losses[0] / tokens), rel=0.05)
    assert result.perplexity_after == pytest.approx(math.exp(losses[1] / tokens), rel=0.05)


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_models_that_do_not_fit_into_memory_are_compared_block_by_block(
    kind: str, trained_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = trained_pair / "reference"
    before = Model(reference, trained_pair / "adapter") if kind == "adapter" else Model(trained_pair / "merged")
    in_memory = compare(before, Model(reference))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    reports: list[Progress] = []
    streamed = measure_divergence(DivergenceRequest(before, Model(reference), ROWS), reports.append)
    assert streamed is not None
    if kind == "full":
        assert streamed == in_memory
    else:  # in memory the adapter is merged, which rounds the weights
        assert streamed.kl == pytest.approx(in_memory.kl, rel=0.05)
    layers = [report.done for report in reports if report.what == "layers computed"]
    assert layers == [*range(1, len(layers) // 2 + 1)] * 2
    assert reports[-1] == Progress("answers compared", 10, 10)
    assert compare(before, before).kl == 0


@given(st.permutations(ROWS), st.integers(1, 60))
@settings(max_examples=6, deadline=None)
def test_exchanges_are_chosen_by_hash_and_not_by_order(
    trained_pair: Path, rows: list[PromptRow], most_tokens: int
) -> None:
    tokenizer = load_tokenizer(Model(trained_pair / "merged"))
    all_rows = encode_exchanges(tokenizer, ROWS, 10_000)
    chosen = encode_exchanges(tokenizer, rows, most_tokens)
    total = sum(len(answer) for _, answer in all_rows)
    assert sum(len(answer) for _, answer in chosen) == min(total, most_tokens)
    for (prompt, answer), (full_prompt, full_answer) in zip(chosen, all_rows, strict=False):
        assert prompt == full_prompt
        assert answer == full_answer[: len(answer)]
        assert answer


def test_no_answers_give_no_figure(trained_pair: Path) -> None:
    model = Model(trained_pair / "merged")
    assert measure_divergence(DivergenceRequest(model, model, [PromptRow("Hi")]), ignore) is None
    assert measure_divergence(DivergenceRequest(model, model, []), ignore) is None


def test_model_that_computes_nan_gives_no_figure(trained_pair: Path, copy_of: CopyOf) -> None:
    from safetensors.torch import load_file, save_file

    broken = copy_of(trained_pair / "merged")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert measure_divergence(DivergenceRequest(Model(trained_pair / "merged"), Model(broken), ROWS), ignore) is None


def test_different_vocabularies_are_refused(trained_pair: Path, tiny_llama: Path) -> None:
    with pytest.raises(ConfigurationError, match="vocabularies differ"):
        compare(Model(trained_pair / "merged"), Model(tiny_llama))


def test_tokenizer_of_the_input_model_is_used_for_both(trained_pair: Path, tmp_path: Path) -> None:
    """The tokenizer files of the second model are not read."""
    merged = Model(trained_pair / "merged")
    tokenizer = load_tokenizer(merged)
    network = load_model(merged, merge=True)
    second_tokenizer = tiny.build_tokenizer(["zzz"], vocabulary=290)
    tiny.save(network, second_tokenizer, tmp_path / "after", dtype=str(network.dtype).removeprefix("torch."))
    assert second_tokenizer("zzz home")["input_ids"] != tokenizer("zzz home")["input_ids"]
    result = compare(merged, Model(tmp_path / "after"))
    assert result.perplexity_after == result.perplexity_before
