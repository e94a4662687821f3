"""An adapter added into its base and written as a full checkpoint, for servers. Runs in the child process."""

from dataclasses import dataclass
from pathlib import Path

from antidote_ci.model import loading
from antidote_ci.records import Model, OnProgress, Progress


@dataclass(frozen=True)
class MergeRequest:
    """`output` is a folder that does not exist yet."""

    model: Model
    output: Path


def merge_checkpoint(request: MergeRequest, report: OnProgress) -> Path:
    """Weights in bfloat16, tokenizer and chat template in `output`. The sum is taken in float32."""
    import torch
    from transformers import GenerationConfig

    report(Progress("merging the adapter", 0, 1))
    tokenizer = loading.load_tokenizer(request.model)
    network = loading.load_model(request.model, merge=True).to(device="cpu", dtype=torch.bfloat16)
    # The base's own may ask for sampling and penalties, and some cannot be written again.
    given = network.generation_config
    network.generation_config = GenerationConfig(
        bos_token_id=given.bos_token_id, eos_token_id=given.eos_token_id, pad_token_id=given.pad_token_id
    )
    network.save_pretrained(request.output)
    tokenizer.save_pretrained(request.output)
    report(Progress("merging the adapter", 1, 1))
    return request.output
