"""The layout of a checkpoint, and every reason to refuse one."""

import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.layout import count_weight_bytes, read_layout
from antidote_ci.checkpoint.tensors import Changes
from antidote_ci.checkpoint.writer import write_checkpoint
from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from tests import tiny
from tests.hostile.fixture import INDEX, WEIGHTS, Change, edited, setting

Copy = Callable[[Path], Path]

FACTORS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tiny_llama(tmp_path_factory.mktemp("sharded"), hidden=16, layers=1, shards=3, tie=False)


def test_full_checkpoint(tiny_llama: Path) -> None:
    layout = read_layout(tiny_llama)
    tensors = load_file(tiny_llama / WEIGHTS)
    assert (layout.kind, layout.shards, layout.base_model, layout.unused_weights) == ("full", (WEIGHTS,), None, ())
    assert layout.config["model_type"] == "llama"
    assert layout.weight_map == dict.fromkeys(tensors, WEIGHTS)
    assert {name: list(info.shape) for name, info in layout.tensors.items()} == {
        name: list(tensor.shape) for name, tensor in tensors.items()
    }
    assert count_weight_bytes(layout) == 2 * sum(tensor.numel() for tensor in tensors.values())


def test_checkpoint_in_shards(sharded: Path) -> None:
    layout = read_layout(sharded)
    assert len(layout.shards) == len(layout.headers) == 3
    for name, shard in layout.weight_map.items():
        assert name in load_file(sharded / shard)
    assert count_weight_bytes(layout) == sum(
        tensor.nbytes for shard in layout.shards for tensor in load_file(sharded / shard).values()
    )


def test_adapter(tiny_adapter: Path) -> None:
    layout = read_layout(tiny_adapter)
    assert (layout.kind, layout.shards, layout.base_model) == ("adapter", (FACTORS,), tiny.BASE_NAME)
    assert layout.config["peft_type"] == "LORA"
    assert len(layout.tensors) == 2 * 2 * len(tiny.ALL_LINEARS)


def pointing(shard: object, tensor: str | None = None) -> Change:
    """Let the first entry of the index, or a new one, name `shard`."""
    return edited(INDEX, lambda index: index["weight_map"].update({tensor or next(iter(index["weight_map"])): shard}))


def nested(folder: Path) -> None:
    (folder / "sub").mkdir()
    shutil.copy(next(folder.glob("model-*.safetensors")), folder / "sub" / WEIGHTS)
    pointing(f"sub/{WEIGHTS}")(folder)


def doubled(folder: Path) -> None:
    first, second = sorted(folder.glob("model-*.safetensors"))[:2]
    save_file(load_file(first) | load_file(second), second)


