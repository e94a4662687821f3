"""docker or podman, by the commands that they share."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PLAIN = "localhost/antidote-ci:check"
DEMO = "localhost/antidote-ci:check-demo"

CONFINED = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp:rw,mode=1777",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--user=1234:1234",
)
"""The least that a run needs: no network, no capability, a user that nobody knows, and only its volumes to write to."""


HANDED_ON = "--env=OMP_WAIT_POLICY"
"""Where it is set: on a machine that has other work too, PASSIVE threads wait without computing."""


@dataclass(frozen=True)
class Engine:
    """A container engine, and what its builds need on this machine."""

    program: str
    environment: Mapping[str, str] = field(default_factory=dict)
    building: tuple[str, ...] = ()

    def build(self, root: Path, target: str, tag: str, arguments: Mapping[str, str]) -> None:
        """Build `target` of the Dockerfile in `root`. Raises CalledProcessError; what went wrong is on stderr."""
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options = [*self.building, *given, f"--target={target}", f"--tag={tag}"]
        self._call("build", *options, str(root))

    def run(self, image: str, *arguments: str, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A container's whole life; how it ended is not judged here."""
        with self.start(image, *arguments, options=options) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @contextmanager
    def start(self, image: str, *arguments: str, options: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """A container that runs on its own; it is over at the end."""
        # podman would add places to write to, which docker has not.
        alike = ["--read-only-tmpfs=false"] if self.program == "podman" and "--read-only" in options else []
        with subprocess.Popen(
            [self.program, "run", "--rm", HANDED_ON, *alike, *options, image, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            except BaseException:
                process.terminate()  # which is handed on to the container
                raise

    def inside(self, name: str, *command: str) -> str:
        """What a command prints inside a container that is running."""
        return self._call("exec", name, *command)

    def kill(self, name: str, signal: str) -> None:
        self._call("kill", f"--signal={signal}", name)

    def layers(self, image: str) -> list[tuple[str, str]]:
        """Size and origin of every layer that has any, the base first."""
        lines = self._call("history", "--no-trunc", "--format={{.Size}}\t{{.CreatedBy}}", image).splitlines()
        found = (line.split("\t", 1) for line in reversed(lines))
        return [(size, origin) for size, origin in found if not size.startswith("0")]

    def size(self, image: str) -> int:
        """Bytes of all layers together."""
        return int(self._call("image", "inspect", "--format={{.Size}}", image))

    def _call(self, *arguments: str) -> str:
        command = [self.program, *arguments]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, check=True, stdout=subprocess.PIPE, text=True
        ).stdout


def mounts(places: Mapping[str, Path]) -> list[str]:
    """Folders of this machine by their place in the container; any user may write to them."""
    for folder in places.values():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    return [f"--volume={folder}:{place}" for place, folder in places.items()]
