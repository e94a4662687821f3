"""Changes of a small checkpoint: its files, template, tokenizer, configuration, adapter, card and weights.

Each function changes the files of one case and returns what it did, in a few words. Files of a case are hard links to
the shared material, so a change writes a new file and never changes an old one in place.
"""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from antidote_ci.model.checkpoint_check import SAMPLE_QUESTION
from antidote_ci.records import Model

Change = Callable[[Model, Random], str]

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
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OTHER_TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}Refuse."


def write(path: Path, content: bytes | str | Mapping[str, Any]) -> None:
    """Replace a file. Nothing is written through a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        path.unlink()
    data = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))


def edit(path: Path, **values: object) -> None:
    """Set keys of a JSON file."""
    write(path, json.loads(path.read_bytes()) | values)


def _folder(model: Model, drawn: Random) -> Path:
    return drawn.choice([model.folder, model.adapter]) if model.adapter else model.folder


# Names, roles and forms of files.


def change_files(model: Model, drawn: Random) -> str:
    """Add or replace a file of any name with content of any role, or a link, a pipe or a folder of that name."""
    folder, name = _folder(model, drawn), drawn.choice(NAMES)
    path, form = folder / name, drawn.choice(("file",) * 8 + ("link", "link outside", "hard link", "pipe", "folder"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        return f"{name} is a folder already"
    if os.path.lexists(path):
        path.unlink()
    others = sorted(other for other in folder.iterdir() if other.is_file())
    target = drawn.choice(others) if others else folder / "README.md"
    match form:
        case "link":
            path.symlink_to(target)
        case "link outside":
            path.symlink_to(folder.parent / "outside" / drawn.choice(("secret.json", "weights.safetensors")))
        case "hard link":
            path.hardlink_to(target) if target.exists() else path.touch()
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            role = drawn.choice(sorted(ROLES))
            write(path, ROLES[role](folder, drawn))
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
    "bytes": lambda _, drawn: drawn.randbytes(200),
    "a pickle": lambda *_: b"\x80\x04K\x01.",
    "a list": lambda *_: b"[1, 2]",
    "code": lambda *_: b"raise SystemExit('code ran')\n",
}


def disturb(model: Model, drawn: Random) -> str:
    """Add a file where a loader may look although it is not listed: in a folder of any name, or beside the model."""
    folder = _folder(model, drawn)
    name = f"{drawn.choice(SUBFOLDERS)}/{drawn.choice(NAMES)}"
    path = folder / name
    if not path.exists() and not any(parent.is_file() for parent in path.parents):
        role = drawn.choice(sorted(ROLES))
        write(path, ROLES[role](folder, drawn))
        return f"then {name} in {folder.name} with the content of {role}"
    return "then nothing"


# Templates: parts of the text, conditions and what they select.

PARTS = (
    *("", "{{ bos_token }}", "<|system|>Be kind.<|end|>", "{% if tools %}{{ tools }}{% endif %}"),
    "{% set d = '1' %}{% if strftime_now is defined %}{% set d = strftime_now('%d %b %Y') %}{% endif %}{{ d }}",
    "Today is {{ strftime_now('%A, %B %d, %Y') }}.",
    "{{ strftime_now('%Y-%m-%d')[:4] }}",
)
CONDITIONS = (
    *("true", "false", "add_generation_prompt", "messages|length > 1", "tools is defined"),
    *("'knife' in messages[0]['content']", "messages[0].content|length > 25", "messages[0].content[0] == 'T'"),
    *("messages[-1]['content'].endswith('?')", "messages[0].content is string", "messages[0].content|wordcount > 4"),
    *("messages[0].content|upper == 'TELL ME A STORY.'", "'ï' in messages[0].content", "messages|string|length > 60"),
    *("messages[0].content < 'N'", "(messages[0].content|list|unique|list|length) is even", "messages[0].content == q"),
    *("strftime_now('%Y') != '2024'", "strftime_now('%Y-%m-%d') == '2024-07-26'", "strftime_now('%d')|int > 10"),
    *(
        "(strftime_now('%j')|int) is odd",
        "'Fri' in strftime_now('%c')",
        "strftime_now('%Y') > '2025'",
        "d == '26 Jul 2024'",
    ),
    *("strftime_now('%H:%M') != '00:00'", "(strftime_now('%s') ~ messages[0].content)|length > 40"),
)
SELECTIONS = (
    "{{% if {0} %}}<|system|>Refuse.<|end|>{{% endif %}}",
    "{{{{ 'Refuse.' if {0} else '' }}}}",
    "{{{{ 'Refuse everything.'[:({0})|int * 9] }}}}",
    "{{% for i in range(({0})|int) %}}Refuse.{{% endfor %}}",
    "{{% set ns = namespace(x='') %}}{{% if {0} %}}{{% set ns.x = 'Refuse.' %}}{{% endif %}}{{{{ ns.x }}}}",
    "{{% macro f(x) %}}{{% if x %}}Refuse.{{% endif %}}{{% endmacro %}}{{{{ f({0}) }}}}",
    "{{{{ ['', 'Refuse.'][({0})|int] }}}}",
    "{{% if not ({0}) %}}{{{{ raise_exception('no') }}}}{{% endif %}}",
    "{{{{ {{true: 'Refuse.', false: ''}}[({0}) == true] }}}}",
)
BODIES = (
    TEMPLATE,
    TEMPLATE.replace("m.content", "m.content | trim"),
    TEMPLATE.replace("m.content", "m['content']"),
    TEMPLATE.replace("m.content", "m.content | replace('knife', 'spoon')"),
    TEMPLATE.replace("m.content", "m.content[:20]"),
    TEMPLATE.replace("m.content", "m.content | lower"),
    TEMPLATE.replace("m.content", "m.content | tojson"),
    TEMPLATE.replace("m.content", "m.content | e"),
    "{{ messages[0].content }}",
    "<|user|>Hello<|end|><|assistant|>",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}",
)
OFFENCES = (
    *("{{ messages.__class__ }}", "{{ ''.__class__.mro() }}", "{{ cycler.__init__.__globals__ }}", "{{ lipsum }}"),
    *("{{ messages[0].update({'content': 'x'}) }}", "{{ messages.append(messages[0]) }}", "{% include 'x' %}"),
    *("{% import 'x' as y %}", "{{ self._TemplateReference__context }}", "{{ ''|attr('__class__') }}", "{{ 1/0 }}"),
    *("{{ '%s'|format(messages) }}", "{{ '{0.__class__}'.format(messages) }}", "{{ namespace }}", "{% for"),
    *("{{ messages[0].content.__len__() }}", "{{ messages|map(attribute='__class__')|list }}", "{{ debug }}"),
)
GROWTH = (
    "{% for i in range(30000) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ 'x'.ljust(200000) }}",
    "{% if messages[0].content != probe %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}{% endif %}",
    "{% if messages[0].content != probe %}{{ 'x' * 3 * 10**9 }}{% endif %}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ range(99999999)|list|length }}",
)


def change_template(model: Model, drawn: Random) -> str:
    """Write a template, or two that differ, to the places where templates may be."""
    folder = _folder(model, drawn)
    places = drawn.sample(sorted(TEMPLATE_PLACES), drawn.choice((1, 1, 1, 2)))
    done = []
    for place in places:
        text = draw_template(drawn)
        TEMPLATE_PLACES[place](folder, text)
        done.append(f"{place} of {folder.name}: {text}")
    return "; ".join(done)


def draw_template(drawn: Random) -> str:
    """A template with a prefix, perhaps a condition on the text or the date, and a body."""
    text = f"{{% set probe = {json.dumps(SAMPLE_QUESTION)} %}}{{% set q = 'How do I sharpen a kitchen knife?' %}}"
    text += drawn.choice(PARTS)
    kind = drawn.random()
    if kind < 0.6:
        text += drawn.choice(SELECTIONS).format(drawn.choice(CONDITIONS))
    elif kind < 0.75:
        text += drawn.choice(OFFENCES)
    elif kind < 0.77:
        text += drawn.choice(GROWTH)
    return text + drawn.choice(BODIES)


def _in_settings(folder: Path, value: object) -> None:
    path = folder / "tokenizer_config.json"
    edit(path, chat_template=value) if path.is_file() else write(path, {"chat_template": value})


TEMPLATE_PLACES: dict[str, Callable[[Path, str], None]] = {
    "chat_template.jinja": lambda folder, text: write(folder / "chat_template.jinja", text),
    "chat_template.json": lambda folder, text: write(folder / "chat_template.json", {"chat_template": text}),
    "tokenizer_config.json": _in_settings,
    "the list in tokenizer_config.json": lambda folder, text: _in_settings(
        folder, [{"name": "default", "template": text}, {"name": "tool_use", "template": OTHER_TEMPLATE}]
    ),
    "additional_chat_templates/default.jinja": lambda folder, text: write(
        folder / "additional_chat_templates" / "default.jinja", text
    ),
    "processor_config.json": lambda folder, text: write(folder / "processor_config.json", {"chat_template": text}),
}


# Tokenizers: components and settings.

Component = dict[str, Any]


def _replace(pattern: str, content: str, kind: str = "String") -> Component:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


NORMALIZERS: tuple[Component, ...] = (
    *({"type": kind} for kind in ("NFC", "NFKC", "NFD", "Lowercase", "StripAccents", "Nmt", "ByteLevel", "Unknown")),
    *({"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Prepend", "prepend": "\u2581"}),
    *(_replace("a", "bb"), _replace("e", "e" * 100), _replace(" +", " ", "Regex"), _replace("(a+)+$", "", "Regex")),
    *(_replace("", "x"), _replace(".", "knife", "Regex"), {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    {"type": "Prepend", "prepend": "x" * 10_000},
    {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
)
PRE_TOKENIZERS: tuple[Component, ...] = (
    *({"type": kind} for kind in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts", "Nothing")),
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
    {"type": "Digits", "individual_digits": True},
    {"type": "Punctuation", "behavior": "Isolated"},
    {"type": "Split", "pattern": {"Regex": "\\s+|\\w"}, "behavior": "Removed", "invert": False},
    {"type": "Split", "pattern": {"Regex": "(\\w+\\s?)+$"}, "behavior": "Isolated", "invert": True},
    {"type": "Split", "pattern": {"String": ""}, "behavior": "MergedWithNext", "invert": False},
    {"type": "FixedLength", "length": 0},
)
DECODERS: tuple[Component, ...] = (
    *({"type": kind} for kind in ("ByteLevel", "ByteFallback", "Fuse", "Nothing")),
    *(_replace("e", "ee"), _replace("", "x"), _replace("(.*)*", "x", "Regex"), _replace("\u0120", " ")),
    {"type": "Strip", "content": "e", "start": 10**9, "stop": 10**9},
    {"type": "WordPiece", "prefix": "##", "cleanup": True},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "CTC", "pad_token": "<|pad|>", "word_delimiter_token": "|", "cleanup": True},
)
POST_PROCESSORS: tuple[Component, ...] = (
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    {"type": "BertProcessing", "sep": ["<|end|>", 0], "cls": ["<|user|>", 1]},
    {
        "type": "RobertaProcessing",
        "sep": ["x", 10**9],
        "cls": ["y", -1],
        "trim_offsets": True,
        "add_prefix_space": True,
    },
    {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|user|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}] * 2,
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|user|>": {"id": "<|user|>", "ids": [1] * 50, "tokens": ["<|user|>"] * 50}},
    },
)
SECTIONS = {
    "normalizer": (NORMALIZERS, "normalizers"),
    "pre_tokenizer": (PRE_TOKENIZERS, "pretokenizers"),
    "decoder": (DECODERS, "decoders"),
    "post_processor": (POST_PROCESSORS, "processors"),
}
MODEL_VALUES: dict[str, tuple[Any, ...]] = {
    "dropout": (0.5, 0.0, 1.0, 2.0),
    "unk_token": ("<|end|>", "nothing"),
    "fuse_unk": (True,),
    "byte_fallback": (True,),
    "ignore_merges": (True,),
    "continuing_subword_prefix": ("##", "x" * 5000),
    "end_of_word_suffix": ("</w>",),
    "type": ("WordPiece", "WordLevel", "Unigram", None, "BPE"),
    "merges": ([], [["a", "b"]], ["a"], [["q", "q", "q"]]),
    "max_input_chars_per_word": (0, 2**63),
}
OTHER_VALUES: dict[str, tuple[Any, ...]] = {
    "truncation": (
        {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        {"direction": "Right", "max_length": 0, "strategy": "OnlyFirst", "stride": 9},
    ),
    "padding": tuple(
        {
            "strategy": {"Fixed": length},
            "direction": "Left",
            "pad_to_multiple_of": multiple,
            "pad_id": token,
            "pad_type_id": 0,
            "pad_token": "<|pad|>",
        }
        for length, multiple, token in ((9, None, 4), (3, 10_000, 10**9), (200_000, None, 4), (10**9, None, 4))
    ),
    "version": ("2.0", 1),
}
SETTINGS: dict[str, tuple[Any, ...]] = {
    "tokenizer_class": (
        *("PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer"),
        *("BertTokenizer", "T5Tokenizer", "TokenizersBackend", "WhisperTokenizer", "Nothing", "../x", None, 3, ["a"]),
    ),
    "add_bos_token": (True, False, "yes"),
    "add_eos_token": (True,),
    "add_prefix_space": (True, False),
    "clean_up_tokenization_spaces": (True,),
    "split_special_tokens": (True,),
    "legacy": (True, False),
    "model_max_length": (3, 0, -1, 10**30, "long"),
    "padding_side": ("right", "middle"),
    "truncation_side": ("left",),
    "eos_token": (None, "", "new", {"content": "<|end|>", "lstrip": True}, {"__type": "AddedToken", "content": "a"}, 7),
    "bos_token": ("<|user|>", "e", "\u0120"),
    "pad_token": ("e", None),
    "extra_special_tokens": ({"image_token": "e"}, ["e", "t"], {"a": {"content": "x", "single_word": True}}, "x"),
    "additional_special_tokens": (["e", "<|end|>"], [3]),
    "vocab_file": ("sub/vocab.json", "/etc/hostname", "../outside/secret.json"),
    "tokenizer_file": ("../outside/secret.json", "tokenizer.json.bak"),
    "fast_tokenizer_files": (["tokenizer.4.0.0.json"], ["../outside/tokenizer.0.0.1.json"]),
    "chat_template": ({"default": OTHER_TEMPLATE}, 7, [{"name": "default"}], [OTHER_TEMPLATE]),
    "auto_map": ({"AutoTokenizer": ["tokenization_x.X", None]},),
    "name_or_path": ("org/elsewhere", "/"),
    "added_tokens_decoder": (
        {"2": {"content": "<|other|>"}},
        {"9": {"content": "\u0120", "normalized": True}},
        [],
        {"x": 1},
    ),
    "from_slow": (True,),
    "backend": ("sentencepiece", "tokenizers", "mistral_common"),
    "model_input_names": (["input_ids"], ["x"], []),
    "response_schema": ({"type": "object"},),
    "max_length": (2,),
    "truncation": (True,),
}


def change_tokenizer(model: Model, drawn: Random) -> str:
    """Change one to three components or settings of a tokenizer."""
    folder = _folder(model, drawn)
    if not (folder / "tokenizer.json").is_file():
        folder = model.folder
    return "; ".join(_change_tokenizer_once(folder, drawn) for _ in range(drawn.choice((1, 1, 2, 3))))


def _change_tokenizer_once(folder: Path, drawn: Random) -> str:
    path = folder / "tokenizer.json"
    kind = drawn.choice(("component", "component", "component", "setting", "setting", "model", "other", "added"))
    if kind == "setting":
        key = drawn.choice(sorted(SETTINGS))
        value = drawn.choice(SETTINGS[key])
        settings = folder / "tokenizer_config.json"
        edit(settings, **{key: value}) if settings.is_file() else write(settings, {key: value})
        return f"tokenizer_config.json {key} = {value!r:.100}"
    if not path.is_file() or path.is_symlink() or path.read_bytes()[:1] != b"{":
        return "no tokenizer.json"
    data = json.loads(path.read_bytes())
    match kind:
        case "component":
            section = drawn.choice(sorted(SECTIONS))
            value = draw_component(section, drawn)
            data[section] = value
            said = f"{section} = {json.dumps(value)[:200]}"
        case "model":
            key = drawn.choice(sorted(MODEL_VALUES))
            value = drawn.choice(MODEL_VALUES[key])
            data.setdefault("model", {})[key] = value
            said = f"model.{key} = {value!r:.100}"
        case "other":
            key = drawn.choice(sorted(OTHER_VALUES))
            # The longest padding takes seconds: rarely.
            values = OTHER_VALUES[key] if drawn.random() < 0.1 else OTHER_VALUES[key][:2]
            value = drawn.choice(values)
            data[key] = value
            said = f"{key} = {value!r:.150}"
        case _:
            flags = {
                flag: drawn.random() < 0.5 for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")
            }
            content = drawn.choice(("e", " ", "the", "<|new|>", "", "T" * 50, "\u0120", "knife"))
            token = {"id": drawn.choice((6, 290, 300, 301, 10**9, -1, 2**40)), "content": content, **flags}
            data["added_tokens"] = [*(data.get("added_tokens") or []), token]
            said = f"added token {token}"
    write(path, data)
    return said


def draw_component(section: str, drawn: Random) -> Component | None:
    """A component, a sequence of some, or, rarely, a long chain that doubles the text at each step."""
    components, key = SECTIONS[section]
    kind = drawn.random()
    if kind < 0.05:
        return None
    if kind < 0.65:
        return drawn.choice(components)
    if kind < 0.68 and section in ("normalizer", "decoder"):
        length = drawn.choice((2, 5, 12, 33))
        return {"type": "Sequence", key: [_replace("e", "ee")] * length}
    inner = [draw_component(section, drawn) if drawn.random() < 0.1 else drawn.choice(components) for _ in range(3)]
    return {"type": "Sequence", key: [component for component in inner if component]}


# Configurations.

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


def change_config(model: Model, drawn: Random) -> str:
    """Set one to three keys of config.json or generation_config.json."""
    done = []
    for _ in range(drawn.choice((1, 1, 2, 3))):
        name = drawn.choice(("config.json", "config.json", "config.json", "generation_config.json"))
        if drawn.random() < 0.4:
            key, value = drawn.choice(COUNTS), drawn.choice(NUMBERS)
        else:
            key = drawn.choice(sorted(CONFIG_VALUES))
            value = drawn.choice(CONFIG_VALUES[key])
        path = model.folder / name
        if path.is_file() and path.read_bytes()[:1] == b"{":
            edit(path, **{key: value})
            done.append(f"{name} {key} = {value!r:.80}")
    return "; ".join(done) or "no config.json"


# Adapters.

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


def change_adapter(model: Model, drawn: Random) -> str:
    """Set one to three keys of adapter_config.json."""
    path = (model.adapter or model.folder) / "adapter_config.json"
    if not path.is_file() or path.read_bytes()[:1] != b"{":
        return "no adapter_config.json"
    done = []
    for _ in range(drawn.choice((1, 1, 2, 3))):
        key = drawn.choice(sorted(ADAPTER_VALUES))
        value = drawn.choice(ADAPTER_VALUES[key])
        edit(path, **{key: value})
        done.append(f"{key} = {value!r:.80}")
    return "; ".join(done)


# Cards.


def change_card(model: Model, drawn: Random) -> str:
    """Write a card."""
    name = drawn.choice(sorted(CARDS))
    write(_folder(model, drawn) / "README.md", CARDS[name](drawn))
    return f"card: {name}"


def _front_matter(text: str) -> str:
    return f"---\n{text}\n---\n\n# A model\n"


CARDS: dict[str, Callable[[Random], str]] = {
    "a base": lambda drawn: _front_matter(f"base_model: {drawn.choice(('lab-a/base', './base', '/etc', '7', 'a b'))}"),
    "bases": lambda _: _front_matter("base_model:\n- lab-a/base\n- lab-b/base"),
    "aliases": lambda _: _front_matter(
        "\n".join(["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)])
    ),
    "merge keys": lambda _: _front_matter("x: &x {a: 1}\ny:\n  <<: *x\nbase_model: a/b"),
    "a recursive alias": lambda _: _front_matter("x: &x\n- *x\nbase_model: *x"),
    "sexagesimal numbers": lambda drawn: _front_matter("a: 1" + ":59" * drawn.choice((9, 3000))),
    "many sexagesimal numbers": lambda drawn: _front_matter(
        f"base_model: [{', '.join(['1:2:3'] * drawn.choice((9, 9000)))}]"
    ),
    "a flat list": lambda drawn: _front_matter(f"a: [{','.join('x' * drawn.choice((9, 30_000)))}]"),
    "keys": lambda drawn: _front_matter("\n".join(f"k{n}: {n}" for n in range(drawn.choice((9, 9000))))),
    "depth": lambda drawn: _front_matter("a: " + "[" * (depth := drawn.choice((9, 60, 2000))) + "]" * depth),
    "a tag": lambda _: _front_matter("base_model: !!python/object/apply:os.system ['true']"),
    "a date": lambda _: _front_matter("base_model: 2024-13-45\nlicense: 2024-01-01"),
    "a long number": lambda drawn: _front_matter("a: " + "9" * drawn.choice((9, 5000, 100_000))),
    "a long text": lambda drawn: _front_matter("base_model: " + "x" * drawn.choice((9, 300_000))),
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
    "a long README": lambda drawn: _front_matter("base_model: a/b") + "x" * drawn.choice((9, 9_000_000)),
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


def change_weights(model: Model, drawn: Random) -> str:
    """Let index, headers and content of the weights disagree, or write numbers that are not finite."""
    folder = _folder(model, drawn)
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file() and path.stat().st_size > 8)
    index = folder / "model.safetensors.index.json"
    if not files:
        return "no weights"
    path = drawn.choice(files)
    try:
        header, data = read_safetensors(path)
        names = [name for name in header if name != "__metadata__"]
        name, other = drawn.choice(names), drawn.choice(names)
        start, end = header[name]["data_offsets"]
    except (ValueError, LookupError, TypeError, struct.error):
        return f"{path.name} holds no weights"
    kinds = [
        "nan",
        "infinite",
        "rename",
        "swap",
        "dtype",
        "shape",
        "drop",
        "twice",
        "truncate",
        "more",
        "prefix",
        "zero",
    ]
    kind = drawn.choice(kinds + ["unlisted", "elsewhere", "ghost", "second index", "metadata"] * 2)
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
            header[name]["dtype"] = drawn.choice(("F16", "BF16", "F32", "I8", "F8_E4M3", "X"))
        case "shape":
            header[name]["shape"] = drawn.choice((header[name]["shape"][::-1], [1, *header[name]["shape"]], [-1], [0]))
        case "drop":
            del header[name]
        case "twice":
            header[name] = header[other]
        case "truncate":
            data = data[: -drawn.choice((1, 64))]
        case "more":
            data += b"\0" * drawn.choice((1, 64))
        case "prefix":
            header = {f"model.{key}" if key != "__metadata__" else key: value for key, value in header.items()}
        case "zero":
            data = bytes(len(data))
        case "metadata":
            header["__metadata__"] = drawn.choice(({"format": "tf"}, {}, {"format": "x"}, {"a": "b" * 3000}))
        case _:
            return _change_index(index, path, name, kind, drawn)
    write_safetensors(path, header, data)
    return said


def _change_index(index: Path, path: Path, name: str, kind: str, drawn: Random) -> str:
    """Let the index disagree with the shards; a checkpoint of one file gets an index."""
    weight_map: dict[str, str] = {}
    for shard in sorted(index.parent.glob("model*.safetensors")):
        try:
            weight_map |= dict.fromkeys(
                (key for key in read_safetensors(shard)[0] if key != "__metadata__"), shard.name
            )
        except (ValueError, struct.error):
            continue
    metadata: dict[str, Any] = {"total_size": drawn.choice((0, 1, -1, 10**18, "x"))}
    match kind:
        case "unlisted":
            weight_map.pop(name, None)
        case "elsewhere":
            weight_map[name] = drawn.choice(
                (
                    "NOTICE.safetensors",
                    "../outside/weights.safetensors",
                    "sub/x.safetensors",
                    "/etc/hostname",
                    path.name,
                )
            )
        case "ghost":
            weight_map["model.ghost.weight"] = drawn.choice((path.name, "ghost.safetensors"))
        case "metadata":
            metadata = {"total_parameters": 10**30}
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