def pickles_only(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def with_adapter_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def with_another_tensor(name: str, *shape: int, file: str = FACTORS, dtype: torch.dtype = torch.float32) -> Change:
    def change(folder: Path) -> None:
        tensors = load_file(folder / file)
        save_file({**tensors, name: torch.zeros(shape, dtype=dtype)}, folder / file)

    return change


def stored_as(dtype: torch.dtype, file: str) -> Change:
    """Store all weights in another dtype without changing the configuration."""
    return lambda folder: save_file(
        {name: tensor.to(dtype) for name, tensor in load_file(folder / file).items()}, folder / file
    )


def without_the_first(ending: str) -> Change:
    def change(folder: Path) -> None:
        tensors = load_file(folder / FACTORS)
        tensors.pop(next(name for name in tensors if name.endswith(ending)))
        save_file(tensors, folder / FACTORS)

    return change


def of_another_rank(folder: Path) -> None:
    tensors = load_file(folder / FACTORS)
    name = next(name for name in tensors if name.endswith("lora_B.weight"))
    save_file({**tensors, name: torch.zeros(len(tensors[name]), 3)}, folder / FACTORS)


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
    "kernels": (setting("config.json", use_kernels=True), UnsafeCheckpoint, "config.json sets use_kernels"),
    "other configuration": (
        setting("config.json", configuration_files=["config.4.0.0.json"]),
        UnsafeCheckpoint,
        "config.json sets configuration_files",
    ),
    "other weights": (
        setting("config.json", transformers_weights="other.safetensors"),
        UnsafeCheckpoint,
        "config.json sets transformers_weights",
    ),
    "unknown type": (setting("config.json", model_type="evil"), UnsafeCheckpoint, "model_type 'evil'"),
    "no type": (setting("config.json", model_type=None), UnsafeCheckpoint, "model_type None"),
    "unknown type inside": (
        setting("config.json", text_config={"model_type": "evil"}),
        UnsafeCheckpoint,
        "model_type 'evil'",
    ),
    "unknown architecture": (
        setting("config.json", architectures=["EvilForCausalLM"]),
        UnsafeCheckpoint,
        "architecture 'EvilForCausalLM'",
    ),
    "another type's architecture": (
        setting("config.json", architectures=["MistralForCausalLM"]),
        UnsafeCheckpoint,
        "MistralForCausalLM, which is none of model_type 'llama'",
    ),
    "a million layers": (
        setting("config.json", num_hidden_layers=10**6),
        UnsafeCheckpoint,
        "num_hidden_layers to 1,000",
    ),
    "an empty type": (setting("config.json", model_type=""), UnsafeCheckpoint, "model_type ''"),
    "other layers": (
        setting("config.json", architectures=["GPT2LMHeadModel"], model_type="gpt2"),
        ConfigurationError,
        "^GPT2LMHeadModel is not supported",
    ),
    "an encoder": (setting("config.json", architectures=["BertModel"]), ConfigurationError, "BertModel"),
    "unknown quantisation": (
        setting("config.json", quantization_config={"quant_method": "evil"}),
        UnsafeCheckpoint,
        "quant_method 'evil'",
    ),
    "odd quantisation": (
        setting("config.json", quantization_config={"quant_method": ["gptq"]}),
        UnsafeCheckpoint,
        "quant_method",
    ),
    "quantised inside": (
        setting("config.json", text_config={"quantization_config": {"quant_method": "gptq"}}),
        ConfigurationError,
        r"quantization_config \(gptq\): quantised",
    ),
    "unknown tokenizer": (
        setting("tokenizer_config.json", tokenizer_class="EvilTokenizer"),
        UnsafeCheckpoint,
        "tokenizer_config.json names the tokenizer_class 'EvilTokenizer'",
    ),
    "a model as tokenizer": (
        setting("config.json", tokenizer_class="LlamaForCausalLM"),
        UnsafeCheckpoint,
        "config.json names the tokenizer_class 'LlamaForCausalLM'",
    ),
    "vocabulary elsewhere": (
        setting("tokenizer_config.json", merges_file="/etc/hostname"),
        UnsafeCheckpoint,
        "tokenizer_config.json sets merges_file",
    ),
    "vocabulary elsewhere, as Windows writes it": (
        setting("tokenizer_config.json", vocab_file="sub\\vocab.json"),
        UnsafeCheckpoint,
        "tokenizer_config.json sets vocab_file",
    ),
    "hidden vocabulary": (
        setting("tokenizer_config.json", vocab_file=".vocab.json"),
        UnsafeCheckpoint,
        "tokenizer_config.json sets vocab_file",
    ),
    "template among the special tokens": (
        setting("special_tokens_map.json", chat_template="{{ messages }}"),
        UnsafeCheckpoint,
        "special_tokens_map.json sets chat_template",
    ),
    "file among the special tokens": (
        setting("special_tokens_map.json", tokenizer_file="other.json"),
        UnsafeCheckpoint,
        "special_tokens_map.json sets tokenizer_file",
    ),
    "vocabulary in the settings": (
        setting("special_tokens_map.json", vocab={"a": 1}),
        UnsafeCheckpoint,
        "special_tokens_map.json sets vocab",
    ),
    "other tokenizer": (
        setting("tokenizer_config.json", fast_tokenizer_files=["../tokenizer.json"]),
        UnsafeCheckpoint,
        "tokenizer_config.json sets fast_tokenizer_files",
    ),
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
    **{
        method: (
            setting("config.json", quantization_config={"quant_method": method}),
            ConfigurationError,
            rf"quantization_config \({method}\): quantised weights are not supported",
        )
        for method in ("gptq", "awq", "fp8", "bitsandbytes", "compressed-tensors")
    },
    "quantised somehow": (
        setting("config.json", quantization_config={"bits": 4}),
        ConfigurationError,
        "quantization_config: quantised",
    ),
    **{
        f"{dtype} weights": (stored_as(dtype, WEIGHTS), ConfigurationError, f"as {name}: quantised weights")
        for dtype, name in {
            torch.float8_e4m3fn: "F8_E4M3",
            torch.float8_e5m2: "F8_E5M2",
            torch.float8_e8m0fnu: "F8_E8M0",
            torch.int8: "I8",
            torch.uint8: "U8",
            torch.int32: "I32",
        }.items()
    },
    **{
        name: (with_another_tensor(f"model.layers.0.{name}", 2, file=WEIGHTS), ConfigurationError, f"{name}.*quantised")
        for name in ("qweight", "qzeros", "scales", "weight_scale", "weight_scale_inv", "weight.absmax", "SCB")
    },
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
    "folder": (nested, UnsafeCheckpoint, "which is not a safetensors file of this folder"),
    "absolute": (pointing("/tmp/model.safetensors"), UnsafeCheckpoint, "/tmp/model"),  # noqa: S108
    "backslash": (pointing("..\\model.safetensors"), UnsafeCheckpoint, "model"),
    "pickle": (pointing("pytorch_model.bin"), UnsafeCheckpoint, "pytorch_model.bin"),
    "missing shard": (pointing("model-9.safetensors"), UnsafeCheckpoint, "model-9.safetensors"),
    "missing tensor": (
        pointing("model-00001-of-00003.safetensors", "no.such"),
        UnsafeCheckpoint,
        f"{INDEX} .*no.such",
    ),
    "unlisted tensor": (
        edited(INDEX, lambda index: index["weight_map"].pop(next(iter(index["weight_map"])))),
        UnsafeCheckpoint,
        "does not list 'lm_head.weight', which",
    ),
    "wrong shard": (pointing("model-00003-of-00003.safetensors"), UnsafeCheckpoint, INDEX),
    "not a name": (pointing(7), UnsafeCheckpoint, INDEX),
    "no weight_map": (setting(INDEX, weight_map={}), UnsafeCheckpoint, INDEX),
    "doubled tensor": (doubled, UnsafeCheckpoint, "both hold"),
    "two checkpoints": (
        lambda folder: save_file({"a": torch.zeros(1)}, folder / WEIGHTS),
        UnsafeCheckpoint,
        f"{INDEX} names other shards",
    ),
}
ADAPTER: dict[str, tuple[Change, type[AntidoteError], str]] = {
    **{
        key: (setting("adapter_config.json", **{key: value}), ConfigurationError, key)
        for key, value in {
            "use_dora": True,
            "fan_in_fan_out": True,
            "rank_pattern": {"q_proj": "many"},
            "alpha_pattern": [1],
            "lora_alpha": "much",
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
    **{
        name: (with_another_tensor(f"base_model.model.{name}", *shape), ConfigurationError, f"{name}.*no factor of a")
        for name, shape in {
            "model.embed_tokens.lora_embedding_A": (4, 4),
            "model.layers.0.mlp.up_proj.lora_magnitude_vector": (4,),
            "model.conv.lora_A.weight": (4, 4, 1),
        }.items()
    },
    "not peft's name": (with_another_tensor("lm_head.weight", 4, 4), ConfigurationError, "lm_head.*no saved module"),
    "quantised factors": (stored_as(torch.int8, FACTORS), ConfigurationError, "as I8: quantised weights"),
    "no A": (without_the_first("lora_A.weight"), UnsafeCheckpoint, r"lora_B\.weight' has no .*lora_A\.weight'"),
    "no B": (without_the_first("lora_B.weight"), UnsafeCheckpoint, r"lora_A\.weight' has no .*lora_B\.weight'"),
    "two ranks": (of_another_rank, UnsafeCheckpoint, "of the same rank"),
    "no factors": (lambda folder: (folder / FACTORS).unlink(), ConfigurationError, "adapter_config.json"),
    "pickled factors": (
        lambda folder: (folder / FACTORS).rename(folder / "adapter_model.bin"),
        UnsafeCheckpoint,
        "adapter_model.bin",
    ),
    "code": (setting("adapter_config.json", auto_map={"a": "b"}), UnsafeCheckpoint, "adapter_config.json"),
    "library": (
        setting("adapter_config.json", auto_mapping={"base_model_class": "Evil", "parent_library": "antigravity"}),
        UnsafeCheckpoint,
        "parent_library 'antigravity'",
    ),
    "library of dynamic code": (
        setting("adapter_config.json", auto_mapping={"parent_library": "transformers_modules.evil"}),
        UnsafeCheckpoint,
        "parent_library 'transformers_modules",
    ),
    "megatron": (setting("adapter_config.json", megatron_core="evil.core"), UnsafeCheckpoint, "megatron_core 'evil"),
    "odd revision": (setting("adapter_config.json", revision="../../x"), UnsafeCheckpoint, r"revision '\.\./"),
    "revision that goes up": (setting("adapter_config.json", revision="a/../b"), UnsafeCheckpoint, r"revision 'a/\.\."),
    "revision with a gap": (setting("adapter_config.json", revision="a//b"), UnsafeCheckpoint, "revision 'a//b'"),
    "unknown type": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "evil"}'),
        UnsafeCheckpoint,
        "model_type 'evil'",
    ),
}


