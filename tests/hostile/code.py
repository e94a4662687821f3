"""Configurations that make a framework download or import code, or open another file than the checked one."""

from tests.hostile.fixture import ADAPTER_CONFIG, CONFIG, GENERATION, TOKENIZER_CONFIG, Fixture, setting

ELSEWHERE = "stranger/code--modeling.Evil"
SOURCE = "https://github.com/huggingface/transformers/blob/main/src/transformers"

FIXTURES = (
    Fixture(
        "auto-map",
        "CVE-2026-22807",
        "auto_map names a Python file of the repository; vLLM ran it without asking for trust_remote_code",
        setting(CONFIG, auto_map={"AutoModelForCausalLM": "modeling.Evil"}),
        CONFIG,
    ),
    Fixture(
        "auto-map-elsewhere",
        "CVE-2025-66448",
        "auto_map inside another section names a second repository, where the code lies",
        setting(CONFIG, vision_config={"auto_map": {"AutoConfig": ELSEWHERE}}),
        CONFIG,
    ),
    Fixture(
        "auto-map-of-the-tokenizer",
        "CVE-2026-7669",
        "a tokenizer class that transformers does not know: SGLang then loaded it again with trust_remote_code",
        setting(
            TOKENIZER_CONFIG, tokenizer_class="EvilTokenizer", auto_map={"AutoTokenizer": ["tokenizer.Evil", None]}
        ),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "tokenizer-elsewhere",
        "https://huggingface.co/docs/transformers/custom_models",
        "the tokenizer's class comes from another repository, without a fixed commit",
        setting(TOKENIZER_CONFIG, auto_map={"AutoTokenizer": [None, ELSEWHERE]}),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "nested-trust",
        "CVE-2026-5241",
        "trust_remote_code inside a section, which LightGlue passed on to the next loader",
        setting(CONFIG, keypoint_detector_config={"model_type": "superpoint", "trust_remote_code": True}),
        CONFIG,
    ),
    Fixture(
        "kernel",
        "CVE-2026-4372",
        "an attention implementation that is fetched from the Hub and run",
        setting(CONFIG, _attn_implementation_internal="stranger/kernel"),
        CONFIG,
    ),
    Fixture(
        "kernel-in-a-section",
        "GHSA-29pf-2h5f-8g72",
        "the same, two levels deeper in the configuration",
        setting(CONFIG, text_config={"layers": [{"_attn_implementation_internal": "stranger/kernel"}]}),
        CONFIG,
    ),
    Fixture(
        "custom-generate",
        "CVE-2026-80047",
        "a generation loop from another repository, written to the cache before anyone is asked",
        setting(GENERATION, custom_generate="stranger/code"),
        GENERATION,
    ),
    Fixture(
        "custom-pipeline",
        "https://huggingface.co/docs/transformers/add_new_pipeline",
        "a pipeline class in the repository",
        setting(CONFIG, custom_pipelines={"text-generation": {"impl": "pipeline.Evil", "pt": ["AutoModel"]}}),
        CONFIG,
    ),
    Fixture(
        "unknown-model-type",
        "CVE-2026-46432",
        "an architecture that only the repository's own code implements; LMDeploy always ran such code",
        setting(CONFIG, model_type="evil", architectures=["EvilForCausalLM"]),
        CONFIG,
    ),
    Fixture(
        "vocabulary-elsewhere",
        "https://github.com/huggingface/transformers/pull/46279",
        "the tokenizer's configuration names the file with the vocabulary: any file of this machine",
        setting(TOKENIZER_CONFIG, tokenizer_file="/etc/hostname"),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "other-tokenizer",
        f"{SOURCE}/tokenization_utils_base.py",
        "fast_tokenizer_files puts another file in the place of tokenizer.json",
        setting(TOKENIZER_CONFIG, fast_tokenizer_files=["../../other/tokenizer.4.0.0.json"]),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "other-weights",
        f"{SOURCE}/modeling_utils.py",
        "transformers_weights puts another file in the place of the weights that were checked",
        setting(CONFIG, transformers_weights="other.safetensors"),
        CONFIG,
    ),
    Fixture(
        "template-among-the-special-tokens",
        f"{SOURCE}/tokenization_utils_base.py",
        "the map of special tokens holds a chat template, which takes the place of the one in its own file",
        setting("special_tokens_map.json", chat_template="{{ messages[0]['content'] }}"),
        "special_tokens_map.json",
    ),
    Fixture(
        "template-as-a-path",
        "CVE-2026-9856",
        "a named chat template whose name is a path, which save_pretrained writes to",
        setting(
            TOKENIZER_CONFIG,
            chat_template=[
                {"name": "default", "template": "{{ messages[0]['content'] }}"},
                {"name": "../../evil", "template": "anything"},
            ],
        ),
        TOKENIZER_CONFIG,
    ),
    Fixture(
        "adapter-imports",
        "https://github.com/huggingface/peft/blob/main/src/peft/auto.py",
        "an adapter's configuration names a module to import",
        setting(
            ADAPTER_CONFIG, task_type=None, auto_mapping={"base_model_class": "Evil", "parent_library": "antigravity"}
        ),
        ADAPTER_CONFIG,
        start="adapter",
    ),
    Fixture(
        "layers-under-another-name",
        "CWE-770",
        "a hundred million layers, under the name that another architecture gives them",
        setting(
            CONFIG,
            model_type="bart",
            architectures=["BartForCausalLM"],
            is_decoder=True,
            is_encoder_decoder=False,
            decoder_layers=10**8,
            d_model=64,
            decoder_ffn_dim=64,
        ),
        "cannot be built within",
        own_process=True,
    ),
    Fixture(
        "huge-buffers",
        "CWE-770",
        "a mask of a terabyte, which the network computes from its configuration and no file holds",
        setting(
            CONFIG,
            model_type="gpt_neo",
            architectures=["GPTNeoForCausalLM"],
            max_position_embeddings=1_000_000,
            num_layers=2,
            attention_types=[[["global"], 2]],
            num_heads=4,
        ),
        "cannot be built within",
        own_process=True,
    ),
    Fixture(
        "exponential-expression-of-an-adapter",
        "CWE-1333",
        "an expression for names of layers with a repeat under a repeat",
        setting(ADAPTER_CONFIG, target_modules="([a-z.0-9_]+)+_proj!"),
        "cannot be built within",
        start="adapter",
        own_process=True,
        complete=True,
    ),
    Fixture(
        "polynomial-expression-of-an-adapter",
        "CWE-1333",
        "an expression for names of layers with many unlimited repeats in a row",
        setting(ADAPTER_CONFIG, target_modules=".*" * 12 + "x"),
        "cannot be built within",
        start="adapter",
        own_process=True,
        complete=True,
    ),
)
