"""Answers must not depend on their neighbours, and statistics not on padding."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from antidote_ci.model.generation import GenerationRequest, conversation, generate
from antidote_ci.model.loading import load_model, load_tokenizer
from antidote_ci.model.statistics import StatisticsRequest, input_norms
from antidote_ci.records import Model, Progress, Row
from tests.conftest import CopyOf

PROMPTS = ["Hi", "Tell me a story about a lighthouse and a very long voyage of a ship", "Why?", "Name a bird"]
ROWS = [Row(prompt, response=f"Sure, here is number {n}.") for n, prompt in enumerate(PROMPTS)]


Hook = Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]


def ignore(_: Progress) -> None:
    pass


def test_a_batch_answers_as_each_prompt_alone(trained_pair: Path) -> None:
    model = Model(trained_pair / "reference")
    together = generate(GenerationRequest(model, {"all": PROMPTS}, {"all": 12}), ignore).answers["all"]
    for prompt, answer in zip(PROMPTS, together, strict=True):
        alone = generate(GenerationRequest(model, {"one": [prompt]}, {"one": 12}), ignore)
        assert alone.answers["one"] == [answer]


def test_an_adapter_speaks_as_its_merged_model(trained_pair: Path) -> None:
    merged = Model(trained_pair / "merged")
    adapter = Model(trained_pair / "reference", trained_pair / "adapter")
    answers = [
        [
            answer.text
            for answer in generate(GenerationRequest(each, {"all": PROMPTS}, {"all": 12}), ignore).answers["all"]
        ]
        for each in (merged, adapter)
    ]
    assert answers[0] == answers[1]


def test_statistics_equal_a_plain_loop_without_padding(trained_pair: Path, tmp_path: Path) -> None:
    for model in (Model(trained_pair / "merged"), Model(trained_pair / "reference", trained_pair / "adapter")):
        output = tmp_path / "statistics.safetensors"
        input_norms(StatisticsRequest(model, ROWS, output), ignore)
        found = load_file(output)
        tokenizer, network = load_tokenizer(model), load_model(model, merge=False)
        sums: dict[str, torch.Tensor] = {}

        def hook(name: str, sums: dict[str, torch.Tensor] = sums) -> Hook:
            def add(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                sums[name] = sums.get(name, torch.zeros(())) + inputs[0][0].float().square().sum(dim=0)

            return add

        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
                module.register_forward_pre_hook(hook(name))
        with torch.inference_mode():
            for row in ROWS:
                text = conversation(tokenizer, row.prompt, row.response)
                network(**tokenizer(text, add_special_tokens=False, return_tensors="pt"))
        assert found.keys() == sums.keys()
        for name, norms in found.items():
            plain = (sums[name] / len(ROWS)).sqrt()
            # bfloat16 activations of differently shaped batches differ in their last bits
            torch.testing.assert_close(norms, plain, rtol=0.02, atol=0.02)


def test_statistics_repeat_to_the_bit(trained_pair: Path, tmp_path: Path) -> None:
    model = Model(trained_pair / "merged")
    for name in ("a", "b"):
        input_norms(StatisticsRequest(model, ROWS, tmp_path / name), ignore)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_model_without_a_chat_template_gets_a_plain_one(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    (folder / "chat_template.jinja").unlink()
    result = generate(GenerationRequest(Model(folder), {"all": ["Hi"]}, {"all": 4}), ignore)
    assert len(result.answers["all"]) == 1
