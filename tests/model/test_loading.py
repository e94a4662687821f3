"""A checkpoint with a gap is not run with random numbers in it."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.loading import load_model
from antidote_ci.records import Model
from tests.conftest import CopyOf


@pytest.mark.parametrize("merge", [True, False])
def test_missing_weights_are_refused_by_name(tiny_llama: Path, copy_of: CopyOf, merge: bool) -> None:
    folder = copy_of(tiny_llama)
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors  # tied weights are no gap
    load_model(Model(folder), merge=merge)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"llama has no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(Model(folder), merge=merge)
