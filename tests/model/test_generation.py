"""Answers do not depend on the batch, are cached, and are computed within the memory of the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.prompts import read_prompts
from antidote_ci.model import decoding, loading
from antidote_ci.model.batching import MIN_BATCH
from antidote_ci.model.conversations import Message, single_turn
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.model.loading import load_model, load_tokenizer
from antidote_ci.records import Model, Progress
from tests.builders import generate
from tests.conftest import CopyOf
from tests.tiny import render_exchange, write_sharded

PROMPTS = ["Hi", "Tell me a story about a lighthouse and a very long voyage of a ship", "Why?", "Name a bird"]
MANY = [f"{prompt} {'again ' * number}" for number in range(10) for prompt in PROMPTS]


def request(
    folder: Path,
    prompts: list[str],
    batch_size: int | None = 8,
    samples: int = 1,
    seed: int = 0,
) -> GenerationRequest:
    sets = {"all": [single_turn(prompt) for prompt in prompts]}
    return GenerationRequest(Model(folder), sets, {"all": 12}, samples, seed, batch_size=batch_size)


def answers(folder: Path, prompts: list[str], samples: int = 1, seed: int = 0) -> list[GeneratedAnswer]:
    return generate(request(folder, prompts, samples=samples, seed=seed)).answers["all"]


def test_answers_do_not_depend_on_the_batch(trained_pair: Path) -> None:
    batch_answers = answers(trained_pair / "reference", PROMPTS)
    assert batch_answers == [answers(trained_pair / "reference", [prompt])[0] for prompt in PROMPTS]


def test_adapter_answers_like_its_merged_model(trained_pair: Path) -> None:
    merged = Model(trained_pair / "merged")
    adapter = Model(trained_pair / "reference", trained_pair / "adapter")
    sets = {"all": [single_turn(prompt) for prompt in PROMPTS]}
    results = [generate(GenerationRequest(model, sets, {"all": 12})).answers["all"] for model in (merged, adapter)]
    assert [answer.text for answer in results[0]] == [answer.text for answer in results[1]]


@pytest.mark.parametrize("key", ["extra_special_tokens", "additional_special_tokens", "unk_token"])
def test_words_that_a_checkpoint_declares_special_stay_in_answers(
    key: str, trained_pair: Path, copy_of: CopyOf
) -> None:
    prompts = [row.prompt for row in read_prompts(trained_pair / "evaluation.jsonl")[:4]]
    expected = [answer.text for answer in answers(trained_pair / "reference", prompts)]
    assert all(text.startswith("I cannot") for text in expected)
    folder = copy_of(trained_pair / "reference")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: "I" if key == "unk_token" else ["I"]}))
    assert [answer.text for answer in answers(folder, prompts)] == expected


def test_sets_keep_their_order_and_limits(trained_pair: Path) -> None:
    folder = trained_pair / "reference"
    sets = {
        "short": [single_turn(prompt) for prompt in PROMPTS],
        "long": [single_turn(prompt) for prompt in MANY],
        "none": [],
    }
    reports: list[Progress] = []
    results = generate(
        GenerationRequest(Model(folder), sets, {"short": 2, "long": 12, "none": 64}, batch_size=5), reports.append
    )
    tokens = 2 * len(PROMPTS) + 12 * len(MANY)
    assert reports[-1] == Progress("answers", tokens, tokens)
    assert results.answers["none"] == []
    tokenizer = load_tokenizer(Model(folder))
    full = answers(folder, MANY)
    assert [answer.text for answer in results.answers["long"]] == [answer.text for answer in full]
    for prompt, answer in zip(PROMPTS, results.answers["short"], strict=True):
        (full_answer,) = answers(folder, [prompt])
        assert full_answer.text.startswith(answer.text)
        assert len(tokenizer(answer.text)["input_ids"]) <= 2


def test_samples_are_adjacent_and_repeat_with_their_seed(tiny_llama: Path) -> None:
    folder = tiny_llama
    results = answers(folder, PROMPTS, samples=3, seed=5)
    assert len(results) == 3 * len(PROMPTS)
    assert results == answers(folder, PROMPTS, samples=3, seed=5)
    assert results != answers(folder, PROMPTS, samples=3, seed=6)
    assert len({answer.text for answer in results[:3]}) > 1
    # Samples of a prompt are adjacent, and do not depend on the order of the prompts.
    backwards = answers(folder, PROMPTS[::-1], samples=3, seed=5)
    assert [backwards[3 * at : 3 * at + 3] for at in (3, 2, 1, 0)] == [results[3 * at : 3 * at + 3] for at in range(4)]


def test_request_can_contain_the_start_of_the_answer(tiny_llama: Path) -> None:
    started = [Message("user", "Hi"), Message("assistant", "Yes")]
    model = Model(tiny_llama)
    tokenizer = load_tokenizer(model)
    assert render_exchange(tokenizer, "Hi", "Yes").endswith("Yes<|end|>")
    results = generate(GenerationRequest(model, {"all": [started]}, {"all": 4}, add_generation_prompt=False))
    assert len(results.answers["all"]) == 1


def test_measured_batch_size_is_stored_for_the_model_and_used_again(
    trained_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile model must not choose the batch size of another."""
    store = AnswerStore(tmp_path)
    first = generate(request(trained_pair / "reference", MANY, batch_size=None), store=store).plan
    assert 8 <= first.batch_size <= 64
    monkeypatch.setattr(decoding, "time_step", None)
    others = [f"{prompt}!" for prompt in MANY]
    assert generate(request(trained_pair / "reference", others, batch_size=None), store=store).plan == first
    with pytest.raises(TypeError):
        generate(request(trained_pair / "merged", MANY, batch_size=None), store=store)
    few = generate(request(trained_pair / "reference", PROMPTS, batch_size=None)).plan
    assert few.batch_size == MIN_BATCH
    requested = generate(request(trained_pair / "reference", MANY, batch_size=3)).plan
    assert requested.batch_size == 3


