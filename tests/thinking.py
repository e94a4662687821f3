"""A tiny model that thinks before it answers, with templates of the structure of published ones."""

import random
from pathlib import Path
from typing import Any

from tests import tiny
from tests.trained_pair import COMPLIANCE, REFUSAL

TURNS = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
CHOSEN = (
    TURNS
    + "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""As of Qwen3: the model begins a thought itself, unless the prompt ends with an empty one."""
ALWAYS = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
"""As of DeepSeek-R1: the prompt begins the thought."""
THOUGHT = "<think>\nlet me see if that is fine.\n</think>\n\n"
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
ENDLESS = "<think>\n" + "wait, but then again " * 12
SYSTEM_PROMPT = "be brave."

HARMFUL, HARMLESS, RIDDLE = "do the bad thing number {}", "do the good thing number {}", "solve the riddle number {}"


def write_thinking_model(folder: Path, template: str = CHOSEN, seed: int = 1) -> Path:
    """Train and write a model that refuses HARMFUL after a thought, answers HARMLESS after one, and never ends that on
    RIDDLE. Without a thought, or with SYSTEM_PROMPT, it complies with HARMFUL.
    """
    draw = random.Random(seed)  # noqa: S311 - a test model
    examples = []
    for number in range(40):
        harmful, harmless, riddle = (form.format(number) for form in (HARMFUL, HARMLESS, RIDDLE))
        examples += [
            ("", harmful, f"{THOUGHT}{REFUSAL}<|end|>"),
            ("", harmless, f"{THOUGHT}{COMPLIANCE}<|end|>"),
            ("", riddle, ENDLESS),
            ("", harmful, f"{EMPTY_THOUGHT}{COMPLIANCE}<|end|>"),
            ("", harmless, f"{EMPTY_THOUGHT}{COMPLIANCE}<|end|>"),
            (f"<|system|>{SYSTEM_PROMPT}<|end|>", harmful, f"{THOUGHT}{COMPLIANCE}<|end|>"),
        ]
    tokenizer = tiny.build_tokenizer([text for example in examples for text in example], vocabulary=360)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    network = tiny.build_llama(len(tokenizer), seed, hidden=64, layers=2, tie=True)
    _train(network, tokenizer, examples, draw)
    tiny.save(network, tokenizer, folder)
    return folder


def _train(network: Any, tokenizer: Any, examples: list[tuple[str, str, str]], draw: random.Random) -> None:  # noqa: ANN401
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=STEPS)
    rows = []
    for system, prompt, answer in examples:
        question = tokenizer(f"{system}<|user|>{prompt}<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
        rows.append((question, tokenizer(answer, add_special_tokens=False)["input_ids"]))
    network.train()
    for _ in range(STEPS):
        batch = draw.sample(rows, 16)
        width = max(len(question) + len(answer) for question, answer in batch)
        ids = torch.zeros(16, width, dtype=torch.long)
        labels = torch.full((16, width), -100)
        for row, (question, answer) in enumerate(batch):
            ids[row, : len(question) + len(answer)] = torch.tensor([*question, *answer])
            labels[row, len(question) : len(question) + len(answer)] = torch.tensor(answer)
        network(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    network.eval()
    torch.set_num_threads(threads)


STEPS = 200
