"""Divergence against its definition, and against a plain loop without padding."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.divergence import DivergenceRequest, encode_exchanges, measure_divergence
from antidote_ci.model.loading import load_model, load_tokenizer
from antidote_ci.model.losses import token_divergence
from antidote_ci.records import Divergence, Model, PromptRow
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

logits = st.lists(st.floats(-60, 60, width=32), min_size=5, max_size=5)


def compared(before: Model, after: Model, rows: list[PromptRow] = ROWS, most_tokens: int = 2048) -> Divergence:
    found = measure_divergence(DivergenceRequest(before, after, rows, most_tokens), ignore)
    assert found is not None
    return found


@given(logits, logits)
def test_the_divergence_is_its_definition(before: list[float], after: list[float]) -> None:
    p, q = (torch.tensor(each, dtype=torch.float64).softmax(0) for each in (before, after))
    exact = float((p * (p.log() - q.log())).sum())
    found = float(token_divergence(torch.tensor([before]), torch.tensor([after])))
    assert found >= 0
    assert found == pytest.approx(exact, rel=1e-4, abs=1e-5)


@given(logits)
def test_nothing_diverges_from_itself(row: list[float]) -> None:
    assert float(token_divergence(torch.tensor([row]), torch.tensor([row]))) == 0


def test_what_cannot_be_said_adds_nothing() -> None:
    never = torch.tensor([[0.0, 1.0, -math.inf]])
    assert float(token_divergence(never, never)) == 0
    assert float(token_divergence(never, torch.tensor([[0.0, 1.0, 2.0]]))) > 0
    assert float(token_divergence(torch.tensor([[0.0, 1.0, 2.0]]), never)) == math.inf


@pytest.mark.parametrize("name", ["tiny_llama", "trained_pair"])
def test_a_model_against_itself(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    model = Model(folder if name == "tiny_llama" else folder / "merged")
    found = compared(model, model)
    assert found.kl == 0
    assert found.perplexity_after == found.perplexity_before > 1


def test_an_adapter_is_its_merged_model(trained_pair: Path) -> None:
    reference, merged = Model(trained_pair / "reference"), Model(trained_pair / "merged")
    adapter = Model(trained_pair / "reference", trained_pair / "adapter")
    assert compared(adapter, merged).kl < 1e-3
    assert compared(adapter, reference).kl == pytest.approx(compared(merged, reference).kl, rel=0.05)
    assert compared(adapter, reference).kl > 0.1


def test_the_figures_are_those_of_a_plain_loop(trained_pair: Path, sandbox: Sandbox) -> None:
    models = [Model(trained_pair / "merged"), Model(trained_pair / "reference")]
    found = sandbox.call(measure_divergence, DivergenceRequest(models[0], models[1], ROWS), ignore)
    assert found is not None
    networks = [load_model(model, merge=True).float() for model in models]
    surprises, apart, tokens = [0.0, 0.0], 0.0, 0
    with torch.inference_mode():
        for prompt, answer in encode_exchanges(load_tokenizer(models[0]), ROWS, 2048):
            ids = torch.tensor([[*prompt, *answer]])
            p, q = (network(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1) for network in networks)
            for at, scores in enumerate((p, q)):
                surprises[at] -= float(scores.gather(-1, torch.tensor(answer).unsqueeze(-1)).sum())
            apart += float((p.exp() * (p - q)).sum())
            tokens += len(answer)
    assert found.tokens == tokens
    # The child computes in the processor's own precision, which may be bfloat16.
    assert found.kl == pytest.approx(apart / tokens, rel=0.05)
    assert found.perplexity_before == pytest.approx(math.exp(surprises[0] / tokens), rel=0.05)
    assert found.perplexity_after == pytest.approx(math.exp(surprises[1] / tokens), rel=0.05)


@given(st.permutations(ROWS), st.integers(1, 60))
@settings(max_examples=15, deadline=None)
def test_the_same_tokens_in_whatever_order_they_come(
    trained_pair: Path, rows: list[PromptRow], most_tokens: int
) -> None:
    tokenizer = load_tokenizer(Model(trained_pair / "merged"))
    everything = encode_exchanges(tokenizer, ROWS, 10_000)
    chosen = encode_exchanges(tokenizer, rows, most_tokens)
    total = sum(len(answer) for _, answer in everything)
    assert sum(len(answer) for _, answer in chosen) == min(total, most_tokens)
    for (prompt, answer), (whole_prompt, whole_answer) in zip(chosen, everything, strict=False):
        assert prompt == whole_prompt
        assert answer == whole_answer[: len(answer)]
        assert answer


def test_nothing_to_compare_is_no_figure(trained_pair: Path) -> None:
    model = Model(trained_pair / "merged")
    assert measure_divergence(DivergenceRequest(model, model, [PromptRow("Hi")]), ignore) is None
    assert measure_divergence(DivergenceRequest(model, model, []), ignore) is None


def test_a_model_that_computes_no_numbers_has_no_figure(trained_pair: Path, copy_of: CopyOf) -> None:
    from safetensors.torch import load_file, save_file

    broken = copy_of(trained_pair / "merged")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert measure_divergence(DivergenceRequest(Model(trained_pair / "merged"), Model(broken), ROWS), ignore) is None


def test_another_vocabulary_is_refused(trained_pair: Path, tiny_llama: Path) -> None:
    with pytest.raises(ConfigurationError, match="vocabularies differ"):
        compared(Model(trained_pair / "merged"), Model(tiny_llama))


def test_the_tokenizer_is_that_of_the_input_model(trained_pair: Path, tmp_path: Path) -> None:
    """A repaired folder whose tokenizer files say something else is still asked in the same token ids."""
    merged = Model(trained_pair / "merged")
    tokenizer = load_tokenizer(merged)
    network = load_model(merged, merge=True)
    other = tiny.build_tokenizer(["zzz"], vocabulary=290)
    tiny.save(network, other, tmp_path / "after", dtype=str(network.dtype).removeprefix("torch."))
    assert other("zzz home")["input_ids"] != tokenizer("zzz home")["input_ids"]
    found = compared(merged, Model(tmp_path / "after"))
    assert found.perplexity_after == found.perplexity_before
