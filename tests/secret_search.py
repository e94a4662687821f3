"""Search for planted secrets in /proc, in the command line and environment of every process.

    python secret_search.py SECRETS FINDINGS

SECRETS is a file with one secret per line. FINDINGS is the JSON object to write: `seen`, the places of secrets, and
`read`, the number of environments that could be read. The search ends when standard input does. `search_inside` does
the same in every child of the sandbox, as an attacker's code would, and also tries to open the memory of the parent.
The confinement lets it write its findings to the log alone.
"""

import json
import os
import select
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PAUSE = 0.002
NEIGHBOURS = 500
MARK = "findings inside: "


class Search:
    """The places that were read, and those in which a secret was found."""

    def __init__(self, secrets: Path) -> None:
        self._secrets = secrets.read_bytes().split()
        self.seen: set[str] = set()
        self.read = 0

    def look(self, processes: Iterable[Path]) -> None:
        """Read every process once."""
        for process in processes:
            try:
                command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:
                continue
            self.read += bool(environ.strip(b"\0"))
            for kind, content in (("cmdline", command), ("environ", environ)):
                if any(secret in content for secret in self._secrets):
                    self.seen.add(f"{kind} of {process.name}: {command.replace(bytes(1), b' ').decode()[:200]}")

    def to_json(self) -> str:
        """The findings."""
        return json.dumps({"seen": sorted(self.seen), "read": self.read})


def search_inside(secrets: Path) -> None:
    """Start a search whenever a child of the sandbox has confined itself."""
    from antidote_ci.sandbox import confinement as module
    from antidote_ci.sandbox.confinement import Confinement

    search, confine = Search(secrets), module.confine

    def attack() -> None:
        while True:
            # A child may not list /proc, but can guess the numbers of processes.
            numbers = range(max(1, os.getpid() - NEIGHBOURS), os.getpid() + NEIGHBOURS)
            search.look(Path("/proc", str(number)) for number in {1, os.getppid(), *numbers} - {os.getpid()})
            with suppress(OSError), Path("/proc", str(os.getppid()), "mem").open("rb"):
                search.seen.add("the parent's memory can be opened")
            os.write(2, f"{MARK}{search.to_json()}\n".encode())
            time.sleep(0.05)

    def confine_and_attack(confinement: Confinement) -> list[str]:
        protections = confine(confinement)
        threading.Thread(target=attack, daemon=True).start()
        return protections

    module.confine = confine_and_attack


def main() -> None:
    """Search until standard input ends."""
    search = Search(Path(sys.argv[1]))
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        search.look(Path("/proc").glob("[0-9]*"))
    Path(sys.argv[2]).write_text(search.to_json())


if __name__ == "__main__":
    main()
