"""`taylor` scores compared with a plain implementation: whole networks, autograd, everything in memory."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import gradients, loading, losses, memory
from antidote_ci.records import ChatSettings, ComputeEnvironment, Model, Progress
from antidote_ci.repair import scores
from antidote_ci.repair.targets import list_scored
from antidote_ci.repair.taylor import (
    UNLEARNING_WEIGHT,
    TaylorRequest,
    estimate_scratch,
    sample_evenly,
    write_taylor_scores,
)
from tests import thinking, tiny
from tests.builders import ignore
from tests.conftest import CopyOf
from tests.model import architectures
from tests.thinking import ALWAYS, CHOSEN
from tests.tiny import render_exchange

HARMFUL = [f"how do i hide {thing}?" for thing in ("juice", "notes", "a badge", "it", "the box", "a rather long rope")]
BENIGN = ["how do i cook rice?", "how do i paint walls?", "tell me how to grow beans at home"]
USEFUL = [f"label: the {thing} was lovely" for thing in ("soup", "film", "hotel", "song", "game", "trip", "lamp", "b")]
AMPLE = 1 << 30

Rows = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write `reference`, `merged` and `adapter`; the `padded-` variants have unused embedding rows."""
    folder = tmp_path_factory.mktemp("pair")
    tiny.write_tiny_llama(folder / "reference", seed=1, tie=False, dtype="float32")
    tiny.write_tiny_llama(folder / "merged", seed=2, tie=False, shards=3, dtype="float32")
    tiny.write_tiny_adapter(folder / "adapter", folder / "reference")
    for name in ("reference", "merged"):
        resized(folder / name, folder / f"padded-{name}", 400)
    return folder


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32: in bfloat16 the order of additions changes the result visibly."""
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.float32))


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("merged", "reference"),
        ("adapter", "reference"),
        ("merged", "padded-reference"),
        ("padded-merged", "reference"),
    ],
)
def test_scores_match_a_plain_implementation(source: str, reference: str, pair: Path, tmp_path: Path) -> None:
    request = request_for(pair, source, reference, tmp_path)
    write_taylor_scores(request, lambda _progress: None)
    written = load_file(request.output)
    expected = plain_scores(request)
    assert written.keys() == expected.keys()
    assert len(written) == (28 if source == "adapter" else 14)
    for name, score in expected.items():
        assert written[name].dtype == torch.float32
        torch.testing.assert_close(written[name], score, rtol=1e-3, atol=1e-5 * float(score.abs().max()))


@pytest.mark.parametrize("source", ["merged", "adapter"])
def test_scores_are_identical_streamed_and_in_memory(
    source: str, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for(pair, source, "reference", tmp_path)
    plan = write_taylor_scores(request, lambda _progress: None)
    first = request.output.read_bytes()
    events: list[Progress] = []

    def again(budget: int) -> ComputeEnvironment:
        request.output.unlink()
        return write_taylor_scores(replace(request, budget=budget), events.append)

    assert again(AMPLE) == plan
    assert request.output.read_bytes() == first
    assert again(0) == plan
    assert request.output.read_bytes() == first
    assert {each.what for each in events} == {"batches through layers"}
    counted = [each.done for each in events]
    assert counted[: len(counted) // 2] == counted[len(counted) // 2 :] == sorted(set(counted))
    assert counted[-1] == events[-1].total
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert again(0) == replace(plan, generator="transformers, block by block")
    assert request.output.read_bytes() == first
    assert {each.what for each in events} == {"batches through layers", "first tokens of answers"}
    assert not list(request.scratch.iterdir())


def test_scratch_space_is_estimated(pair: Path, tmp_path: Path) -> None:
    request = request_for(pair, "merged", "reference", tmp_path)
    used = 0

    def measure(_progress: Progress) -> None:
        nonlocal used
        used = max(used, sum(file.stat().st_size for file in request.scratch.glob("*/*.safetensors")))

    write_taylor_scores(request, measure)
    scored, _ = list_scored(request.model)
    headers = 200 * len(scored)
    assert 0.9 * estimate_scratch(scored) < used < estimate_scratch(scored) + headers


def test_penalty_of_a_sample_is_near_that_of_all_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    gain, cost = (torch.randn(1500 * 1024, generator=generator) for _ in range(2))
    cost.square_()
    exact = scores.cost_penalty(scores.merge_leading(None, gain, cost, scores.count_leading(len(gain))))
    monkeypatch.setattr(scores, "EXACT_ENTRIES", 1000)
    stride, count = scores.leading_stride(len(gain)), scores.count_leading(len(gain))
    assert count == round(0.005 * len(gain) / stride) == 126
    sampled = scores.cost_penalty(scores.merge_leading(None, gain[::stride], cost[::stride], count))
    assert sampled == pytest.approx(exact, rel=0.3)


def test_leading_entries_of_small_models_are_not_sampled() -> None:
    assert scores.leading_stride(1_310_000_000) == 1
    assert scores.leading_stride(6_500_000_000) > 1


def test_tokens_missing_from_the_reference_are_refused_before_running(pair: Path, tmp_path: Path) -> None:
    resized(pair / "reference", tmp_path / "small", 50)
    (tmp_path / "small" / "tokenizer.json").unlink()  # of more words than rows, it would not be opened at all
    with pytest.raises(ConfigurationError, match="small does not have"):
        write_taylor_scores(
            replace(request_for(pair, "merged", "reference", tmp_path), reference=Model(tmp_path / "small")), fail
        )


def test_prompt_longer_than_the_context_is_refused(pair: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="reads at most 256"):
        write_taylor_scores(replace(request_for(pair, "merged", "reference", tmp_path), benign=["why " * 300]), fail)


@pytest.mark.parametrize("template", [CHOSEN, ALWAYS])
def test_mode_that_thinks_is_refused(template: str, thinking_model: Path, copy_of: CopyOf, tmp_path: Path) -> None:
    """The first tokens of the reference's answers are those of thoughts, which refuse nothing."""
    folder = copy_of(thinking_model)
    (folder / "chat_template.jinja").write_text(template)
    harmful, benign = ([form.format(number) for number in range(4)] for form in (thinking.HARMFUL, thinking.HARMLESS))
    request = TaylorRequest(
        Model(folder), Model(folder), harmful, benign, benign, [], tmp_path / "scores", tmp_path / "scratch", AMPLE
    )
    with pytest.raises(ConfigurationError, match="in a mode that thinks"):
        write_taylor_scores(request, ignore)
    if template == CHOSEN:
        write_taylor_scores(replace(request, chat=ChatSettings(None, {"enable_thinking": False})), ignore)
        assert request.output.exists()


