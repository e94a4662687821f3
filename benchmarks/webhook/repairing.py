"""A real repair that goes on and on while answers are timed: the demo's model of 135 million weights."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from antidote_ci.report.console import Console
from antidote_ci.service.executor import NICE
from demo.build import BuildRequest, DemoCheckpoints, run_build
from demo.main_job import POLICY

GOOD = (0, 7)
"""Exit codes of a run that came to a repaired model."""


@dataclass
class Repairs:
    """One run after the other, each from nothing."""

    built: DemoCheckpoints
    folder: Path
    codes: list[int] = field(default_factory=list)
    """Exit codes of those that came to their end."""
    _ending: threading.Event = field(default_factory=threading.Event)
    _process: "subprocess.Popen[bytes] | None" = None

    def go_on(self) -> None:
        """Until `end`."""
        model, reference = str(self.built.finetune), str(self.built.reference)
        options = ["--reference", reference, "--policy", str(POLICY), "--publish", "none"]
        while not self._ending.is_set():
            out = self.folder / f"run-{len(self.codes)}"
            environment = {**os.environ, "ANTIDOTE_CACHE": str(out / "answers")}
            # As little in the way of others as the service's own executor makes its runs.
            nice = ["nice", "-n", str(NICE), sys.executable, "-m", "antidote_ci"]
            command = [*nice, "run", model, *options, "--out", str(out / "out")]
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            code = self._process.wait()
            if not self._ending.is_set():
                self.codes.append(code)
            shutil.rmtree(out, ignore_errors=True)
            if code not in GOOD:
                return

    def end(self) -> None:
        """Stop the one that runs."""
        self._ending.set()
        if self._process is not None:
            self._process.terminate()

    def require_running(self) -> None:
        """Raises RuntimeError where a repair has failed: nothing was measured under load then."""
        if any(code not in GOOD for code in self.codes):
            raise RuntimeError(f"the repair ended with {self.codes}:\n{(self.folder / 'log').read_text()[-4000:]}")


@contextmanager
def run_repairs(folder: Path) -> Iterator[Repairs]:
    """Build the models, and repair until the end of the `with`."""
    folder.mkdir(parents=True)
    built = run_build(BuildRequest(folder / "models", merged=False), folder / "models.log", Console().report)
    running = Repairs(built, folder)
    thread = threading.Thread(target=running.go_on)
    thread.start()
    try:
        yield running
    finally:
        running.end()
        thread.join()
