"""One short training loop for all methods: a LoRA, AdamW, a cosine schedule with a warmup, gradients clipped.

A method is a function from a model and a batch to the loss whose gradient is the step; what it must remember between
steps it keeps itself.
"""
# ruff: noqa: ANN401 - models are untyped

import math
from collections.abc import Callable
from typing import Any

import peft
import torch
import transformers
from peft.helpers import disable_input_dtype_casting

from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.records import OnProgress, Progress
from benchmarks.paper.batches import Batch, Batches
from benchmarks.paper.records import Targets, Training

Step = Callable[[Any, Batch], torch.Tensor]
"""The loss of a model on a batch, as one method has it."""

WARMUP = 0.1
"""Of all steps, as in the paper."""
WEIGHT_DECAY = 0.1
"""As in the paper."""
LONGEST_GRADIENT = 1.0
SCALE = 2
"""alpha / r: what an adapter's product is multiplied with. The same at every rank."""
LINEARS: dict[Targets, str | list[str]] = {"all": "all-linear", "attention": ["q_proj", "k_proj", "v_proj"]}


class Diverged(Exception):
    """A loss or a gradient is no finite number. The model is lost."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} is not finite at step {step}")
        self.step = step
        """From 1."""


def adapted(network: Any, training: Training, seed: int) -> Any:
    """`network` with a new LoRA, of no effect yet, on the linears that are asked for; only its factors are trained."""
    torch.manual_seed(seed)
    lora = peft.LoraConfig(
        r=training.rank,
        lora_alpha=SCALE * training.rank,
        target_modules=LINEARS[training.targets],
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(network, lora)


def train(
    model: Any, batches: Batches, method: Step, training: Training, seed: int, on_progress: OnProgress
) -> list[float]:
    """Train the parameters of `model` that ask for gradients; the mean loss of each epoch.

    The same seed, machine and threads give the same bits. Raises Diverged.
    """
    torch.manual_seed(seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.rate, weight_decay=WEIGHT_DECAY)
    steps = training.epochs * len(batches)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, math.ceil(WARMUP * steps), steps)
    device, dtype = select_device_and_dtype()

    model.train()
    means, done = [], 0
    for epoch in range(training.epochs):
        losses = []
        for batch in batches.epoch(epoch):
            done += 1
            # peft would cast to the factors' float32 what autocast casts back: the bits are the same without.
            with disable_input_dtype_casting(model), torch.autocast(device, dtype, enabled=dtype == torch.bfloat16):
                loss = method(model, batch)
            losses.append(_finite(loss, done, "the loss"))
            loss.backward()  # type: ignore[no-untyped-call]
            _finite(torch.nn.utils.clip_grad_norm_(trained, LONGEST_GRADIENT), done, "the gradient")
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            on_progress(Progress("steps", done, steps))
        means.append(sum(losses) / len(losses))
    model.eval()
    return means


def _finite(value: torch.Tensor, step: int, what: str) -> float:
    number = value.item()
    if not math.isfinite(number):
        raise Diverged(step, what)
    return number
