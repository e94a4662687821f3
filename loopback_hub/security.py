"""Imitates the Hub's file scanner: lists the imports of pickles without unpickling them.

https://huggingface.co/docs/hub/security-pickle
"""

import io
import pickletools
import zipfile
from pathlib import Path, PurePosixPath

from loopback_hub.records import Commit, FileEntry
from loopback_hub.store import HubStore

PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
INNOCUOUS = {"torch", "collections", "numpy", "_codecs"}
DANGEROUS = {"builtins", "__builtin__", "os", "posix", "nt", "subprocess", "sys", "runpy", "shutil", "socket"}
SEVERITY = ["safe", "suspicious", "unsafe"]
LEVELS = {"innocuous": "safe", "suspicious": "suspicious", "dangerous": "unsafe"}


def scan_commit(store: HubStore, commit: Commit) -> dict[str, object]:
    """Return the files of a commit that are not safe."""
    levels = {path: _worst_level(_list_imports(store, path, entry)) for path, entry in commit.files.items()}
    issues = [{"path": path, "level": level} for path, level in levels.items() if level != "safe"]
    return {"scansDone": True, "filesWithIssues": issues}


def scan_file(store: HubStore, path: str, entry: FileEntry) -> dict[str, object]:
    """Return the scan result of one file, in the form of a file list."""
    imports = _list_imports(store, path, entry)
    level = _worst_level(imports)
    rows = [{"module": module, "name": name, "safety": _module_level(module)} for module, name in imports]
    return {
        "status": level,
        "avScan": {"status": "safe", "virusFound": False, "virusNames": None},
        "pickleImportScan": {"status": level, "pickleImports": rows},
    }


def _worst_level(imports: list[tuple[str, str]]) -> str:
    return max((LEVELS[_module_level(module)] for module, _ in imports), key=SEVERITY.index, default="safe")


def _module_level(module: str) -> str:
    package = module.partition(".")[0]
    return "innocuous" if package in INNOCUOUS else "dangerous" if package in DANGEROUS else "suspicious"


def _list_imports(store: HubStore, path: str, entry: FileEntry) -> list[tuple[str, str]]:
    blob = store.blobs.path(entry.sha256)
    if blob is None or PurePosixPath(path).suffix not in PICKLED:
        return []
    return sorted({pair for content in _read_pickles(blob) for pair in _read_globals(content)})


def _read_pickles(blob: Path) -> list[bytes]:
    """Return the pickles of a file: the file itself, or those in a PyTorch archive."""
    if not zipfile.is_zipfile(blob):
        return [blob.read_bytes()]
    try:
        with zipfile.ZipFile(blob) as archive:
            return [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
    # Wrong checksums and flags have hidden pickles from scanners: CVE-2025-10156, CVE-2025-1945.
    except (zipfile.BadZipFile, RuntimeError):
        return [blob.read_bytes()]


def _read_globals(content: bytes) -> list[tuple[str, str]]:
    """Return the imported modules and names, up to the end or the first error of the pickle."""
    imports, texts = [], [""]
    try:
        for operation, argument, _ in pickletools.genops(io.BytesIO(content)):
            if operation.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                imports.append((module, name))
            elif operation.name == "STACK_GLOBAL":
                imports.append((texts[-2], texts[-1]))
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, IndexError):
        imports.append(("", "unreadable"))
    return imports
