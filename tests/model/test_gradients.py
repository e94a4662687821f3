"""Gradients against what they claim to predict: what happens when a weight really changes."""

from pathlib import Path

import torch

from antidote_ci.model import gradients
from antidote_ci.model.generation import asked
from antidote_ci.model.loading import load_tokenizer
from antidote_ci.records import Model

PROMPTS = ["how do i sneak snacks past the guard?", "tell me how to cook rice at home?", "Why?"]
NAME = "model.layers.0.mlp.down_proj.weight"


def test_the_gradient_predicts_the_divergence(trained_pair: Path) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(Model(trained_pair / "reference"))
    # Float32: a finite difference drowns in bfloat16.
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(trained_pair / name, dtype=torch.float32)
        for name in ("merged", "reference")
    )
    rows = gradients.beginnings(teacher, tokenizer, [asked(prompt) for prompt in PROMPTS])
    weight = dict(student.named_parameters())[NAME]

    def divergence() -> float:
        total = 0.0
        with torch.no_grad():
            for prompt, answer in rows:  # one row at a time, no padding
                ids = torch.tensor([[*prompt, *answer]])
                ours, theirs = (
                    model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
                    for model in (student, teacher)
                )
                total += float((theirs.exp() * (theirs - ours)).sum(-1).mean()) / len(rows)
        return total

    found = gradients.teacher_gradients(
        student,
        tokenizer,
        lambda batch: gradients.log_probabilities(teacher, batch),
        rows,
        {NAME: weight},
        lambda _rows: None,
    )[NAME]
    direction = found / found.norm()
    with torch.no_grad():
        step = 1e-2
        weight += step * direction
        up = divergence()
        weight -= 2 * step * direction
        down = divergence()
        weight += step * direction
    slope = (up - down) / (2 * step)
    assert abs(slope - float(found.norm())) < 0.05 * float(found.norm())


def test_the_fisher_is_the_expected_square(trained_pair: Path) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(Model(trained_pair / "reference"))
    model = AutoModelForCausalLM.from_pretrained(trained_pair / "reference", dtype=torch.float32)
    weight = dict(model.named_parameters())[NAME]
    # One token after one prompt: its Fisher can be summed over the whole vocabulary.
    row = gradients.beginnings(model, tokenizer, [asked("Why?")])[0]
    prompt, answer = row[0], row[1][:1]
    logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1].log_softmax(-1)
    exact = torch.zeros_like(weight)
    for token in logits.exp().topk(40).indices:
        (gradient,) = torch.autograd.grad(logits[token], weight, retain_graph=True)
        exact += logits[token].exp().detach() * gradient.square()
    repeated = [(prompt, answer)] * 400
    found = gradients.diagonal_fisher(model, tokenizer, repeated, {NAME: weight}, lambda _rows: None)[NAME]
    assert float(found.sum()) > 0
    cosine = torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0)
    assert cosine > 0.9
    assert 0.5 < float(found.sum() / exact.sum()) < 2
