"""Measure and extrapolate: `python -m benchmarks.costs --policy FILE --work FOLDER --pair MODEL REFERENCE ...`

Every command of every pair is one cell, which is kept as JSON in the work folder and not measured again. The page is
written to `costs.md` there.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from antidote_ci import records
from antidote_ci.model import loading
from benchmarks.costs import sizes
from benchmarks.costs.forecasts import COMMANDS, CommandName, Forecast, Job, forecast
from benchmarks.costs.page import Cell, Comparison, write_page
from benchmarks.costs.processes import run_command

DOSES = {"antidote": 0.05, "taylor": 0.02}
PAGE = "costs.md"


def main() -> None:
    """Measure the cells that are missing, and write the page."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.costs", description="memory, disk and time")
    options.add_argument("--policy", type=Path, required=True)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--pair", type=Path, nargs=2, action="append", default=[], metavar=("MODEL", "REFERENCE"))
    options.add_argument("--commands", nargs="*", choices=COMMANDS, default=COMMANDS)
    arguments = options.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    measured = list[Comparison]()
    for model, reference in arguments.pair:
        job = Job(model.name, model.absolute(), reference.absolute(), arguments.policy.absolute())
        for command in arguments.commands:
            path = arguments.work / f"{job.name}-{command.replace(' ', '-')}.json"
            if not path.exists():
                cell = measure_cell(job, command, arguments.work)
                path.write_text(records.to_json(cell), encoding="utf-8")
                print(path, flush=True)
            cell = records.from_json(Cell, path.read_bytes())
            measured.append(Comparison(cell, forecast(job, command)))
    (arguments.work / PAGE).write_text(write_page(measured, forecast_sizes(arguments.policy)), encoding="utf-8")
    print((arguments.work / PAGE).read_text(encoding="utf-8"))


def measure_cell(job: Job, command: CommandName, work: Path) -> Cell:
    """Run one command with all its files in a new folder, which is removed afterwards."""
    folder = work / "watched"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    places = {"TMPDIR": folder / "tmp", "ANTIDOTE_CACHE": folder / "cache", "HF_HOME": folder / "huggingface"}
    environ = os.environ | {name: str(path) for name, path in places.items()} | {"HF_HUB_OFFLINE": "1"}
    name, _, method = command.partition(" ")
    arguments = [name, str(job.model), "--reference", str(job.reference), "--policy", str(job.policy)]
    if name == "repair":
        arguments += ["--method", method, "--dose", str(DOSES[method])]
    elif name == "run":
        arguments += ["--publish", "none"]
    log = work / f"{job.name}-{command.replace(' ', '-')}.log"
    run = [sys.executable, "-m", "antidote_ci", *arguments, "--out", str(folder / "out")]
    usage = run_command(run, folder, environ, log)
    report = folder / "out" / "report.json"
    steps: dict[str, Any] = json.loads(report.read_text())["seconds"] if report.exists() else {}
    shutil.rmtree(folder)
    estimate = forecast(job, command)
    return Cell(
        name=job.name,
        command=command,
        is_adapter=estimate.is_adapter,
        weights=estimate.weights,
        exit_code=usage.exit_code,
        seconds=usage.seconds,
        processor_seconds=usage.processor_seconds,
        cores=loading.get_threads(),
        memory=usage.memory,
        disk=usage.disk,
        steps=steps,
    )


def forecast_sizes(policy: Path) -> dict[tuple[str, bool, str], Forecast]:
    """The estimates for the shapes of `sizes`, merged and as an adapter."""
    forecasts = dict[tuple[str, bool, str], Forecast]()
    for shape in sizes.SHAPES:
        with TemporaryDirectory() as name:
            folder = Path(name)
            base = sizes.write_full(shape, folder / "base")
            models = {
                False: sizes.write_full(shape, folder / "merged"),
                True: sizes.write_adapter(shape, base, folder / "lora"),
            }
            for is_adapter, model in models.items():
                for command in COMMANDS:
                    forecasts[shape.name, is_adapter, command] = forecast(Job(shape.name, model, base, policy), command)
    return forecasts


if __name__ == "__main__":
    main()
