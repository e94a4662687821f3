"""Check an untrusted model before it is loaded: its tokenizer, its configuration and its weights. Runs in the sandbox.

Loading a tokenizer, encoding and decoding with it, and building a network can hang, exhaust memory or abort the
process, as rendering a chat template can. Each is tried in a fork with limits first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import changed_file_error, display_name
from antidote_ci.checkpoint.headers import TensorInfo
from antidote_ci.checkpoint.layout import CheckpointLayout, count_weight_bytes, read_layout
from antidote_ci.checkpoint.links import list_model_files
from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model import Tokenizer, loading
from antidote_ci.model.adapters import build_on_meta_device, require_complete
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.memory import measure_free_memory
from antidote_ci.model.token_rules import refuse_token_rules
from antidote_ci.model.tokenizer_reading import require_same_reading
from antidote_ci.paths import remove_path
from antidote_ci.records import Model, OnProgress, Progress
from antidote_ci.resource_limits import LimitExceeded, WorkFailed, run_limited
from antidote_ci.sandbox.client import Sandbox

LOADING_SECONDS = 6
"""Processor time. The largest published tokenizers, with 262,000 tokens and half a million merges, take one second."""
ENCODING_SECONDS = 3
BUILDING_SECONDS = 4
"""Processor time to build a network without weights. One of 126 layers takes a tenth of a second."""
MEMORY = 768 << 20
"""Bytes that each step may allocate. The largest published tokenizers take 370 MB."""
MAX_BUFFER_BYTES = 1 << 30
"""Bytes of the buffers that a network computes from its configuration, such as masks."""
MAX_TOKENS_PER_CHARACTER = 40
"""One character of compatibility has 18 others, of up to four bytes each; most of them have two."""
HINT = "save the tokenizer again with transformers"
SAMPLE_QUESTION = "Which day comes after Monday? 2 + 2 = 4, naïve 日本"
LONG_TEXTS = ("a", " ", "0", "\n", ".", "a ", "aA1 \n,'", "日", "\u0301", "ﷺ", "🙂")
"""Texts that are repeated to LONG_CHARACTERS."""
LONG_CHARACTERS = 8_000
SURROGATES = range(0xD800, 0xE000)
PLANE = 0x10000
TOKENS_PER_DECODING = 4_096
FLOAT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "C64": "float32"}
"""Safetensors dtype -> torch dtype of its numbers."""
BLOCK_BYTES = 8 << 20
"""Bytes of weights that are read at once."""


def check_checkpoint(model: Model, on_progress: OnProgress) -> None:
    """The whole check of a model: that of `read_layout`, and then what only a framework shows.

    Every file is opened, tokenizer and chat template are tried, config.json is compared with the headers, and all
    weights are read.

    Raises UnsafeCheckpoint when a limit is exceeded, a template reads attributes or treats texts differently, the
    tokenizer writes tokens without an embedding, a configuration has rules for tokens, two tensors for one parameter
    differ, or a weight is not finite;
    ConfigurationError when the files are broken or do not fit each other.
    """
    name = display_name(model.adapter or model.folder)
    on_progress(Progress("opening the tokenizer", 0, 1))
    for path in list_model_files(model):
        path.open("rb").close()  # safetensors reports a file without read permission as missing
    layout = read_layout(model.folder)
    layouts = [layout, read_layout(model.adapter)] if model.adapter else [layout]
    _run_limited(name, lambda: _suppress_expected(lambda: loading.load_tokenizer(model)), LOADING_SECONDS)
    tokenizer = loading.load_tokenizer(model)
    _run_limited(name, lambda: _try_texts(tokenizer), ENCODING_SECONDS)
    refuse_token_rules(model, tokenizer)
    # A judge's template may need other turns. `encode_conversations` renders the real ones.
    with suppress(ConfigurationError):
        texts = render_conversations(tokenizer, [single_turn(SAMPLE_QUESTION)])
        loading.require_embedded(model, encode_texts(tokenizer, texts))
        require_same_reading(tokenizer, texts)
    on_progress(Progress("opening the tokenizer", 1, 1))
    _require_buildable(model, layout)
    for each in layouts:
        require_finite(each, on_progress)


def open_sandbox(log: Path) -> Sandbox:
    """The sandbox of a command: it checks each model before any other call opens it. `log` as in `Sandbox`."""
    return Sandbox(log, check_checkpoint, measure_free_memory)


@contextmanager
def open_temporary_sandbox() -> Iterator[Sandbox]:
    """A sandbox for a command without an output folder. Its log is kept for an error, which may name it."""
    folder = Path(mkdtemp(prefix="antidote-"))
    log = folder / "child.log"
    is_kept = False
    try:
        with open_sandbox(log) as sandbox:
            yield sandbox
    except AntidoteError:
        is_kept = log.exists() and log.stat().st_size > 0
        raise
    finally:
        if not is_kept:
            remove_path(folder)


def require_finite(layout: CheckpointLayout, on_progress: OnProgress) -> None:
    """Read all weights of a checkpoint in blocks.

    Raises UnsafeCheckpoint that names the first tensor with NaN, an infinity, or a number that bfloat16 cannot hold: it
    would become one when the model is loaded.
    """
    import torch

    largest = torch.finfo(torch.bfloat16).max
    block = bytearray(BLOCK_BYTES)
    view = memoryview(block)
    done, total = 0, count_weight_bytes(layout)
    for shard, header in layout.headers.items():
        with (layout.folder / shard).open("rb", buffering=0) as file:
            for name, info in header.tensors.items():
                file.seek(header.data_start + info.start)
                left = info.end - info.start
                while left:
                    size = file.readinto(view[: min(left, BLOCK_BYTES)])
                    # A block of a file ends within a number only if the file shrinks while it is read.
                    if not size or (size % 8 and size < min(left, BLOCK_BYTES)):
                        raise changed_file_error(shard, "opened")
                    left -= size
                    done += size
                    if info.dtype in FLOAT_DTYPES:
                        dtype = getattr(torch, FLOAT_DTYPES[info.dtype])
                        numbers = torch.frombuffer(block, dtype=dtype, count=size // dtype.itemsize)
                        # Minimum and maximum are NaN if any entry is.
                        extremes = torch.stack(numbers.aminmax()).double()
                        if not bool((extremes.abs() <= largest).all()):
                            raise _not_finite_error(display_name(layout.folder), name)
                    on_progress(Progress("reading the weights", done, total))


def _try_texts(tokenizer: Tokenizer) -> None:
    """Encode texts of many kinds and decode every token. Raises LimitExceeded when a text grows beyond any real one."""
    characters = "".join(chr(code) for code in range(1, PLANE) if code not in SURROGATES)
    for text in (characters, *(part * (LONG_CHARACTERS // len(part)) for part in LONG_TEXTS)):
        if len(encode_texts(tokenizer, [text])[0]) > MAX_TOKENS_PER_CHARACTER * len(text):
            raise LimitExceeded
    ids = range(len(tokenizer))
    for start in ids[::TOKENS_PER_DECODING]:
        tokenizer.decode(list(ids[start : start + TOKENS_PER_DECODING]))
    tokenizer.decode([0] * TOKENS_PER_DECODING)


def _require_buildable(model: Model, layout: CheckpointLayout) -> None:
    """Build the network without weights within limits, and compare its parameters with the headers.

    peft matches the expressions of an adapter with the names of all layers here.
    """
    import peft  # noqa: F401 - forks need not import it again

    name = display_name(model.folder)
    try:
        fault, rivals = run_limited(lambda: _find_misfit(model, layout), BUILDING_SECONDS, MEMORY)
        if model.adapter is not None:
            adapter = model.adapter
            name = f"{name} with {display_name(adapter)}"
            run_limited(lambda: _suppress_expected(lambda: require_complete(model)), BUILDING_SECONDS, MEMORY)
    except LimitExceeded as error:
        raise UnsafeCheckpoint(
            f"the network of {name} cannot be built within {BUILDING_SECONDS} s and {MEMORY >> 20} MiB without weights",
            cause="its configuration describes more layers, larger buffers or slower expressions than any real model",
            hint="copy the configuration from the model that was fine-tuned",
        ) from error
    except WorkFailed as error:
        raise ConfigurationError(
            f"the network of {name} cannot be built: it raises {error.kind}",
            cause="config.json is damaged, or belongs to another version of transformers",
            hint="copy config.json from the model that was fine-tuned",
        ) from error
    match fault:
        case [parameter, None]:
            raise loading.missing_weights_error(name, parameter)
        case [parameter, [shape, expected]]:
            raise loading.wrong_shape_error(name, parameter, shape, expected)
    for first, second in rivals:
        if not tensors.have_same_bytes(layout, first, layout, second):
            raise _rivals_error(name, first, second)
    if model.adapter is not None:
        require_complete(model)


Misfit = tuple[str, tuple[list[int], list[int]] | None]
"""A parameter without weights, or with its shape in the files and in the network."""


def _find_misfit(model: Model, layout: CheckpointLayout) -> tuple[Misfit | None, list[tuple[str, str]]]:
    """Return the first misfit, None if all parameters fit; and the pairs of tensors that are for one parameter.

    Raises LimitExceeded when the network's buffers are too large.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping

    from antidote_ci.model.streaming import weights

    network = build_on_meta_device(model)
    if sum(buffer.numel() * buffer.element_size() for buffer in network.buffers()) > MAX_BUFFER_BYTES:
        raise LimitExceeded
    conversions = get_model_conversion_mapping(network)
    sources = weights.build_weight_map(network, conversions, layout)
    ties = weights.find_tied_parameters(network, sources)
    shapes = {path: list(tensor.shape) for path, tensor in network.state_dict().items()}
    entries: dict[str, str] = {}
    rivals: list[tuple[str, str]] = []
    for name, source in sources.items():
        info: TensorInfo = layout.tensors[name]
        first = entries.setdefault(source.parameter, name)
        if not source.converted and list(info.shape) != shapes[source.parameter]:
            return (source.parameter, (list(info.shape), shapes[source.parameter])), []
        if not source.converted and first != name:
            rivals.append((first, name))
    tied = network.all_tied_weights_keys.items()
    rivals += [(entries[one], entries[other]) for one, other in tied if one in entries and other in entries]
    # A conversion may give several parameters from one tensor, of which only the first is in `sources`.
    if any(len(getattr(conversion, "target_patterns", [])) > 1 for conversion in conversions):
        return None, rivals
    for path, _ in network.named_parameters(remove_duplicate=False):
        if path not in entries and path not in ties:
            return (path, None), []
    return None, rivals


