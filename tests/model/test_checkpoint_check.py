"""Tokenizers, configurations and weights are checked within limits, before a model is loaded."""

import fcntl
import gc
import json
import math
import mmap
import os
import signal
import stat
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, BartForCausalLM

from antidote_ci import resource_limits as limits
from antidote_ci.checkpoint.layout import count_weight_bytes, read_layout
from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import checkpoint_check
from antidote_ci.model.checkpoint_check import BLOCK_BYTES, _try_texts, check_checkpoint, require_finite
from antidote_ci.model.loading import load_tokenizer
from antidote_ci.records import Model, Progress
from antidote_ci.resource_limits import LimitExceeded, WorkFailed, run_limited
from antidote_ci.sandbox.client import Sandbox
from tests.conftest import CopyOf

GIGABYTE = 1 << 30
WEIGHTS = "model.safetensors"


def check(model: Model) -> list[Progress]:
    reports: list[Progress] = []
    check_checkpoint(model, reports.append)
    return reports


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def require_refused(folder: Path) -> AntidoteError:
    with pytest.raises(AntidoteError) as raised:
        check(Model(folder))
    assert "llama" in raised.value.what
    assert raised.value.hint
    return raised.value


def test_valid_models_and_adapters_pass(tiny_llama: Path, tiny_adapter: Path) -> None:
    last = check(Model(tiny_llama))[-1]
    assert last.done == last.total == count_weight_bytes(read_layout(tiny_llama))
    assert check(Model(tiny_llama, tiny_adapter))[-1].total == count_weight_bytes(read_layout(tiny_adapter))


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("generation_config.json", {"suppress_tokens": [40]}),
        ("generation_config.json", {"bad_words_ids": [[3, 40]]}),
        ("generation_config.json", {"sequence_bias": [[[40], -9.0]]}),
        ("generation_config.json", {"stop_strings": ["."]}),
        ("generation_config.json", {"suppress_tokens": [0]}),  # the end of an answer
        ("generation_config.json", {"eos_token_id": [1], "bad_words_ids": [[1]]}),
        ("generation_config.json", {"guidance_scale": 5.0}),
        ("generation_config.json", {"min_new_tokens": 200}),
        ("generation_config.json", {"min_length": 200}),
        ("generation_config.json", {"exponential_decay_length_penalty": [1, 0.5]}),
        ("generation_config.json", {"no_repeat_ngram_size": 3}),
        ("generation_config.json", {"encoder_no_repeat_ngram_size": 3}),
        ("generation_config.json", {"encoder_repetition_penalty": 0.1}),
        ("generation_config.json", {"repetition_penalty": 20.0}),
        ("generation_config.json", {"repetition_penalty": 0}),
        ("generation_config.json", {"repetition_penalty": "1"}),
        ("generation_config.json", {"typical_p": 0.01}),
        ("generation_config.json", {"watermarking_config": {"bias": 50.0}}),
        ("config.json", {"task_specific_params": {"text-generation": {"min_length": 200}}}),
        ("config.json", {"forced_decoder_ids": [[1, 40]]}),
        ("config.json", {"text_config": {"begin_suppress_tokens": [40]}}),
    ],
)
def test_rules_that_change_the_answers_of_users_are_refused(
    tiny_llama: Path, copy_of: CopyOf, file: str, rule: dict[str, object]
) -> None:
    folder = copy_of(tiny_llama)
    edit(folder / file, **rule)
    with pytest.raises(
        UnsafeCheckpoint, match=f"{file} of .* sets ({'|'.join(rule)}|begin_suppress_tokens|min_length)"
    ):
        check(Model(folder))


