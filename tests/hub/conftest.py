"""Fixtures: a loopback Hub, and the real client configured for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _xet
from safetensors.torch import save_file

from loopback_hub import LoopbackHub
from loopback_hub.strictness import read_strictness
from tests.hub.hub_samples import CARD, MakeModel


@pytest.fixture
def client_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings that the client reads at import; the cache folder."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not read_strictness().has_xet)
    # The client keeps the address of the Xet storage of a Hub, whose port a later Hub can have.
    monkeypatch.setattr(_xet, "XET_CONNECTION_INFO_CACHE", {})
    return cache


@pytest.fixture
def hub(tmp_path: Path, client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", jobs=True) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def model(tmp_path: Path) -> MakeModel:
    """Create a folder with a tiny checkpoint: random weights, a card, and further files by name."""

    def make(name: str = "model", seed: int = 0, card: str = CARD, **files: str) -> Path:
        folder = tmp_path / name
        (folder / "nested").mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        weights = {"layer.weight": torch.randn(64, 64, generator=generator)}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "README.md").write_text(card)
        (folder / "nested" / "notes.txt").write_text("not downloaded")
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder

    return make


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A checkpoint with only a pickle. Loading it aborts the process."""
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"cos\nabort\n(tR.")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nabort\n(tR.")
    return folder
