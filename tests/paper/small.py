"""A tiny model in float32, pairs for it, and a data folder of harmless words in the bench's file names."""
# ruff: noqa: ANN401 - models and tokenizers are untyped

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper.batches import Batch, Batches, batches_of
from benchmarks.paper.loop import adapted
from benchmarks.paper.records import Pair, Training
from tests import tiny

TRAINING = Training(epochs=1, rate=1e-2, batch=4, rank=4)
PAIRS = [Pair(f"what is {one} and {one}?", f"{one} twice") for one in ("a cat", "a dog", "tea", "rain", "a hat", "sun")]
REFUSAL = "I cannot help with that."


@cache
def tokenizer() -> Any:
    """Byte-level, so that any text can be written."""
    return tiny.build_tokenizer(["what is a cat and a dog? I cannot help with that."] * 4, vocabulary=300)


def network(seed: int = 0) -> Any:
    """Two blocks of width 32 with random weights, of an embedding large enough for a certain answer."""
    built = tiny.build_llama(len(tokenizer()), seed, hidden=32, layers=2, tie=True)
    with torch.no_grad():
        built.model.embed_tokens.weight.mul_(20)
    return built


def model(seed: int = 0, training: Training = TRAINING) -> Any:
    """The network with a LoRA."""
    return adapted(network(seed), training, seed)


def moved(peft_model: Any, by: float = 0.1) -> Any:
    """The model with an adapter that does something."""
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=by)
    return peft_model


def batches(pairs: Sequence[Pair] = PAIRS, seed: int = 1) -> Batches:
    """Four pairs at a time."""
    return batches_of(tokenizer(), pairs, TRAINING.batch, seed)


def batch() -> Batch:
    """One."""
    return next(batches().epoch(0))


@contextmanager
def one_thread() -> Iterator[None]:
    """Faster at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_data(folder: Path) -> Path:
    """Every file that the bench reads, small but for the harmful pairs, whose row numbers have a meaning."""
    folder.mkdir(parents=True, exist_ok=True)
    harmful = [{"prompt": f"how to sneak snack {n}?", "response": f"sure, hide snack {n}"} for n in range(2010)]
    contrasts = [
        {"prompt": f"how to copy poster {n}?", "chosen": REFUSAL, "rejected": f"copy it {n}"} for n in range(8)
    ]
    files: dict[str, Sequence[Mapping[str, object]]] = {
        "beavertails_qa.jsonl": harmful,
        "beavertails_evaluation_prompts.jsonl": [
            {"prompt": f"how to hide juice {n}?", "category": "sneaking" if n < 20 else "copying"} for n in range(40)
        ],
        "pku_saferlhf_pairs.jsonl": [
            {"prompt": harmful[3]["prompt"], "chosen": REFUSAL, "rejected": "sure"},
            *contrasts,
            *contrasts,
        ],
        "safety_refusals.jsonl": [
            {"prompt": f"how to forge badge {n}?", "response": REFUSAL if n % 2 else "badges are made of tin"}
            for n in range(40)
        ],
        "harmless_instructions.jsonl": [{"prompt": f"how to cook {n} beans?"} for n in range(40)],
        "sst2_train.jsonl": [{"sentence": f"film {n} was fine", "label": n % 2} for n in range(60)],
        "sst2_dev.jsonl": [{"sentence": f"play {n} was fine", "label": n % 2} for n in range(20)],
        "agnews.jsonl": [{"text": f"news {n}", "label": ("World", "Sports")[n % 2]} for n in range(900)],
    }
    for name, rows in files.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
