"""A cache of hidden states: in memory up to a budget, on disk beyond it."""

from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError

if TYPE_CHECKING:
    import torch


class ActivationCache:
    """Tensors by key. Those that exceed `budget` bytes are written to `folder`, bit for bit.

    The folder is created when it is needed; the caller removes it.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder, self._budget = folder, budget
        self._in_memory: dict[str, torch.Tensor] = {}
        self._on_disk: dict[str, tuple[torch.dtype, torch.Size]] = {}
        self._bytes_in_memory = 0
        self.peak_bytes = 0
        """The most bytes that were in memory at one time."""

    def put(self, key: str, tensor: "torch.Tensor") -> None:
        """Store `tensor`, replacing an earlier one. Raises InfrastructureError when it cannot be written to disk."""
        import torch

        self.drop(key)
        tensor = tensor.detach().cpu().contiguous()
        if self._bytes_in_memory + tensor.nbytes <= self._budget:
            self._in_memory[key] = tensor
            self._bytes_in_memory += tensor.nbytes
            self.peak_bytes = max(self.peak_bytes, self._bytes_in_memory)
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(key).write_bytes(tensor.reshape(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            raise InfrastructureError(
                f"hidden states could not be written to {self._folder}: {error.strerror}",
                hint="free disk space there, or keep more in memory with repair.activation_megabytes",
            ) from error
        self._on_disk[key] = (tensor.dtype, tensor.shape)

    def get(self, key: str) -> "torch.Tensor":
        """The tensor stored under `key`, on the CPU. Raises KeyError when there is none."""
        if key in self._in_memory:
            return self._in_memory[key]
        import torch

        dtype, shape = self._on_disk[key]
        tensor = torch.empty(shape, dtype=dtype)
        with self._path(key).open("rb") as file:
            file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return tensor

    def drop(self, key: str) -> None:
        """Remove the tensor stored under `key`, if any."""
        tensor = self._in_memory.pop(key, None)
        if tensor is not None:
            self._bytes_in_memory -= tensor.nbytes
        elif self._on_disk.pop(key, None) is not None:
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.hidden"
