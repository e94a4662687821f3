"""What a folder holds, and every reason to refuse it."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.layout import inspect, weight_bytes
from antidote_ci.checkpoint.writer import write_checkpoint
from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from tests import tiny

Copy = Callable[[Path], Path]
Change = Callable[[Path], object]

WEIGHTS = "model.safetensors"
FACTORS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tiny_llama(tmp_path_factory.mktemp("sharded"), hidden=16, layers=1, shards=3, tie=False)


def test_a_full_checkpoint(tiny_llama: Path) -> None:
    layout = inspect(tiny_llama)
    tensors = load_file(tiny_llama / WEIGHTS)
    assert (layout.kind, layout.shards, layout.base_model, layout.unused_weights) == ("full", (WEIGHTS,), None, ())
    assert layout.config["model_type"] == "llama"
    assert layout.weight_map == dict.fromkeys(tensors, WEIGHTS)
    assert {name: list(info.shape) for name, info in layout.tensors.items()} == {
        name: list(tensor.shape) for name, tensor in tensors.items()
    }
    assert weight_bytes(layout) == 2 * sum(tensor.numel() for tensor in tensors.values())


def test_a_checkpoint_in_shards(sharded: Path) -> None:
    layout = inspect(sharded)
    assert len(layout.shards) == len(layout.headers) == 3
    for name, shard in layout.weight_map.items():
        assert name in load_file(sharded / shard)
    assert weight_bytes(layout) == sum(
        tensor.nbytes for shard in layout.shards for tensor in load_file(sharded / shard).values()
    )


def test_an_adapter(tiny_adapter: Path) -> None:
    layout = inspect(tiny_adapter)
    assert (layout.kind, layout.shards, layout.base_model) == ("adapter", (FACTORS,), tiny.BASE_NAME)
    assert layout.config["peft_type"] == "LORA"
    assert len(layout.tensors) == 2 * 2 * len(tiny.ALL_LINEARS)


def test_a_tensor_the_index_forgot_is_a_weight_all_the_same(sharded: Path, copy_of: Copy) -> None:
    folder = copy_of(sharded)
    before = inspect(folder)
    forgotten = next(iter(before.weight_map))
    edit_json(folder / INDEX, lambda index: index["weight_map"].pop(forgotten))
    assert inspect(folder).weight_map == before.weight_map


def edit_json(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def setting(name: str, **values: object) -> Change:
    return lambda folder: edit_json(folder / name, lambda data: data.update(values))  # type: ignore[arg-type]


def pointing(shard: object, tensor: str | None = None) -> Change:
    """The index's first entry (or a new one) leads to `shard`."""

    def change(folder: Path) -> None:
        edit_json(
            folder / INDEX,
            lambda index: index["weight_map"].update({tensor or next(iter(index["weight_map"])): shard}),
        )

    return change


def doubled(folder: Path) -> None:
    first, second = sorted(folder.glob("model-*.safetensors"))[:2]
    save_file(load_file(first) | load_file(second), second)


