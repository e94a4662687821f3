"""What people do with the image, each as one step that ends or says what is wrong."""

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
"""The demo's models as folders, for runs without a Hub."""


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
"""It listens before its worker is up, and says that it is not ready until then."""
SERVE = ("serve", "--repository=org/*", "--folder=/workspace/service")
SECRET = "--env=ANTIDOTE_WEBHOOK_SECRET=of-the-check-and-of-nothing-else-0123456789"  # noqa: S105 - opens nothing


class Wrong(Exception):
    """A step that did not end as it should."""


def contents(engine: Engine) -> str:
    """Nothing but what a run needs, and nothing to write to, with a writable root and with a read-only one."""
    for options in (("--network=none", "--user=1234:1234"), CONFINED):
        done = engine.run(PLAIN, "/check/contents.py", options=[*options, CHECK, PYTHON])
        expect(done.returncode == 0, done.stdout + done.stderr)
    return "service extra imports; no pip, no compiler; nothing else writable"


def demo(engine: Engine, work: Path) -> str:
    """`python -m demo` in a container that may do nothing."""
    done = engine.run(DEMO, f"--policy={POLICY}", "--out=/workspace/demo", options=_confined(work))
    expect(done.returncode == 0, f"exit {done.returncode}\n{done.stderr}")
    report = json.loads((work / "workspace/demo/run/report.json").read_bytes())
    expect(report["verdict"] == "repaired", report["verdict"])
    expect(bool(report["publish"]["url"]), "no pull request")
    before, after = (report["evaluations"][name]["harmful_score"] for name in ("before", "after"))
    return f"repaired, non-refusal rate {before:.2f} to {after:.2f}, pull request opened"


def models(engine: Engine, work: Path) -> str:
    """The demo's models, for the steps that follow."""
    done = engine.run(DEMO, "-c", MODELS, options=[*_confined(work), PYTHON])
    expect(done.returncode == 0, done.stderr)
    return "reference and adapter written"


def verified(engine: Engine, work: Path) -> str:
    """`antidote-ci verify` of the demo's result."""
    source = "--source=/workspace/models/finetune"
    done = engine.run(PLAIN, "verify", "/workspace/demo/run", source, options=_confined(work))
    expect(done.returncode == 0, f"exit {done.returncode}\n{done.stderr}")
    return "the weights are what the method allows"


def interrupted(engine: Engine, work: Path) -> str:
    """SIGTERM while the weights are scored: exit 143, and nothing half-written."""
    name = f"antidote-check-{time.time_ns()}"
    with engine.start(PLAIN, *REPAIR, options=[*_confined(work), ANSWERED, f"--name={name}"]) as process:
        said = ""
        for line in process.stderr or ():
            said += line
            if line.startswith("score the weights ..."):
                time.sleep(3)
                engine.kill(name, "TERM")
    expect(process.returncode == 143, f"exit {process.returncode}\n{said}")
    left = sorted(path.name for path in (work / "workspace" / INTERRUPTED).iterdir())
    expect(not {"model", "report.json", "repair"} & set(left), f"left behind: {left}")
    return f"exit 143; left in --out: {', '.join(left) or 'nothing'}"


def resumed(work: Path) -> str:
    """The Action has gone on with what SIGTERM ended: its weights are those of the demo."""
    first, again = (_weights(work / "workspace" / name / "model") for name in ("demo/run", INTERRUPTED))
    expect(first == again and bool(first), f"{first} is not {again}")
    return f"sha256 {', '.join(sorted(first.values()))[:16]}... both times"


def served(engine: Engine, work: Path) -> str:
    """The webhook's service is ready in a container that may do nothing, and ends when it is told to."""
    name = f"antidote-check-{time.time_ns()}"
    with engine.start(PLAIN, *SERVE, options=[*_confined(work), SECRET, f"--name={name}"]) as process:
        said = ""
        for line in process.stderr or ():
            said += line
            if "listening on" in line:
                engine.inside(name, "python", "-c", READY)
                engine.kill(name, "TERM")
    expect(process.returncode == 143, f"exit {process.returncode}\n{said}")
    return "ready, and exit 143 after SIGTERM"


INTERRUPTED = "out-repaired"
"""Where the Action's run that repairs goes on."""
REPAIR: Sequence[str] = (
    "run",
    "/workspace/models/finetune",
    "--reference=/workspace/models/reference",
    f"--policy={POLICY}",
    "--publish=none",
    f"--out=/workspace/{INTERRUPTED}",
)
ANSWERED = "--env=ANTIDOTE_CACHE=/workspace/demo/answers"
"""What the demo's models have answered is not asked again; weights are scored anew."""


def _confined(work: Path) -> list[str]:
    return [*CONFINED, *mounts({"/workspace": work / "workspace", "/cache": work / "cache"}), CHECK]


def _weights(folder: Path) -> dict[str, str]:
    """sha256 of the weights by file name."""
    files = sorted(folder.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)
