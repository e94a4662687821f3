"""Runs `antidote-ci run` as a user would, against a loopback Hub."""

import os
import secrets
import shlex
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci import records
from antidote_ci.paths import create_folder
from antidote_ci.report.console import Console
from demo.build import BuildRequest, run_build
from demo.models import require_packages
from loopback_hub import LoopbackHub

POLICY = Path(__file__).parent / "antidote.toml"
REFERENCE = "antidote-demo/smollm2-aligned"
ADAPTER = "antidote-demo/smollm2-finetune-lora"
MERGED = "antidote-demo/smollm2-finetune"


def run_demo(out: Path, console: Console, policy: Path, *, merged: bool, browse: bool) -> int:
    """Start a loopback Hub with the demo's models, run `antidote-ci run`, and return its exit code.

    With `browse`, keep the Hub running until a signal arrives.
    """
    require_packages()  # fail before anything is written
    create_folder(out)
    target = MERGED if merged else ADAPTER
    hub, token = LoopbackHub(out / "hub"), f"hf_{secrets.token_hex(16)}"
    # Register the token before the Hub starts, because other users of this machine can connect to it.
    hub.add_account("demo", token, rights="all")
    with TemporaryDirectory(prefix="models-", dir=out) as folder, hub:
        with console.step("build the demo's models"):
            checkpoints = run_build(BuildRequest(Path(folder), merged), out / "models.log", console.report)
            hub.add(REFERENCE, checkpoints.reference)
            hub.add(target, checkpoints.finetune)
        code = _run_command(target, hub, token, policy, out, console)
        report_file = out / "run" / "report.json"
        if not report_file.exists():
            return code  # the run has printed an error
        report = records.from_json(records.Report, report_file.read_bytes())
        console.print(f"pull request  {report.publish.url or 'none'}")
        if browse:
            _serve_until_signal(hub, target, report, console)
    console.print("The loopback Hub is stopped. python -m demo --browse keeps it running.")
    return code


def _serve_until_signal(hub: LoopbackHub, target: str, report: records.Report, console: Console) -> None:
    """Print how to look at the result, and wait for a signal, which raises an exception."""
    console.print(f"The loopback Hub runs at {hub.endpoint}/{target}. Ctrl-C stops it.")
    if report.publish.revision is not None:
        command = ["antidote-ci", "verify", target, "--revision", report.publish.revision]
        # The empty HF_TOKEN hides the user's own token, which this Hub would reject.
        console.print(f"To verify the repair: HF_ENDPOINT={hub.endpoint} HF_TOKEN= {shlex.join(command)}")
    while True:
        time.sleep(1)


def _run_command(target: str, hub: LoopbackHub, token: str, policy: Path, out: Path, console: Console) -> int:
    arguments = ["run", target, "--policy", str(policy), "--out", str(out / "run")]
    variables = hub.environment | {"HF_TOKEN": token, "HF_WRITE_TOKEN": token}
    assignments = (f"{name}={value}" for name, value in variables.items())
    console.print(f"{' '.join(assignments)} antidote-ci {shlex.join(arguments)}")
    folders = {"HF_HOME": str(out / "huggingface"), "ANTIDOTE_CACHE": str(out / "answers")}
    environment = os.environ | variables | folders
    command = [sys.executable, "-m", "antidote_ci", *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):  # the terminal sends Ctrl-C to the child too
                process.terminate()
            process.wait()  # let it clean up
            raise
