"""podman, and a base for the image, on a bare Debian machine that reaches no container registry.

What an engine needs where it is root, has no cgroups of its own and cannot raise its limits: `runc`, no journal, small
limits, and builds without a namespace of their own. The base is Debian with its own Python instead of the pinned one.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.image_check.engine import Engine

BASE = "localhost/antidote-base"
PROGRAMS = ("podman", "runc", "mmdebstrap")
PACKAGES = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/running"
"""


@contextmanager
def prepared(folder: Path, suite: str) -> Iterator[Engine]:
    """podman with its images under `folder`, among them BASE from the Debian `suite`; afterwards there are none."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    _do("apt-get", "update", "-qq", **quiet)
    _do("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PROGRAMS, **quiet)
    (folder / "containers.conf").write_text(CONTAINERS, encoding="utf-8")
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder), encoding="utf-8")
    named = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    # pip reaches its index by this machine's authorities: mounted over the base's own file, they leave nothing behind.
    building = ("--isolation=chroot", "--pull=never", f"--volume={AUTHORITIES}:{AUTHORITIES}:ro")
    base = _base(folder, suite)
    try:
        _do("podman", "import", "--quiet", "--change=CMD=python3", str(base), BASE, **named)
        base.unlink()
        yield Engine("podman", named, building)
    finally:
        _do("podman", "rmi", "--all", "--force", **named)
        if (overlay := folder / "images" / "overlay").is_mount():
            _do("umount", str(overlay))


def _base(folder: Path, suite: str) -> Path:
    """A root file system as a tar file; made in memory, where dpkg's many syncs cost nothing."""
    memory = folder / "memory"
    memory.mkdir()
    _do("mount", "-t", "tmpfs", "tmpfs", str(memory))
    try:
        # Otherwise Debian's pip refuses to install beside Debian's own packages.
        hook = """--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED"""
        options = ("--quiet", "--variant=minbase", f"--include={PACKAGES}", hook)
        _do("mmdebstrap", *options, suite, str(memory / "base.tar"), TMPDIR=str(memory))
        return Path(shutil.copy(memory / "base.tar", folder))
    finally:
        _do("umount", str(memory))


def _do(*command: str, **environment: str) -> None:
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