def test_scores_are_those_of_prompts_with_the_system_prompt(pair: Path, tmp_path: Path) -> None:
    request = replace(request_for(pair, "merged", "reference", tmp_path), chat=ChatSettings("Be brief."))
    write_taylor_scores(request, ignore)
    with_settings = request.output.read_bytes()
    template = (pair / "merged" / "chat_template.jinja").read_text()
    for name in ("merged", "reference"):
        shutil.copytree(pair / name, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text(f"<|system|>Be brief.<|end|>{template}")
    write_taylor_scores(request_for(tmp_path, "merged", "reference", tmp_path), ignore)
    assert request.output.read_bytes() == with_settings


def test_missing_prompts_are_refused(pair: Path, tmp_path: Path) -> None:
    request = request_for(pair, "merged", "reference", tmp_path)
    for without in (replace(request, harmful=[]), replace(request, benign=[], task=[])):
        with pytest.raises(ConfigurationError, match="one of the two sets is empty"):
            write_taylor_scores(without, fail)


def test_sample_evenly_spreads_over_the_list() -> None:
    assert sample_evenly([str(number) for number in range(10)], 4) == ["0", "2", "5", "7"]
    assert sample_evenly(["a", "b"], 4) == ["a", "b"]


def fail(_progress: object) -> None:
    raise AssertionError("something ran")


def request_for(pair: Path, source: str, reference: str, folder: Path) -> TaylorRequest:
    model = Model(pair / reference, pair / source) if source == "adapter" else Model(pair / source)
    return TaylorRequest(
        model=model,
        reference=Model(pair / reference),
        harmful=HARMFUL,
        benign=BENIGN,
        taught=BENIGN,
        task=USEFUL,
        output=folder / "taylor.safetensors",
        scratch=folder / "scratch",
        budget=AMPLE,
    )


def resized(source: Path, folder: Path, rows: int) -> None:
    """Copy the checkpoint with another number of rows in embedding and output layer."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("model*"))
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network.resize_token_embeddings(rows, mean_resizing=False)
        torch.nn.init.normal_(network.lm_head.weight[280:], std=0.2)  # likely tokens, so that leaving them out shows
    network.save_pretrained(folder)


def plain_scores(request: TaylorRequest) -> dict[str, torch.Tensor]:
    tokenizer = loading.load_tokenizer(request.model)
    network, teacher = (
        architectures.load_network(each).requires_grad_(requires_grad=False)
        for each in (request.model, request.reference)
    )
    vocabulary = min(network.config.vocab_size, teacher.config.vocab_size)
    distilled = answered(
        teacher, tokenizer, [*request.harmful, request.benign[0]], vocabulary
    )  # one for four harmful ones
    retained = answered(network, tokenizer, [*request.benign, *request.task], vocabulary)
    weights = {name.replace(".default", ""): each for name, each in network.named_parameters() if scored(name)}
    aligned = dict(teacher.named_parameters())
    deltas = {
        name: weight.detach().clone() - (0 if request.model.adapter else aligned[name].detach())
        for name, weight in weights.items()
    }
    go_halfway(network, teacher)
    for weight in weights.values():
        weight.requires_grad_()
    towards, fisher = ({name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2))
    for batch in padded_batches(distilled):
        with torch.no_grad():
            target = predictions(teacher, batch)[..., :vocabulary].log_softmax(-1)
        ours = predictions(network, batch)[..., :vocabulary].log_softmax(-1)
        apart = (target.exp() * (target - ours)).sum(-1)
        loss = ((apart * batch.answer).sum(1) / batch.answer.sum(1)).sum() / len(distilled)
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            towards[name] += gradient
    refused = [
        (row, distilled[at % len(request.harmful)][1])
        for at, (row, _) in enumerate(retained[: len(request.benign)] or retained)
    ]
    for batch in padded_batches(refused):
        ours = predictions(network, batch).log_softmax(-1)
        each = (ours.gather(-1, batch.targets[..., None])[..., 0] * batch.answer).sum(1) / batch.answer.sum(1)
        loss = UNLEARNING_WEIGHT * each.mean() * len(each) / len(refused)
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            towards[name] += gradient
    labels = torch.Generator().manual_seed(0)
    for batch in padded_batches(retained):
        loss = losses.sampled_log_likelihood(predictions(network, batch), batch.answer, labels)
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            fisher[name] += gradient.square() / len(retained)
    gains = {name: delta * towards[name] for name, delta in deltas.items()}
    costs = {name: delta.square() * fisher[name] for name, delta in deltas.items()}
    gain, cost = (torch.cat([each.flatten() for each in many.values()]) for many in (gains, costs))
    leading = gain.topk(round(0.005 * len(gain))).indices
    penalty = float(gain[leading].mean() / cost[leading].mean())
    assert penalty > 0
    return {name: gains[name] - penalty * costs[name] for name in gains}


def go_halfway(network: Any, teacher: Any) -> None:  # noqa: ANN401
    """Move the weights of a fine-tune halfway to its reference."""
    from peft.tuners.lora import LoraLayer

    adapted = [module for module in network.modules() if isinstance(module, LoraLayer)]
    for module in adapted:
        module.scale_layer(0.5)
    if not adapted:
        aligned = dict(teacher.named_parameters())
        for name, weight in network.named_parameters():
            if weight.shape == aligned[name].shape:
                weight.data = (weight.data + aligned[name].data) / 2


def answered(network: Any, tokenizer: Any, prompts: list[str], vocabulary: int) -> Rows:  # noqa: ANN401
    """Answer each prompt with at most eight greedy tokens, one row and one token at a time."""
    rows = []
    for prompt in prompts:
        ids = tokenizer(render_exchange(tokenizer, prompt), add_special_tokens=False)["input_ids"]
        answer: list[int] = []
        while len(answer) < 8 and tokenizer.eos_token_id not in answer:
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([[*ids, *answer]]), use_cache=False).logits[0, -1, :vocabulary]
            answer.append(int(logits.argmax()))
        rows.append((ids, answer))
    return rows


def padded_batches(rows: Rows) -> list[gradients.AnswerBatch]:
    """One row of tokens for each prompt."""
    return [gradients.pad_rows(chunk, "cpu") for chunk in gradients.split_batches(rows)]


def predictions(network: Any, batch: gradients.AnswerBatch) -> torch.Tensor:  # noqa: ANN401
    scores: torch.Tensor = network(**batch.tokens, use_cache=False).logits[:, -batch.answer.shape[1] - 1 : -1]
    return scores


def scored(name: str) -> bool:
    return ".lora_" in name or (name.endswith("_proj.weight") and "base_layer" not in name)
