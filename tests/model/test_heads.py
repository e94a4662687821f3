"""The output layer, given what the last columns of a batch hold."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from antidote_ci.model.loading import make_head_contiguous


def test_the_output_layer_copies_no_weights() -> None:
    """On a view with gaps torch would multiply row by row, each with a copy of the weights."""
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    network = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    ids = torch.arange(40).reshape(4, 10)
    kept: list[bool] = []
    head = network.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].is_contiguous()))
    with torch.no_grad():
        plain = network(ids, logits_to_keep=3).logits
        fast = make_head_contiguous(network)
        found = fast(ids, logits_to_keep=3).logits
    assert kept[0] is False
    assert torch.allclose(plain, found, atol=1e-2)
    seen: list[bool] = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    with torch.no_grad():
        fast(ids, logits_to_keep=3)
    assert seen == [True]
