"""Load models and tokenizers from checked files, and merge adapters. Runs in the sandbox process only."""

import functools
import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.links import FileState, list_states
from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.model import DType, Network, Tensor, Tokenizer
from antidote_ci.model.adapters import merge_adapter, require_same_copies
from antidote_ci.records import Model

SHARE_FOR_WEIGHTS = 0.8
"""The share of a GPU's free memory that weights may take: activations and the key-value cache need the rest."""
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""Used when a model has no chat template. The report says so."""
PLAIN_TEMPLATES = (PLAIN_TEMPLATE, "{{ bos_token }}" + PLAIN_TEMPLATE)
"""The second is for tokenizers that put a token at the beginning of every text, as in training."""


def select_device_and_dtype() -> tuple[str, DType]:
    """A GPU or the CPU; in bfloat16 if it has instructions for it, else in float32.

    GPUs before Ampere, such as T4 and V100, emulate bfloat16 and compute natively in float16, whose largest number,
    65,504, the activations of a model that was trained in bfloat16 can exceed.
    """
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "cpu", torch.bfloat16 if native else torch.float32


def describe_gpu() -> str:
    """Name, compute capability and CUDA or ROCm version of the GPU; empty without one."""
    import torch

    if not torch.cuda.is_available():
        return ""
    count, (major, minor) = torch.cuda.device_count(), torch.cuda.get_device_capability()
    platform = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return f"{count} x {torch.cuda.get_device_name()}, compute capability {major}.{minor}, {platform}"


def load_tokenizer(model: Model) -> Tokenizer:
    """The tokenizer of the adapter if its folder has one, else that of the base. It pads on the left."""
    from transformers import AutoTokenizer

    folder = model.folder
    if model.adapter is not None and (model.adapter / "tokenizer_config.json").exists():
        folder = model.adapter
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ConfigurationError(
            f"the tokenizer in {display_name(folder)} has neither a padding token nor an end token",
            hint="add eos_token to its tokenizer_config.json",
        )
    if tokenizer.chat_template is None:
        adds_bos = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = PLAIN_TEMPLATES[adds_bos]
    return tokenizer


def load_model(model: Model, *, merge: bool) -> Network:
    """The causal language model in evaluation mode, on its device.

    With `merge` an adapter is added to the weights, in float32 before the cast, so that generation costs as much as
    with the full model. Without it the factors A and B stay separate modules. Raises the errors of
    `require_same_copies`, ConfigurationError when weights are missing or have other shapes than config.json says, and
    InfrastructureError when memory runs out.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model.require_unedited()
    release_models()  # two models may not fit into memory
    device, dtype = select_device_and_dtype()
    merging = merge and model.adapter is not None
    if device == "cuda":
        use_deterministic_kernels()
    with explain_out_of_memory(model):
        network, loaded = AutoModelForCausalLM.from_pretrained(
            model.folder,
            dtype=dtype_before_merge(model.folder, dtype) if merging else dtype,
            device_map=_choose_device_map(model, device, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # checked below, with an error that names the parameter
        )
        if loaded["mismatched_keys"]:
            raise wrong_shape_error(display_name(model.folder), *min(loaded["mismatched_keys"]))
        if loaded["missing_keys"]:
            raise missing_weights_error(display_name(model.folder), min(loaded["missing_keys"]))
        if model.adapter is not None:
            require_same_copies(read_layout(model.adapter), network.get_parameter)
            network = merge_adapter(network, model.adapter, dtype) if merging else _attach(network, model.adapter)
            for name, parameter in network.named_parameters():
                # Not `network.to(dtype)`: it would round the buffers with the rotary frequencies as well.
                parameter.data = parameter.data.to(dtype)
                if merging and not bool(torch.isfinite(parameter.data).all()):
                    raise overflow_error(model, name)
        return make_head_contiguous(network.eval())


def _choose_device_map(model: Model, device: str, dtype: DType) -> str | dict[str, str] | None:
    """None for the CPU; all layers on `device`, or spread over the GPUs if the first is too small for the weights.

    Raises InfrastructureError when all GPUs together are too small: transformers would put layers on the disk.
    """
    import torch

    if device == "cpu":
        return None
    if torch.cuda.device_count() > 1:
        weights = read_layout(model.folder).entries * dtype.itemsize
        free = [torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())]
        if weights > SHARE_FOR_WEIGHTS * sum(free):
            raise out_of_memory_error(model)
        if weights > SHARE_FOR_WEIGHTS * free[0]:
            return "auto"
    return {"": device}


def use_deterministic_kernels() -> None:
    """Let torch use kernels on a GPU whose results do not vary, where it has them; else it warns in the log."""
    import torch

    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    # This costs time, and only helps to find uses of such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def dtype_before_merge(folder: Path, dtype: DType) -> DType:
    """The dtype of the base's weights if it takes no more memory than `dtype`, in which the model runs; else float32.

    An adapter is added to the stored weights, not to rounded ones.
    """
    import torch

    stored = {info.dtype for info in read_layout(folder).tensors.values()}
    if dtype.itemsize < torch.float32.itemsize and stored in ({"BF16"}, {"F16"}):
        return torch.bfloat16 if stored == {"BF16"} else torch.float16
    return torch.float32


