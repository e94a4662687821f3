"""Changes of the configurations of models and adapters."""

from random import Random
from typing import Any

from antidote_ci.records import Model
from benchmarks.fuzz.material import edit

COUNTS = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers", "layers"),
    *("num_attention_heads", "num_key_value_heads", "hidden_size", "intermediate_size", "vocab_size", "head_dim"),
    *("max_position_embeddings", "num_experts", "num_local_experts", "n_positions", "num_nextn_predict_layers"),
)
NUMBERS = (0, -1, 1, 3, 64, 10**4, 10**6, 2**31, 10**12, 2.5, "2", None, [2], True)
CONFIG_VALUES: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama", "mistral", "qwen2", "gpt2", "opt", "bart", "t5", "mamba", "bert", "x", "", None, 7, ["a"]),
    "architectures": (["LlamaForCausalLM"], ["OPTForCausalLM"], ["LlamaForSequenceClassification"], [], None, "x", [7]),
    "dtype": ("float32", "float16", "int8", "x", None, 7),
    "torch_dtype": ("bfloat16", "uint8", ["x"]),
    "rope_scaling": ({"rope_type": "linear", "factor": 2.0}, {"type": "x"}, {"rope_type": "yarn", "factor": "a"}, 7),
    "rope_parameters": ({"rope_type": "default", "rope_theta": 0.0}, {"rope_theta": 10**400}, {}),
    "rope_theta": (0, -1, 10**30, "x"),
    "quantization_config": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, {"quant_method": "x"}, {}, "x"),
    "auto_map": ({"AutoModelForCausalLM": "modeling_x.X"}, {"AutoConfig": "org/x--y.Z"}, {}, "x"),
    "tie_word_embeddings": (True, False, "no", None),
    "attn_implementation": ("eager", "flash_attention_2", "kernels-community/x", "sdpa", None),
    "_attn_implementation": ("org/x", "eager"),
    "text_config": ({"vocab_size": 10**7}, {"model_type": "llama", "num_hidden_layers": 10**5}, {}, [], "x"),
    "transformers_version": ("99.0", "0.0", "x", None, 7),
    "eos_token_id": (0, [0, 1], -1, 10**9, "x", [["a"]]),
    "pad_token_id": (4, -1, 10**9, None),
    "bos_token_id": (1, 10**9),
    "use_cache": (False, "x"),
    "hidden_act": ("silu", "gelu", "x", None),
    "initializer_range": (0.0, -1, "x", 1e308),
    "rms_norm_eps": (0, -1, "x", 1e308),
    "attention_dropout": (0.9, -1, "x"),
    "torchscript": (True,),
    "chunk_size_feed_forward": (3, -1, 10**9),
    "id2label": ({"0": "a"}, {"a": "b"}, [], {str(n): "x" for n in range(3000)}),
    "num_labels": (0, 10**7, -1),
    "problem_type": ("regression", "x"),
    "is_encoder_decoder": (True,),
    "layer_types": (["full_attention"] * 2, ["x"], []),
    "pretraining_tp": (2, 0),
    "mlp_bias": (True,),
    "base_model_tp_plan": ({"*": "x"},),
    "use_kernels": (True,),
    "bos_token": ({"a": "b"},),
    "return_dict": (False,),
    "output_attentions": (True,),
    "tokenizer_class": ("LlamaTokenizer", "x"),
    "suppress_tokens": ([1, 2], "x"),
    "max_length": (0, 10**9),
    "cache_implementation": ("static", "x"),
}


def change_config(model: Model, rng: Random) -> str:
    """Set one to three keys of config.json or generation_config.json."""
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(("config.json", "config.json", "config.json", "generation_config.json"))
        if rng.random() < 0.4:
            key, value = rng.choice(COUNTS), rng.choice(NUMBERS)
        else:
            key = rng.choice(sorted(CONFIG_VALUES))
            value = rng.choice(CONFIG_VALUES[key])
        path = model.folder / name
        if path.is_file() and path.read_bytes()[:1] == b"{":
            edit(path, **{key: value})
            done.append(f"{name} {key} = {value!r:.80}")
    return "; ".join(done) or "no config.json"


