"""What the repair and the evaluation cost, as ratios. `python -m benchmarks.speed [part ...]`

Every line compares two ways to do the same work on this machine, measured in turns in one run.
"""

import argparse
import importlib
import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

from antidote_ci.model import loading
from benchmarks.speed import whole

PARTS = (
    "scoring",
    "gradients",
    "masks",
    "applying",
    "memory",
    "growth",
    "agreement",
    "answers",
    "doses",
    "neighbour",
    "whole",
)


def main() -> None:
    """Measure, and print a table and JSON."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.speed", description="what a repair costs")
    options.add_argument("parts", nargs="*", default=PARTS, metavar="part", help=", ".join(PARTS))
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--model", type=Path, help="for the part `whole`: a fine-tune in a folder, beside the demo's")
    options.add_argument("--reference", type=Path, help="its reference")
    options.add_argument("--policy", type=Path, help="its policy")
    arguments = options.parse_args()
    folders = (arguments.model, arguments.reference, arguments.policy)
    if any(folders) and not all(folders):
        options.error("--model, --reference and --policy belong together")
    lines = []
    for part in arguments.parts:
        if part not in PARTS:
            options.error(f"there is no part {part}")
        measured = importlib.import_module(f"benchmarks.speed.{part}").run(arguments.turns)
        if part == "whole" and arguments.model:
            measured += whole.run_folders(arguments.turns, arguments.model.name, *folders)
        for line in measured:
            spread = f"{min(line.values):.4g} to {max(line.values):.4g}"
            goal = f"{line.relation} {line.goal:g}, {'met' if line.met else 'MISSED'}"
            print(f"{line.name:66} {line.median:8.4g}  ({spread})  {goal}", flush=True)
            if line.limit:
                print(f"    {line.limit}")
            lines.append(line)
    machine = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {loading.detect_instruction_set()}, {loading.get_threads()} threads",
        "dtype": str(loading.select_device_and_dtype()[1]),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    print(json.dumps(machine | {"lines": [asdict(line) for line in lines]}, indent=2))


if __name__ == "__main__":
    main()
