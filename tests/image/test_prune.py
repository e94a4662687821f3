"""image/prune.sh removes unneeded files and keeps the rest."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEEDED = (
    "torch/__init__.py",
    "torch/bin/torch_shm_manager",
    "torch/testing/_internal/logging_tensor.py",
    "torch/lib/libtorch.so",
    "numpy/testing/__init__.py",
    "transformers/models/auto/modeling_auto.py",
    "transformers/models/llama/modeling_llama.py",
    "antidote_ci/templates/card.jinja",
    "antidote_ci-0.1.0.dist-info/licenses/LICENSE",
)
UNNEEDED = (
    "torch/bin/test_api",
    "torch/bin/deep/er/file",
    "torch/test/thing",
    "torch/include/ATen/ATen.h",
    "torch/share/cmake/Torch.cmake",
    "torch/_C.pyi",
    "numpy/_core/tests/test_it.py",
    "numpy/_core/lib/libnpymath.a",
    "setuptools/cli.exe",
)


def test_prune_removes_only_unneeded_files(tmp_path: Path) -> None:
    venv.create(tmp_path, symlinks=True)
    site = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    for name in (*NEEDED, *UNNEEDED):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    (site / "later.py").write_text("def f[T](: not yet Python\n")
    for name in ("antidote-ci", "transformers", "activate"):
        (tmp_path / "bin" / name).write_text("")
    subprocess.run(["/bin/sh", str(ROOT / "image" / "prune.sh"), str(tmp_path)], check=True)
    assert [name for name in NEEDED if not (site / name).exists()] == []
    assert [name for name in UNNEEDED if (site / name).exists()] == []
    programs = {path.name for path in (tmp_path / "bin").iterdir()}
    assert "antidote-ci" in programs
    assert {name for name in programs if not name.startswith("python")} == {"antidote-ci"}
    assert list((site / "torch" / "__pycache__").glob("*.pyc"))
    assert list((site / "transformers" / "models" / "auto" / "__pycache__").glob("*.pyc"))
    assert not (site / "transformers" / "models" / "llama" / "__pycache__").exists()
    subprocess.run([str(tmp_path / "bin" / "python"), "-c", "import torch, numpy.testing"], check=True)
