from itertools import repeat

import torch

from benchmarks.paper import sft
from benchmarks.paper.batches import Batch
from benchmarks.paper.lisa import Lisa, proximal
from benchmarks.paper.loop import train
from benchmarks.paper.records import Training
from benchmarks.paper.stages import quiet
from tests.paper import small


def alignment() -> Batch:
    return next(small.batches(small.PAIRS[:1]).epoch(0))


def test_the_states_take_turns() -> None:
    lisa = Lisa(repeat(alignment()), alignment_steps=2, user_steps=3)
    model, batch = small.model(), small.batch()
    turns = []
    for _ in range(12):
        turns.append(lisa.aligning)
        lisa.step(model, batch)
    assert turns == [True, True, False, False, False] * 2 + [True, True]


def test_each_state_learns_its_own_rows() -> None:
    lisa = Lisa(repeat(alignment()), alignment_steps=1, user_steps=1)
    model, batch = small.model(), small.batch()
    assert torch.equal(lisa.step(model, batch), sft.step(model, alignment()))
    assert torch.equal(lisa.step(model, batch), sft.step(model, batch))


def test_the_proximal_term_is_zero_at_a_switch_and_grows_after() -> None:
    lisa = Lisa(repeat(alignment()), rho=1.0, alignment_steps=3, user_steps=3)
    terms: list[tuple[bool, float]] = []

    def watched(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        switch = lisa.switches
        loss = lisa.step(model, batch)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        terms.append((switch, proximal(trained, lisa.entered, lisa.rho).item()))
        return loss

    training = Training(epochs=6, rate=1e-2, batch=4, rank=4)
    train(small.model(), small.batches(), watched, training, 1, quiet)
    assert [switch for switch, _ in terms] == [True, False, False] * 4
    # The first step of a warmup has a rate of zero, and so no effect.
    assert [term == 0 for _, term in terms] == [True, True, False, *[True, False, False] * 3]
    assert all(terms[at + 1][1] < terms[at + 2][1] for at in (3, 6))


def test_it_is_half_rho_times_the_squared_distance() -> None:
    weights, entered = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])], [torch.zeros(2), torch.ones(1)]
    assert proximal(weights, entered, 0.5).item() == 0.5 / 2 * (1 + 4 + 4)


def test_a_strong_term_keeps_the_weights_together() -> None:
    def distance(rho: float) -> float:
        training = Training(epochs=5, rate=1e-2, batch=4, rank=4)
        model = small.model()
        before = [each.detach().clone() for each in model.parameters()]
        lisa = Lisa(repeat(alignment()), rho=rho, alignment_steps=2, user_steps=8)
        train(model, small.batches(), lisa.step, training, 1, quiet)
        return proximal([each.detach() for each in model.parameters()], before, 2.0).item()

    assert distance(1000.0) < distance(0.0)
