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
from antidote_ci.paths import made
from antidote_ci.report.console import Talk
from demo.build import BuildRequest, build_apart
from demo.models import require_packages
from loopback_hub import LoopbackHub

POLICY = Path(__file__).parent / "antidote.toml"
REFERENCE = "antidote-demo/smollm2-aligned"
ADAPTER = "antidote-demo/smollm2-finetune-lora"
MERGED = "antidote-demo/smollm2-finetune"


def run(out: Path, talk: Talk, policy: Path, *, merged: bool, browse: bool) -> int:
    """Fill a loopback Hub, run `antidote-ci run` against it as a user would, and return its exit code."""
    require_packages()  # before anything is written
    made(out)
    target = MERGED if merged else ADAPTER
    hub, token = LoopbackHub(out / "hub"), f"hf_{secrets.token_hex(16)}"
    # Before it opens: other users of this machine can reach it.
    hub.account("demo", token, rights="all")
    with TemporaryDirectory(prefix="models-", dir=out) as folder, hub:
        with talk.step("make the demo's models"):
            built = build_apart(BuildRequest(Path(folder), merged), out / "models.log", talk.report)
            hub.add(REFERENCE, built.reference)
            hub.add(target, built.finetune)
        code = _run_as_a_user_would(target, hub, token, policy, out, talk)
        found = out / "run" / "report.json"
        if not found.exists():
            return code  # the run has said why
        report = records.load(records.Report, found.read_bytes())
        talk.say(f"pull request  {report.publish.url or 'none'}")
        if browse:
            _keep_open(hub, target, report, talk)
    talk.say("The loopback Hub is closed again; python -m demo --browse keeps it open.")
    return code


def _keep_open(hub: LoopbackHub, target: str, report: records.Report, talk: Talk) -> None:
    """Until a signal comes, which is raised."""
    talk.say(f"The loopback Hub is at {hub.endpoint}/{target}; Ctrl-C closes it.")
    if report.publish.revision is not None:
        command = ["antidote-ci", "verify", target, "--revision", report.publish.revision]
        # A token of the reader's own is none of this Hub's.
        talk.say(f"What a stranger can check: HF_ENDPOINT={hub.endpoint} HF_TOKEN= {shlex.join(command)}")
    while True:
        time.sleep(1)


def _run_as_a_user_would(target: str, hub: LoopbackHub, token: str, policy: Path, out: Path, talk: Talk) -> int:
    arguments = ["run", target, "--policy", str(policy), "--out", str(out / "run")]
    told = hub.environment | {"HF_TOKEN": token, "HF_WRITE_TOKEN": token}
    variables = (f"{name}={value}" for name, value in told.items())
    talk.say(f"{' '.join(variables)} antidote-ci {shlex.join(arguments)}")
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
