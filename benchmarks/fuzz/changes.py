"""Changes of a small checkpoint: its files, template, tokenizer, configuration, adapter, card and weights.

Files of a case are hard links to the shared material, so a change writes a new file and never changes an old one in
place.
"""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from antidote_ci.records import Model
from benchmarks.fuzz.config_changes import change_adapter, change_config
from benchmarks.fuzz.material import OTHER_TEMPLATE, Change, choose_folder, write
from benchmarks.fuzz.text_changes import change_template, change_tokenizer

NAMES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"),
    *("chat_template.jinja", "chat_template.json", "processor_config.json", "preprocessor_config.json"),
    *("additional_chat_templates/default.jinja", "additional_chat_templates/tool_use.jinja", "README.md"),
    *("model.safetensors", "model.fp16.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    *("model-00001-of-00002.safetensors", "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
    *("tokenizer.4.0.0.json", "tokenizer.json.bak", "tekken.json", "sentencepiece.bpe.model", "video_config.json"),
    *("tokenization_x.py", "modeling_x.py", "antidote/manifest.json", "NOTICE.safetensors", "config.yaml"),
    *("CHAT_TEMPLATE.JINJA", "tokenizer .json", "quantize_config.json", "original/params.json", "sub/vocab.json"),
    *("custom_generate/generate.py", "generation_config.yaml", "module.json", "image_processor_config.json"),
)
SUBFOLDERS = ("sub", "original", ".hidden", "additional_chat_templates/sub", "antidote/sub", "onnx", "..")


