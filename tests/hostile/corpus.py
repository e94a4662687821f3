"""All hostile repositories, and a stage that runs the command line on them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loopback_hub import LoopbackHub
from tests import tiny
from tests.hostile import code, files, headers, indexes, lineage, pickles, templates, tokenizers
from tests.hostile.fixture import TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, Fixture, Start
from tests.hostile.watched import Seen

MODULES = (pickles, code, headers, indexes, files, tokenizers, lineage, templates)
FIXTURES = tuple(fixture for module in MODULES for fixture in module.FIXTURES)
OWNER = "stranger"
FINE_TUNED = "2025-06-15T12:00:00.000Z"
PROCESSES = 2
SECONDS = 600
"""Timeout for all commands of one process."""


@dataclass(frozen=True)
class Stage:
    """A loopback Hub, valid checkpoints, and the folder that commands may write to."""

    hub: LoopbackHub
    good: Mapping[Start, Path]
    folder: Path

    def play(self, fixtures: Iterable[Fixture]) -> dict[str, Seen]:
        """Run the command line on each fixture, in PROCESSES processes; return the observations by name."""
        commands = {fixture.name: self._command(fixture, self._placed(fixture)) for fixture in fixtures}
        for name in ("out", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        shares = [list(commands)[number::PROCESSES] for number in range(PROCESSES)]
        with ThreadPoolExecutor(PROCESSES) as pool:
            found = list(pool.map(lambda names: self._watched([commands[name] for name in names]), shares))
        return {
            name: seen
            for names, share in zip(shares, found, strict=True)
            for name, seen in zip(names, share, strict=True)
        }

    def repository(self, fixture: Fixture) -> Path:
        """Return the folder that was uploaded, or that the command line gets."""
        return self.folder / "repositories" / fixture.name

    def writable(self, fixture: Fixture) -> list[Path]:
        """Return the paths that its command may write to."""
        return [
            self._out(fixture),
            Path("/dev/null"),
            *(self.folder / name for name in ("huggingface", "cache", "tmp")),
        ]

    def _placed(self, fixture: Fixture) -> str:
        """Build the repository; return its name on the Hub, or its folder."""
        folder = shutil.copytree(self.good[fixture.start], self.repository(fixture))
        fixture.build(folder)
        fixture.beside(self.hub, self.good)
        if fixture.own_process and not fixture.complete:
            without_a_weight(folder)
        if fixture.local:
            return str(folder)
        self.hub.add(f"{OWNER}/{fixture.name}", folder, created=FINE_TUNED)
        return f"{OWNER}/{fixture.name}"

    def _out(self, fixture: Fixture) -> Path:
        return self.folder / "out" / fixture.name

    def _command(self, fixture: Fixture, model: str) -> list[str]:
        options = ["--prompts=embedded", "--judge=refusal", f"--out={self._out(fixture)}"]
        if fixture.command == "run":
            options.append("--realignment=embedded")
        return [fixture.command, model, *options]

    def _watched(self, commands: Sequence[Sequence[str]]) -> list[Seen]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.hostile.watched", str(self.folder)],
            input="".join(json.dumps(command) + "\n" for command in commands),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=self._environment(),
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [Seen(**json.loads(line)) for line in done.stdout.splitlines()]

    def _environment(self) -> dict[str, str]:
        own = {
            "HF_HOME": str(self.folder / "huggingface"),
            "ANTIDOTE_CACHE": str(self.folder / "cache"),
            "ANTIDOTE_HUB_RETRY_SECONDS": "5",
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return os.environ | self.hub.environment | own


def write_stage(hub: LoopbackHub, folder: Path) -> Stage:
    """Write the checkpoints that the fixtures start from. The adapter has a tokenizer, as most do."""
    full = tiny.write_tiny_llama(folder / "good" / "full")
    adapter = tiny.write_tiny_adapter(folder / "good" / "adapter", full)
    for name in (TOKENIZER, TOKENIZER_CONFIG):
        shutil.copy(full / name, adapter)
    sharded = tiny.write_tiny_llama(folder / "good" / "sharded", hidden=16, layers=1, shards=3, tie=False)
    hub.add(tiny.BASE_NAME, full, created=lineage.EARLY)
    return Stage(hub, {"full": full, "sharded": sharded, "adapter": adapter}, folder)


def without_a_weight(folder: Path) -> None:
    """Remove one weight: a command that loads the weights ends with another exit code."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    del tensors["model.norm.weight"]
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
