"""Answers per second of a real small model, three ways. `python -m benchmarks.speed`

Three ways to answer the same prompts with SmolLM2-135M-Instruct, weights in memory, measured in turns:

- paper: one prompt after another in float32, as the evaluation of Antidote's authors does;
- plain: `generate` on batches in the order given, in the processor's fastest dtype, at the best size found by hand;
- ours: `antidote_ci.model.generation.generate`, from conversations to answers, its probe of the batch size included.

Ratios are the medians over the turns of ratios within a turn: other work on the machine then slows both sides.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from antidote_ci import embedded
from antidote_ci.demo.models import write_base
from antidote_ci.model import loading
from antidote_ci.model.generation import GenerationRequest, asked, generate, rendered
from antidote_ci.records import Model, Plan

SETS = ("evaluation_prompts", "selection_prompts", "benign_evaluation", "benign_selection")
SIZES = (16, 32, 64, 100, 200)
TOKENS = 64
GOALS = {"ours / paper": 15.0, "ours / plain": 1.0}


def main() -> None:
    """Measure, and print a table and JSON."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="answers per second")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--prompts", type=int, default=200)
    options.add_argument("--paper-prompts", type=int, default=24, help="measured one by one, a sample of the others")
    arguments = options.parse_args()
    prompts = [json.loads(line)["prompt"] for name in SETS for line in embedded.path(name).read_text().splitlines()][
        : arguments.prompts
    ]
    sample = prompts[:: max(1, len(prompts) // arguments.paper_prompts)][: arguments.paper_prompts]
    with tempfile.TemporaryDirectory() as folder:
        write_base(Path(folder) / "SmolLM2-135M-Instruct")
        result = compare(Model(Path(folder) / "SmolLM2-135M-Instruct"), prompts, sample, arguments.turns)
    for name, value in result["ratios"].items():
        print(f"{name:14} {value:6.2f}   goal {GOALS[name]:g}")
    for name, values in result["answers_per_second"].items():
        print(f"{name:14} {statistics.median(values):6.2f} answers/s   {' '.join(f'{value:.2f}' for value in values)}")
    print(json.dumps(result, indent=2))


def compare(model: Model, prompts: list[str], sample: list[str], turns: int) -> dict[str, Any]:
    """Every way in turn, after the best size of the plain one was found by trying them all."""
    tokenizer = loading.load_tokenizer(model)
    _device, dtype = loading.device_and_dtype()
    single = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32).eval()
    network = AutoModelForCausalLM.from_pretrained(model.folder, dtype=dtype).eval()
    request = GenerationRequest(model, {"all": [asked(prompt) for prompt in prompts]}, {"all": TOKENS})
    warm_up = GenerationRequest(model, {"all": [asked(prompts[0])]}, {"all": 2})
    generate(warm_up, lambda _: None)
    plain(network, tokenizer, prompts[:2], 2)
    tried = {
        size: per_second(len(prompts), lambda: plain(network, tokenizer, prompts, size))  # noqa: B023 - called at once
        for size in SIZES
        if size <= len(prompts)
    }
    best = max(tried, key=lambda size: tried[size])
    rates: dict[str, list[float]] = {"paper": [], "plain": [], "ours": []}
    plans: list[Plan] = []
    for _ in range(turns):
        rates["plain"].append(per_second(len(prompts), lambda: plain(network, tokenizer, prompts, best)))
        rates["ours"].append(per_second(len(prompts), lambda: plans.append(generate(request, lambda _: None).plan)))
        rates["paper"].append(per_second(len(sample), lambda: plain(single, tokenizer, sample, 1)))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {loading.instruction_set()}, {loading.threads()} threads",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "dtype": str(dtype),
        "prompts": len(prompts),
        "new_tokens": TOKENS,
        "plain_answers_per_second_by_batch_size": tried,
        "plain_batch_size": best,
        "our_batch_sizes": [plan.batch_size for plan in plans],
        "answers_per_second": rates,
        "ratios": {
            name: statistics.median(map(float.__truediv__, rates["ours"], rates[other]))
            for name, other in (("ours / paper", "paper"), ("ours / plain", "plain"))
        },
    }


def plain(network: Any, tokenizer: Any, prompts: list[str], size: int) -> list[str]:  # noqa: ANN401
    """`generate` as its documentation shows it."""
    texts = rendered(tokenizer, [asked(prompt) for prompt in prompts])
    answers: list[str] = []
    for start in range(0, len(texts), size):
        inputs = tokenizer(texts[start : start + size], padding=True, add_special_tokens=False, return_tensors="pt")
        output = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def per_second(count: int, work: Callable[[], object]) -> float:
    """Answers a second of `work`, which gives `count`."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