def assert_refused(folder: Path, case: tuple[Change, type[AntidoteError], str]) -> None:
    change, kind, words = case
    read_layout(folder)
    change(folder)
    with pytest.raises(kind, match=words) as refusal:
        read_layout(folder)
    assert type(refusal.value) is kind
    assert refusal.value.exit_code == {ConfigurationError: 2, UnsafeCheckpoint: 6}[kind]
    assert refusal.value.hint or refusal.value.cause


@pytest.mark.parametrize("case", FULL)
def test_full_checkpoint_is_refused_for(case: str, tiny_llama: Path, copy_of: Copy) -> None:
    assert_refused(copy_of(tiny_llama), FULL[case])


@pytest.mark.parametrize("case", SHARDED)
def test_index_is_refused_for(case: str, sharded: Path, copy_of: Copy) -> None:
    assert_refused(copy_of(sharded), SHARDED[case])


@pytest.mark.parametrize("case", ADAPTER)
def test_adapter_is_refused_for(case: str, tiny_adapter: Path, copy_of: Copy) -> None:
    assert_refused(copy_of(tiny_adapter), ADAPTER[case])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"auto_map": None, "custom_pipelines": {}, "_attn_implementation_autoset": True}),
        ("config.json", {"attn_implementation": "sdpa", "_name_or_path": "/home/me/llama", "use_cache": True}),
        ("config.json", {"quantization_config": None, "tokenizer_class": None, "text_config": {"model_type": None}}),
        ("config.json", {"attn_config": {"model_type": ""}}),  # as MPT
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast", "name_or_path": "org/name"}),
        (
            "tokenizer_config.json",
            {"tokenizer_file": None, "special_tokens_map_file": "/root/x.json", "init_inputs": []},
        ),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "tokenizer_file": "tokenizer.json"}),
        (
            "special_tokens_map.json",
            {"eos_token": "<|end|>", "extra_special_tokens": ["<|end|>"], "pad_token_id": 1, "chat_template": None},
        ),
        ("added_tokens.json", {"chat_template": 290}),
        ("generation_config.json", {"trust_remote_code": False, "custom_generate": None}),
        ("added_tokens.json", {"<|use_kernels|>": 290, "use_kernels": 291, "vocab": 292, "open_file": 293}),
    ],
)
def test_full_checkpoint_with_harmless_setting_is_accepted(
    name: str, values: dict[str, object], tiny_llama: Path, copy_of: Copy
) -> None:
    folder = copy_of(tiny_llama)
    setting(name, **values)(folder)
    read_layout(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 3}},
        {"init_lora_weights": "gaussian"},
        {"auto_mapping": None, "trust_remote_code": False, "megatron_core": "megatron.core", "revision": "main"},
        {"auto_mapping": {"base_model_class": "Llama", "parent_library": "transformers.models.llama.modeling_llama"}},
        {"target_modules": r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.\d{1,})"},
        {"task_type": None, "base_model_name_or_path": ""},
    ],
)
def test_adapter_with_harmless_setting_is_accepted(
    values: dict[str, object], tiny_adapter: Path, copy_of: Copy
) -> None:
    folder = copy_of(tiny_adapter)
    setting("adapter_config.json", **values)(folder)
    assert read_layout(folder).base_model == (values.get("base_model_name_or_path", tiny.BASE_NAME) or None)