def change_files(model: Model, rng: Random) -> str:
    """Add or replace a file of any name with content of any role, or a link, a pipe or a folder of that name."""
    folder, name = choose_folder(model, rng), rng.choice(NAMES)
    path, form = folder / name, rng.choice(("file",) * 8 + ("link", "link outside", "hard link", "pipe", "folder"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        return f"{name} is a folder already"
    if os.path.lexists(path):
        path.unlink()
    others = sorted(other for other in folder.iterdir() if other.is_file())
    target = rng.choice(others) if others else folder / "README.md"
    match form:
        case "link":
            path.symlink_to(target)
        case "link outside":
            path.symlink_to(folder.parent / "outside" / rng.choice(("secret.json", "weights.safetensors")))
        case "hard link":
            path.hardlink_to(target) if target.exists() else path.touch()
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            role = rng.choice(sorted(ROLES))
            write(path, ROLES[role](folder, rng))
            form = f"a file with the content of {role}"
    return f"{name} in {folder.name} is {form}"


def _content_of(name: str) -> Callable[[Path, Random], bytes]:
    return lambda folder, _: (folder / name).read_bytes() if (folder / name).is_file() else b"{}"


def _swapped_tokens(folder: Path, _: Random) -> bytes:
    content = _content_of("tokenizer.json")(folder, _)
    data = json.loads(content)
    if isinstance(data.get("model"), dict) and isinstance(data["model"].get("vocab"), dict):
        vocabulary = data["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary.get("b", 1), vocabulary.get("a", 2)
    return json.dumps(data).encode()


ROLES: dict[str, Callable[[Path, Random], bytes]] = {
    "a template": lambda *_: OTHER_TEMPLATE.encode(),
    "a template in JSON": lambda *_: json.dumps({"chat_template": OTHER_TEMPLATE}).encode(),
    "config.json": _content_of("config.json"),
    "tokenizer.json": _content_of("tokenizer.json"),
    "tokenizer_config.json": _content_of("tokenizer_config.json"),
    "other tokens": _swapped_tokens,
    "weights": _content_of("model.safetensors"),
    "an index": lambda *_: b'{"metadata": {}, "weight_map": {"lm_head.weight": "NOTICE.safetensors"}}',
    "a card": lambda *_: b"---\nbase_model: lab-a/base\n---\n",
    "an empty object": lambda *_: b"{}",
    "nothing": lambda *_: b"",
    "bytes": lambda _, rng: rng.randbytes(200),
    "a pickle": lambda *_: b"\x80\x04K\x01.",
    "a list": lambda *_: b"[1, 2]",
    "code": lambda *_: b"raise SystemExit('code ran')\n",
}


def disturb(model: Model, rng: Random) -> str:
    """Add a file where a loader may look although it is not listed: in a folder of any name, or beside the model."""
    folder = choose_folder(model, rng)
    name = f"{rng.choice(SUBFOLDERS)}/{rng.choice(NAMES)}"
    path = folder / name
    if not path.exists() and not any(parent.is_file() for parent in path.parents):
        role = rng.choice(sorted(ROLES))
        write(path, ROLES[role](folder, rng))
        return f"then {name} in {folder.name} with the content of {role}"
    return "then nothing"


# Cards.


def change_card(model: Model, rng: Random) -> str:
    """Write a card."""
    name = rng.choice(sorted(CARDS))
    write(choose_folder(model, rng) / "README.md", CARDS[name](rng))
    return f"card: {name}"


def _front_matter(text: str) -> str:
    return f"---\n{text}\n---\n\n# A model\n"


CARDS: dict[str, Callable[[Random], str]] = {
    "a base": lambda rng: _front_matter(f"base_model: {rng.choice(('lab-a/base', './base', '/etc', '7', 'a b'))}"),
    "bases": lambda _: _front_matter("base_model:\n- lab-a/base\n- lab-b/base"),
    "aliases": lambda _: _front_matter(
        "\n".join(["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)])
    ),
    "merge keys": lambda _: _front_matter("x: &x {a: 1}\ny:\n  <<: *x\nbase_model: a/b"),
    "a recursive alias": lambda _: _front_matter("x: &x\n- *x\nbase_model: *x"),
    "sexagesimal numbers": lambda rng: _front_matter("a: 1" + ":59" * rng.choice((9, 3000))),
    "many sexagesimal numbers": lambda rng: _front_matter(
        f"base_model: [{', '.join(['1:2:3'] * rng.choice((9, 9000)))}]"
    ),
    "a flat list": lambda rng: _front_matter(f"a: [{','.join('x' * rng.choice((9, 30_000)))}]"),
    "keys": lambda rng: _front_matter("\n".join(f"k{n}: {n}" for n in range(rng.choice((9, 9000))))),
    "depth": lambda rng: _front_matter("a: " + "[" * (depth := rng.choice((9, 60, 2000))) + "]" * depth),
    "a tag": lambda _: _front_matter("base_model: !!python/object/apply:os.system ['true']"),
    "a date": lambda _: _front_matter("base_model: 2024-13-45\nlicense: 2024-01-01"),
    "a long number": lambda rng: _front_matter("a: " + "9" * rng.choice((9, 5000, 100_000))),
    "a long text": lambda rng: _front_matter("base_model: " + "x" * rng.choice((9, 300_000))),
    "no end": lambda _: "---\nbase_model: a/b\n",
    "no front matter": lambda _: "# A model\n",
    "zero bytes": lambda _: "---\nbase_model: a\0b\n---\n",
    "a surrogate": lambda _: "---\nbase_model: \ud800\n---\n",
    "tabs": lambda _: _front_matter("base_model:\ta/b\n\tx: y"),
    "two documents": lambda _: _front_matter("base_model: a/b\n...\nbase_model: c/d"),
    "a key twice": lambda _: _front_matter("base_model: a/b\nbase_model: c/d"),
    "a key that is a list": lambda _: _front_matter("? [a, b]\n: c\nbase_model: a/b"),
    "binary": lambda _: _front_matter("base_model: !!binary aGVsbG8="),
    "a set": lambda _: _front_matter("base_model: !!set {a, b}"),
    "a long README": lambda rng: _front_matter("base_model: a/b") + "x" * rng.choice((9, 9_000_000)),
}


# Weights: index, headers and content.


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file."""
    if not path.is_file():
        raise OSError(f"{path.name} is no regular file")  # an earlier change may have made it a pipe
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_safetensors(path: Path, header: Mapping[str, Any], data: bytes) -> None:
    """Write a file with any header."""
    text = json.dumps(header).encode()
    write(path, struct.pack("<Q", len(text)) + text + data)


WEIGHT_CHANGES = (
    *("nan", "infinite", "rename", "swap", "dtype", "shape", "drop", "twice", "truncate", "more", "prefix", "zero"),
    *("unlisted", "elsewhere", "ghost", "second index", "metadata") * 2,
)


def change_weights(model: Model, rng: Random) -> str:
    """Let index, headers and content of the weights disagree, or write numbers that are not finite."""
    folder = choose_folder(model, rng)
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file() and path.stat().st_size > 8)
    index = folder / "model.safetensors.index.json"
    if not files:
        return "no weights"
    path = rng.choice(files)
    try:
        header, data = read_safetensors(path)
        names = [name for name in header if name != "__metadata__"]
        name, other = rng.choice(names), rng.choice(names)
        start, end = header[name]["data_offsets"]
    except (ValueError, LookupError, TypeError, struct.error):
        return f"{path.name} holds no weights"
    kind = rng.choice(WEIGHT_CHANGES)
    said = f"{kind}: {name} in {path.name}"
    match kind:
        case "nan" | "infinite":
            # 0x7FC0 and 0x7F80 are not finite in bfloat16, and as the upper half of a float32.
            pattern = (b"\xc0\x7f" if kind == "nan" else b"\x80\x7f") * 2
            data = data[:start] + pattern[: end - start] + data[min(start + 4, end) :]
        case "rename":
            header[f"{name}.x"] = header.pop(name)
        case "swap":
            header[name], header[other] = header[other], header[name]
        case "dtype":
            header[name]["dtype"] = rng.choice(("F16", "BF16", "F32", "I8", "F8_E4M3", "X"))
        case "shape":
            header[name]["shape"] = rng.choice((header[name]["shape"][::-1], [1, *header[name]["shape"]], [-1], [0]))
        case "drop":
            del header[name]
        case "twice":
            header[name] = header[other]
        case "truncate":
            data = data[: -rng.choice((1, 64))]
        case "more":
            data += b"\0" * rng.choice((1, 64))
        case "prefix":
            header = {f"model.{key}" if key != "__metadata__" else key: value for key, value in header.items()}
        case "zero":
            data = bytes(len(data))
        case "metadata":
            header["__metadata__"] = rng.choice(({"format": "tf"}, {}, {"format": "x"}, {"a": "b" * 3000}))
        case _:
            return _change_index(index, path, name, kind, rng)
    write_safetensors(path, header, data)
    return said


def _change_index(index: Path, path: Path, name: str, kind: str, rng: Random) -> str:
    """Let the index disagree with the shards; a checkpoint of one file gets an index."""
    weight_map: dict[str, str] = {}
    for shard in sorted(index.parent.glob("model*.safetensors")):
        try:
            weight_map |= dict.fromkeys(
                (key for key in read_safetensors(shard)[0] if key != "__metadata__"), shard.name
            )
        except (ValueError, struct.error):
            continue
    metadata: dict[str, Any] = {"total_size": rng.choice((0, 1, -1, 10**18, "x"))}
    match kind:
        case "unlisted":
            weight_map.pop(name, None)
        case "elsewhere":
            weight_map[name] = rng.choice(
                (
                    "NOTICE.safetensors",
                    "../outside/weights.safetensors",
                    "sub/x.safetensors",
                    "/etc/hostname",
                    path.name,
                )
            )
        case "ghost":
            weight_map["model.ghost.weight"] = rng.choice((path.name, "ghost.safetensors"))
    write(index, {"metadata": metadata, "weight_map": weight_map})
    return f"{kind}: {name} of {path.name} in the index"


CHANGES: dict[str, Change] = {
    "files": change_files,
    "template": change_template,
    "tokenizer": change_tokenizer,
    "config": change_config,
    "adapter": change_adapter,
    "card": change_card,
    "weights": change_weights,
}
