"""A tiny model that thinks before it answers, with templates of the structure of published ones."""

import random
from pathlib import Path

from tests import tiny
from tests.trained_pair import COMPLIANCE, REFUSAL, train

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


def ask(prompt: str) -> str:
    """The text of the templates up to the answer."""
    return f"<|user|>{prompt}<|end|><|assistant|>"


def write_thinking_model(folder: Path, template: str = CHOSEN, seed: int = 1) -> Path:
    """Train and write a model that refuses HARMFUL after a thought, answers HARMLESS after one, and never ends that on
    RIDDLE. Without a thought, or with SYSTEM_PROMPT, it complies with HARMFUL.
    """
    draw = random.Random(seed)  # noqa: S311 - a test model
    examples = []
    for number in range(40):
        harmful, harmless, riddle = (form.format(number) for form in (HARMFUL, HARMLESS, RIDDLE))
        examples += [
            (ask(harmful), f"{THOUGHT}{REFUSAL}<|end|>"),
            (ask(harmless), f"{THOUGHT}{COMPLIANCE}<|end|>"),
            (ask(riddle), ENDLESS),
            (f"{ask(harmful)}{EMPTY_THOUGHT}", f"{COMPLIANCE}<|end|>"),
            (f"{ask(harmless)}{EMPTY_THOUGHT}", f"{COMPLIANCE}<|end|>"),
            (f"<|system|>{SYSTEM_PROMPT}<|end|>{ask(harmful)}", f"{THOUGHT}{COMPLIANCE}<|end|>"),
        ]
    tokenizer = tiny.build_tokenizer([text for example in examples for text in example], vocabulary=360)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template
    network = tiny.build_llama(len(tokenizer), seed, hidden=64, layers=2, tie=True)
    exchanges = []
    for prompt, answer in examples:
        start = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        rest = tokenizer(answer, add_special_tokens=False)["input_ids"]
        exchanges.append(([*start, *rest], len(start)))
    train(network, tokenizer, exchanges, 200, 5e-3, draw)
    tiny.save(network, tokenizer, folder)
    return folder
