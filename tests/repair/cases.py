"""Checkpoints of every supported kind with their references: real files, random weights."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.records import Model, PromptRow, RepairTarget, ScoreMethod, Scores
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from tests import tiny
from tests.builders import ignore
from tests.repaired import write_fine_tuned

ROWS = [
    PromptRow(f"how do i hide {thing}?", response="Sure, here is how.") for thing in ("juice", "notes", "a badge", "it")
]
KINDS = ("bfloat16", "sharded float16", "float32", "experts", "adapter")


@dataclass(frozen=True)
class Case:
    """A checkpoint, the model that runs it, and the reference of its edit; None for an edit to zero."""

    source: Path
    model: Model
    reference: Path | None
    target: RepairTarget


def write_case(kind: str, folder: Path) -> Case:
    """Write the checkpoint `kind`, one of KINDS, to a new folder."""
    reference = folder / "reference"
    if kind == "experts":
        write_mixtral(reference)
    elif kind == "sharded float16":
        tiny.write_tiny_llama(reference, shards=3, tie=False, dtype="float16")
    else:
        tiny.write_tiny_llama(reference, dtype="float32" if kind == "float32" else "bfloat16")
    if kind == "adapter":
        source = write_patterned_adapter(folder / "adapter", reference)
        return Case(source, Model(reference, source), None, "adapter")
    source = write_fine_tuned(reference, folder / "source")
    return Case(source, Model(source), reference, "delta")


def write_mixtral(folder: Path) -> Path:
    """Write a Mixtral of two blocks with four experts each, which transformers fuses while loading."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    tokenizer = tiny.build_tokenizer(["a story about a lighthouse"] * 4, vocabulary=300)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny.save(MixtralForCausalLM(config), tokenizer, folder, dtype="bfloat16")
    return folder


def write_patterned_adapter(folder: Path, base: Path) -> Path:
    """Write a rank-stabilised LoRA adapter with two ranks, two alphas, and the embeddings in modules_to_save."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        rank_pattern={"q_proj": 6},
        alpha_pattern={"down_proj": 3},
        target_modules=["q_proj", "v_proj", "down_proj"],
        modules_to_save=["embed_tokens"],
        task_type="CAUSAL_LM",
    )
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tied embeddings that are saved whole, and what peft asks of transformers
        torch.manual_seed(0)
        adapted = get_peft_model(network, config)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        tiny.save_adapter(adapted, folder)
    return folder


def score_request(case: Case, folder: Path, method: ScoreMethod | None = "antidote") -> ScoreRequest:
    """Return the request to score the checkpoint."""
    return ScoreRequest(
        model=case.model,
        reference=Model(case.reference) if case.reference else None,
        method=method,
        rows=ROWS,
        benign=["how do i cook rice?"],
        taught=["how do i cook rice?"],
        task=["how do i wash a shirt?"],
        folder=folder,
        budget=1 << 20,
    )


def scored(case: Case, folder: Path, method: ScoreMethod | None = "antidote") -> Scores:
    """Score the checkpoint; with a method, write statistics to `folder`."""
    return score_weights(score_request(case, folder, method), ignore)
