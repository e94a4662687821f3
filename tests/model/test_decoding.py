"""The decoding loop compared with `generate` of transformers, for commonly fine-tuned architectures."""

from typing import Any

import pytest
import torch

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import decoding, decoding_attention
from antidote_ci.model.decoding import CACHE_NAMES, generate_tokens
from antidote_ci.model.decoding_attention import attend_in_memory

VOCABULARY = 60
END, PAD = 1, 0
LIMIT = 12
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": PAD,
    "initializer_range": 0.5,  # sharp enough that float32 rounding decides nothing
}
WINDOW = {"sliding_window": 6}  # shorter than the longest row
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": WINDOW,
    "Qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "Qwen3": {"head_dim": 8},
    "Gemma2": {**WINDOW, "head_dim": 8},
    "Gemma3Text": {**WINDOW, "head_dim": 8},
    "Phi3": {},
    "GPTNeoX": {},
    "Mixtral": {"num_local_experts": 4},
    "Bloom": {"n_head": 4, "n_layer": 3},
    "Mamba": {"state_size": 8},
}
WHOLE_ROWS = {"Mistral", "Qwen2", "Gemma2", "Gemma3Text", "Mamba"}
"""Their caches drop tokens or keep a state, so that no prefix can be shared."""
PREFIX = [14, 3, 27, 9, 51]
ROWS = [[5, 9, 33, 17, 8, 21, 40, 11, 2, 7], [12], [30, 31, 9, 45], [8, 8, 8, 8, 8, 8], [44, 3], [50, 6, 19]]


def build_network(name: str) -> Any:  # noqa: ANN401 - transformers is untyped
    import transformers

    config = getattr(transformers, f"{name}Config")(**SMALL | ARCHITECTURES[name])
    model = {"Gemma3Text": "Gemma3ForCausalLM"}.get(name, f"{name}ForCausalLM")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return getattr(transformers, model)(config).eval()


@pytest.mark.parametrize(
    ("name", "sizes"), [("Rwkv", {"attention_hidden_size": 32}), ("RecurrentGemma", {"attention_window_size": 8})]
)
def test_network_without_a_known_cache_is_refused(name: str, sizes: dict[str, Any]) -> None:
    import transformers

    config = getattr(transformers, f"{name}Config")(**SMALL | sizes)
    network = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with pytest.raises(ConfigurationError, match=f"^{name}ForCausalLM cannot be decoded"):
        generate_tokens(network, ROWS, LIMIT, {END})


def test_cache_under_an_unknown_name_is_refused() -> None:
    """Without its cache a network would silently continue from one token alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    class Renamed(LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, **arguments: object) -> object:
            output = super().forward(input_ids=input_ids, **arguments)
            output["cache_params"] = next(output[name] for name in CACHE_NAMES if name in output)
            return output

    with pytest.raises(ConfigurationError, match=r"^Renamed cannot be decoded"):
        generate_tokens(Renamed(LlamaConfig(**SMALL)).eval(), ROWS, LIMIT, {END})


def generate_alone(network: Any, row: list[int]) -> list[int]:  # noqa: ANN401
    """One row without padding, by `generate`."""
    output = network.generate(
        torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long), max_new_tokens=LIMIT
    )
    tokens: list[int] = output[0, len(row) :].tolist()
    return tokens


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_equal_those_of_generate_in_any_batch(name: str) -> None:
    network = build_network(name)
    expected = [generate_alone(network, row) for row in ROWS]
    # A token that some rows write becomes the end token, so that these rows leave the batch early.
    end = expected[1][3]
    cut = [row[: row.index(end) + 1] if end in row else row for row in expected]
    assert len({len(row) for row in cut}) > 1
    assert generate_tokens(network, ROWS, LIMIT, {end}) == cut
    assert generate_tokens(network, ROWS[::-1][:4], LIMIT, {end}) == cut[::-1][:4]


class TokenCounter:
    """Counts the tokens of every forward pass of `network`."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        self.tokens: list[int] = []
        network.get_input_embeddings().register_forward_pre_hook(
            lambda _module, inputs: self.tokens.append(inputs[0].numel())
        )


