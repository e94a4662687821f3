"""Build the image from scratch, use it, and print a table of steps, times, results and layers."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.image_check import acting, preparing, steps, wheels
from scripts.image_check.engine import DEMO, PLAIN, Engine
from scripts.image_check.steps import StepFailed

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run all steps. Exit code 1 at the first that fails."""
    arguments = parse_arguments()
    start = time.monotonic()
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="image-check-")))
        engine, build_arguments = Engine(arguments.engine), {}
        if arguments.base:
            build_arguments["BASE_IMAGE"] = arguments.base
        if arguments.prepare:
            before = time.monotonic()
            engine = stack.enter_context(preparing.prepared(work, arguments.prepare))
            build_arguments["BASE_IMAGE"] = preparing.BASE
            print_row("prepare", time.monotonic() - before, f"podman, and a base from Debian {arguments.prepare}")
        if arguments.torch_wheel:
            build_arguments |= stack.enter_context(wheels.index(work, arguments.torch_wheel))
            engine = replace(engine, build_options=(*engine.build_options, "--network=host"))
        passed = all(run_step(name, step) for name, step in plan(engine, work, build_arguments))
    print_row("total", time.monotonic() - start, "passed" if passed else "failed")
    return 0 if passed else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.image_check", description=__doc__)
    parser.add_argument("--engine", choices=("docker", "podman"), default="docker", help="the container engine")
    parser.add_argument(
        "--prepare", metavar="SUITE", help="install podman and build a base image from this Debian suite; needs root"
    )
    parser.add_argument("--base", metavar="IMAGE", help="base image instead of the Dockerfile's")
    parser.add_argument("--torch-wheel", metavar="FILE", type=Path, help="wheel of torch instead of PyTorch's index")
    return parser.parse_args()


def plan(engine: Engine, work: Path, arguments: dict[str, str]) -> list[tuple[str, Callable[[], str]]]:
    """Return the steps in order. Each returns a description of its result."""

    def build(target: str, tag: str) -> str:
        engine.build(ROOT, target, tag, arguments)
        for size, origin in engine.layers(tag):
            print(f"{'':>20}{size:>10}  {origin[:90]}")
        return f"{engine.size(tag) / 1e6:,.0f} MB"

    return [
        ("build", lambda: build("image", PLAIN)),
        ("build with the demo", lambda: build("demo", DEMO)),
        ("contents", lambda: steps.check_contents(engine)),
        ("serve", lambda: steps.serve(engine, work)),
        ("models", lambda: steps.build_models(engine, work)),
        ("demo", lambda: steps.run_demo(engine, work)),
        ("verify", lambda: steps.verify(engine, work)),
        ("SIGTERM", lambda: steps.interrupt(engine, work)),
        *((f"action: {case.name}", partial(acting.run_case, engine, work, case)) for case in acting.CASES),
        ("resumed", lambda: steps.compare_resumed(work)),
        ("workflow of init", lambda: acting.run_template(engine, work)),
    ]


def run_step(name: str, step: Callable[[], str]) -> bool:
    """Run a step, print its row, and return whether it passed."""
    start = time.monotonic()
    try:
        result, passed = step(), True
    except (StepFailed, subprocess.CalledProcessError) as error:
        result, passed = f"FAILED: {error}", False
    print_row(name, time.monotonic() - start, result)
    return passed


def print_row(name: str, seconds: float, result: str) -> None:
    print(f"{name:<20}{seconds:>8.1f} s  {result}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
