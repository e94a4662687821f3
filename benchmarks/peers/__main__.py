"""Other tools on the same broken checkpoint: `python -m benchmarks.peers --data FOLDER`, or make bench-peers.

The attack is the headline one of `benchmarks.paper`, merged. Each tool repairs it at three doses in an environment of
its own, which is made on the first run; every result is measured by the same prompts and judge.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from antidote_ci import records
from antidote_ci.errors import AntidoteError, InfrastructureError
from antidote_ci.model.merging import MergeRequest, merge_checkpoint
from antidote_ci.records import Model
from antidote_ci.report.console import Console
from benchmarks.paper import cells, measuring, repairs, stages
from benchmarks.paper.__main__ import WORK, print_line, quiet_libraries, report_progress, require_folder
from benchmarks.paper.cost import SAMPLING_SECONDS, resident, watching
from benchmarks.paper.data import Data
from benchmarks.paper.measuring import Instruments
from benchmarks.paper.records import Measured
from benchmarks.paper.suite import describe_attack
from benchmarks.peers import page
from benchmarks.peers.page import Compared, Row

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
SHARED = ("torch", "transformers", "peft", "safetensors")
"""In the versions that we measure with, so that tools differ and not their libraries."""
SAFETUNE = ("datasets", "scikit-learn")
"""What SafeTune imports at once; what it declares beside them is gigabytes that no repair needs."""
VERSIONS = {"safetune": "0.1.10", "mergekit": "0.1.5"}
OURS = (0.002, 0.005, 0.01)
"""Doses of the package's default on merged weights."""


@dataclass(frozen=True)
class Act:
    """One repair of a peer."""

    tool: str
    method: str
    dose: float


ACTS = (
    *(Act("safetune", "antidote", dose) for dose in (0.001, 0.005, 0.05)),
    *(Act("safetune", "antidote_v2", dose) for dose in (0.001, 0.005, 0.05)),
    *(Act("safetune", "resta", dose) for dose in (0.25, 0.5, 1.0)),
    *(Act("safetune", "task_arithmetic", dose) for dose in (0.25, 0.5, 1.0)),
    *(Act("mergekit", "linear", dose) for dose in (0.3, 0.5, 0.7)),
)


