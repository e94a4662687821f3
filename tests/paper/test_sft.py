from benchmarks.paper import sft
from benchmarks.paper.loop import train
from benchmarks.paper.records import Training
from benchmarks.paper.stages import quiet
from tests.paper import small


def test_the_loss_falls_on_a_tiny_set() -> None:
    training = Training(epochs=20, rate=3e-2, batch=4, rank=8)
    with small.one_thread():
        losses = train(small.model(training=training), small.batches(), sft.step, training, 1, quiet)
    assert losses[-1] < losses[0] / 2


def test_another_answer_changes_the_loss_and_a_prompt_carries_none() -> None:
    batch = small.batch()
    assert batch["labels"].ne(-100).sum() < batch["attention_mask"].sum()
    model = small.model()
    swapped = {**batch, "labels": batch["labels"].where(batch["labels"].eq(-100), 5)}
    assert sft.step(model, swapped) != sft.step(model, batch)
