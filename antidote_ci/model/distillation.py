"""The data and the gradients of the `taylor` method: distillation from the reference. Runs in the sandbox process only.

The first tokens of the models' own answers are the data: they decide whether a model refuses.
"""

import math
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from antidote_ci.model import Tensor, Tokenizer, loading, losses
from antidote_ci.model.batching import length_sorted_batches, pad_left
from antidote_ci.model.decoding import TokenPair, generate_tokens
from antidote_ci.model.generation import find_end_tokens
from antidote_ci.model.gradients import AnswerBatch, GradientSums, LossTerm, accumulate_gradients, build_batches
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, BlockCallback, stream_last_logits
from antidote_ci.records import Model, OnProgress, Progress

ANSWER_TOKENS = 8
"""Generated per answer. Later tokens do not decide whether the model refuses, and dilute the gradient."""
GENERATION_BATCH_SIZE = 48
BACKWARD_COST = 3
"""The cost of a block's backward pass in forward passes: it is computed again, then differentiated."""


@dataclass(frozen=True)
class DistillationData:
    """Prompts with the first tokens of answers."""

    distilled: Sequence[TokenPair]
    """With the teacher's answers: KL(teacher || student) on them is reduced."""
    unlearned: Sequence[TokenPair]
    """With unwanted answers: their log p is reduced, with the factor `unlearning_weight`."""
    unlearning_weight: float
    retained: Sequence[TokenPair]
    """With the student's own answers, for the Fisher information."""


def first_tokens_in_memory(
    model: Model, tokenizer: Tokenizer, rows: Sequence[Sequence[int]], vocabulary: int
) -> list[list[int]]:
    """The first tokens of the greedy answer to each row, end token included, among the first `vocabulary` tokens."""
    from peft import PeftModel

    network = loading.load_model(model, merge=False)
    # peft's wrapper hides the arguments of the model's forward. The adapter's layers are in that model.
    plain = network.get_base_model() if isinstance(network, PeftModel) else network
    if plain.config.get_text_config().vocab_size > vocabulary:
        plain.resize_token_embeddings(vocabulary)
    end_tokens = find_end_tokens(plain, tokenizer)
    answers: list[list[int]] = [[] for _ in rows]
    for batch in length_sorted_batches(rows, GENERATION_BATCH_SIZE):
        generated = generate_tokens(plain, [rows[position] for position in batch], ANSWER_TOKENS, end_tokens)
        for position, answer in zip(batch, generated, strict=True):
            answers[position] = answer
    return answers


def first_tokens_streamed(
    meta_model: MetaModel,
    tokenizer: Tokenizer,
    rows: Sequence[Sequence[int]],
    vocabulary: int,
    scratch: Path,
    budget: int,
    on_progress: OnProgress,
) -> list[list[int]]:
    """The same tokens with one block in memory: one forward pass per token, without a key-value cache."""
    from transformers import GenerationConfig

    folder = meta_model.layout.folder
    if (folder / "generation_config.json").exists():
        meta_model.network.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    end_tokens = find_end_tokens(meta_model.network, tokenizer)
    answers: list[list[int]] = [[] for _ in rows]
    active = list(range(len(rows)))
    for number in range(ANSWER_TOKENS):
        texts = [[*rows[row], *answers[row]] for row in active]
        batches = length_sorted_batches(texts, GENERATION_BATCH_SIZE)
        inputs = [pad_left([texts[position] for position in batch], meta_model.device) for batch in batches]
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            cache = ActivationCache(Path(name), budget)
            batch_logits = stream_last_logits(meta_model, cache, inputs, [1] * len(inputs), lambda _block: None)
            for batch, logits in zip(batches, batch_logits, strict=True):
                tokens = logits[:, -1, :vocabulary].argmax(dim=-1).tolist()
                for position, token in zip(batch, tokens, strict=True):
                    answers[active[position]].append(token)
        on_progress(Progress("first tokens of answers", number + 1, ANSWER_TOKENS))
        active = [row for row in active if answers[row][-1] not in end_tokens]
        if not active:
            break
    return answers


def distillation_gradients(
    teacher: MetaModel,
    student: MetaModel,
    data: DistillationData,
    tensors: Collection[str],
    scratch: Path,
    budget: int,
    on_progress: OnProgress,
) -> Iterator[GradientSums]:
    """Yield for each tensor the mean gradient of the distillation loss, and the diagonal Fisher on the retained rows.

    Up to `budget` bytes of hidden states stay in memory, and as many of sums, or those of the largest tensor. The rest
    of the hidden states is in `scratch`, which the caller removes.
    """
    import torch

    distilled, unlearned, retained = (
        build_batches(rows, student) for rows in (data.distilled, data.unlearned, data.retained)
    )
    batches = len(distilled) + len(unlearned) + len(retained)
    block_costs = (
        [len(distilled)] * len(teacher.blocks)
        + [batches] * len(student.blocks)
        + [BACKWARD_COST * batches] * len(student.blocks)
    )
    cumulative_costs = accumulate(block_costs)

    def done(_block: str) -> None:
        on_progress(Progress("batches through layers", next(cumulative_costs), sum(block_costs)))

    teacher_logits = ActivationCache(scratch / "answers", 0)  # on disk: each is read once, and much later
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        for index, logits in enumerate(
            stream_answer_logits(teacher, ActivationCache(Path(name), budget), distilled, done)
        ):
            teacher_logits.put(str(index), logits)
    labels = torch.Generator().manual_seed(0)

    def distill(index: int, logits: Tensor) -> Tensor:
        target = teacher_logits.get(str(index)).to(student.device)
        return losses.distillation_loss(logits, target, distilled[index].answer) / len(data.distilled)

    def unlearn(batch: AnswerBatch, logits: Tensor) -> Tensor:
        log_likelihood = losses.answer_log_likelihood(logits, batch.targets, batch.answer)
        return log_likelihood * data.unlearning_weight / len(data.unlearned)

    def retain(batch: AnswerBatch, logits: Tensor) -> Tensor:
        # The root, because the square of this gradient is what is a mean over rows.
        return losses.sampled_log_likelihood(logits, batch.answer, labels) / math.sqrt(len(data.retained))

    terms = [
        *(LossTerm(batch, partial(distill, index), squared=False) for index, batch in enumerate(distilled)),
        *(LossTerm(batch, partial(unlearn, batch), squared=False) for batch in unlearned),
        *(LossTerm(batch, partial(retain, batch), squared=True) for batch in retained),
    ]
    return accumulate_gradients(student, ActivationCache(scratch / "hidden", budget), terms, tensors, done)


def stream_answer_logits(
    meta_model: MetaModel, cache: ActivationCache, batches: Sequence[AnswerBatch], done: BlockCallback
) -> Iterator[Tensor]:
    """Yield for each batch the logits [rows, tokens of the longest answer, vocabulary] that predict its answers."""
    inputs = [batch.tokens for batch in batches]
    columns = [batch.logits_to_keep for batch in batches]
    streamed = stream_last_logits(meta_model, cache, inputs, columns, done)
    for batch, logits in zip(batches, streamed, strict=True):
        yield batch.arrange(logits)
