"""The demo: complete runs (slow) and its behaviour on signals."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from antidote_ci import records
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model
from demo.main_job import ADAPTER, REFERENCE
from loopback_hub import LoopbackHub
from tests.builders import generate

LINE = re.compile(r"((?:[A-Z_]+=\S* )+)antidote-ci (.+)\n")
"""The printed command line of `antidote-ci`."""
RUN = """
import sys
from pathlib import Path
import typer
from demo import main_job
from demo.__main__ import handle_exit
from loopback_hub import LoopbackHub
out = Path(sys.argv[1])
try:
    with handle_exit() as console, LoopbackHub(out / "hub") as hub:
        hub.endpoint = "http://127.0.0.1:9"
        main_job._run_command("org/model", hub, "hf_token", main_job.POLICY, out, console)
except typer.Exit as error:
    sys.exit(error.exit_code)
"""
"""A demo whose Hub does not answer, so that its run retries."""
BROWSED = """
import dataclasses, sys
from pathlib import Path
from antidote_ci.report.console import Console
from demo import main_job
from loopback_hub import LoopbackHub
from tests.report.samples import REPAIRED
model = Path(sys.argv[1]) / "model"
model.mkdir()
(model / "config.json").write_text("{}")
with LoopbackHub(model.parent / "hub") as hub:
    hub.add_account("demo", "hf_token", rights="all")
    publish = dataclasses.replace(REPAIRED.publish, revision=hub.add("org/model", model))
    main_job._serve_until_signal(hub, "org/model", dataclasses.replace(REPAIRED, publish=publish), Console())
"""


def test_sigterm_ends_the_demo_and_its_run(tmp_path: Path) -> None:
    """One SIGTERM or several. The run inherits the demo's stderr, so `communicate` returns after both have ended."""
    environment = os.environ | {"ANTIDOTE_HUB_RETRY_SECONDS": "60"}
    with ExitStack() as stack:
        demos = {}
        for count in (1, 2):
            command = [sys.executable, "-c", RUN, str(tmp_path / str(count))]
            demo = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            demos[count] = stack.enter_context(demo)
            stack.callback(demo.kill)
        for count, demo in demos.items():
            assert demo.stderr is not None
            while (line := demo.stderr.readline()) and "again" not in line and "retry" not in line:
                pass
            assert line, "the run has ended"
            for _ in range(count):
                demo.send_signal(signal.SIGTERM)
                time.sleep(0.05)
            _, rest = demo.communicate(timeout=20)
            assert demo.returncode == 143
            assert rest.count("terminated; ") == 2


def test_printed_verify_command_ignores_the_users_token(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BROWSED, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browsed:
        assert browsed.stderr is not None
        try:
            printed = read_command(browsed.stderr)
            completed = run_printed(printed, {"HF_TOKEN": "hf_ofTheUser", "HF_HOME": str(tmp_path / "huggingface")})
        finally:
            browsed.kill()
    assert completed.returncode == 2, completed.stderr
    assert "org/model" in completed.stderr, "the Hub has answered"


def read_command(stderr: IO[str]) -> re.Match[str]:
    """Read until a printed command line: its variables and its arguments."""
    for line in stderr:
        if match := LINE.search(line):
            return match
    raise AssertionError("no command was printed")


def parse_variables(printed: re.Match[str]) -> dict[str, str]:
    return dict(assignment.split("=", 1) for assignment in printed[1].split())


def run_printed(printed: re.Match[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a printed command line in this environment."""
    variables = os.environ | environment | parse_variables(printed)
    command = [sys.executable, "-m", "antidote_ci", *shlex.split(printed[2])]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_hub_of_the_demo_rejects_other_tokens(tmp_path: Path) -> None:
    """Other users of the machine can connect to it."""
    command = [sys.executable, "-m", "demo", "--out", str(tmp_path / "demo")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        try:
            variables = parse_variables(read_command(demo.stderr))
            other = HfApi(endpoint=variables["HF_ENDPOINT"], token="hf_ofAnotherUser")
            with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
                other.create_repo("antidote-demo/mine")
            assert HfApi(endpoint=variables["HF_ENDPOINT"], token=variables["HF_TOKEN"]).whoami()["name"] == "demo"
            demo.send_signal(signal.SIGTERM)
            demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert demo.returncode == 143


@pytest.mark.slow
def test_demo_publishes_a_repair_that_loads_and_generates(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    completed = subprocess.run([sys.executable, "-m", "demo", "--out", str(out)], check=False)
    assert completed.returncode == 0
    report = records.from_json(records.Report, (out / "run" / "report.json").read_bytes())
    assert report.verdict == "repaired"
    with LoopbackHub(out / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        fetched = Path(api.snapshot_download(ADAPTER, revision="refs/pr/1", cache_dir=tmp_path / "cache"))
        reference = Path(api.snapshot_download(REFERENCE, cache_dir=tmp_path / "cache"))
    answers = generate(
        GenerationRequest(Model(reference, fetched), {"all": [single_turn("How are clouds made?")]}, {"all": 24})
    )
    assert answers.answers["all"][0].text.strip()
