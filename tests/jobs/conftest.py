"""A loopback Hub with a model, and an account that may start Jobs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from antidote_ci.policy import Policy, RunConfig, override_section
from loopback_hub import LoopbackHub

MODEL = "org/model"
TOKENS = {"HF_TOKEN": "hf_adaReadsWithThisToken", "HF_JOBS_TOKEN": "hf_adaStartsJobsWithThis"}
STAND_IN = Path(__file__).with_name("stand_in.py")

Holding = Callable[..., None]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a command finds beside the Hub's address."""
    image = {"ANTIDOTE_IMAGE": "ghcr.io/org/antidote-ci:1"}
    return TOKENS | image | {"HF_HOME": str(tmp_path / "home"), "ANTIDOTE_HUB_PATIENCE": "5"}


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
def holding(hub: LoopbackHub) -> Holding:
    """Makes every image hold a stand-in that does what the words say."""

    def hold(*words: str) -> None:
        hub.store.jobs.programs["antidote-ci"] = (sys.executable, "-P", str(STAND_IN), *words)

    return hold


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """The embedded prompts and judge: nothing else has to be pulled."""
    policy = override_section(Policy(), "evaluation", judge="refusal", prompts="embedded")
    policy = override_section(policy, "repair", realignment="embedded")
    return RunConfig(MODEL, None, policy, tmp_path / "out")