ADAPTER_VALUES: dict[str, tuple[Any, ...]] = {
    "target_modules": (
        *("all-linear", ".*", "(.*)*x", "(a|a)*$", ".*q_proj", "((q|k)_?)+proj", "(?:.*\\.)*q_proj", ["q_proj"], []),
        *(["lm_head"], ["embed_tokens"], "(.+)+\\.(.+)+!", "model.layers.0.self_attn.q_proj", None, 7, ["(a+)+$"], "["),
        *(".*.*.*.*.*.*.*.*.*.*x", "(\\w+\\.?)+z", ["x"] * 500, "q_proj" + "|x" * 3000, "(?=(.*a)+)b"),
    ),
    "exclude_modules": (".*", "(.*)*x", ["q_proj"], "(\\w+\\.?)+z", None, 7),
    "modules_to_save": (["lm_head"], ["embed_tokens"], ["q_proj"], [], "lm_head", [""], ["x" * 300], None),
    "rank_pattern": ({".*": 8}, {"(.*)*x": 2}, {"q_proj": 0}, {"q_proj": 10**7}, {"q_proj": "4"}, {}, [], {"[": 1}),
    "alpha_pattern": ({".*": 8.5}, {"(\\w+\\.?)+z": 2}, {"q_proj": -(10**30)}, {f"x{n}": 1 for n in range(2000)}, {}),
    "r": (0, 1, 4, -1, 10**7, "4", 2.5, None),
    "lora_alpha": (0, 8, -1, 1e308, "8", None, True),
    "lora_dropout": (0.5, 2, -1, "x"),
    "layers_to_transform": ([0], 0, [99], "x", [], [0] * 1000),
    "layers_pattern": ("layers", "(.*)*x", ["layers"], "["),
    "base_model_name_or_path": ("lab-a/base", "./base", "../outside", "/etc", "", None, 7, "a" * 3000, "org//x"),
    "revision": ("main", "../x", "a" * 50, None, 7),
    "peft_type": ("LORA", "LOHA", "IA3", "PREFIX_TUNING", "X", None, 7),
    "task_type": ("CAUSAL_LM", "SEQ_CLS", "X", None),
    "use_rslora": (True, "x"),
    "use_dora": (True,),
    "bias": ("none", "all", "lora_only", "x"),
    "init_lora_weights": (True, False, "pissa", "olora", "loftq", "gaussian", "x", 7),
    "fan_in_fan_out": (True, False),
    "inference_mode": (False, "x"),
    "auto_mapping": ({"base_model_class": "X", "parent_library": "os"}, {"parent_library": "transformers"}, "x"),
    "eva_config": ({"rho": 2}, 7),
    "corda_config": ({"x": 1},),
    "loftq_config": ({"loftq_bits": 4}, {}),
    "layer_replication": ([[0, 9]], [], None),
    "target_parameters": (["x"], []),
    "trainable_token_indices": ([1, 2], {"embed_tokens": [1]}, None),
    "runtime_config": ({"ephemeral_gpu_offload": True},),
    "qalora_group_size": (0, 16),
    "peft_version": ("99.0", 7),
    "unknown_key": (1, {"a": "b"}),
    "ensure_weight_tying": (True, "x"),
}


def change_adapter(model: Model, rng: Random) -> str:
    """Set one to three keys of adapter_config.json."""
    path = (model.adapter or model.folder) / "adapter_config.json"
    if not path.is_file() or path.read_bytes()[:1] != b"{":
        return "no adapter_config.json"
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(sorted(ADAPTER_VALUES))
        value = rng.choice(ADAPTER_VALUES[key])
        edit(path, **{key: value})
        done.append(f"{key} = {value!r:.80}")
    return "; ".join(done)