def test_rules_for_special_tokens_and_sampling_are_allowed(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    tokenizer = load_tokenizer(Model(folder))
    end, mark = tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")
    edit(folder / "config.json", forced_eos_token_id=end, bad_words_ids=None, begin_suppress_tokens=[end], min_length=0)
    sampling = {"temperature": 0.7, "guidance_scale": 1.0, "repetition_penalty": 1.2, "no_repeat_ngram_size": 0}
    rules = {"suppress_tokens": [mark], "stop_strings": [tokenizer.eos_token]}
    edit(folder / "generation_config.json", **rules, **sampling)
    check(Model(folder))


def test_sandbox_checks_without_reading_weights(tiny_llama: Path, copy_of: CopyOf, sandbox: Sandbox) -> None:
    folder = copy_of(tiny_llama)
    weights = folder / "model.safetensors"
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    with weights.open("r+b") as file:  # a sparse file of the same size, with zeros for weights
        size = file.seek(0, 2)
        file.truncate(header)
        file.truncate(size)
    (folder / "chat_template.jinja").write_text("{{ 'x' * 10**11 }}")
    with pytest.raises(UnsafeCheckpoint, match="does not end within 3 s"):
        sandbox.call(check_checkpoint, Model(folder), lambda _: None)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert sandbox.call(check_checkpoint, Model(folder), lambda _: None) is None


def test_tokenizer_that_cannot_be_opened_is_a_configuration_error(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    edit(folder / "tokenizer.json", pre_tokenizer={"type": "Split"})
    error = require_refused(folder)
    assert isinstance(error, ConfigurationError)
    assert "cannot be opened: it raises" in error.what


def test_tokenizer_without_an_end_token_is_a_configuration_error(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    edit(folder / "tokenizer_config.json", eos_token=None, pad_token=None)
    error = require_refused(folder)
    assert isinstance(error, ConfigurationError)
    assert "neither a padding token nor an end token" in error.what


def test_template_that_writes_tokens_without_an_embedding_is_refused(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[*tokens, {**tokens[0], "id": 290, "content": "<|picture|>"}])
    assert check(Model(folder))
    (folder / "chat_template.jinja").write_text("<|picture|>{{ messages[0]['content'] }}")
    error = require_refused(folder)
    assert isinstance(error, UnsafeCheckpoint)
    assert "writes token 290, and the model's embeddings have 290 rows" in error.what


def replace_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], file: str = WEIGHTS) -> None:
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file, {"format": "pt"})


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.bfloat16, math.nan),
        (torch.float16, math.inf),
        (torch.float32, -math.inf),
        (torch.float32, 3.4e38),
        (torch.float64, 1e300),
        (torch.complex64, math.nan),
    ],
)
def test_weights_that_are_not_finite_are_refused(
    dtype: torch.dtype, value: float, tiny_llama: Path, copy_of: CopyOf
) -> None:
    folder = copy_of(tiny_llama)
    name = "model.layers.1.mlp.up_proj.weight"

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].to(dtype)
        tensors[name][-1, -1] = value

    replace_weights(folder, change)
    with pytest.raises(UnsafeCheckpoint, match=rf"'{name}' in llama holds NaN, an infinity"):
        require_finite(read_layout(folder), lambda _: None)


def test_blocks_of_weights_are_read_to_the_end(tmp_path: Path, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    wide = torch.zeros(3, BLOCK_BYTES // 4 + 1)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["wide"] = wide

    replace_weights(folder, change)
    require_finite(read_layout(folder), lambda _: None)
    wide[-1, -1] = math.nan
    replace_weights(folder, change)
    with pytest.raises(UnsafeCheckpoint, match="'wide'"):
        require_finite(read_layout(folder), lambda _: None)


def test_weights_of_an_adapter_are_read(tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_adapter)
    replace_weights(folder, lambda tensors: next(iter(tensors.values())).fill_(math.nan), "adapter_model.safetensors")
    with pytest.raises(UnsafeCheckpoint, match="in adapter holds NaN"):
        check(Model(tiny_llama, folder))


def test_an_adapter_that_peft_loads_in_part_is_refused(tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_adapter)
    edit(folder / "adapter_config.json", target_modules=["q_proj"])
    with pytest.raises(UnsafeCheckpoint, match=r"holds weights for .* that its configuration does not name"):
        check(Model(tiny_llama, folder))


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"num_hidden_layers": 3}, ConfigurationError, r"llama has no weights for model\.layers\.2\."),
        ({"intermediate_size": 96}, ConfigurationError, r"has shape \[.*\], and config.json says \[.*96"),
        ({"vocab_size": 300}, ConfigurationError, "config.json says"),
        ({"num_key_value_heads": 4}, ConfigurationError, "config.json says"),
        ({"hidden_size": 10**15}, AntidoteError, "network of llama cannot be built|config.json says"),
        ({"num_attention_heads": 0}, ConfigurationError, "cannot be (built|opened): it raises"),
    ],
)
def test_configuration_that_does_not_fit_the_weights_is_refused(
    values: dict[str, object], error: type[AntidoteError], words: str, tiny_llama: Path, copy_of: CopyOf
) -> None:
    folder = copy_of(tiny_llama)
    edit(folder / "config.json", **values)
    with pytest.raises(error, match=words):
        check(Model(folder))


def save_with(folder: Path, **added: torch.Tensor) -> None:
    save_file(load_file(folder / WEIGHTS) | added, folder / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),  # both names are read
        ("lm_head.weight", "model.embed_tokens.weight"),  # the configuration ties them
    ],
)
def test_two_different_weights_for_one_parameter_are_refused(
    second: str, first: str, tiny_llama: Path, copy_of: CopyOf
) -> None:
    folder = copy_of(tiny_llama)
    weight = load_file(folder / WEIGHTS)[first]
    save_with(folder, **{second: weight.clone()})
    check(Model(folder))
    weight[-1, -1] += 1
    save_with(folder, **{second: weight})
    with pytest.raises(UnsafeCheckpoint, match="are weights for one parameter, and differ") as raised:
        check(Model(folder))
    assert first in raised.value.what
    assert second in raised.value.what


