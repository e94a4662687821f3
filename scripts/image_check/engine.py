"""Runs docker or podman."""

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
"""Options of a confined container: no network, no capabilities, an unknown user, a read-only root."""

INHERITED = "--env=OMP_WAIT_POLICY"
"""Pass this variable on. With PASSIVE, waiting threads use no processor time."""


@dataclass(frozen=True)
class Engine:
    """A container engine with its environment and build options."""

    program: str
    environment: Mapping[str, str] = field(default_factory=dict)
    build_options: tuple[str, ...] = ()

    def build(self, root: Path, target: str, tag: str, arguments: Mapping[str, str]) -> None:
        """Build `target` of the Dockerfile in `root`. Raises CalledProcessError; the error is on stderr."""
        build_args = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options = [*self.build_options, *build_args, f"--target={target}", f"--tag={tag}"]
        self._call("build", *options, str(root))

    def run(self, image: str, *arguments: str, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a container until it ends, and return its exit code and output."""
        with self.start(image, *arguments, options=options) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @contextmanager
    def start(self, image: str, *arguments: str, options: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Start a container, and wait for its end when the context is left."""
        # With --read-only, podman mounts writable tmpfs folders by default; docker does not.
        podman_options = ["--read-only-tmpfs=false"] if self.program == "podman" and "--read-only" in options else []
        with subprocess.Popen(
            [self.program, "run", "--rm", INHERITED, *podman_options, *options, image, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            except BaseException:
                process.terminate()  # the engine forwards the signal to the container
                raise

    def run_exactly(self, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a container with these arguments and no others, and these variables of the engine's client."""
        return subprocess.run(
            [self.program, "run", *arguments],
            env={**os.environ, **environment, **self.environment},
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def inside(self, name: str, *command: str) -> str:
        """Run a command in a running container and return its output."""
        return self._call("exec", name, *command)

    def kill(self, name: str, signal: str) -> None:
        self._call("kill", f"--signal={signal}", name)

    def layers(self, image: str) -> list[tuple[str, str]]:
        """Return size and origin of all non-empty layers, the base first."""
        lines = self._call("history", "--no-trunc", "--format={{.Size}}\t{{.CreatedBy}}", image).splitlines()
        layers = (line.split("\t", 1) for line in reversed(lines))
        return [(size, origin) for size, origin in layers if not size.startswith("0")]

    def size(self, image: str) -> int:
        """Return the total size of all layers in bytes."""
        return int(self._call("image", "inspect", "--format={{.Size}}", image))

    def _call(self, *arguments: str) -> str:
        command = [self.program, *arguments]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, check=True, stdout=subprocess.PIPE, text=True
        ).stdout


def mounts(places: Mapping[str, Path]) -> list[str]:
    """Create folders that all users may write to, and return the options that mount them. Container path -> folder."""
    for folder in places.values():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    return [f"--volume={folder}:{place}" for place, folder in places.items()]
