"""Sets up podman and a base image on a Debian machine without access to a container registry.

The configuration works for root without own cgroups and without the right to raise limits: `runc`, no journal, small
limits, and builds without namespaces. The base image is Debian with its own Python instead of the pinned image.
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
    """Install podman and build the image BASE from the Debian `suite`. Removes all images of `folder` at the end."""
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    _do("apt-get", "update", "-qq", **quiet)
    _do("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PROGRAMS, **quiet)
    (folder / "containers.conf").write_text(CONTAINERS, encoding="utf-8")
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder), encoding="utf-8")
    variables = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    # pip uses the certificate authorities of this machine. As a volume they do not become part of the image.
    build_options = ("--isolation=chroot", "--pull=never", f"--volume={AUTHORITIES}:{AUTHORITIES}:ro")
    base = _base(folder, suite)
    try:
        _do("podman", "import", "--quiet", "--change=CMD=python3", str(base), BASE, **variables)
        base.unlink()
        yield Engine("podman", variables, build_options)
    finally:
        _do("podman", "rmi", "--all", "--force", **variables)
        if (overlay := folder / "images" / "overlay").is_mount():
            _do("umount", str(overlay))


def _base(folder: Path, suite: str) -> Path:
    """Return a root file system as a tar file. It is built in memory, where the syncs of dpkg are fast."""
    memory = folder / "memory"
    memory.mkdir()
    _do("mount", "-t", "tmpfs", "tmpfs", str(memory))
    try:
        # With this file, Debian's pip refuses to install packages.
        hook = """--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED"""
        options = ("--quiet", "--variant=minbase", f"--include={PACKAGES}", hook)
        _do("mmdebstrap", *options, suite, str(memory / "base.tar"), TMPDIR=str(memory))
        return Path(shutil.copy(memory / "base.tar", folder))
    finally:
        _do("umount", str(memory))


def _do(*command: str, **environment: str) -> None:
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