@pytest.mark.parametrize(
    "values",
    [
        {"use_rslora": True, "lora_alpha": 7.5},
        {"rank_pattern": {"q_proj": 2, "layers.1.self_attn.*": 3}, "alpha_pattern": {"v_proj": 3}},
        {"target_modules": ["q_proj", "down_proj", "up_proj"], "modules_to_save": ["lm_head", "embed_tokens", "norm"]},
        {"modules_to_save": ["layers.0.input_layernorm"]},
    ],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapter_saved_by_peft_is_accepted(values: dict[str, object], tmp_path: Path) -> None:
    network = tiny.build_llama(vocabulary=32, seed=0, hidden=16, layers=2, tie=False)
    options = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | values
    tiny.save_adapter(get_peft_model(network, LoraConfig(**options)), tmp_path)
    layout = read_layout(tmp_path)
    assert layout.kind == "adapter"
    saved = {name for name in layout.tensors if "lora_" not in name}
    assert bool(saved) == ("modules_to_save" in values)
    assert set(layout.tensors) == set(load_file(tmp_path / FACTORS))


@pytest.mark.parametrize(("dtype", "stored"), [("bfloat16", "BF16"), ("float16", "F16"), ("float32", "F32")])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("tie", [True, False])
def test_checkpoint_saved_by_transformers_is_accepted(
    dtype: str, stored: str, shards: int, tie: bool, tmp_path: Path
) -> None:
    folder = tiny.write_tiny_llama(tmp_path, hidden=16, layers=1, shards=shards, tie=tie, dtype=dtype)
    layout = read_layout(folder)
    assert len(layout.shards) == shards
    assert {info.dtype for info in layout.tensors.values()} == {stored}
    assert ("lm_head.weight" in layout.tensors) != tie


def test_fused_experts_and_integer_masks_are_accepted(tiny_llama: Path, copy_of: Copy) -> None:
    folder = copy_of(tiny_llama)
    with_another_tensor("model.layers.0.mlp.experts.gate_up_proj", 2, 3, 4, file=WEIGHTS)(folder)
    with_another_tensor("model.layers.0.attn.bias", 1, 1, 4, 4, file=WEIGHTS, dtype=torch.uint8)(folder)
    with_another_tensor("model.position_ids", 1, 4, file=WEIGHTS, dtype=torch.int64)(folder)
    assert read_layout(folder).tensors["model.layers.0.mlp.experts.gate_up_proj"].shape == (2, 3, 4)


def test_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a folder"):
        read_layout(tmp_path / "nothing")


class Canary:
    """Write a pickle that creates a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


OPENED: list[str] = []
sys.addaudithook(lambda event, values: OPENED.append(str(values[0])) if event == "open" else None)


def test_pickle_beside_safetensors_is_not_opened(tiny_llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(tiny_llama)
    mark = tmp_path / "mark"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(mark)))
    (folder / "training_args.bin").write_bytes(pickle.dumps(Canary(mark)))
    OPENED.clear()
    write_checkpoint(
        read_layout(folder),
        tmp_path / "out",
        (),
        lambda _name: lambda _start, _chunk: Changes(0, 0),
        "key",
        lambda _: None,
    )
    assert any(path.endswith(WEIGHTS) for path in OPENED)
    assert not any(path.endswith(".bin") for path in OPENED)
    assert not mark.exists()
    assert not list((tmp_path / "out.partial").glob("*.bin"))
    pickle.loads((folder / "pytorch_model.bin").read_bytes())  # noqa: S301 - the canary does sing
    assert mark.exists()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], "no file of one"),
        (["config.json", "vocab.txt"], "config.json, vocab.txt"),
        ([f"model-{number}.safetensors" for number in range(6)], ", ".join(f"model-{n}.safetensors" for n in range(6))),
        (
            [f"model-{number}.safetensors" for number in range(7)],
            ", ".join(f"model-{n}.safetensors" for n in range(6)) + ", ...",
        ),
        (["model-0.safetensors", "pytorch_model.bin"], "model-0.safetensors"),
    ],
)
def test_error_lists_the_files_of_a_folder_that_is_no_checkpoint(tmp_path: Path, names: list[str], shown: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=re.escape(f"{tmp_path} is not a checkpoint (found: {shown})")):
        read_layout(tmp_path)


def test_weights_of_another_framework_are_not_supported(tiny_llama: Path, copy_of: Copy) -> None:
    folder = copy_of(tiny_llama)
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", {"format": "flax"})
    with pytest.raises(ConfigurationError, match=r"model\.safetensors has the format 'flax'"):
        read_layout(folder)
