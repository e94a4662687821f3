import pytest
import torch

from benchmarks.paper import sft
from benchmarks.paper.embedding_drift import find_attention_modules
from benchmarks.paper.vaccine import Vaccine, changed, scaled
from tests.paper import small


def test_the_drift_of_all_attentions_together_has_the_norm_rho() -> None:
    drift = Vaccine(rho=2.0).drift(small.moved(small.model()), small.batch())
    assert len(drift) == 2
    assert torch.stack([each.norm() for each in drift]).norm().item() == pytest.approx(2.0, rel=1e-4)


def test_it_points_where_the_loss_rises_fastest() -> None:
    model, batch = small.moved(small.model()), small.batch()
    drift = Vaccine(rho=0.01).drift(model, batch)
    length = torch.stack([each.norm() for each in drift]).norm()

    def loss(change: list[torch.Tensor]) -> float:
        with torch.no_grad(), changed(model, lambda block, output: output + change[block]):
            return sft.step(model, batch).item()

    others = [[torch.randn_like(each) for each in drift] for _ in range(5)]
    risen = loss(drift) - sft.step(model, batch).item()
    assert risen > 0
    assert all(risen > loss(scaled(each, float(length))) - sft.step(model, batch).item() for each in others)


def test_the_second_pass_sees_the_drift() -> None:
    model, batch = small.moved(small.model()), small.batch()
    method = Vaccine(rho=1.0)
    drift = method.drift(model, batch)
    seen: list[torch.Tensor] = []
    plain: list[torch.Tensor] = []
    blocks = find_attention_modules(model).values()
    # Hooks run in their order: this one, on what goes on from the attention, comes after the drift's.
    inside = [block.register_forward_hook(lambda _m, _i, out: plain.append(out[0].detach())) for block in blocks]
    after = [
        layer.post_attention_layernorm.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach()))
        for layer in model.get_base_model().model.layers
    ]
    sft.step(model, batch)
    method.step(model, batch)
    for handle in (*inside, *after):
        handle.remove()
    # A plain pass, the first pass of the method, and its second: at the first block only the drift is between them.
    assert torch.equal(seen[2], seen[0])
    assert torch.allclose(seen[4] - seen[0], drift[0], atol=1e-5)
    assert torch.equal(plain[4], plain[0])


def test_no_drift_is_plain_fine_tuning() -> None:
    model, batch = small.moved(small.model()), small.batch()
    assert torch.equal(Vaccine(rho=0.0).step(model, batch), sft.step(model, batch))


def test_hooks_are_gone_after_a_step() -> None:
    model, batch = small.model(), small.batch()
    before = sft.step(model, batch)
    Vaccine().step(model, batch)
    assert torch.equal(sft.step(model, batch), before)
