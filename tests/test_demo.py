"""The demo, as `make demo` runs it: minutes, and its own packages."""

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from antidote_ci import records
from antidote_ci.demo.hub import LoopbackHub
from antidote_ci.demo.main_job import ADAPTER, REFERENCE
from antidote_ci.model.conversations import asked
from antidote_ci.model.generation import GenerationRequest, generate
from antidote_ci.records import Model, Progress

pytestmark = pytest.mark.slow


def ignore(_: Progress) -> None:
    pass


def test_the_demo_repairs_and_publishes_what_can_be_fetched_and_run(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = subprocess.run([sys.executable, "-m", "antidote_ci", "demo", "--out", str(out)], check=False)
    assert done.returncode == 0
    found = records.load(records.Report, (out / "run" / "report.json").read_bytes())
    assert found.verdict == "repaired"
    with LoopbackHub(out / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        fetched = Path(api.snapshot_download(ADAPTER, revision="refs/pr/1", cache_dir=tmp_path / "cache"))
        reference = Path(api.snapshot_download(REFERENCE, cache_dir=tmp_path / "cache"))
    answers = generate(
        GenerationRequest(Model(reference, fetched), {"all": [asked("How are clouds made?")]}, {"all": 24}), ignore
    )
    assert answers.answers["all"][0].text.strip()
