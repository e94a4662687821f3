"""Search for planted secrets in /proc, in the command line and environment of every process.

    python secret_search.py SECRETS FINDINGS

SECRETS is a file with one secret per line. FINDINGS is the JSON object to write: `seen`, the places of secrets, and
`read`, the number of environments that could be read. The search ends when standard input does. `search_inside` does
the same in the sandbox process, as an attacker's code would, and also tries to open the memory of the parent.
"""

import json
import os
import select
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PAUSE = 0.002


class Search:
    """The places that were read, and those in which a secret was found."""

    def __init__(self, secrets: Path, findings: Path) -> None:
        self._secrets = secrets.read_bytes().split()
        self._findings = findings
        self.seen: set[str] = set()
        self.read = 0

    def look(self) -> None:
        """Read every process once."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:
                continue
            self.read += bool(environ.strip(b"\0"))
            for kind, content in (("cmdline", command), ("environ", environ)):
                if any(secret in content for secret in self._secrets):
                    self.seen.add(f"{kind} of {process.name}: {command.replace(bytes(1), b' ').decode()[:200]}")

    def save(self) -> None:
        """Write the findings and rename them into place."""
        part = self._findings.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"seen": sorted(self.seen), "read": self.read}))
        part.replace(self._findings)


def search_inside(secrets: Path, findings: Path) -> None:
    """Start at the first request, when the main thread of the sandbox has dropped its privileges."""
    started = threading.Event()

    def attack() -> None:
        search = Search(secrets, findings)
        while True:
            search.look()
            with suppress(OSError), Path("/proc", str(os.getppid()), "mem").open("rb"):
                search.seen.add("the parent's memory can be opened")
            search.save()
            time.sleep(0.05)

    def start_at_import(event: str, arguments: tuple[object, ...]) -> None:
        if event == "import" and arguments[0] == "pydantic" and not started.is_set():
            started.set()
            threading.Thread(target=attack, daemon=True).start()

    sys.addaudithook(start_at_import)


def main() -> None:
    """Search until standard input ends."""
    search = Search(Path(sys.argv[1]), Path(sys.argv[2]))
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        search.look()
    search.save()


if __name__ == "__main__":
    main()
