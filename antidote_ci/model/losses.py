"""Loss functions over the answers of a batch, and the KL divergence of two models: tensors in, tensors out, in float32.

Logits are [rows, tokens, vocabulary]; `answer` is boolean [rows, tokens] and marks the tokens of the answers.
"""

from antidote_ci.model import Generator, Tensor


def token_divergence(before: Tensor, after: Tensor) -> Tensor:
    """KL(before || after) of each token in nats: [...] from two sets of logits [..., vocabulary].

    The sum over the vocabulary of p log(p / q). Entries with p = 0 add nothing.
    https://en.wikipedia.org/wiki/Kullback-Leibler_divergence
    """
    p, q = before.float().log_softmax(dim=-1), after.float().log_softmax(dim=-1)
    probability = p.exp()
    terms = (probability * (p - q)).masked_fill_(probability == 0, 0.0)
    # The divergence is never negative, but rounding can make it so.
    return terms.sum(dim=-1).clamp(min=0.0)


def distillation_loss(logits: Tensor, teacher: Tensor, answer: Tensor) -> Tensor:
    """KL(teacher || network) in nats: the mean over each row's answer tokens, summed over rows.

    The vocabularies may have different sizes: entries that only one of the two models has are left out of both.
    """
    shared = min(logits.shape[-1], teacher.shape[-1])
    divergence = token_divergence(teacher[..., :shared], logits[..., :shared])
    return _sum_of_row_means(divergence, answer)


def answer_log_likelihood(logits: Tensor, targets: Tensor, answer: Tensor) -> Tensor:
    """log p of the ids `targets` [rows, tokens] in nats: the mean over each row's answer tokens, summed over rows."""
    scores = logits.float().log_softmax(dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return _sum_of_row_means(scores, answer)


def sampled_log_likelihood(logits: Tensor, answer: Tensor, generator: Generator) -> Tensor:
    """log p of labels drawn from the network's own distribution, summed over the answer tokens.

    The expectation of its squared gradient is the sum of the tokens' squared gradients, which estimates the diagonal
    of the Fisher information: https://arxiv.org/abs/1412.1193. `generator` is a generator of the CPU.
    """
    import torch

    scores = logits.float().log_softmax(dim=-1)
    labels = torch.multinomial(scores.detach().exp().flatten(0, 1).cpu(), 1, generator=generator)
    label_scores = scores.gather(-1, labels.to(scores.device).reshape(*scores.shape[:2], 1)).squeeze(-1)
    return (label_scores * answer).sum()


def _sum_of_row_means(values: Tensor, answer: Tensor) -> Tensor:
    return (values * answer / answer.sum(dim=1, keepdim=True)).sum()
