"""Looks for planted secrets in what the kernel shows of every process, until it is told to stop.

    python secret_search.py SECRETS FINDINGS

SECRETS is a file with one secret a line. FINDINGS becomes a JSON object: `seen`, the places where a secret stood, and
`read`, how many environments could be read. It ends when its standard input does. `search_inside` does the same in the
child that runs a model, as code of an attacker would, and tries the memory of the parent as well.
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
    """What was looked at, and what was seen there."""

    def __init__(self, secrets: Path, findings: Path) -> None:
        self._secrets = secrets.read_bytes().split()
        self._findings = findings
        self.seen: set[str] = set()
        self.read = 0

    def look(self) -> None:
        """Look once at every process."""
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
        """Replace the findings at once."""
        part = self._findings.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"seen": sorted(self.seen), "read": self.read}))
        part.replace(self._findings)


def search_inside(secrets: Path, findings: Path) -> None:
    """Begin when the process opens its first request: its main thread has dropped its privileges by then."""
    begun = threading.Event()

    def attack() -> None:
        search = Search(secrets, findings)
        while True:
            search.look()
            with suppress(OSError), Path("/proc", str(os.getppid()), "mem").open("rb"):
                search.seen.add("the parent's memory can be opened")
            search.save()
            time.sleep(0.05)

    def notice(event: str, arguments: tuple[object, ...]) -> None:
        if event == "import" and arguments[0] == "pydantic" and not begun.is_set():
            begun.set()
            threading.Thread(target=attack, daemon=True).start()

    sys.addaudithook(notice)


def main() -> None:
    """Look until standard input ends."""
    search = Search(Path(sys.argv[1]), Path(sys.argv[2]))
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        search.look()
    search.save()


if __name__ == "__main__":
    main()
