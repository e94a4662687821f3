"""The losses against their definitions in double precision."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.model.losses import answer_log_likelihood, distillation_loss, sampled_log_likelihood

SIZES = st.integers(2, 12)


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(1, 5), st.integers(0, 99))
def test_the_divergence_is_over_the_tokens_that_both_know(ours: int, theirs: int, rows: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 4, ours, generator=draw).requires_grad_()
    teacher = torch.randn(rows, 4, theirs, generator=draw)
    answer = torch.arange(4) >= torch.randint(0, 4, (rows, 1), generator=draw)
    found = distillation_loss(logits, teacher, answer)
    known = min(ours, theirs)
    expected = 0.0
    for row in range(rows):
        tokens = []
        for at in range(4):
            if answer[row, at]:
                p, q = (each[row, at, :known].detach().double().softmax(-1) for each in (teacher, logits))
                tokens.append(float((p * (p / q).log()).sum()))
        expected += sum(tokens) / len(tokens)
    torch.testing.assert_close(float(found.detach()), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    assert not gradient[~answer].any()
    assert not gradient[..., known:].any()
    assert gradient[..., :known].sum(-1).abs().max() < 1e-5  # a distribution's: what one token gains, others lose


@settings(deadline=None)
@given(SIZES, st.integers(0, 99))
def test_labels_are_drawn_as_often_as_the_network_would_say_them(vocabulary: int, seed: int) -> None:
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
def test_given_answers_are_as_likely_as_their_tokens(vocabulary: int, rows: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 4, vocabulary, generator=draw).requires_grad_()
    given_ids = torch.randint(0, vocabulary, (rows, 4), generator=draw)
    answer = torch.arange(4) >= torch.randint(0, 4, (rows, 1), generator=draw)
    found = answer_log_likelihood(logits, given_ids, answer)
    p = logits.detach().double().softmax(-1)
    expected = 0.0
    for row in range(rows):
        tokens = [float(p[row, at, given_ids[row, at]].log()) for at in range(4) if answer[row, at]]
        expected += sum(tokens) / len(tokens)
    torch.testing.assert_close(float(found.detach()), expected, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    assert not gradient[~answer].any()