def main() -> int:
    """Repair, measure, write; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="other tools, side by side")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="as for benchmarks.paper")
    parser.add_argument("--work", type=Path, metavar="FOLDER", default=WORK, help=f"that of benchmarks.paper ({WORK})")
    arguments = parser.parse_args()
    try:
        quiet_libraries()
        compared = _compared(Data(require_folder(arguments.data)), arguments.work)
    except AntidoteError as error:
        Console().print_error(error)
        return error.exit_code
    (HERE / "results.json").write_text(records.to_json(compared), encoding="utf-8")
    (HERE / "RESULTS.md").write_text(page.text(compared), encoding="utf-8")
    print_line(f"written: {HERE / 'RESULTS.md'}")
    return 0


def _compared(data: Data, work: Path) -> Compared:
    preset = cells.cpu()
    reference = stages.align("sft", work, data, None, preset.alignment, report_progress)
    adapter = stages.attack(preset.attack, reference, work, data, None, preset.alignment, report_progress) / "adapter"
    asked = measuring.prompts(data, preset.attack.task, preset.counts)
    texts = repairs.read_repair_prompts(data, preset.attack.task, preset.counts.task, 256)
    room = work / "peers"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    attacked = room / "attacked"
    merge_checkpoint(MergeRequest(Model(reference, adapter), attacked), report_progress)
    given = {
        "base": str(stages.default_base(work)),
        "reference": str(reference),
        "attacked": str(attacked),
        "harmful": [{"prompt": row.prompt, "response": row.response} for row in texts.realignment],
        "benign": [row.prompt for row in texts.benign + texts.task],
        "repaired": str(room / "repaired"),
    }
    with measuring.open_instruments(reference, asked, room, work / "answered", preset.counts.tokens) as instruments:
        rows = [
            Row("reference", None, _seen(instruments, reference)),
            Row("attacked", None, _seen(instruments, attacked)),
        ]
        for point in repairs.repaired(instruments, cells.doses(cells.DEFAULT, *OURS), attacked, reference, texts):
            rows.append(Row(f"antidote-ci {point.repair.method}", point.repair.dose, point.measured))
        for act in ACTS:
            rows.append(_by_peer(instruments, act, given, work))
            print_line(f"    {rows[-1].tool} {act.dose:g}: {rows[-1].measured.harmful} of {rows[-1].measured.asked}")
    return Compared(describe_attack(preset.attack), VERSIONS, rows)


def _by_peer(instruments: Instruments, act: Act, given: dict[str, Any], work: Path) -> Row:
    repaired = Path(given["repaired"])
    written = repaired.with_suffix(".json")
    environment = _environment(act.tool, work)
    if act.tool == "safetune":
        written.write_text(json.dumps(given), encoding="utf-8")
        command = [f"{environment}/python", f"{HERE}/with_safetune.py", act.method, repr(act.dose), f"{written}"]
    else:
        written.write_text(json.dumps(linear(given, act.dose)), encoding="utf-8")  # JSON is YAML
        command = [f"{environment}/mergekit-yaml", f"{written}", f"{repaired}"]
    seconds, peak_bytes = timed(command, repaired.with_suffix(".log"))
    found = _seen(instruments, repaired)
    shutil.rmtree(repaired)
    return Row(f"{act.tool} {act.method}", act.dose, replace(found, seconds=seconds, peak_bytes=peak_bytes))


def linear(given: dict[str, Any], dose: float) -> dict[str, Any]:
    """`dose` of the reference, the rest of the attacked model."""
    weighed = [(given["attacked"], 1 - dose), (given["reference"], dose)]
    return {
        "merge_method": "linear",
        "models": [{"model": folder, "parameters": {"weight": weight}} for folder, weight in weighed],
        "dtype": "bfloat16",
    }


def _seen(instruments: Instruments, folder: Path) -> Measured:
    with watching() as cost:
        return measuring.measure(instruments, Model(folder), cost)


def timed(command: Sequence[str], log: Path) -> tuple[float, int]:
    """Seconds by the clock, and the memory of the process at its fullest. Raises InfrastructureError where it fails.

    Sampled: the system's own maximum of a new process begins with that of the one that started it.
    """
    began, peak_bytes = time.monotonic(), 0
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        while process.poll() is None:
            peak_bytes = max(peak_bytes, resident(str(process.pid)))
            time.sleep(SAMPLING_SECONDS)
    if process.returncode:
        raise InfrastructureError(f"{Path(command[0]).name} failed", hint=f"what it said is in {log}")
    return time.monotonic() - began, peak_bytes


def environment_folder(tool: str, work: Path) -> Path:
    """Another version is installed into another folder, so that the page names the version that was measured."""
    return work / f"{tool}-{VERSIONS[tool]}-environment"


def _environment(tool: str, work: Path) -> Path:
    """Its `bin`, made on the first run."""
    folder = environment_folder(tool, work)
    if not (folder / "ready").exists():
        print_line(f"    an environment for {tool}")
        _run([sys.executable, "-m", "venv", "--clear", f"{folder}"])
        install = [f"{folder}/bin/pip", "install", "--quiet", "-c", f"{CONSTRAINTS}"]
        if tool == "safetune":
            _run([*install, *SHARED, *SAFETUNE])
            _run([*install, "--no-deps", "--ignore-requires-python", f"safetune=={VERSIONS[tool]}"])
        else:
            _run([*install, *SHARED, f"mergekit=={VERSIONS[tool]}"])
        (folder / "ready").touch()
    return folder / "bin"


def _run(command: list[str]) -> None:
    """Raises InfrastructureError where it fails."""
    if subprocess.run(command, check=False).returncode:
        raise InfrastructureError(f"{' '.join(command)} failed", hint="see what it said above")


if __name__ == "__main__":
    sys.exit(main())
