"""Hidden states between two blocks: in memory up to a budget, beyond it on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError

if TYPE_CHECKING:
    import torch


class ActivationCache:
    """Tensors by name. What no longer fits into `budget` bytes is written to `folder`, bit for bit.

    The folder is made when it is needed; who named it removes it.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder, self._budget = folder, budget
        self._held: dict[str, torch.Tensor] = {}
        self._spilled: dict[str, tuple[torch.dtype, torch.Size]] = {}
        self._held_bytes = 0
        self.most_held = 0
        """Bytes in memory at most."""

    def put(self, key: str, tensor: "torch.Tensor") -> None:
        """Keep `tensor`, in place of what was kept under `key`. Raises InfrastructureError when the disk is full."""
        import torch

        self.drop(key)
        tensor = tensor.detach().cpu().contiguous()
        if self._held_bytes + tensor.nbytes <= self._budget:
            self._held[key] = tensor
            self._held_bytes += tensor.nbytes
            self.most_held = max(self.most_held, self._held_bytes)
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(key).write_bytes(tensor.reshape(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            raise InfrastructureError(
                f"hidden states could not be written to {self._folder}: {error.strerror}",
                hint="free space there, or let more of them stay in memory: repair.activation_megabytes",
            ) from error
        self._spilled[key] = (tensor.dtype, tensor.shape)

    def get(self, key: str) -> "torch.Tensor":
        """What was put under `key`, on the CPU. Raises KeyError when nothing was."""
        if key in self._held:
            return self._held[key]
        import torch

        dtype, shape = self._spilled[key]
        tensor = torch.empty(shape, dtype=dtype)
        with self._path(key).open("rb") as file:
            file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return tensor

    def drop(self, key: str) -> None:
        """Forget it, if it is kept at all."""
        held = self._held.pop(key, None)
        if held is not None:
            self._held_bytes -= held.nbytes
        elif self._spilled.pop(key, None) is not None:
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.hidden"
