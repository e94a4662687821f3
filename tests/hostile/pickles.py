"""Repositories whose weights are pickles, or worse, under every suffix and disguise. Their payload is `os.getpid()`."""

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

from tests.hostile.fixture import WEIGHTS, Change, Fixture


def calling(module: str, function: str, *arguments: str) -> bytes:
    """Return a pickle that calls a function when it is loaded."""
    given = "".join(f"V{argument}\n" for argument in arguments)
    return f"c{module}\n{function}\n({given}tR.".encode()


PAYLOAD = calling("os", "getpid")


def instead(name: str, content: bytes) -> Change:
    """Replace the weights with this file."""

    def build(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(content)

    return build


def zipped(content: bytes, name: str = "archive/data.pkl") -> bytes:
    """Return a checkpoint as torch.save writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
        archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    """Return a checkpoint as torch.save wrote it before version 1.6."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def with_a_wrong_checksum(archive: bytes) -> bytes:
    """Change the CRC in both headers of the first file."""
    central = archive.index(b"PK\x01\x02")
    damaged = bytearray(archive)
    damaged[14:18] = damaged[central + 16 : central + 20] = b"\0\0\0\0"
    return bytes(damaged)


def with_a_flag(archive: bytes) -> bytes:
    """Mark the first file as encrypted in the central directory only."""
    central = archive.index(b"PK\x01\x02")
    damaged = bytearray(archive)
    damaged[central + 8] |= 1
    return bytes(damaged)


def with_another_name(archive: bytes) -> bytes:
    """Rename the first file in its local header only."""
    return archive.replace(b"archive/data.pkl", b"archive/data.txt", 1)


def keras(layer: dict[str, object]) -> bytes:
    """Return a .keras archive with one layer."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        config = {"class_name": "Sequential", "config": {"layers": [layer]}}
        archive.writestr(zipfile.ZipInfo("config.json"), json.dumps(config))
    return buffer.getvalue()


def array_of_objects() -> bytes:
    """Return a .npy file with pickled entries."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + PAYLOAD


LAMBDA: dict[str, object] = {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}
HDF5 = b"\x89HDF\r\n\x1a\n"
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c\x00\x04"
RESOLVED = b"cpkgutil\nresolve_name\n(Vos:getpid\ntR(tR."
UNCALLED = b"cbuiltins\neval\n(V1\ntR0N."
"""The result of the call is discarded, so the syntax tree shows no call."""

FIXTURES = (
    Fixture(
        "pickled-weights",
        "https://jfrog.com/blog/data-scientists-targeted-by-malicious-hugging-face-ml-models-with-silent-backdoor/",
        "weights that open a shell when torch loads them, as about a hundred repositories of the Hub did",
        instead("pytorch_model.bin", PAYLOAD),
        "pytorch_model.bin",
    ),
    Fixture(
        "weights-only-tar",
        "CVE-2025-32434",
        "torch's legacy tar format, which ran code in spite of weights_only=True",
        instead("pytorch_model.pt", tarred(PAYLOAD)),
        "pytorch_model.pt",
    ),
    Fixture(
        "weights-only-memory",
        "CVE-2026-24747",
        "a pickle that sets an item of an object that is no mapping: torch's own unpickler then corrupts its memory",
        instead("consolidated.pth", zipped(b"\x80\x02]K\x00K\x01s.")),
        "consolidated.pth",
    ),
    Fixture(
        "extra-data",
        "CVE-2024-3568",
        "a pickle of training state beside TensorFlow weights, which transformers loaded with them",
        instead("extra_data.pickle", PAYLOAD),
        "extra_data.pickle",
    ),
    Fixture(
        "seven-zip",
        "https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face",
        "a checkpoint packed by 7z and not by zip, which the Hub's scanner could not open (nullifAI)",
        instead("pytorch_model.bin", SEVEN_ZIP + PAYLOAD),
        "pytorch_model.bin",
    ),
    Fixture(
        "seven-zip-suffix",
        "https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face",
        "the same with the suffix of an archive",
        instead("pytorch_model.7z", SEVEN_ZIP + PAYLOAD),
        "pytorch_model.7z",
    ),
    Fixture(
        "broken-after-the-call",
        "https://www.reversinglabs.com/blog/rl-identifies-malware-ml-model-hosted-on-hugging-face",
        "a pickle that is invalid after its call: scanners stopped with an error, but Python had already run the call",
        instead("model.ckpt", PAYLOAD[:-1] + b"\xff"),
        "model.ckpt",
    ),
    Fixture(
        "plain-pickle-as-torch",
        "CVE-2025-10155",
        "a plain pickle under a suffix of torch, which picklescan then did not look at",
        instead("model.pt", PAYLOAD),
        "model.pt",
    ),
    Fixture(
        "wrong-checksum",
        "CVE-2025-10156",
        "a zip with a wrong checksum: the scanner stopped, and torch loaded it",
        instead("model.pth", with_a_wrong_checksum(zipped(PAYLOAD))),
        "model.pth",
    ),
    Fixture(
        "submodule",
        "CVE-2025-10157",
        "a call through a module inside a forbidden one",
        instead("model.bin", calling("asyncio.unix_events", "_UnixSubprocessTransport")),
        "model.bin",
    ),
    Fixture(
        "pip-main",
        "CVE-2025-1716",
        "a pickle that installs a package by calling pip",
        instead("model.pkl", calling("pip", "main", "--version")),
        "model.pkl",
    ),
    Fixture(
        "unusual-suffix",
        "CVE-2025-1889",
        "a pickle under a suffix that scanners do not know",
        instead("weights.p", PAYLOAD),
        "weights.p",
    ),
    Fixture(
        "two-names",
        "CVE-2025-1944",
        "a zip whose two directories name different files: the scanner stopped, and torch loaded it",
        instead("pytorch_model.bin", with_another_name(zipped(PAYLOAD))),
        "pytorch_model.bin",
    ),
    Fixture(
        "flag-bits",
        "CVE-2025-1945",
        "a zip with a flag that made the scanner skip the pickle",
        instead("pytorch_model.bin", with_a_flag(zipped(PAYLOAD))),
        "pytorch_model.bin",
    ),
    Fixture(
        "resolved-name",
        "CVE-2026-3490",
        "pkgutil.resolve_name returns any function, so a deny-list cannot work",
        instead("model.dill", RESOLVED),
        "model.dill",
    ),
    Fixture(
        "forgotten-call",
        "CVE-2026-22612",
        "a call to a builtin that fickling classified as harmless",
        instead("model.pickle", UNCALLED),
        "model.pickle",
    ),
    Fixture(
        "keras-module",
        "CVE-2025-1550",
        "a Keras archive whose configuration names any function of any module, in spite of safe_mode",
        instead("model.keras", keras({"module": "os", "class_name": "function", "config": "getpid"})),
        "model.keras",
    ),
    Fixture(
        "keras-lambda",
        "CVE-2024-3660",
        "a Lambda layer holds Python bytecode, which older versions of Keras ran",
        instead("saved_model.hdf5", HDF5 + json.dumps(LAMBDA).encode()),
        "saved_model.hdf5",
    ),
    Fixture(
        "keras-safe-mode",
        "CVE-2025-9905",
        "the same in HDF5, where Keras 3 ignored safe_mode",
        instead("tf_model.h5", HDF5 + json.dumps(LAMBDA).encode()),
        "tf_model.h5",
    ),
    Fixture(
        "joblib",
        "CVE-2024-34997",
        "joblib files are pickles that hold arrays",
        instead("model.joblib", PAYLOAD),
        "model.joblib",
    ),
    Fixture(
        "array-of-objects",
        "CVE-2019-6446",
        "a numpy array of objects is a pickle",
        instead("weights.npy", array_of_objects()),
        "weights.npy",
    ),
    Fixture(
        "pickle-as-safetensors",
        "https://huggingface.co/docs/hub/security-pickle",
        "a pickle with the suffix of safetensors",
        instead(WEIGHTS, PAYLOAD),
        WEIGHTS,
    ),
    Fixture(
        "zip-as-safetensors",
        "https://blog.trailofbits.com/2024/03/04/relishing-new-fickling-features-for-securing-ml-systems/",
        "a torch checkpoint with the suffix of safetensors",
        instead(WEIGHTS, zipped(PAYLOAD)),
        WEIGHTS,
    ),
)
