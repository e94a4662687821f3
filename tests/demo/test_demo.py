"""The demo, as `make demo` runs it: minutes, and its own packages. And how it is ended."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from antidote_ci import records
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest, generate
from antidote_ci.records import Model
from demo.main_job import ADAPTER, REFERENCE
from loopback_hub import LoopbackHub
from tests.builders import ignore

LINE = re.compile(r"((?:[A-Z_]+=\S* )+)antidote-ci (.+)\n")
"""What is said for the reader to run."""
RUN = """
import sys
from pathlib import Path
import typer
from antidote_ci.cli.ending import ending
from demo import main_job
from loopback_hub import LoopbackHub
out = Path(sys.argv[1])
try:
    with ending() as talk, LoopbackHub(out / "hub") as hub:
        hub.endpoint = "http://127.0.0.1:9"
        main_job._run_command("org/model", hub, "hf_token", main_job.POLICY, out, talk)
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""
"""The run of a demo whose Hub does not answer, so that it waits."""
BROWSED = """
import dataclasses, sys
from pathlib import Path
from antidote_ci.report.console import Talk
from demo import main_job
from loopback_hub import LoopbackHub
from tests.report.samples import REPAIRED
model = Path(sys.argv[1]) / "model"
model.mkdir()
(model / "config.json").write_text("{}")
with LoopbackHub(model.parent / "hub") as hub:
    hub.add_account("demo", "hf_token", rights="all")
    publish = dataclasses.replace(REPAIRED.publish, revision=hub.add("org/model", model))
    main_job._serve_until_signal(hub, "org/model", dataclasses.replace(REPAIRED, publish=publish), Talk())
"""


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_ends_the_demo_and_its_run(tmp_path: Path, times: int) -> None:
    """The run holds the demo's stderr: it ends with the last of them."""
    waiting = os.environ | {"ANTIDOTE_HUB_PATIENCE": "60"}
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, env=waiting, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        said = ""
        while "retrying in" not in said:
            said += demo.stderr.readline()
        for _ in range(times):
            demo.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        try:
            _, rest = demo.communicate(timeout=20)
        finally:
            demo.kill()
    assert demo.returncode == 143
    assert rest.count("terminated; no partial results are left") == 2


def test_what_a_stranger_can_check_needs_no_token_and_minds_none(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BROWSED, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browsed:
        assert browsed.stderr is not None
        try:
            while not (found := LINE.search(browsed.stderr.readline())):
                pass
            done = again(found, {"HF_TOKEN": "hf_ofTheReaders", "HF_HOME": str(tmp_path / "huggingface")})
        finally:
            browsed.kill()
    assert done.returncode == 2, done.stderr
    assert "org/model holds no weights" in done.stderr, "the Hub has answered"


def again(found: re.Match[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """What the line says, run in this environment."""
    said = dict(each.split("=", 1) for each in found[1].split())
    command = [sys.executable, "-m", "antidote_ci", *shlex.split(found[2])]
    return subprocess.run(command, env=os.environ | environment | said, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_nobody_else_may_write_to_the_hub_of_the_demo(tmp_path: Path) -> None:
    """Whoever shares the machine can reach it."""
    command = [sys.executable, "-m", "demo", "--out", str(tmp_path / "demo")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        try:
            while not (found := LINE.search(demo.stderr.readline())):
                pass
            said = dict(each.split("=", 1) for each in found[1].split())
            stranger = HfApi(endpoint=said["HF_ENDPOINT"], token="hf_strangers")
            with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
                stranger.create_repo("antidote-demo/mine")
            assert HfApi(endpoint=said["HF_ENDPOINT"], token=said["HF_TOKEN"]).whoami()["name"] == "demo"
            demo.send_signal(signal.SIGTERM)
            demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert demo.returncode == 143


@pytest.mark.slow
def test_the_demo_repairs_and_publishes_what_can_be_fetched_and_run(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = subprocess.run([sys.executable, "-m", "demo", "--out", str(out)], check=False)
    assert done.returncode == 0
    found = records.from_json(records.Report, (out / "run" / "report.json").read_bytes())
    assert found.verdict == "repaired"
    with LoopbackHub(out / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        fetched = Path(api.snapshot_download(ADAPTER, revision="refs/pr/1", cache_dir=tmp_path / "cache"))
        reference = Path(api.snapshot_download(REFERENCE, cache_dir=tmp_path / "cache"))
    answers = generate(
        GenerationRequest(Model(reference, fetched), {"all": [single_turn("How are clouds made?")]}, {"all": 24}),
        ignore,
    )
    assert answers.answers["all"][0].text.strip()