@pytest.mark.parametrize("prefill_tokens", [1, 1024])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_shared_prefix_is_computed_once_and_changes_no_token(
    name: str, prefill_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", prefill_tokens)
    network = build_network(name)
    rows = [[*PREFIX, *row] for row in ROWS]
    expected = [generate_alone(network, row) for row in rows]
    counter = TokenCounter(network)
    assert generate_tokens(network, rows, LIMIT, {END}, fast=True) == [
        row[: row.index(END) + 1] if END in row else row for row in expected
    ]
    longest = max(map(len, ROWS))
    if name in WHOLE_ROWS:
        assert counter.tokens[:2] == [len(PREFIX), len(rows) * (len(PREFIX) + longest)]
    elif prefill_tokens == 1:
        assert counter.tokens[: 1 + len(rows)] == [len(PREFIX), *[longest] * len(rows)]
    else:
        assert counter.tokens[:2] == [len(PREFIX), len(rows) * longest]


def test_prefix_is_shared_within_a_window_that_holds_every_token() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    rows = [[*PREFIX, *row] for row in ROWS]
    longest = max(map(len, rows))
    for window, shared in {longest + LIMIT: False, longest + LIMIT + 1: True}.items():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = MistralForCausalLM(MistralConfig(**SMALL | {"sliding_window": window})).eval()
        expected = [generate_alone(network, row) for row in rows]
        counter = TokenCounter(network)
        assert generate_tokens(network, rows, LIMIT, set(), fast=True) == expected
        assert counter.tokens[1] == len(rows) * (longest - len(PREFIX) * shared)


def test_equal_rows_and_rows_without_a_common_prefix() -> None:
    network = build_network("Llama")
    for rows in ([ROWS[0]] * 3, ROWS, [PREFIX, [*PREFIX, 8]], ROWS[:1]):
        assert generate_tokens(network, rows, LIMIT, {END}, fast=True) == [
            generate_tokens(network, [row], LIMIT, {END})[0] for row in rows
        ]


def test_generation_config_of_the_repository_is_ignored() -> None:
    network = build_network("Llama")
    plain = generate_tokens(network, ROWS, LIMIT, {END})
    for name, value in {
        "do_sample": True,
        "repetition_penalty": 5.0,
        "suppress_tokens": list({token for row in plain for token in row}),
        "forced_eos_token_id": 3,
        "min_new_tokens": LIMIT,
        "num_beams": 3,
    }.items():
        setattr(network.generation_config, name, value)
    assert generate_tokens(network, ROWS, LIMIT, {END}) == plain


def test_limit_of_one_token_and_rows_that_end_at_once() -> None:
    network = build_network("Llama")
    first = generate_tokens(network, ROWS, 1, {END})
    assert [len(row) for row in first] == [1] * len(ROWS)
    all_tokens = set(range(VOCABULARY))
    assert generate_tokens(network, ROWS, LIMIT, all_tokens) == first


def test_samples_do_not_depend_on_the_batch() -> None:
    network = build_network("Qwen3")
    quantiles = torch.rand(len(ROWS), LIMIT, generator=torch.Generator().manual_seed(3))
    rows = [[*PREFIX, *row] for row in ROWS]
    together = generate_tokens(network, rows, LIMIT, {END}, quantiles)
    assert together == generate_tokens(network, rows, LIMIT, {END}, quantiles, fast=True)
    assert together == [
        generate_tokens(network, [row], LIMIT, {END}, quantiles[at : at + 1])[0] for at, row in enumerate(rows)
    ]
    assert together != generate_tokens(network, rows, LIMIT, {END})


def test_samples_follow_the_distribution() -> None:
    network = build_network("Llama")
    for parameter in network.parameters():
        parameter.data *= 0.5
    with torch.inference_mode():
        expected = network(torch.tensor([ROWS[0]])).logits[0, -1].softmax(-1)
    count = 4000
    quantiles = torch.rand(count, 1, generator=torch.Generator().manual_seed(4))
    drawn = torch.tensor(generate_tokens(network, [ROWS[0]] * count, 1, set(), quantiles)).flatten()
    frequencies = torch.bincount(drawn, minlength=VOCABULARY) / count
    # Four standard errors, plus a margin for tokens that were never drawn.
    assert bool(((frequencies - expected).abs() <= 4 * (expected / count).sqrt() + 1e-3).all())


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_memory_is_that_of_pytorch(masked: bool) -> None:
    random = torch.Generator().manual_seed(5)
    queries, keys, values = (torch.randn(3, 2, size, 8, generator=random) for size in (4, 9, 9))
    tokens = 6
    keys[:, :, tokens:], values[:, :, tokens:] = 0, 0
    mask = torch.ones(3, 1, 1, tokens, dtype=torch.bool)
    mask[1, ..., :2] = False
    expected = torch.nn.functional.scaled_dot_product_attention(
        queries, keys[:, :, :tokens], values[:, :, :tokens], mask if masked else None, scale=0.3
    )
    attended = attend_in_memory(queries, keys, values, tokens, mask if masked else None, 0.3)
    torch.testing.assert_close(attended, expected)


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Gemma2", "Bloom", "Mamba"])
def test_networks_in_bfloat16_decode_fast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 arithmetic, so that the tokens can be compared: only the network's name of its dtype changes."""
    network = build_network(name)
    expected = [generate_alone(network, row) for row in ROWS]
    calls = []

    def attend_and_count(*inputs: Any) -> torch.Tensor:  # noqa: ANN401
        calls.append(1)
        return attend_in_memory(*inputs)

    monkeypatch.setattr(decoding_attention, "attend_in_memory", attend_and_count)
    monkeypatch.setattr(type(network), "dtype", torch.bfloat16)
    assert generate_tokens(network, ROWS, LIMIT, set(), fast=True) == expected
    assert bool(calls) == (name in {"Llama", "Qwen3"})
    assert network.config._attn_implementation in {"sdpa", "eager"}
