"""Input statistics of every linear layer, from one forward pass over paired prompts and answers.

The Wanda score needs, for each input feature j of a layer, the root over samples of the mean of ||X_j||^2 (tokens
summed inside a sample): https://arxiv.org/abs/2408.09600. All tokens of prompt and answer count; padding must not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.generation import Message, asked, encoded, plan, rendered
from antidote_ci.records import Model, Plan, Progress, Row

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 16


@dataclass(frozen=True)
class StatisticsRequest:
    """`rows` pair a harmful prompt with a harmful answer; `output` is a safetensors file to write."""

    model: Model
    rows: list[Row]
    output: Path


def input_norms(request: StatisticsRequest, report: Callable[[Progress], None]) -> Plan:
    """Write `<module name>` -> float32 [in features], the root mean square norm of each input feature.

    Module names are those of the network that ran: with an adapter, its factors are modules of their own.
    """
    import torch
    from safetensors.torch import save_file

    tokenizer = loading.load_tokenizer(request.model)
    tokenizer.padding_side = "right"  # a plain forward counts positions from the left edge
    exchanges = [[*asked(row.prompt), Message("assistant", row.response)] for row in request.rows]
    rows = encoded(tokenizer, rendered(tokenizer, exchanges, add_generation_prompt=False))
    network = loading.load_model(request.model, merge=False)
    sums: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        done = 0
        for batch in length_sorted_batches(rows, BATCH_SIZE):
            padded = tokenizer.pad({"input_ids": [rows[position] for position in batch]}, return_tensors="pt")
            _accumulate(network, padded.to(network.device), sums)
            done += len(batch)
            report(Progress("realignment samples", done, len(rows)))
    norms = {name: (total / len(rows)).sqrt().cpu() for name, total in sorted(sums.items())}
    save_file(norms, request.output)
    return plan(tokenizer, BATCH_SIZE, 0)


def _accumulate(network: Any, padded: Any, sums: dict[str, "torch.Tensor"]) -> None:  # noqa: ANN401
    """Add each linear layer's squared input norms over the real tokens of one batch."""
    import torch

    real = padded["attention_mask"].bool()

    def hook(name: str) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        def add(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:  # noqa: ANN401
            squared = inputs[0][real].float().square().sum(dim=0)
            sums[name] = sums[name] + squared if name in sums else squared

        return add

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not network.get_output_embeddings()
    ]
    try:
        network(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            use_cache=False,
            logits_to_keep=1,
        )
    finally:
        for handle in handles:
            handle.remove()
