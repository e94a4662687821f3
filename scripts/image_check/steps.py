"""The steps of the image check. Each returns a description of its result or raises StepFailed."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.image_check.engine import CONFINED, DEMO, PLAIN, Engine, mounts

HERE = Path(__file__).parent
CHECK = f"--volume={HERE}:/check:ro"
PYTHON = "--entrypoint=/opt/venv/bin/python"
POLICY = "/check/policy.toml"

MODELS = """
from pathlib import Path
from demo.build import BuildRequest, build_checkpoints
build_checkpoints(BuildRequest(Path("/workspace/models"), merged=False), lambda _: None)
"""
"""Writes the demo's models to folders, for runs without a Hub."""

READY = """
import sys, time
from urllib.error import HTTPError
from urllib.request import urlopen
for _ in range(100):
    try:
        sys.exit(urlopen("http://127.0.0.1:8080/health/ready").status != 200)
    except HTTPError:
        time.sleep(0.2)
sys.exit(1)
"""
"""Waits until the service is ready. It accepts connections before its worker runs."""
SERVE = ("serve", "--repository=org/*", "--folder=/workspace/service")
SECRET = "--env=ANTIDOTE_WEBHOOK_SECRET=of-the-check-and-of-nothing-else-0123456789"  # noqa: S105 - not a real secret


class StepFailed(Exception):
    """A step has an unexpected result."""


def check_contents(engine: Engine) -> str:
    """Run contents.py in the image, with a writable and a read-only root."""
    for options in (("--network=none", "--user=1234:1234"), CONFINED):
        completed = engine.run(PLAIN, "/check/contents.py", options=[*options, CHECK, PYTHON])
        expect(completed.returncode == 0, completed.stdout + completed.stderr)
    return "service extra imports; no pip, no compiler; nothing else writable"


def run_demo(engine: Engine, work: Path) -> str:
    """Run `python -m demo` in a confined container."""
    completed = engine.run(DEMO, f"--policy={POLICY}", "--out=/workspace/demo", options=_confined(work))
    expect(completed.returncode == 0, f"exit {completed.returncode}\n{completed.stderr}")
    report = json.loads((work / "workspace/demo/run/report.json").read_bytes())
    expect(report["verdict"] == "repaired", report["verdict"])
    expect(bool(report["publish"]["url"]), "no pull request")
    before, after = (report["evaluations"][name]["harmful_score"] for name in ("before", "after"))
    return f"repaired, non-refusal rate {before:.2f} to {after:.2f}, pull request opened"


def build_models(engine: Engine, work: Path) -> str:
    """Write the demo's models for the following steps."""
    completed = engine.run(DEMO, "-c", MODELS, options=[*_confined(work), PYTHON])
    expect(completed.returncode == 0, completed.stderr)
    return "reference and adapter written"


def verify(engine: Engine, work: Path) -> str:
    """Run `antidote-ci verify` on the result of the demo."""
    source = "--source=/workspace/models/finetune"
    completed = engine.run(PLAIN, "verify", "/workspace/demo/run", source, options=_confined(work))
    expect(completed.returncode == 0, f"exit {completed.returncode}\n{completed.stderr}")
    return "the weights are what the method allows"


def interrupt(engine: Engine, work: Path) -> str:
    """Send SIGTERM while the weights are scored: exit code 143, and no partial results."""
    name = f"antidote-check-{time.time_ns()}"
    with engine.start(PLAIN, *REPAIR, options=[*_confined(work), ANSWERED, f"--name={name}"]) as process:
        log = ""
        for line in process.stderr or ():
            log += line
            if line.startswith("score the weights ..."):
                time.sleep(3)
                engine.kill(name, "TERM")
    expect(process.returncode == 143, f"exit {process.returncode}\n{log}")
    left = sorted(path.name for path in (work / "workspace" / INTERRUPTED).iterdir())
    expect(not {"model", "report.json", "repair"} & set(left), f"unexpected files: {left}")
    return f"exit 143; left in --out: {', '.join(left) or 'nothing'}"


def compare_resumed(work: Path) -> str:
    """Check that the run which the Action resumed has the same weights as the demo."""
    first, resumed = (_weights(work / "workspace" / name / "model") for name in ("demo/run", INTERRUPTED))
    expect(first == resumed and bool(first), f"{first} is not {resumed}")
    return f"sha256 {', '.join(sorted(first.values()))[:16]}... both times"


def serve(engine: Engine, work: Path) -> str:
    """Start the webhook service in a confined container, wait until it is ready, and end it with SIGTERM."""
    name = f"antidote-check-{time.time_ns()}"
    with engine.start(PLAIN, *SERVE, options=[*_confined(work), SECRET, f"--name={name}"]) as process:
        log = ""
        for line in process.stderr or ():
            log += line
            if "listening on" in line:
                engine.inside(name, "python", "-c", READY)
                engine.kill(name, "TERM")
    expect(process.returncode == 143, f"exit {process.returncode}\n{log}")
    return "ready, and exit 143 after SIGTERM"


INTERRUPTED = "out-repaired"
"""Output folder of the interrupted run, which the Action resumes."""
REPAIR: Sequence[str] = (
    "run",
    "/workspace/models/finetune",
    "--reference=/workspace/models/reference",
    f"--policy={POLICY}",
    "--publish=none",
    f"--out=/workspace/{INTERRUPTED}",
)
ANSWERED = "--env=ANTIDOTE_CACHE=/workspace/demo/answers"
"""Reuses the stored answers of the demo; the weights are scored again."""


def _confined(work: Path) -> list[str]:
    return [*CONFINED, *mounts({"/workspace": work / "workspace", "/cache": work / "cache"}), CHECK]


def _weights(folder: Path) -> dict[str, str]:
    """Return file name -> sha256 of the weights."""
    files = sorted(folder.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)
