import pytest
import torch

from benchmarks.paper import sft
from benchmarks.paper.ldifs import Ldifs, distance
from benchmarks.paper.loop import train
from benchmarks.paper.records import Training
from benchmarks.paper.repnoise import outputs
from benchmarks.paper.stages import quiet
from tests.paper import small


def test_at_the_reference_it_is_plain_fine_tuning() -> None:
    model, batch = small.model(), small.batch()
    assert torch.equal(Ldifs().step(model, batch), sft.step(model, batch))


def test_away_from_it_costs() -> None:
    model, batch = small.moved(small.model()), small.batch()
    assert Ldifs().step(model, batch) > sft.step(model, batch)


def test_the_distance_is_of_directions_and_of_real_tokens() -> None:
    mask = torch.tensor([[0, 1]])
    before = [torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])]
    assert distance([2 * before[0]], before, mask) == 0
    assert distance([torch.tensor([[[0.0, 1.0], [3.0, 0.0]]])], before, mask) == 0
    assert distance([torch.tensor([[[0.0, 1.0], [0.0, 3.0]]])], before, mask).item() == pytest.approx(2)


def test_a_training_ends_nearer_to_its_beginning() -> None:
    def moved(weight: float) -> float:
        training = Training(epochs=8, rate=1e-2, batch=4, rank=4)
        model, batch = small.model(training=training), small.batch()
        train(model, small.batches(), Ldifs(weight).step, training, 1, quiet)
        with torch.no_grad(), outputs(model) as now:
            sft.step(model, batch)
        with torch.no_grad(), model.disable_adapter(), outputs(model) as before:
            sft.step(model, batch)
        return distance(now, before, batch["attention_mask"]).item()

    assert moved(50.0) < moved(0.0) / 2