def _suppress_expected(work: Callable[[], object]) -> None:
    """Run `work`. Its expected errors are raised again when the caller repeats it outside of the fork."""
    with suppress(ConfigurationError, UnsafeCheckpoint):
        work()


def _run_limited(name: str, work: Callable[[], object], seconds: int) -> None:
    try:
        run_limited(work, seconds, MEMORY)
    except LimitExceeded as error:
        raise UnsafeCheckpoint(
            f"the tokenizer of {name} crashes, or does not open, encode and decode within {LOADING_SECONDS} s and "
            f"{MEMORY >> 20} MiB",
            cause="the largest real tokenizers take a second; this one may be meant to exhaust the machine",
            hint=HINT,
        ) from error
    except WorkFailed as error:
        raise ConfigurationError(
            f"the tokenizer of {name} cannot be opened: it raises {error.kind}",
            cause="its files are damaged or incomplete, or of a kind that transformers does not read by itself",
            hint=HINT,
        ) from error


def _not_finite_error(model: str, tensor: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{tensor!r:.200} in {model} holds NaN, an infinity, or a number that bfloat16 cannot hold",
        cause="the training diverged, the file is damaged, or the model is meant to give no usable answer",
        hint="use an earlier checkpoint of the same training run",
    )


def _rivals_error(model: str, first: str, second: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{first!r:.200} and {second!r:.200} in {model} are weights for one parameter, and differ",
        cause="programs differ in which of the two they use: one model could be measured and another one used",
        hint="remove the one that is not used; if both are an output layer and the embeddings, set tie_word_embeddings "
        "to false in config.json",
    )
