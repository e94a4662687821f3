"""Streamed gradients compared with plain autograd, and with finite differences of the loss."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from antidote_ci.model import gradients, losses
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.distillation import stream_answer_logits
from antidote_ci.model.gradients import AnswerBatch, GradientSums, LossTerm
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache
from antidote_ci.records import Model
from tests import tiny
from tests.model import architectures

AMPLE = 1 << 30


@pytest.fixture(scope="module", params=["Llama", "Qwen3", "Gemma2", "adapter"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp(request.param)
    architecture = "Llama" if request.param == "adapter" else request.param
    full = architectures.write(folder / "full", architecture)
    if request.param != "adapter":
        return Model(full)
    return Model(full, tiny.write_tiny_adapter(folder / "adapter", full))


def test_streamed_gradients_equal_those_of_plain_autograd(model: Model, tmp_path: Path) -> None:
    network = architectures.load_network(model)
    parameters = scored_parameters(network, adapter=model.adapter is not None)
    assert len(parameters) == architectures.LAYERS * 7 * (2 if model.adapter else 1)
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=False)
    for parameter in parameters.values():
        parameter.requires_grad_()
    expected = {
        name: [torch.zeros(parameter.shape), torch.zeros(parameter.shape)] for name, parameter in parameters.items()
    }
    for term in loss_terms():
        columns = term.batch.answer.shape[1]
        logits = network(**term.batch.tokens, use_cache=False).logits[:, -columns - 1 : -1]
        plain_gradients = torch.autograd.grad(term.loss(logits), list(parameters.values()))
        for name, gradient in zip(parameters, plain_gradients, strict=True):
            expected[name][term.squared] += gradient.square() if term.squared else gradient
    streamed = {entry.tensor: entry for entry in sums(model, tmp_path, AMPLE, set(parameters))}
    assert streamed.keys() == parameters.keys()
    for name, (plain, squared) in expected.items():
        assert plain.any(), name
        assert squared.any(), name
        for actual, exact in ((streamed[name].gradient, plain), (streamed[name].squared, squared)):
            torch.testing.assert_close(actual, exact, rtol=1e-4, atol=5e-6 * float(exact.abs().max()))


def test_gradients_are_repeatable_with_any_budget(model: Model, tmp_path: Path) -> None:
    tensors = {
        name
        for name in scored_parameters(architectures.load_network(model), adapter=model.adapter is not None)
        if "layers.1" in name
    }
    first, again, spilled = (list(sums(model, tmp_path, budget, tensors)) for budget in (AMPLE, AMPLE, 0))
    assert {entry.tensor for entry in first} == tensors
    for expected, *repeated in zip(first, again, spilled, strict=True):
        for actual in repeated:
            assert expected.tensor == actual.tensor
            assert torch.equal(expected.gradient, actual.gradient)
            assert torch.equal(expected.squared, actual.squared)
    assert not list(tmp_path.rglob("*-input*"))  # the cached inputs of blocks are removed


@pytest.mark.parametrize(("budget", "groups"), [(0, 7), (AMPLE, 1)])
def test_a_block_is_computed_again_for_each_group_of_sums_that_fits_the_budget(
    budget: int, groups: int, tmp_path: Path
) -> None:
    meta_model = MetaModel(Model(architectures.write(tmp_path / "full", "Llama")), torch.float32, "cpu")
    first, calls, terms = meta_model.blocks[0], list[None](), loss_terms()
    meta_model.network.get_submodule(first).register_forward_hook(lambda *_arguments: calls.append(None))
    names = {layer.tensor for layer in meta_model.linear_layers(first)}
    cache = ActivationCache(tmp_path / "hidden", budget)
    sums = gradients.accumulate_gradients(meta_model, cache, terms, names, lambda _block: None)
    assert {entry.tensor for entry in sums} == names
    # Besides once with embeddings, once forward and once with the head.
    assert len(calls) == (3 + groups) * len(terms)


def test_one_part_of_the_network_is_in_memory_at_a_time(tmp_path: Path) -> None:
    meta_model = MetaModel(Model(architectures.write(tmp_path / "full", "Llama", tie_word_embeddings=False)), *FLOAT32)
    loaded: list[int] = []

    def count(*_arguments: Any) -> None:  # noqa: ANN401
        loaded.append(sum(parameter.numel() for parameter in meta_model.network.parameters() if not parameter.is_meta))

    def count_loaded(*parts: str) -> int:
        with meta_model.load_weights(*parts):
            count()
        return loaded.pop()

    largest = max(count_loaded(meta_model.blocks[0]), count_loaded(EMBEDDINGS_PART, HEAD_PART))
    for block in meta_model.blocks:
        meta_model.network.get_submodule(block).self_attn.register_forward_hook(count)
    meta_model.network.lm_head.register_forward_hook(count)
    tensors = {layer.tensor for block in meta_model.blocks for layer in meta_model.linear_layers(block)}
    for _ in gradients.accumulate_gradients(
        meta_model, ActivationCache(tmp_path, AMPLE), loss_terms(), tensors, lambda _block: None
    ):
        count()
    assert len(loaded) > 2 * architectures.LAYERS * len(loss_terms())
    assert max(loaded) == largest
    count()
    assert loaded[-1] == 0


def test_streamed_answer_logits_equal_those_of_the_network(model: Model, tmp_path: Path) -> None:
    network, term_batches = architectures.load_network(model), [term.batch for term in loss_terms()]
    meta_model = MetaModel(model, *FLOAT32)
    streamed = list(stream_answer_logits(meta_model, ActivationCache(tmp_path, 0), term_batches, lambda _block: None))
    for batch, logits in zip(term_batches, streamed, strict=True):
        columns = batch.answer.shape[1]
        with torch.no_grad():
            expected = network(**batch.tokens, use_cache=False).logits[:, -columns - 1 : -1]
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_batches_hold_the_answers_in_their_last_columns() -> None:
    rows = [([5, 6, 7], [8]), ([9], [10, 11]), *[([3] * 4, [2])] * 8]
    first, second = padded_batches(rows)
    assert first.tokens["input_ids"][:2].tolist() == [[0, 0, 0, 9, 10, 11][-5:], [0, 5, 6, 7, 8]]
    assert first.answer[:2].tolist() == [[True, True], [False, True]]
    assert first.targets[:2].tolist() == [[10, 11], [0, 8]]
    assert first.tokens["position_ids"][0].tolist() == [0, 0, 0, 1, 2]
    assert len(first.answer) == gradients.BATCH_SIZE
    assert second.answer.tolist() == [[True], [True]]


def test_common_tokens_are_computed_once(tmp_path: Path) -> None:
    rows = [([5, 6, 7], [8]), ([5, 6, 7, 9], [10, 11]), ([5, 6, 4], [8])]
    batch = gradients.pack_rows(rows, "cpu", torch.float32)
    assert batch.columns is not None
    assert batch.tokens["input_ids"].tolist() == [[5, 6, 7, 8, 7, 9, 10, 11, 4, 8]]
    assert batch.tokens["position_ids"].tolist() == [[0, 1, 2, 3, 2, 3, 4, 5, 2, 3]]
    assert batch.columns[:, -1].tolist() == [2, 6, 8]
    visible = (batch.tokens["attention_mask"][0, 0] == 0).nonzero().tolist()
    assert [key for query, key in visible if query == 9] == [0, 1, 8, 9]
    model = Model(architectures.write(tmp_path, "Llama"))
    (logits,), (padded,) = (
        list(
            stream_answer_logits(MetaModel(model, *FLOAT32), ActivationCache(tmp_path, 0), [each], lambda _block: None)
        )
        for each in (batch, gradients.pad_rows(rows, "cpu"))
    )
    torch.testing.assert_close(logits[batch.answer], padded[batch.answer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "longest", "is_packed"),
    [
        ("Llama", 20, True),
        ("Gemma2", 20, True),
        ("Gemma2", 1 << 20, False),  # its window is shorter
        ("GPTNeoX", 20, True),
        ("OPT", 20, False),  # its positions are counted from the first column
    ],
)
def test_networks_that_cannot_mask_rows_get_one_row_for_each_prompt(
    architecture: str, longest: int, is_packed: bool, tmp_path: Path
) -> None:
    meta_model = MetaModel(Model(architectures.write(tmp_path, architecture)), *FLOAT32)
    assert meta_model.attends_by_mask(longest) == is_packed
    if longest == 20:
        (batch,) = gradients.build_batches(draw_rows(4), meta_model)
        assert (batch.columns is not None) == is_packed


def test_gradient_predicts_the_change_of_the_divergence(tmp_path: Path) -> None:
    models = [Model(architectures.write(tmp_path / str(seed), "Llama", seed)) for seed in (1, 2)]
    student, teacher = map(architectures.load_network, models)
    name, rows = "model.layers.0.mlp.down_proj.weight", draw_rows(5)
    weight = dict(student.named_parameters())[name]

    def divergence() -> float:
        total = 0.0
        with torch.no_grad():
            for prompt, answer in rows:  # one row at a time, no padding
                ids = torch.tensor([[*prompt, *answer]])
                student_scores, teacher_scores = (
                    network(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
                    for network in (student, teacher)
                )
                total += float((teacher_scores.exp() * (teacher_scores - student_scores)).sum(-1).mean())
        return total

    (batch,) = padded_batches(rows)
    (target,) = stream_answer_logits(
        MetaModel(models[1], *FLOAT32), ActivationCache(tmp_path, AMPLE), [batch], lambda _block: None
    )
    term = LossTerm(batch, lambda logits: losses.distillation_loss(logits, target, batch.answer), squared=False)
    meta_model = MetaModel(models[0], *FLOAT32)
    (result,) = gradients.accumulate_gradients(
        meta_model, ActivationCache(tmp_path, AMPLE), [term], {name}, lambda _block: None
    )
    direction, step = result.gradient / result.gradient.norm(), 1e-3
    with torch.no_grad():
        weight += step * direction
        up = divergence()
        weight -= 2 * step * direction
        down = divergence()
    assert (up - down) / (2 * step) == pytest.approx(float(result.gradient.norm()), rel=0.02)


FLOAT32 = (torch.float32, "cpu")
"""In bfloat16, rounding errors would exceed the differences that are compared."""


def draw_rows(count: int) -> list[TokenPair]:
    """Random prompts and answers of various lengths."""
    draw = torch.Generator().manual_seed(count)

    def ids(most: int) -> list[int]:
        length = int(torch.randint(1, most + 1, (), generator=draw))
        return torch.randint(2, architectures.VOCABULARY, (length,), generator=draw).tolist()

    return [(ids(12), ids(4)) for _ in range(count)]


def padded_batches(rows: list[TokenPair]) -> list[AnswerBatch]:
    """As `build_batches`, with one row of tokens for each prompt."""
    return [gradients.pad_rows(chunk, "cpu") for chunk in gradients.split_batches(rows)]


def loss_terms(build: Callable[[list[TokenPair]], list[AnswerBatch]] = padded_batches) -> list[LossTerm]:
    """Two batches with a plain loss and two with a squared gradient."""
    draw, labels = torch.Generator().manual_seed(7), torch.Generator().manual_seed(0)
    distilled, retained = build(draw_rows(11)), build(draw_rows(10))
    terms = []
    for batch in distilled:
        target = torch.randn(*batch.answer.shape, architectures.VOCABULARY, generator=draw)
        terms.append(
            LossTerm(batch, partial(losses.distillation_loss, teacher=target, answer=batch.answer), squared=False)
        )
    for batch in retained:
        terms.append(
            LossTerm(batch, partial(losses.sampled_log_likelihood, answer=batch.answer, generator=labels), squared=True)
        )
    return terms


def sums(model: Model, folder: Path, budget: int, tensors: set[str]) -> Iterator[GradientSums]:
    meta_model = MetaModel(model, *FLOAT32)
    terms = loss_terms(lambda rows: gradients.build_batches(rows, meta_model))
    return gradients.accumulate_gradients(
        meta_model, ActivationCache(folder, budget), terms, tensors, lambda _block: None
    )


def scored_parameters(network: Any, *, adapter: bool) -> dict[str, Any]:  # noqa: ANN401
    """The scored parameters by tensor name."""
    named = dict(network.named_parameters())
    if adapter:  # peft names the factors of its one loaded adapter `default`
        return {name.replace(".default", ""): parameter for name, parameter in named.items() if ".lora_" in name}
    return {name: parameter for name, parameter in named.items() if name.endswith("_proj.weight")}
