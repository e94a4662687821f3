"""The embedded default of the whole: what a user types, against a Hub on this machine."""

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
from demo.build import BuildRequest, build_apart
from demo.models import require_packages
from loopback_hub import LoopbackHub

POLICY = Path(__file__).parent / "antidote.toml"
REFERENCE = "antidote-demo/smollm2-aligned"
ADAPTER = "antidote-demo/smollm2-finetune-lora"
MERGED = "antidote-demo/smollm2-finetune"


def run_demo(out: Path, console: Console, policy: Path, *, merged: bool, browse: bool) -> int:
    """Fill a loopback Hub, run `antidote-ci run` against it as a user would, and return its exit code."""
    require_packages()  # before anything is written
    create_folder(out)
    target = MERGED if merged else ADAPTER
    hub, token = LoopbackHub(out / "hub"), f"hf_{secrets.token_hex(16)}"
    # Before it opens: other users of this machine can reach it.
    hub.add_account("demo", token, rights="all")
    with TemporaryDirectory(prefix="models-", dir=out) as folder, hub:
        with console.step("make the demo's models"):
            built = build_apart(BuildRequest(Path(folder), merged), out / "models.log", console.report)
            hub.add(REFERENCE, built.reference)
            hub.add(target, built.finetune)
        code = _run_command(target, hub, token, policy, out, console)
        found = out / "run" / "report.json"
        if not found.exists():
            return code  # the run has said why
        report = records.from_json(records.Report, found.read_bytes())
        console.print(f"pull request  {report.publish.url or 'none'}")
        if browse:
            _serve_until_signal(hub, target, report, console)
    console.print("The loopback Hub is closed again; python -m demo --browse keeps it open.")
    return code


def _serve_until_signal(hub: LoopbackHub, target: str, report: records.Report, console: Console) -> None:
    """Until a signal comes, which is raised."""
    console.print(f"The loopback Hub is at {hub.endpoint}/{target}; Ctrl-C closes it.")
    if report.publish.revision is not None:
        command = ["antidote-ci", "verify", target, "--revision", report.publish.revision]
        # A token of the reader's own is none of this Hub's.
        console.print(f"What a stranger can check: HF_ENDPOINT={hub.endpoint} HF_TOKEN= {shlex.join(command)}")
    while True:
        time.sleep(1)


def _run_command(target: str, hub: LoopbackHub, token: str, policy: Path, out: Path, console: Console) -> int:
    arguments = ["run", target, "--policy", str(policy), "--out", str(out / "run")]
    told = hub.environment | {"HF_TOKEN": token, "HF_WRITE_TOKEN": token}
    variables = (f"{name}={value}" for name, value in told.items())
    console.print(f"{' '.join(variables)} antidote-ci {shlex.join(arguments)}")
    folders = {"HF_HOME": str(out / "huggingface"), "ANTIDOTE_CACHE": str(out / "answers")}
    environment = os.environ | told | folders
    command = [sys.executable, "-m", "antidote_ci", *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except BaseException as ending:
            if not isinstance(ending, KeyboardInterrupt):  # the terminal's Ctrl-C reached it too
                process.terminate()
            process.wait()  # it ends in order
            raise