def _attach(network: Network, adapter: Path) -> Network:
    from peft import PeftModel

    return PeftModel.from_pretrained(network, adapter, local_files_only=True)


def make_head_contiguous(network: Network) -> Network:
    """`network` with a hook that makes the inputs of its output layer contiguous.

    The last columns of a batch are a view with gaps, for which the CPU kernel copies the layer's weights once per row.
    """

    def contiguous(_head: Network, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return inputs[0].contiguous(), *inputs[1:]

    network.get_output_embeddings().register_forward_pre_hook(contiguous)
    return network


_cached_model: dict[tuple[FileState, ...], Network] = {}


def load_cached_model(model: Model) -> Network:
    """The merged model, which stays in memory until another one is loaded: a run uses the same one several times."""
    model.require_unedited()
    key = _list_states(model)
    if key not in _cached_model:
        network = load_model(model, merge=True)
        _cached_model[key] = network
    return _cached_model[key]


def is_cached(model: Model) -> bool:
    """Whether `load_cached_model` returns the model without loading it."""
    return _list_states(model) in _cached_model


def release_models() -> None:
    """Forget the cached model, and return the memory that torch keeps on a GPU for later use."""
    import torch

    if _cached_model:
        _cached_model.clear()
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_cached_tokenizer(model: Model) -> Tokenizer:
    """The tokenizer, which stays in memory until its files change."""
    return _load_cached_tokenizer(model, _list_states(model))


@functools.lru_cache(maxsize=1)
def _load_cached_tokenizer(model: Model, _states: tuple[FileState, ...]) -> Tokenizer:
    return load_tokenizer(model)


def _list_states(model: Model) -> tuple[FileState, ...]:
    return list_states(model.folder) + (list_states(model.adapter) if model.adapter else ())


def require_embedded(model: Model, rows: Iterable[Sequence[int]]) -> None:
    """Raise UnsafeCheckpoint for a token id without a row of the embedding."""
    embedded = read_layout(model.folder).embedding_rows
    highest = max((max(row, default=0) for row in rows), default=0)
    if embedded is not None and highest >= embedded:
        raise UnsafeCheckpoint(
            f"the tokenizer of {display_name(model.adapter or model.folder)} writes token {highest:,}, and the model's "
            f"embeddings have {embedded:,} rows",
            cause="the tokenizer and the weights belong to different models",
            hint="save the model and its tokenizer together",
        )


def overflow_error(model: Model, parameter: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{parameter!r:.200} of {display_name(model.adapter or model.folder)} overflows when the adapter is merged",
        cause="its factors or lora_alpha are too large, so the model can give no usable answer",
        hint="train the adapter again, or use an earlier checkpoint",
    )


def missing_weights_error(model: str, parameter: str) -> ConfigurationError:
    """The checkpoint lacks a parameter, which transformers would fill with random numbers."""
    return ConfigurationError(
        f"{model} has no weights for {parameter}",
        cause="the checkpoint is incomplete, or config.json describes another architecture",
        hint="save the checkpoint again with transformers",
    )


def wrong_shape_error(model: str, parameter: str, shape: Sequence[int], expected: Sequence[int]) -> ConfigurationError:
    """A parameter does not match config.json, and transformers would fill it with random numbers."""
    return ConfigurationError(
        f"{parameter} in {model} has shape {list(shape)}, and config.json says {list(expected)}",
        cause="config.json belongs to another model",
        hint="save the checkpoint again with transformers",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the memory of the CPU or of the GPU is exhausted."""
    import torch

    message = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("allocate memory" in message or "not enough memory" in message)
    )


@contextmanager
def explain_out_of_memory(model: Model, detail: str = "") -> Iterator[None]:
    """Raise InfrastructureError that names `model` and `detail` when memory runs out in the context."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(model, detail) from error


def out_of_memory_error(model: Model, detail: str = "") -> InfrastructureError:
    """The error for a model that does not fit into memory."""
    return InfrastructureError(
        f"{display_name(model.folder)}{detail} does not fit into this machine's memory",
        cause="memory must hold the weights, and the longest prompts with their answers",
        hint="use a machine or GPU with more memory, shorter prompts, or a smaller max_new_tokens",
    )


def detect_instruction_set() -> str:
    """The processor's vector extensions, on which the last bits of results depend.

    The width of the vectors is not enough: processors with the same width may or may not multiply bfloat16 natively.
    """
    import torch

    capabilities = torch.cpu.get_capabilities()
    bfloat16 = sorted(name for name, present in capabilities.items() if present and name.endswith("bf16"))
    return " ".join([torch.backends.cpu.get_cpu_capability(), *bfloat16])


def get_threads() -> int:
    """The number of threads that one tensor operation uses."""
    import torch

    return torch.get_num_threads()