def pickles_only(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def with_adapter_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def with_another_tensor(name: str, *shape: int) -> Change:
    def change(folder: Path) -> None:
        tensors = load_file(folder / FACTORS)
        save_file({**tensors, name: torch.zeros(shape)}, folder / FACTORS)

    return change


def grown(name: str, size: int) -> Change:
    def change(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.truncate(size)

    return change


FULL: dict[str, tuple[Change, type[AntidoteError], str]] = {
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), ConfigurationError, "found: README.md, chat"),
    "no config": (lambda folder: (folder / "config.json").unlink(), ConfigurationError, "not a checkpoint"),
    "pickles only": (pickles_only, UnsafeCheckpoint, "pytorch_model.bin"),
    "an adapter as well": (with_adapter_config, ConfigurationError, "both a full checkpoint and"),
    "lying header": (grown(WEIGHTS, 1 << 20), UnsafeCheckpoint, WEIGHTS),
    "auto_map": (setting("config.json", auto_map={"AutoModel": "m.M"}), UnsafeCheckpoint, "config.json sets auto_map"),
    "nested code": (
        setting("config.json", text_config={"parts": [{"trust_remote_code": True}]}),
        UnsafeCheckpoint,
        "config.json sets trust_remote_code",
    ),
    "kernel": (
        setting("config.json", _attn_implementation_internal="org/kernel"),
        UnsafeCheckpoint,
        "_attn_implementation_internal",
    ),
    "nested kernel": (setting("config.json", a=[{"attn_implementation": "o/k"}]), UnsafeCheckpoint, "attn_impl"),
    "tokenizer's code": (
        setting("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
        UnsafeCheckpoint,
        "tokenizer_config.json sets auto_map",
    ),
    "generation's code": (
        setting("generation_config.json", custom_generate="org/name"),
        UnsafeCheckpoint,
        "generation_config.json sets custom_generate",
    ),
    "quantised": (setting("config.json", quantization_config={"bits": 4}), ConfigurationError, "quantization_config"),
    "classifier": (
        setting("config.json", architectures=["LlamaForSequenceClassification"]),
        ConfigurationError,
        "LlamaForSequenceClassification",
    ),
    "no architecture": (setting("config.json", architectures=None), ConfigurationError, "architectures"),
    "huge tokenizer": (grown("tokenizer.json", 65 << 20), UnsafeCheckpoint, "tokenizer.json"),
    "huge template": (grown("chat_template.jinja", 65 << 10), UnsafeCheckpoint, "chat_template.jinja"),
    "link": (lambda folder: (folder / "vocab.json").symlink_to("/etc/hostname"), UnsafeCheckpoint, "vocab.json"),
}
SHARDED: dict[str, tuple[Change, type[AntidoteError], str]] = {
    "parent folder": (pointing("../model.safetensors"), UnsafeCheckpoint, r"\.\./model"),
    "absolute": (pointing("/tmp/model.safetensors"), UnsafeCheckpoint, "/tmp/model"),  # noqa: S108
    "backslash": (pointing("..\\model.safetensors"), UnsafeCheckpoint, "model"),
    "pickle": (pointing("pytorch_model.bin"), UnsafeCheckpoint, "pytorch_model.bin"),
    "missing shard": (pointing("model-9.safetensors"), UnsafeCheckpoint, "model-9.safetensors"),
    "missing tensor": (
        pointing("model-00001-of-00003.safetensors", "no.such"),
        UnsafeCheckpoint,
        f"{INDEX} .*no.such",
    ),
    "wrong shard": (pointing("model-00003-of-00003.safetensors"), UnsafeCheckpoint, INDEX),
    "not a name": (pointing(7), UnsafeCheckpoint, INDEX),
    "no weight_map": (setting(INDEX, weight_map={}), UnsafeCheckpoint, INDEX),
    "doubled tensor": (doubled, UnsafeCheckpoint, "both hold"),
    "two checkpoints": (
        lambda folder: save_file({"a": torch.zeros(1)}, folder / WEIGHTS),
        ConfigurationError,
        "an index of other shards",
    ),
}
ADAPTER: dict[str, tuple[Change, type[AntidoteError], str]] = {
    **{
        key: (setting("adapter_config.json", **{key: value}), ConfigurationError, key)
        for key, value in {
            "use_dora": True,
            "modules_to_save": ["lm_head"],
            "peft_type": "IA3",
            "task_type": "SEQ_CLS",
            "bias": "all",
            "init_lora_weights": "pissa_niter_4",
            "trainable_token_indices": [1],
            "layer_replication": [[0, 1]],
            "target_parameters": ["experts.gate"],
            "megatron_config": {"a": 1},
        }.items()
    },
    "embedding": (
        with_another_tensor("base_model.model.lm_head.weight", 4, 4),
        ConfigurationError,
        r"lm_head\.weight",
    ),
    "convolution": (with_another_tensor("conv.lora_A.weight", 4, 4, 1), ConfigurationError, "conv"),
    "no factors": (lambda folder: (folder / FACTORS).unlink(), ConfigurationError, "adapter_config.json"),
    "pickled factors": (
        lambda folder: (folder / FACTORS).rename(folder / "adapter_model.bin"),
        UnsafeCheckpoint,
        "adapter_model.bin",
    ),
    "code": (setting("adapter_config.json", auto_map={"a": "b"}), UnsafeCheckpoint, "adapter_config.json"),
}


def assert_refused(folder: Path, case: tuple[Change, type[AntidoteError], str]) -> None:
    change, kind, words = case
    inspect(folder)
    change(folder)
    with pytest.raises(kind, match=words) as refusal:
        inspect(folder)
    assert type(refusal.value) is kind
    assert refusal.value.exit_code == {ConfigurationError: 2, UnsafeCheckpoint: 6}[kind]
    assert refusal.value.hint or refusal.value.cause


@pytest.mark.parametrize("case", FULL)
def test_a_full_checkpoint_is_refused_for(case: str, tiny_llama: Path, copy_of: Copy) -> None:
    assert_refused(copy_of(tiny_llama), FULL[case])


@pytest.mark.parametrize("case", SHARDED)
def test_an_index_is_refused_for(case: str, sharded: Path, copy_of: Copy) -> None:
    assert_refused(copy_of(sharded), SHARDED[case])


@pytest.mark.parametrize("case", ADAPTER)
def test_an_adapter_is_refused_for(case: str, tiny_adapter: Path, copy_of: Copy) -> None:
    assert_refused(copy_of(tiny_adapter), ADAPTER[case])


@pytest.mark.parametrize(
    "values",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 3}},
        {"init_lora_weights": "gaussian"},
        {"auto_mapping": None, "trust_remote_code": False},
        {"task_type": None, "base_model_name_or_path": ""},
    ],
)
def test_an_adapter_may_say(values: dict[str, object], tiny_adapter: Path, copy_of: Copy) -> None:
    folder = copy_of(tiny_adapter)
    setting("adapter_config.json", **values)(folder)
    assert inspect(folder).base_model == (values.get("base_model_name_or_path", tiny.BASE_NAME) or None)


def test_a_flag_that_transformers_itself_wrote_is_no_code(tiny_llama: Path, copy_of: Copy) -> None:
    folder = copy_of(tiny_llama)
    setting("config.json", _attn_implementation_autoset=True, auto_map=None)(folder)
    assert inspect(folder).kind == "full"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a folder"):
        inspect(tmp_path / "nothing")


class Canary:
    """A pickle that leaves a mark when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


OPENED: list[str] = []
sys.addaudithook(lambda event, values: OPENED.append(str(values[0])) if event == "open" else None)


def test_a_pickle_beside_the_weights_is_never_opened(tiny_llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(tiny_llama)
    mark = tmp_path / "mark"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(mark)))
    (folder / "training_args.bin").write_bytes(pickle.dumps(Canary(mark)))
    OPENED.clear()
    write_checkpoint(inspect(folder), tmp_path / "out", lambda *_: None, lambda _: None)
    assert any(path.endswith(WEIGHTS) for path in OPENED)
    assert not any(path.endswith(".bin") for path in OPENED)
    assert not mark.exists()
    assert not list((tmp_path / "out.partial").glob("*.bin"))
    pickle.loads((folder / "pytorch_model.bin").read_bytes())  # noqa: S301 - the canary does sing
    assert mark.exists()