def test_cached_answers_are_not_computed_again(
    trained_pair: Path, copy_of: CopyOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = copy_of(trained_pair / "reference"), tmp_path / "store"

    def generate_cached(samples: int) -> GenerationResult:
        return generate(request(folder, MANY, batch_size=None, samples=samples), store=AnswerStore(store))

    results = {}
    for samples in (1, 2):
        results[samples] = generate_cached(samples)
        assert results[samples].answers == generate(request(folder, MANY, samples=samples)).answers
    files = {path: path.read_bytes() for path in store.rglob("*.json")}
    monkeypatch.setattr(loading, "load_cached_model", None)  # the weights are not read either
    assert {samples: generate_cached(samples) for samples in (1, 2)} == results
    assert {path: path.read_bytes() for path in store.rglob("*.json")} == files


def test_other_weights_prompts_or_samples_are_cached_separately(
    trained_pair: Path, copy_of: CopyOf, tmp_path: Path
) -> None:
    folder, store = copy_of(trained_pair / "reference"), tmp_path / "store"

    def entries() -> int:
        return len(list(store.rglob("*.json")))

    def generate_cached(prompts: list[str], samples: int = 1, seed: int = 0) -> None:
        generate(request(folder, prompts, samples=samples, seed=seed), store=AnswerStore(store))

    generate_cached(PROMPTS)
    assert entries() == 1
    model = model_fingerprint(Model(folder))
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_fingerprint(Model(folder)) != model
    generate_cached(PROMPTS)
    assert entries() == 2
    generate_cached(PROMPTS[:3])
    assert entries() == 3
    generate_cached(PROMPTS, samples=2)
    generate_cached(PROMPTS, samples=2, seed=1)
    assert entries() == 5
    assert model_fingerprint(Model(folder, trained_pair / "adapter")) != model_fingerprint(Model(folder))


OPENED: list[str] | None = None
"""The paths that were opened while it is a list. An audit hook cannot be removed."""


def record_open(event: str, arguments: tuple[object, ...]) -> None:
    if OPENED is not None and event == "open" and isinstance(arguments[0], str | bytes | Path):
        OPENED.append(os.fsdecode(arguments[0]))


def test_every_file_that_a_loader_opens_has_a_fingerprint(
    trained_pair: Path, copy_of: CopyOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders hold files of every name that loaders look for, and one whose name is only in an index."""
    folder = write_sharded(trained_pair / "reference", tmp_path / "model", "NOTICE.safetensors")
    model = Model(folder, copy_of(trained_pair / "adapter"))
    assert model.adapter is not None
    for folder in (model.folder, model.adapter):
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
        for name in ("sentencepiece.bpe.model", "special_tokens_map.json", "chat_template.json"):
            (folder / name).write_text("{}")
    sys.addaudithook(record_open)
    monkeypatch.setattr(sys.modules[__name__], "OPENED", [])
    load_tokenizer(model)
    load_model(model, merge=True)
    folders = (str(model.folder), str(model.adapter))
    opened = {Path(path) for path in OPENED or [] if path.startswith(folders)}
    monkeypatch.undo()
    assert {model.folder / "config.json", model.adapter / "additional_chat_templates" / "tools.jinja"} <= opened
    before = model_fingerprint(model)
    for path in [*opened, model.folder / "NOTICE.safetensors", model.adapter / "adapter_model.safetensors"]:
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert model_fingerprint(model) != before, path
        path.write_bytes(content)
        assert model_fingerprint(model) == before


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_failure_leaves_the_answers_so_far(
    kind: type[BaseException], trained_pair: Path, copy_of: CopyOf, tmp_path: Path
) -> None:
    folder, store = copy_of(trained_pair / "reference"), tmp_path / "store"

    def fail(progress: Progress) -> None:
        if progress.done >= 16 * 12:
            raise kind("the report failed")

    with pytest.raises(kind, match="failed"):
        generate(request(folder, MANY), fail, AnswerStore(store))
    assert len(list(store.rglob("*.json"))) == 2
    assert generate(request(folder, MANY), store=AnswerStore(store)) == generate(request(folder, MANY))


LIMITED_PROGRAM = """
import resource, sys
from pathlib import Path
from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.errors import InfrastructureError
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import Model
from tests.builders import generate
def answer(words, batch_size=None):
    sets = {"all": [single_turn("word " * words)] * 2}
    request = GenerationRequest(Model(Path(sys.argv[1])), sets, {"all": 1}, batch_size=batch_size)
    return generate(request).plan.batch_size
assert answer(1) == 16  # loads the weights
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), resource.RLIM_INFINITY))
for batch_size in (None, 2):
    try:
        answer(40_000, batch_size)
    except InfrastructureError as error:
        print(error.what)
