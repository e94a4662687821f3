"""Build the image from nothing and use it as people do: a table of steps, seconds and results, and of layers."""

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
from scripts.image_check.steps import Wrong

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Exit code: 0 when every step ended well, 1 at the first that did not."""
    given = asked()
    start = time.monotonic()
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="image-check-")))
        engine, arguments = Engine(given.engine), {}
        if given.base:
            arguments["BASE_IMAGE"] = given.base
        if given.prepare:
            before = time.monotonic()
            engine = stack.enter_context(preparing.prepared(work, given.prepare))
            arguments["BASE_IMAGE"] = preparing.BASE
            row("prepare", time.monotonic() - before, f"podman, and a base from Debian {given.prepare}")
        if given.torch_wheel:
            arguments |= stack.enter_context(wheels.index(work, given.torch_wheel))
            engine = replace(engine, building=(*engine.building, "--network=host"))
        ended = all(take(name, step) for name, step in plan(engine, work, arguments))
    row("in all", time.monotonic() - start, "passed" if ended else "failed")
    return 0 if ended else 1


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.image_check", description=__doc__)
    parser.add_argument("--engine", choices=("docker", "podman"), default="docker", help="what builds and runs")
    parser.add_argument("--prepare", metavar="SUITE", help="set up podman and a base from this Debian suite, as root")
    parser.add_argument("--base", metavar="IMAGE", help="the base, instead of the Dockerfile's")
    parser.add_argument("--torch-wheel", metavar="FILE", type=Path, help="torch, instead of PyTorch's index")
    return parser.parse_args()


def plan(engine: Engine, work: Path, arguments: dict[str, str]) -> list[tuple[str, Callable[[], str]]]:
    """The steps in order, each as what returns its result in words."""

    def build(target: str, tag: str) -> str:
        engine.build(ROOT, target, tag, arguments)
        for size, origin in engine.layers(tag):
            print(f"{'':>20}{size:>10}  {origin[:90]}")
        return f"{engine.size(tag) / 1e6:,.0f} MB"

    return [
        ("build", lambda: build("image", PLAIN)),
        ("build with the demo", lambda: build("demo", DEMO)),
        ("contents", lambda: steps.contents(engine)),
        ("serve", lambda: steps.served(engine, work)),
        ("models", lambda: steps.models(engine, work)),
        ("demo", lambda: steps.demo(engine, work)),
        ("verify", lambda: steps.verified(engine, work)),
        ("SIGTERM", lambda: steps.interrupted(engine, work)),
        *((f"action: {case.name}", partial(acting.ends, engine, work, case)) for case in acting.CASES),
        ("resumed", lambda: steps.resumed(work)),
    ]


def take(name: str, step: Callable[[], str]) -> bool:
    """Whether the step ended well, with its row of the table."""
    start = time.monotonic()
    try:
        result, well = step(), True
    except (Wrong, subprocess.CalledProcessError) as error:
        result, well = f"FAILED: {error}", False
    row(name, time.monotonic() - start, result)
    return well


def row(name: str, seconds: float, result: str) -> None:
    print(f"{name:<20}{seconds:>8.1f} s  {result}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
