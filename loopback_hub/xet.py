"""Xet storage: large files are transferred by hf_xet from and to a folder of this machine, without a storage server.

hf_xet accepts the address `local://FOLDER` for the storage, and only one process at a time. The Hub gives the address
with a token, and finds the Xet hash of a file in the shards that an upload leaves there.
https://huggingface.co/docs/xet/shard
"""

import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from loopback_hub.blobs import BlobStore

HEADER_BYTES, ITEM_BYTES, HASH_BYTES = 48, 48, 32
END = b"\xff" * HASH_BYTES
"""The hash after the last file of a shard."""
HAS_VERIFICATION, HAS_SHA256 = 1 << 31, 1 << 30
TOKEN_SECONDS = 3600
"""For how long a token is valid. The storage does not ask for it."""
SECONDS_TO_WAIT = 20.0
LOCKED = "Database already open"
"""Part of the message of hf_xet while another process uses the folder."""

Value = TypeVar("Value")


class XetStorage:
    """The folder of a Hub, with the files that were uploaded by Xet or are downloaded by it."""

    def __init__(self, folder: Path, blobs: BlobStore) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = f"local://{folder.absolute()}"
        self._folder, self._blobs = folder, blobs

    def hash_of(self, sha256: str) -> str:
        """The Xet hash of a blob, which is uploaded first if necessary. Raises FileNotFoundError without the blob."""
        known = self._find_hash(sha256)
        if known is not None:
            return known
        blob = self._blobs.path(sha256)
        if blob is None:
            raise FileNotFoundError(sha256)
        return _retry_locked(lambda: self._upload(blob))

    def fetch(self, sha256: str, size: int) -> Path | None:
        """Copy a file of this size that was uploaded by Xet to the blobs; None if there is none."""
        xet_hash = self._find_hash(sha256)
        if xet_hash is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            _retry_locked(lambda: self._download(xet_hash, size, part))
            with part.open("rb") as content:
                self._blobs.put(content, expected=sha256)
        return self._blobs.path(sha256)

    def _find_hash(self, sha256: str) -> str | None:
        for shard in self._folder.glob("xet/xorbs/shards/*.mdb"):
            for file_sha256, xet_hash in _read_shard(shard.read_bytes()):
                if file_sha256 == sha256:
                    return xet_hash
        return None

    def _upload(self, file: Path) -> str:
        import hf_xet  # type: ignore[import-untyped]

        with hf_xet.XetSession().new_upload_commit(endpoint=self.address) as commit:
            upload = commit.start_upload_file(str(file), sha256=hf_xet.COMPUTE_SHA256)
        return str(upload.result().xet_info.hash)

    def _download(self, xet_hash: str, size: int, file: Path) -> None:
        import hf_xet

        with hf_xet.XetSession().new_file_download_group(endpoint=self.address) as group:
            group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(file))


def _read_shard(content: bytes) -> Iterator[tuple[str, str]]:
    """The sha256 and the Xet hash of each file in a shard, which begins with its files."""
    place = HEADER_BYTES
    while (digest := content[place : place + HASH_BYTES]) != END:
        flags, count = struct.unpack_from("<II", content, place + HASH_BYTES)
        place += ITEM_BYTES * (1 + count + (count if flags & HAS_VERIFICATION else 0))
        if flags & HAS_SHA256:
            yield _to_hex(content[place : place + HASH_BYTES]), _to_hex(digest)
            place += ITEM_BYTES


def _to_hex(digest: bytes) -> str:
    """Xet writes a hash as four numbers of 64 bits, each with its lowest byte first."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def _retry_locked(call: Callable[[], Value]) -> Value:
    """Return `call()`, and repeat it while another process uses the folder."""
    until = time.monotonic() + SECONDS_TO_WAIT
    while True:
        try:
            return call()
        except (RuntimeError, OSError) as error:
            if LOCKED not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.1)
