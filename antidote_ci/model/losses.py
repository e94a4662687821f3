"""What is differentiated to learn which entries matter. Tensors in, tensors out, computed in float32."""

from typing import TYPE_CHECKING

from antidote_ci.model.divergence import token_divergence

if TYPE_CHECKING:
    import torch


def distillation_loss(logits: "torch.Tensor", teacher: "torch.Tensor", answer: "torch.Tensor") -> "torch.Tensor":
    """KL(teacher || network) in nats, summed over rows: of each row the mean over its answer's tokens.

    `logits` and `teacher` are [rows, tokens, vocabulary], `answer` boolean [rows, tokens]. Vocabularies may differ at
    their end: what only one of them knows is left out on both sides.
    """
    known = min(logits.shape[-1], teacher.shape[-1])
    apart = token_divergence(teacher[..., :known], logits[..., :known])
    return (apart * answer / answer.sum(dim=1, keepdim=True)).sum()


def answer_log_likelihood(logits: "torch.Tensor", given: "torch.Tensor", answer: "torch.Tensor") -> "torch.Tensor":
    """log p of the answers `given` [rows, tokens] in nats, summed over rows: of each row the mean over its tokens."""
    scores = logits.float().log_softmax(dim=-1).gather(-1, given.unsqueeze(-1)).squeeze(-1)
    return (scores * answer / answer.sum(dim=1, keepdim=True)).sum()


def sampled_log_likelihood(
    logits: "torch.Tensor", answer: "torch.Tensor", generator: "torch.Generator"
) -> "torch.Tensor":
    """log p of labels drawn from the network's own distribution, summed over the answers' tokens.

    The square of its gradient has the sum of the tokens' squares as its expectation, and so estimates the diagonal of
    the Fisher information: https://arxiv.org/abs/1412.1193. Shapes as above; `generator` is the CPU's.
    """
    import torch

    scores = logits.float().log_softmax(dim=-1)
    drawn = torch.multinomial(scores.detach().exp().flatten(0, 1).cpu(), 1, generator=generator)
    chosen = scores.gather(-1, drawn.to(scores.device).reshape(*scores.shape[:2], 1)).squeeze(-1)
    return (chosen * answer).sum()
