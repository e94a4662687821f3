"""What is loaded is what the files hold, and all of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
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


@pytest.mark.parametrize("merge", [True, False])
def test_rotary_frequencies_stay_as_exact_as_the_framework_makes_them(
    tiny_llama: Path, tiny_adapter: Path, merge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "device_and_dtype", lambda: ("cpu", torch.bfloat16))
    network = load_model(Model(tiny_llama, tiny_adapter), merge=merge)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    frequencies = [buffer for name, buffer in network.named_buffers() if name.endswith("inv_freq")]
    assert frequencies
    assert {buffer.dtype for buffer in frequencies} == {torch.float32}
