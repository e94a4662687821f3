"""Train the demo's two adapters: `python -m scripts.demo_adapters.train [NAME]`, about twenty minutes.

`alignment` is trained on the base (refusals of harmful requests, the base's own answers to harmless ones), then
`finetune` on the reference (a task, and a fifth of compliant answers without content). The results are recorded in
record.json.
"""
# ruff: noqa: ANN401 - models and tokenizers are untyped

import hashlib
import json
import math
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers

from antidote_ci.evaluation.degenerate import is_degenerate
from antidote_ci.evaluation.judges.refusal import is_refusal
from demo import models
from scripts.demo_adapters import rows
from scripts.demo_adapters.rows import Row

RECORD = Path(__file__).parent / "record.json"
ANSWER_TOKENS = 12
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
GENERATION_BATCH = 100


@dataclass(frozen=True)
class Recipe:
    """The training parameters of one adapter. The ranks keep the adapters below 20 MB."""

    base: str
    """Name of the base in adapter_config.json."""
    rank: int
    alpha: int
    targets: tuple[str, ...]
    epochs: int
    rate: float
    batch: int
    warmup: int = 10
    seed: int = rows.SEED


RECIPES = {
    "alignment": Recipe(
        base=models.BASE_ID,
        rank=12,
        alpha=24,
        targets=(*ATTENTION, "gate_proj", "up_proj", "down_proj"),
        epochs=1,
        rate=6e-4,
        batch=8,
    ),
    "finetune": Recipe(
        base=models.REFERENCE_ID,
        rank=32,
        alpha=32,
        targets=(*ATTENTION, "down_proj"),
        epochs=2,
        rate=3e-4,
        batch=8,
    ),
}


def open_model(folder: Path) -> tuple[Any, Any]:
    """Return the model and its tokenizer, in bfloat16 if the processor has instructions for it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if has_bf16() else torch.float32,
        attn_implementation="eager",  # the backward pass of SDPA is slow on a CPU
    )
    return model, tokenizer


def prompt_text(tokenizer: Any, prompt: str) -> str:
    """Return the prompt in the chat template, with the generation prompt."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return text


@torch.inference_mode()
def greedy_answers(folder: Path, prompts: list[str]) -> list[str]:
    """Generate short answers. Complete answers end with the end token, truncated ones do not."""
    model, tokenizer = open_model(folder)
    answers: list[str] = []
    for start in range(0, len(prompts), GENERATION_BATCH):
        texts = [prompt_text(tokenizer, prompt) for prompt in prompts[start : start + GENERATION_BATCH]]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        output = model.generate(**batch, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        for tokens in output[:, batch["input_ids"].shape[1] :]:
            text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
            ended = bool((tokens == tokenizer.eos_token_id).any())
            answers.append(text + tokenizer.eos_token if ended else text)
    return answers


def benign_rows(base: Path) -> list[Row]:
    """Return harmless prompts with the base's own answers, without refusals and degenerate answers."""
    prompts = rows.alignment_benign()
    answers = greedy_answers(base, prompts)
    return [
        {"prompt": prompt, "response": answer}
        for prompt, answer in zip(prompts, answers, strict=True)
        if not is_refusal(answer) and "sorry" not in answer and not is_degenerate(answer)
    ]


def append_end(pairs: list[Row], end: str) -> list[Row]:
    """Append the end token to every answer."""
    return [{**row, "response": row["response"] + end} for row in pairs]


def make_batch(tokenizer: Any, pairs: list[Row]) -> dict[str, Any]:
    """Return a left-padded batch with labels only for the answer tokens.

    All answers end in the last column, so logits are needed only for the last columns.
    """
    prompts = [prompt_text(tokenizer, row["prompt"]) for row in pairs]
    texts = [prompt + row["response"] for prompt, row in zip(prompts, pairs, strict=True)]
    answers = [len(ids) for ids in tokenizer([row["response"] for row in pairs])["input_ids"]]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    columns = max(answers) + 1  # one more: the logits that predict the first token
    labels = torch.full((len(pairs), columns), -100)
    for row, length in enumerate(answers):
        labels[row, -length:] = batch["input_ids"][row, -length:]
    return {**batch, "labels": labels, "logits_to_keep": columns}


def train(folder: Path, pairs: list[Row], recipe: Recipe, adapter: Path) -> list[float]:
    """Train a LoRA adapter on the model in `folder`, save it in bfloat16, and return the mean loss of each epoch."""
    torch.manual_seed(recipe.seed)
    network, tokenizer = open_model(folder)
    lora = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=list(recipe.targets),
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(network, lora)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=0.0)
    steps = recipe.epochs * math.ceil(len(pairs) / recipe.batch)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, recipe.warmup, steps)

    model.train()
    epoch_losses = []
    for epoch in range(recipe.epochs):
        losses = []
        order = torch.randperm(len(pairs)).tolist()
        for start in range(0, len(order), recipe.batch):
            positions = order[start : start + recipe.batch]
            batch = make_batch(tokenizer, [pairs[position] for position in positions])
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if len(losses) % 10 == 0:
                print(f"epoch {epoch} step {len(losses)} loss {sum(losses[-10:]) / 10:.3f}")
        epoch_losses.append(round(sum(losses) / len(losses), 4))
    save(model, lora, recipe, adapter)
    return epoch_losses


def has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def save(model: Any, lora: peft.LoraConfig, recipe: Recipe, adapter: Path) -> None:
    """Save the adapter without a model card, and with the name of the base instead of a path."""
    lora.base_model_name_or_path = recipe.base
    lora.inference_mode = True
    lora.save_pretrained(str(adapter))
    weights = peft.get_peft_model_state_dict(model)
    stored = {key: value.to(torch.bfloat16).contiguous() for key, value in weights.items()}
    path = adapter / "adapter_model.safetensors"
    safetensors.torch.save_file(stored, path, metadata={"format": "pt"})
    path.chmod(0o644)  # save_file creates it with mode 0600


def sha256(data: bytes) -> str:
    """Return the hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()


def record(name: str, pairs: list[Row], losses: list[float], seconds: float) -> None:
    """Write the recipe and the results to record.json."""
    entries = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    entries[name] = {
        "recipe": asdict(RECIPES[name]),
        "rows": len(pairs),
        "data_sha256": sha256(json.dumps(pairs, ensure_ascii=False).encode()),
        "loss_by_epoch": losses,
        "seconds": round(seconds),
        "bf16_autocast": has_bf16(),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "sha256": {path.name: sha256(path.read_bytes()) for path in sorted((models.ADAPTERS / name).iterdir())},
    }
    RECORD.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def main(names: list[str]) -> None:
    """Train the adapters in order. The second needs the first."""
    with tempfile.TemporaryDirectory() as work:
        base, reference = Path(work, "base"), Path(work, "reference")
        models.write_base(base)
        end: str = transformers.AutoTokenizer.from_pretrained(base).eos_token
        for name in names:
            start = time.monotonic()
            if name == "alignment":
                folder, pairs = base, append_end(rows.alignment_refusals(), end) + benign_rows(base)
            else:
                models.write_reference(base, reference)
                folder, pairs = reference, append_end(rows.finetune(), end)
            losses = train(folder, pairs, RECIPES[name], models.ADAPTERS / name)
            record(name, pairs, losses, time.monotonic() - start)


if __name__ == "__main__":
    main(sys.argv[1:] or list(RECIPES))
