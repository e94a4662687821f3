"""Changes of chat templates and tokenizers."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from antidote_ci.model.checkpoint_check import SAMPLE_QUESTION
from antidote_ci.records import Model
from benchmarks.fuzz.material import OTHER_TEMPLATE, choose_folder, edit, write

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
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


def change_template(model: Model, rng: Random) -> str:
    """Write a template, or two that differ, to the places where templates may be."""
    folder = choose_folder(model, rng)
    places = rng.sample(sorted(TEMPLATE_PLACES), rng.choice((1, 1, 1, 2)))
    done = []
    for place in places:
        text = draw_template(rng)
        TEMPLATE_PLACES[place](folder, text)
        done.append(f"{place} of {folder.name}: {text}")
    return "; ".join(done)


def draw_template(rng: Random) -> str:
    """A template with a prefix, perhaps a condition on the text or the date, and a body."""
    text = f"{{% set probe = {json.dumps(SAMPLE_QUESTION)} %}}{{% set q = 'How do I sharpen a kitchen knife?' %}}"
    text += rng.choice(PARTS)
    kind = rng.random()
    if kind < 0.6:
        text += rng.choice(SELECTIONS).format(rng.choice(CONDITIONS))
    elif kind < 0.75:
        text += rng.choice(OFFENCES)
    elif kind < 0.77:
        text += rng.choice(GROWTH)
    return text + rng.choice(BODIES)


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


def change_tokenizer(model: Model, rng: Random) -> str:
    """Change one to three components or settings of a tokenizer."""
    folder = choose_folder(model, rng)
    if not (folder / "tokenizer.json").is_file():
        folder = model.folder
    return "; ".join(_change_tokenizer_once(folder, rng) for _ in range(rng.choice((1, 1, 2, 3))))


def _change_tokenizer_once(folder: Path, rng: Random) -> str:
    path = folder / "tokenizer.json"
    kind = rng.choice(("component", "component", "component", "setting", "setting", "model", "other", "added"))
    if kind == "setting":
        key = rng.choice(sorted(SETTINGS))
        value = rng.choice(SETTINGS[key])
        settings = folder / "tokenizer_config.json"
        edit(settings, **{key: value}) if settings.is_file() else write(settings, {key: value})
        return f"tokenizer_config.json {key} = {value!r:.100}"
    if not path.is_file() or path.is_symlink() or path.read_bytes()[:1] != b"{":
        return "no tokenizer.json"
    data = json.loads(path.read_bytes())
    match kind:
        case "component":
            section = rng.choice(sorted(SECTIONS))
            value = draw_component(section, rng)
            data[section] = value
            said = f"{section} = {json.dumps(value)[:200]}"
        case "model":
            key = rng.choice(sorted(MODEL_VALUES))
            value = rng.choice(MODEL_VALUES[key])
            data.setdefault("model", {})[key] = value
            said = f"model.{key} = {value!r:.100}"
        case "other":
            key = rng.choice(sorted(OTHER_VALUES))
            # The longest padding takes seconds: rarely.
            values = OTHER_VALUES[key] if rng.random() < 0.1 else OTHER_VALUES[key][:2]
            value = rng.choice(values)
            data[key] = value
            said = f"{key} = {value!r:.150}"
        case _:
            flags = {flag: rng.random() < 0.5 for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")}
            content = rng.choice(("e", " ", "the", "<|new|>", "", "T" * 50, "\u0120", "knife"))
            token = {"id": rng.choice((6, 290, 300, 301, 10**9, -1, 2**40)), "content": content, **flags}
            data["added_tokens"] = [*(data.get("added_tokens") or []), token]
            said = f"added token {token}"
    write(path, data)
    return said


def draw_component(section: str, rng: Random) -> Component | None:
    """A component, a sequence of some, or, rarely, a long chain that doubles the text at each step."""
    components, key = SECTIONS[section]
    kind = rng.random()
    if kind < 0.05:
        return None
    if kind < 0.65:
        return rng.choice(components)
    if kind < 0.68 and section in ("normalizer", "decoder"):
        length = rng.choice((2, 5, 12, 33))
        return {"type": "Sequence", key: [_replace("e", "ee")] * length}
    inner = [draw_component(section, rng) if rng.random() < 0.1 else rng.choice(components) for _ in range(3)]
    return {"type": "Sequence", key: [component for component in inner if component]}