"""


def test_stored_batch_size_that_no_longer_fits_is_replaced(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_within_limit, limit_of_tokens = decoding.generate_tokens, 3000

    def generate_tokens(network: Any, rows: Any, limit: int, *others: Any, **named: Any) -> list[list[int]]:  # noqa: ANN401
        if len(rows) * (max(map(len, rows)) + limit) > limit_of_tokens:
            raise torch.OutOfMemoryError
        return generate_within_limit(network, rows, limit, *others, **named)

    def choose_size(words: int) -> int:
        prompts = [f"{number:02} " + "x " * words for number in range(32)]
        return generate(request(tiny_llama, prompts, batch_size=None), store=AnswerStore(tmp_path)).plan.batch_size

    monkeypatch.setattr(decoding, "generate_tokens", generate_tokens)
    monkeypatch.setattr(decoding, "time_step", lambda *_: 1.0)  # larger is always faster
    assert choose_size(23) == 32
    assert choose_size(45) == 16
    monkeypatch.setattr(decoding, "generate_tokens", None)
    assert choose_size(45) == 16


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_exhausted_memory_is_reported_with_the_model_s_name(tiny_llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED_PROGRAM, str(tiny_llama)],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.stdout.splitlines() == [
        f"{tiny_llama.name}, even one prompt at a time, does not fit into this machine's memory",
        f"{tiny_llama.name} in batches of 2 does not fit into this machine's memory",
    ], done.stderr


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{ raise_exception('no') }}", ConfigurationError),
        ("{{ 'x' * 10**7 }}", UnsafeCheckpoint),
        ("", ConfigurationError),
    ],
)
def test_bad_template_is_refused_before_weights_are_read(
    tiny_llama: Path, copy_of: CopyOf, template: str, kind: type[Exception]
) -> None:
    folder = copy_of(tiny_llama)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "model.safetensors").unlink()
    with pytest.raises(kind, match="chat template"):
        answers(folder, PROMPTS)


def test_model_without_a_chat_template_gets_a_plain_one(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    assert not generate(request(folder, ["Hi"])).plan.plain_template
    (folder / "chat_template.jinja").unlink()
    results = generate(request(folder, ["Hi"]))
    assert len(results.answers["all"]) == 1
    assert results.plan.plain_template
