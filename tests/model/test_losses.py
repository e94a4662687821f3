"""The losses and the token divergence compared with their definitions in double precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.model.losses import (
    answer_log_likelihood,
    distillation_loss,
    sampled_log_likelihood,
    token_divergence,
)

SIZES = st.integers(2, 12)
LOGITS = st.lists(st.floats(-60, 60, width=32), min_size=5, max_size=5)


@given(LOGITS, LOGITS)
def test_token_divergence_equals_its_definition(before: list[float], after: list[float]) -> None:
    p, q = (torch.tensor(logits, dtype=torch.float64).softmax(0) for logits in (before, after))
    exact = float((p * (p.log() - q.log())).sum())
    divergence = float(token_divergence(torch.tensor([before]), torch.tensor([after])))
    assert divergence >= 0
    assert divergence == pytest.approx(exact, rel=1e-4, abs=1e-5)
    assert float(token_divergence(torch.tensor([before]), torch.tensor([before]))) == 0


def test_impossible_tokens_add_nothing_to_the_divergence() -> None:
    impossible, possible = torch.tensor([[0.0, 1.0, -math.inf]]), torch.tensor([[0.0, 1.0, 2.0]])
    assert float(token_divergence(impossible, impossible)) == 0
    assert float(token_divergence(impossible, possible)) > 0
    assert float(token_divergence(possible, impossible)) == math.inf


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(1, 5), st.integers(0, 99))
def test_distillation_loss_covers_the_shared_vocabulary(
    student_size: int, teacher_size: int, rows: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 4, student_size, generator=draw).requires_grad_()
    teacher = torch.randn(rows, 4, teacher_size, generator=draw)
    answer = torch.arange(4) >= torch.randint(0, 4, (rows, 1), generator=draw)
    loss = distillation_loss(logits, teacher, answer)
    shared = min(student_size, teacher_size)
    expected = 0.0
    for row in range(rows):
        tokens = []
        for at in range(4):
            if answer[row, at]:
                p, q = (logit[row, at, :shared].detach().double().softmax(-1) for logit in (teacher, logits))
                tokens.append(float((p * (p / q).log()).sum()))
        expected += sum(tokens) / len(tokens)
    torch.testing.assert_close(float(loss.detach()), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[~answer].any()
    assert not gradient[..., shared:].any()
    assert gradient[..., :shared].sum(-1).abs().max() < 1e-5  # the gradient of a softmax sums to zero


@settings(deadline=None)
@given(SIZES, st.integers(0, 99))
def test_labels_are_drawn_from_the_distribution_of_the_network(vocabulary: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 1, vocabulary, generator=draw).expand(1, 4000, vocabulary).clone().requires_grad_()
    answer = torch.ones(1, 4000, dtype=torch.bool)
    loss = sampled_log_likelihood(logits, answer, torch.Generator().manual_seed(seed))
    (gradient,) = torch.autograd.grad(loss, logits)
    p = logits.detach()[0, 0].double().softmax(-1)
    # d log p(label) / d logits = one-hot of the label - p
    drawn = gradient[0].double() + p
    assert ((drawn - drawn.round()).abs() < 1e-5).all()
    assert (drawn.mean(0) - p).abs().max() < 5 * 0.5 / 4000**0.5


@settings(deadline=None)
@given(SIZES, st.integers(1, 5), st.integers(0, 99))
def test_answer_log_likelihood_is_the_mean_over_its_tokens(vocabulary: int, rows: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 4, vocabulary, generator=draw).requires_grad_()
    given_ids = torch.randint(0, vocabulary, (rows, 4), generator=draw)
    answer = torch.arange(4) >= torch.randint(0, 4, (rows, 1), generator=draw)
    loss = answer_log_likelihood(logits, given_ids, answer)
    p = logits.detach().double().softmax(-1)
    expected = 0.0
    for row in range(rows):
        tokens = [float(p[row, at, given_ids[row, at]].log()) for at in range(4) if answer[row, at]]
        expected += sum(tokens) / len(tokens)
    torch.testing.assert_close(float(loss.detach()), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[~answer].any()
