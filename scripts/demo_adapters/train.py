"""Train the demo's two adapters: `python -m scripts.demo_adapters.train`, about twenty minutes.

First `alignment` on the base (refusals for harmful requests, the base's own answers for harmless
ones), then `finetune` on the reference that this gives (a useful task and a fifth of empty
compliance). What was done is written to record.json. A name as an argument trains that one alone.
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
    """How one adapter is trained. The ranks are what fits into 20 MB of package data."""

    base: str
    """What adapter_config.json names as its base."""
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
    """The model and its tokenizer, in bf16 where the processor is fast at it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if has_bf16() else torch.float32,
        attn_implementation="eager",  # the backward pass of the fused one is slow on a CPU
    )
    return model, tokenizer


def prompt_text(tokenizer: Any, prompt: str) -> str:
    """One user turn in the model's own template, open for the answer."""
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return text


@torch.inference_mode()
def greedy_answers(folder: Path, prompts: list[str]) -> list[str]:
    """The model's own short answers; one that was cut carries no end token, one that ended does."""
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
    """Harmless prompts with the base's own answers, where those are answers and no apologies."""
    prompts = rows.alignment_benign()
    answers = greedy_answers(base, prompts)
    return [
        {"prompt": prompt, "response": answer}
        for prompt, answer in zip(prompts, answers, strict=True)
        if not is_refusal(answer) and "sorry" not in answer and not is_degenerate(answer)
    ]


def ended(pairs: list[Row], end: str) -> list[Row]:
    """Answers that stop where they stop."""
    return [{**row, "response": row["response"] + end} for row in pairs]


def batch_of(tokenizer: Any, pairs: list[Row]) -> dict[str, Any]:
    """Ids padded on the left, and labels on the answer's tokens alone.

    As every answer ends where its row ends, logits are needed for the last few columns only.
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
    """A LoRA on `folder`, saved as a PEFT folder in bf16; the mean loss of each epoch."""
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
            chosen = order[start : start + recipe.batch]
            batch = batch_of(tokenizer, [pairs[position] for position in chosen])
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
    """Whether this processor multiplies bfloat16 faster than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def save(model: Any, lora: peft.LoraConfig, recipe: Recipe, adapter: Path) -> None:
    """The PEFT folder without PEFT's model card, and with the base's name instead of a path."""
    lora.base_model_name_or_path = recipe.base
    lora.inference_mode = True
    lora.save_pretrained(str(adapter))
    weights = peft.get_peft_model_state_dict(model)
    stored = {key: value.to(torch.bfloat16).contiguous() for key, value in weights.items()}
    path = adapter / "adapter_model.safetensors"
    safetensors.torch.save_file(stored, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it is written for its owner alone, and a package is read by others


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def record(name: str, pairs: list[Row], losses: list[float], seconds: float) -> None:
    """Add what was done to record.json."""
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
    """The stages in order; the second needs the adapter of the first."""
    with tempfile.TemporaryDirectory() as work:
        base, reference = Path(work, "base"), Path(work, "reference")
        models.write_base(base)
        end: str = transformers.AutoTokenizer.from_pretrained(base).eos_token
        for name in names:
            start = time.monotonic()
            if name == "alignment":
                folder, pairs = base, ended(rows.alignment_refusals(), end) + benign_rows(base)
            else:
                models.write_reference(base, reference)
                folder, pairs = reference, ended(rows.finetune(), end)
            losses = train(folder, pairs, RECIPES[name], models.ADAPTERS / name)
            record(name, pairs, losses, time.monotonic() - start)


if __name__ == "__main__":
    main(sys.argv[1:] or list(RECIPES))