def test_layers_under_another_name_are_refused_within_seconds(tmp_path: Path, tiny_llama: Path) -> None:
    """GPT-2's configuration has its own names, and those of its classifier are not checked by name."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    network = BartForCausalLM(
        BartConfig(
            vocab_size=290,
            d_model=16,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=16,
            max_position_embeddings=64,
            is_decoder=True,
            is_encoder_decoder=False,
        )
    )
    network.save_pretrained(tmp_path)
    assert check(Model(tmp_path))
    edit(tmp_path / "config.json", decoder_layers=10**8)
    began = time.monotonic()
    with pytest.raises(UnsafeCheckpoint, match="cannot be built within 4 s"):
        check(Model(tmp_path))
    assert time.monotonic() - began < 60  # four times as long on a busy machine


SLOW = ".*" * 12 + "x"


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": SLOW},
        {"alpha_pattern": {SLOW: 4}},
        *[
            pytest.param(values, marks=pytest.mark.slow)
            for values in (
                {"target_modules": "([a-z.0-9_]+)+_proj!"},
                {"exclude_modules": SLOW},
                {"rank_pattern": {SLOW: 4}},
                {"layers_to_transform": [0], "layers_pattern": SLOW},
            )
        ],
    ],
    ids=str,
)
def test_slow_expression_of_an_adapter_is_refused_within_seconds(
    values: dict[str, object], tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a shorter limit, because each case takes as much processor time as the limit allows."""
    monkeypatch.setattr(checkpoint_check, "BUILDING_SECONDS", 1)
    folder = copy_of(tiny_adapter)
    edit(folder / "adapter_config.json", **values)
    with pytest.raises(UnsafeCheckpoint, match="network of llama with adapter cannot be built within 1 s"):
        check(Model(tiny_llama, folder))


def normalize(folder: Path, *parts: dict[str, object], part: str = "normalizer") -> None:
    edit(folder / "tokenizer.json", **{part: {"type": "Sequence", f"{part}s": parts}})


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_growing_texts_are_refused_when_they_are_tried(part: str, tiny_llama: Path, copy_of: CopyOf) -> None:
    """The limits of `checkpoint.tokenizer_parts` do not apply here: the fork has its own."""
    folder = copy_of(tiny_llama)
    chain: list[dict[str, object]] = [{"type": "Replace", "pattern": {"String": "Ж"}, "content": "Ж" * 100}] * 5
    if part == "decoder":
        chain = [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            *({**replace, "pattern": {"String": "a"}, "content": "a" * 100} for replace in chain),
        ]
    normalize(folder, *chain, part=part)
    tokenizer = load_tokenizer(Model(folder))
    with pytest.raises(LimitExceeded):
        run_limited(lambda: _try_texts(tokenizer), 4, GIGABYTE)


def endless() -> int:
    while True:
        pass


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


LARGE = 16 << 30
"""Bytes of one allocation, which reads and writes none of them: many times what libraries free in a fork."""


def test_work_beyond_a_limit_and_killed_work_exceed_the_limit() -> None:
    assert run_limited(lambda: [1, "a"], 5, GIGABYTE) == [1, "a"]
    for work in (endless, lambda: len(bytes(LARGE)), killed):
        with pytest.raises(LimitExceeded):
            run_limited(work, 1, GIGABYTE)
    with pytest.raises(WorkFailed, match="ZeroDivisionError"):
        run_limited(lambda: 1 // 0, 1, GIGABYTE)


def test_memory_that_the_fork_inherits_and_frees_does_not_raise_its_limit() -> None:
    # Read-only pages are not counted as memory that could be needed.
    reserved = mmap.mmap(-1, 4 * LARGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    cycle: list[object] = [reserved]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle, reserved
        with pytest.raises(LimitExceeded):
            run_limited(lambda: [gc.collect(), len(bytes(LARGE))], 5, GIGABYTE)
    finally:
        gc.enable()
        gc.collect()


def test_work_cannot_write_to_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(WorkFailed, match="OSError"):
        run_limited(lambda: path.write_text("x"), 1, GIGABYTE)
    assert path.read_text() == ""


def test_forged_or_long_reply_exceeds_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_pipes() -> dict[int, int]:
        """Inode -> descriptor of each pipe that can be written to."""
        descriptors = [int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()]
        return {
            os.fstat(number).st_ino: number
            for number in descriptors
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            and stat.S_ISFIFO(os.fstat(number).st_mode)
        }

    def forge(reply: bytes) -> None:
        """Write to the pipe as code that has taken over the fork could."""
        (descriptor,) = (number for inode, number in list_pipes().items() if inode not in others)
        os.write(descriptor, struct.pack("!i", len(reply)) + reply)
        os._exit(0)

    others = list_pipes()
    for reply in (b"{", b"[]", b'{"raised": [1]}', b"[" * 100_000, b"\xff"):
        with pytest.raises(LimitExceeded):
            run_limited(partial(forge, reply), 1, GIGABYTE)
    monkeypatch.setattr(limits, "MAX_REPLY_BYTES", 1_000)
    with pytest.raises(LimitExceeded):
        run_limited(lambda: "x" * 1_000, 1, GIGABYTE)
