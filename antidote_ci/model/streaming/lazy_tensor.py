"""A tensor of a checkpoint that is read when it is needed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import CheckpointLayout
from antidote_ci.errors import ConfigurationError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LazyTensor:
    """The tensor `name` of the files of `layout`."""

    layout: CheckpointLayout
    name: str
    averaged_with: CheckpointLayout | None = None
    """Where it has the tensor in the same shape, what is read is the mean of the two."""

    def read(self) -> "torch.Tensor":
        """It in its own dtype. Raises ConfigurationError when it holds NaN or an infinity."""
        import torch

        tensor = tensors.read_tensor(self.layout, self.name)
        if self.averaged_with and self.name in self.averaged_with.tensors and tensor.is_floating_point():
            other = tensors.read_tensor(self.averaged_with, self.name)
            if other.shape == tensor.shape:
                tensor = ((tensor.float() + other.float()) / 2).to(tensor.dtype)
        # Both extremes are NaN where one entry is, and finding them is 30 times faster than asking every entry.
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ConfigurationError(
                f"{self.name} in {display_name(self.layout.folder)} holds NaN or infinite numbers",
                cause="the training diverged, or the file is damaged",
                hint="repair an earlier checkpoint of the same run",
            )
        return tensor

    def __getitem__(self, _everything: object) -> "torch.Tensor":
        # transformers' loader reads `slice[...]` of a file's tensor when its turn comes, and can be given this instead.
        return self.read()
