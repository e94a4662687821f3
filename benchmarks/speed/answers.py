"""Answers per second of a real small model, four ways. `python -m benchmarks.speed answers`

Ways to answer the same prompts with SmolLM2-135M-Instruct, weights in memory, measured in turns:

- paper: one prompt after another in float32, as the evaluation of Antidote's authors does;
- plain: `generate` on batches in the order given, in the processor's fastest dtype, at the best size found by hand;
- continuous: `generate_batch`, the continuous batching of transformers, at the best number of requests found by hand;
- ours: `TransformersGenerator` in this process with an empty store, from conversations to answers, its probe of the
  batch size included.

Each turn begins with another way. Ratios are the medians over the turns of ratios within a turn: other work on the
machine then slows both sides.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from antidote_ci import embedded
from antidote_ci.model import loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model
from benchmarks.speed.paired import Line, ratios
from demo.models import write_base
from tests.builders import generate

SETS = ("evaluation_prompts", "selection_prompts", "benign_evaluation", "benign_selection")
SIZES = (16, 32, 64, 100, 200)
CONTINUOUS_SIZES = (16, 32, 64)
TOKENS = 64
PAPER_PROMPTS = 24
"""Answered one by one: a sample of the others."""


def run(turns: int) -> list[Line]:
    """Lines against the paper's evaluation, plain `generate` and continuous batching."""
    prompts = [
        json.loads(line)["prompt"] for name in SETS for line in embedded.prompt_file(name).read_text().splitlines()
    ]
    sample = prompts[:: max(1, len(prompts) // PAPER_PROMPTS)][:PAPER_PROMPTS]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "SmolLM2-135M-Instruct"
        write_base(model)
        rates = compare(Model(model), prompts, sample, turns)
    return [
        Line("answers/s, ours / paper's loop in float32", ratios(rates["ours"], rates["paper"]), ">=", 15.0),
        Line("answers/s, ours / plain generate", ratios(rates["ours"], rates["plain"]), ">=", 1.2),
        Line("answers/s, ours / continuous batching", ratios(rates["ours"], rates["continuous"]), ">=", 1.0),
    ]


def compare(model: Model, prompts: list[str], sample: list[str], turns: int) -> dict[str, list[float]]:
    """Every way in turn, after the best sizes of `generate` and of `generate_batch` were found by trying them all."""
    tokenizer = loading.load_tokenizer(model)
    rows = encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts]))
    _device, dtype = loading.select_device_and_dtype()
    single = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32).eval()
    network = AutoModelForCausalLM.from_pretrained(model.folder, dtype=dtype).eval()
    request = GenerationRequest(model, {"all": [single_turn(prompt) for prompt in prompts]}, {"all": TOKENS})
    warm_up = GenerationRequest(model, {"all": [single_turn(prompts[0])]}, {"all": 2})
    generate(warm_up)
    plain(network, tokenizer, prompts[:2], 2)
    continuous(network, tokenizer, rows[:2], 2)
    best = find_best(SIZES, len(prompts), lambda size: plain(network, tokenizer, prompts, size))
    # A quarter of the prompts: only the size is wanted.
    best_continuous = find_best(
        CONTINUOUS_SIZES, len(rows), lambda size: continuous(network, tokenizer, rows[::4], size)
    )
    ways: dict[str, Callable[[], float]] = {
        "paper": lambda: per_second(len(sample), lambda: plain(single, tokenizer, sample, 1)),
        "plain": lambda: per_second(len(prompts), lambda: plain(network, tokenizer, prompts, best)),
        "continuous": lambda: per_second(len(rows), lambda: continuous(network, tokenizer, rows, best_continuous)),
        "ours": lambda: per_second(len(prompts), lambda: generate(request)),
    }
    rates: dict[str, list[float]] = {}
    for turn in range(turns):
        names = list(ways)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            rates.setdefault(name, []).append(ways[name]())
    return rates


def find_best(sizes: tuple[int, ...], most: int, work: Callable[[int], object]) -> int:
    """The size of at most `most` at which `work` takes least time."""
    tried = {size: per_second(1, lambda: work(size)) for size in sizes if size <= most}  # noqa: B023 - called at once
    return max(tried, key=lambda size: tried[size])


def plain(network: Any, tokenizer: Any, prompts: list[str], size: int) -> list[str]:  # noqa: ANN401
    """`generate` as its documentation shows it."""
    texts = render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts])
    answers: list[str] = []
    for start in range(0, len(texts), size):
        inputs = tokenizer(texts[start : start + size], padding=True, add_special_tokens=False, return_tensors="pt")
        output = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def continuous(network: Any, tokenizer: Any, rows: list[list[int]], size: int) -> list[str]:  # noqa: ANN401
    """`generate_batch` with `size` requests at once, and one page of its cache for each."""
    settings = ContinuousBatchingConfig(max_requests_per_batch=size, num_blocks=size + 1, max_batch_tokens=512)
    config = GenerationConfig(
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=network.generation_config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    outputs = network.generate_batch(inputs=rows, generation_config=config, continuous_batching_config=settings)
    return [tokenizer.decode(output.generated_tokens, skip_special_tokens=True) for output in outputs.values()]


def per_second(count: int, work: Callable[[], object]) -> float:
    """Answers a second of `work`, which gives `count`."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)
