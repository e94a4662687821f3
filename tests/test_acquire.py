"""Which checkpoints a run is about: a reference only where it is needed, and what differs from it is said."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from antidote_ci import acquire
from antidote_ci.config import RepairSection
from antidote_ci.errors import ConfigurationError
from tests.conftest import CopyOf


def test_dense_weights_need_no_reference(tiny_llama: Path) -> None:
    model = acquire.local(str(tiny_llama))
    assert acquire.wanted_reference(model, RepairSection(target="dense")) is None
    with pytest.raises(ConfigurationError, match="cannot be found") as raised:
        acquire.wanted_reference(model, RepairSection())
    assert raised.value.hint is not None
    assert "--target dense" in raised.value.hint


def test_an_adapter_is_not_dense(tiny_adapter: Path) -> None:
    with pytest.raises(ConfigurationError, match="no dense weights"):
        acquire.wanted_reference(acquire.local(str(tiny_adapter)), RepairSection(target="dense"))


def test_a_longer_vocabulary_is_said_and_nothing_else(tiny_llama: Path, copy_of: CopyOf) -> None:
    reference = copy_of(tiny_llama)
    weights = load_file(reference / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    save_file(weights | {"model.embed_tokens.weight": embedding[:-3].clone()}, reference / "model.safetensors")
    model, shorter = acquire.local(str(tiny_llama)), acquire.local(str(reference))
    assert acquire.differences(model, model) == []
    (said,) = acquire.differences(model, shorter)
    assert f"{len(embedding):,} rows, that of the reference {len(embedding) - 3:,}" in said
