import pytest
import torch

from benchmarks.paper import sft
from benchmarks.paper.batches import Batch
from benchmarks.paper.loop import Diverged, adapted, train
from benchmarks.paper.records import Training
from benchmarks.paper.stages import quiet
from tests.paper import small


def weights(seed: int) -> list[torch.Tensor]:
    with small.one_thread():
        model = small.model(training=small.TRAINING)
        train(model, small.batches(), sft.step, small.TRAINING, seed, quiet)
    return [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]


def test_the_same_seed_gives_the_same_bits() -> None:
    assert all(torch.equal(one, other) for one, other in zip(weights(7), weights(7), strict=True))


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    calls = []

    def broken(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        calls.append(batch)
        loss = sft.step(model, batch)
        return loss * float("nan") if len(calls) == 2 else loss

    with pytest.raises(Diverged, match="the loss is not finite at step 2") as raised:
        train(small.model(), small.batches(), broken, small.TRAINING, 1, quiet)
    assert raised.value.step == 2


def test_so_does_a_gradient() -> None:
    def broken(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        # A finite value whose slope is not.
        first = next(parameter for parameter in model.parameters() if parameter.requires_grad)
        return sft.step(model, batch) + (first * 0).sum().sqrt()

    with pytest.raises(Diverged, match="gradient"):
        train(small.model(), small.batches(), broken, small.TRAINING, 1, quiet)


def test_only_the_adapter_is_trained() -> None:
    model = small.model()
    before = {name: each.clone() for name, each in model.named_parameters()}
    train(model, small.batches(), sft.step, small.TRAINING, 1, quiet)
    changed = {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_attention_means_queries_keys_and_values() -> None:
    model = adapted(small.network(), Training(1, 1e-3, rank=4, targets="attention"), 0)
    found = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in model.named_parameters() if "lora_" in name}
    assert found == {"q_proj", "k_proj", "v_proj"}


def test_the_loss_is_told_for_each_epoch() -> None:
    steps: list[int] = []
    training = Training(epochs=3, rate=1e-2, batch=4, rank=4)
    losses = train(small.model(), small.batches(), sft.step, training, 1, lambda at: steps.append(at.done))
    assert len(losses) == 3
    assert steps == [1, 2, 3, 4, 5, 6]
