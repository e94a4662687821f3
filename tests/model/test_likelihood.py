"""Log-likelihoods compared with a plain loop over single answers without padding."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.model import loading, memory
from antidote_ci.model.conversations import render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.likelihood import (
    EncodeChoicesRequest,
    compute_logits,
    encode_choices,
    encode_task_choices,
    log_likelihoods,
)
from antidote_ci.model.loading import PLAIN_TEMPLATE, load_tokenizer
from antidote_ci.pipeline.evaluator import choose_likeliest
from antidote_ci.records import ChatSettings, Model, Progress, PromptRow
from antidote_ci.sandbox.client import Sandbox
from tests import tiny
from tests.builders import InProcessRunner, empty_store, ignore
from tests.conftest import CopyOf
from tests.thinking import ALWAYS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def network_and_tokenizer(trained_pair: Path) -> tuple[Any, Any]:
    """A network in float32, so that results differ by little, and its tokenizer."""
    from transformers import AutoModelForCausalLM

    folder = trained_pair / "merged"
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return network, load_tokenizer(Model(folder))


def plain_log_likelihood(network: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:  # noqa: ANN401
    with torch.inference_mode():
        scores = network(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    return sum(float(scores[len(prompt) + at - 1, token]) for at, token in enumerate(answer))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_likelihoods_do_not_depend_on_the_batch(
    network_and_tokenizer: tuple[Any, Any], pairs: list[tuple[str, str]], batch_size: int
) -> None:
    network, tokenizer = network_and_tokenizer
    rows: list[TokenPair] = [
        row for (row,) in encode_choices(tokenizer, [(prompt, [answer]) for prompt, answer in pairs])
    ]
    likelihoods = log_likelihoods(partial(compute_logits, network), rows, batch_size, ignore)
    assert likelihoods == pytest.approx([plain_log_likelihood(network, *row) for row in rows], rel=1e-4, abs=1e-4)


@given(texts, st.lists(texts, min_size=1, max_size=4), st.sampled_from([tiny.TEMPLATE, PLAIN_TEMPLATE]))
@settings(max_examples=8, deadline=None)
def test_all_answers_to_a_prompt_share_one_split(
    network_and_tokenizer: tuple[Any, Any], prompt: str, answers: list[str], template: str
) -> None:
    tokenizer = network_and_tokenizer[1]
    original_template, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        (rows,) = encode_choices(tokenizer, [(prompt, answers)])
        (opened,) = render_conversations(tokenizer, [single_turn(prompt)])
    finally:
        tokenizer.chat_template = original_template
    assert len({tuple(start) for start, _ in rows}) == 1
    for (start, rest), answer in zip(rows, answers, strict=True):
        assert [*start, *rest] == tokenizer(opened + answer, add_special_tokens=False)["input_ids"]
        # The answer's tokens may begin inside the template, but not after the answer's first character.
        assert opened.startswith(tokenizer.decode(start).rstrip("\ufffd"))


def test_token_merged_across_the_split_belongs_to_the_answer(network_and_tokenizer: tuple[Any, Any]) -> None:
    tokenizer = network_and_tokenizer[1]
    original_template, tokenizer.chat_template = tokenizer.chat_template, "{{ messages[0]['content'] }}"
    try:
        # A word that is one token, split between the prompt and the answer.
        word = next(text[1:] for text in tokenizer.get_vocab() if text.startswith("Ġ") and len(text) > 4)
        ((merged, unmerged),) = encode_choices(tokenizer, [(f"? {word[:-1]}", [word[-1], "?"])])
        unsplit = tokenizer(f"? {word[:-1]}", add_special_tokens=False)["input_ids"]
    finally:
        tokenizer.chat_template = original_template
    assert merged[0] == unmerged[0]
    assert len(merged[0]) < len(unsplit)


@pytest.mark.parametrize("adapter", [False, True])
def test_model_that_does_not_fit_into_memory_chooses_block_by_block(
    trained_pair: Path, adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    loading.release_models()
    reference = trained_pair / "reference"
    model = Model(reference, trained_pair / "adapter") if adapter else Model(trained_pair / "merged")
    rows = [
        PromptRow(f"label: the soup was {mood}", choices=("bad", "good", "a train")) for mood in ("awful", "lovely")
    ]
    reports: list[Progress] = []
    chosen = choose_likeliest(InProcessRunner(), empty_store(), EncodeChoicesRequest(model, rows), reports.append)
    assert [rows[at].choices[choice] for at, choice in enumerate(chosen)] == ["bad", "good"]
    assert [report.what for report in reports] == ["layers computed"] * 2 + ["choices"]


@pytest.mark.parametrize("adapter", [False, True])
def test_sandbox_chooses_the_most_likely_answer(trained_pair: Path, sandbox: Sandbox, adapter: bool) -> None:
    reference, merged = trained_pair / "reference", trained_pair / "merged"
    model = Model(reference, trained_pair / "adapter") if adapter else Model(merged)
    rows = [
        PromptRow(f"{ask}: the {thing} was {mood}", choices=("bad", "good", "a train", "Sure, here is how"))
        for ask in ("label", "good or bad")
        for thing in ("soup", "lamp", "boat")
        for mood in ("lovely", "awful")
    ]
    chosen = choose_likeliest(sandbox, empty_store(), EncodeChoicesRequest(model, rows), ignore)
    assert [rows[at].choices[choice] for at, choice in enumerate(chosen)] == ["good", "bad"] * 6


def test_choices_after_an_open_thought_are_refused(thinking_model: Path, copy_of: CopyOf) -> None:
    folder = copy_of(thinking_model)
    request = EncodeChoicesRequest(Model(folder), [PromptRow("label: the soup was lovely", choices=("good", "bad"))])
    plain = encode_task_choices(request, ignore)
    prefixed = encode_task_choices(replace(request, chat=ChatSettings("Be brief.")), ignore)
    assert len(prefixed.rows[0][0][0]) > len(plain.rows[0][0][0])
    (folder / "chat_template.jinja").write_text(ALWAYS)
    with pytest.raises(ConfigurationError, match="begin a thought, so choices cannot be scored"):
        encode_task_choices(request, ignore)


def test_choices_that_are_prefixes_of_others_are_refused(trained_pair: Path) -> None:
    model = Model(trained_pair / "merged")
    for choices in (("good", "good grief"), ("bad", "good", "good"), ("good", " ")):
        with pytest.raises(ConfigurationError, match="beginning of another"):
            encode_task_choices(
                EncodeChoicesRequest(model, [PromptRow("label: the soup was lovely", choices=choices)]), ignore
            )


def test_choices_are_cached_until_the_request_or_the_weights_change(
    trained_pair: Path, tmp_path: Path, copy_of: CopyOf
) -> None:
    model = Model(copy_of(trained_pair / "merged"))
    rows = [PromptRow("label: the soup was lovely", choices=("bad", "good"))]
    store = AnswerStore(tmp_path / "store")

    def choose(rows: list[PromptRow]) -> tuple[list[int], bool]:
        """The choices, and whether the network computed them."""
        reports: list[Progress] = []
        chosen = choose_likeliest(InProcessRunner(), store, EncodeChoicesRequest(model, rows), reports.append)
        return chosen, bool(reports)

    assert choose(rows) == ([1], True)
    assert choose(rows) == ([1], False)
    assert choose([*rows, *rows]) == ([1, 1], True)
    shutil.copy(trained_pair / "reference" / "model.safetensors", model.folder)
    assert choose(rows)[1]


def count_inputs(network: Any, rows: Sequence[TokenPair], batch_size: int) -> tuple[list[float], int]:  # noqa: ANN401
    """The likelihoods, and the number of inputs that the network computed for them."""
    lengths: list[int] = []
    handle = network.register_forward_pre_hook(
        lambda _module, _inputs, named: lengths.append(len(named["input_ids"])), with_kwargs=True
    )
    likelihoods = log_likelihoods(partial(compute_logits, network), rows, batch_size, ignore)
    handle.remove()
    return likelihoods, sum(lengths)


def test_choices_of_one_token_need_one_input(network_and_tokenizer: tuple[Any, Any]) -> None:
    network, tokenizer = network_and_tokenizer
    (rows,) = encode_choices(tokenizer, [("label: the soup was lovely", list("abcdef"))])
    assert count_inputs(network, rows, 4)[1] == 1


tokens = st.lists(st.integers(5, 7), max_size=3).map(tuple)


@given(st.lists(st.tuples(st.lists(st.integers(5, 7), min_size=1, max_size=3).map(tuple), tokens), max_size=8))
@settings(max_examples=30, deadline=None)
def test_prefixes_of_other_inputs_are_not_computed(
    network_and_tokenizer: tuple[Any, Any], rows: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    """With three different tokens, prompts and answers are often prefixes of each other."""
    network = network_and_tokenizer[0]
    lists: list[TokenPair] = [(list(prompt), list(answer)) for prompt, answer in rows]
    likelihoods, count = count_inputs(network, lists, 3)
    inputs = {prompt + answer[:-1] for prompt, answer in rows if answer}
    assert count == sum(not any(other != ids and other[: len(ids)] == ids for other in inputs) for ids in inputs)
    assert likelihoods == pytest.approx([plain_log_likelihood(network, *row) for row in rows], rel=1e-4, abs=1e-4)
