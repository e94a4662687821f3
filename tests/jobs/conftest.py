"""Fixtures: a loopback Hub with a model, and an account that may start Jobs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from antidote_ci.policy import Policy, RunConfig, override_section
from loopback_hub import LoopbackHub

MODEL = "org/model"
TOKENS = {"HF_TOKEN": "hf_adaReadsWithThisToken", "HF_JOBS_TOKEN": "hf_adaStartsJobsWithThis"}
FAKE_IMAGE = Path(__file__).with_name("fake_image.py")

HoldImage = Callable[..., None]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a command, without the address of the Hub."""
    image = {"ANTIDOTE_IMAGE": "ghcr.io/org/antidote-ci:1"}
    return TOKENS | image | {"HF_HOME": str(tmp_path / "home"), "ANTIDOTE_HUB_RETRY_SECONDS": "5"}


@pytest.fixture
def hub(
    tmp_path: Path, tiny_llama: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with LoopbackHub(tmp_path / "hub", jobs=True) as running:
        for token in TOKENS.values():
            running.add_account("ada", token, organisations=["org"])
        running.add(MODEL, tiny_llama)
        for name, value in (environment | running.environment).items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def fake_image(hub: LoopbackHub) -> HoldImage:
    """Make every image contain fake_image.py with these arguments."""

    def hold(*words: str) -> None:
        hub.store.jobs.programs["antidote-ci"] = (sys.executable, "-P", str(FAKE_IMAGE), *words)

    return hold


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A configuration with embedded prompts and an embedded judge: only the model is pulled."""
    policy = override_section(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override_section(policy, "repair", realignment="embedded")
    return RunConfig(MODEL, None, policy, tmp_path / "out")
