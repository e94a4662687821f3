import pytest
import torch

from antidote_ci.errors import ConfigurationError
from benchmarks.paper import sft
from benchmarks.paper.batches import contrasted, side_by_side
from benchmarks.paper.data import Contrast
from benchmarks.paper.loop import Step, train
from benchmarks.paper.records import Training
from benchmarks.paper.repnoise import RepNoise, differing, distance_from_noise, outputs, squared_mmd
from benchmarks.paper.stages import quiet
from tests.paper import small

CONTRASTS = [
    Contrast("what is tea?", "no, I will not say", "no, but it is a drink"),
    Contrast("what is a hat or a cap?", "I cannot", "a cover"),
    Contrast("who?", "no", "no one"),
]


def test_only_positions_where_the_answers_differ_are_marked() -> None:
    tokenizer = small.tokenizer()
    rows = contrasted(tokenizer, CONTRASTS)
    safe, harmful = side_by_side(rows, tokenizer.pad_token_id)
    marked = differing(safe, harmful)
    for row, (one, other) in enumerate(rows):
        start = int(harmful["attention_mask"][row].argmax()) + len(one.prompt)
        wanted = [at >= len(one.answer) or token != one.answer[at] for at, token in enumerate(other.answer)]
        assert marked[row, start : start + len(wanted)].tolist() == wanted
        assert marked[row].sum() == sum(wanted) > 0


def test_equal_answers_are_not_marked() -> None:
    tokenizer = small.tokenizer()
    rows = contrasted(tokenizer, [Contrast("what is tea?", "a drink", "a drink")])
    assert not differing(*side_by_side(rows, tokenizer.pad_token_id)).any()


def test_a_sample_is_no_distance_from_itself_and_some_from_another() -> None:
    sample = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    alike = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    assert squared_mmd(sample, sample).item() == pytest.approx(0, abs=1e-6)
    assert squared_mmd(sample, sample + 3) > 5 * squared_mmd(sample, alike) > 0
    assert squared_mmd(torch.zeros(4, 8), torch.zeros(4, 8)) == 0


def method(alpha: float, beta: float) -> RepNoise:
    tokenizer = small.tokenizer()
    return RepNoise(contrasted(tokenizer, CONTRASTS), tokenizer.pad_token_id, 2, seed=1, alpha=alpha, beta=beta)


def test_without_its_terms_it_is_plain_fine_tuning() -> None:
    model, batch = small.model(), small.batch()
    assert torch.equal(method(0, 0).step(model, batch), sft.step(model, batch))


@pytest.mark.slow
def test_harmful_answers_stay_unlikely_while_harmless_ones_are_learned() -> None:
    training = Training(epochs=20, rate=1e-2, batch=4, rank=8)
    tokenizer = small.tokenizer()
    _, harmful = side_by_side(contrasted(tokenizer, CONTRASTS), tokenizer.pad_token_id)

    def trained(step: Step) -> tuple[float, float]:
        model = small.model(training=training)
        with small.one_thread():
            train(model, small.batches(), step, training, 1, quiet)
        return sft.step(model, harmful).item(), sft.step(model, small.batch()).item()

    plain, defended = trained(sft.step), trained(method(1.0, 0.001).step)
    assert defended[0] > plain[0] + 1
    assert defended[1] < sft.step(small.model(), small.batch()).item() / 2


@pytest.mark.slow
def test_representations_of_harm_come_nearer_to_noise() -> None:
    training = Training(epochs=10, rate=1e-2, batch=4, rank=8)
    tokenizer = small.tokenizer()
    safe, harmful = side_by_side(contrasted(tokenizer, CONTRASTS), tokenizer.pad_token_id)
    marked = differing(safe, harmful).unsqueeze(-1)

    def distance(beta: float) -> float:
        model = small.model(training=training)
        with small.one_thread():
            train(model, small.batches(), method(0.0, beta).step, training, 1, quiet)
        torch.manual_seed(0)
        with torch.no_grad(), outputs(model) as hidden:
            sft.step(model, harmful)
        return sum(distance_from_noise(each.float(), marked).item() for each in hidden)

    assert distance(10.0) < distance(0.0)


def test_every_perceptron_is_heard_once_a_forward() -> None:
    model, batch = small.model(), small.batch()
    with outputs(model) as found:
        sft.step(model, batch)
    sft.step(model, batch)
    assert [each.shape for each in found] == [(*batch["input_ids"].shape, 32)] * 2


def test_a_model_without_a_known_perceptron_is_said() -> None:
    with pytest.raises(ConfigurationError, match="no MLP"), outputs(torch.nn.Sequential(torch.nn.Linear(2, 2))):
        pass
