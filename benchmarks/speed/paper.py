"""The procedure of the paper's code, in our own plain words: what it costs to make one mask the way it does.

https://github.com/git-disl/Antidote, read at 26e2ade: samples one at a time; every block runs twice, once to gather
the norms of its inputs and once to hand its outputs on; every row is sorted whole; masks are float32. Its own act is on
the factors of an adapter; here it is on merged weights, as ours is.
"""

from collections.abc import Sequence
from typing import Any

import torch


class _Entrance(Exception):
    """Ends a forward at the first block."""


def masks(network: Any, rows: Sequence[torch.Tensor], dose: float) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """1.0 where an entry goes, by module name. `rows` are token ids [1, tokens]."""
    hidden, keywords = _entered(network, rows)
    found = {}
    for number, block in enumerate(network.model.layers):
        linears = {name: module for name, module in block.named_modules() if isinstance(module, torch.nn.Linear)}
        norms = {name: torch.zeros(module.in_features) for name, module in linears.items()}
        handles = [module.register_forward_hook(_add(norms, name, len(rows))) for name, module in linears.items()]
        for at, given in enumerate(hidden):
            block(given, **keywords[at])
        for handle in handles:
            handle.remove()
        for name, module in linears.items():
            score = module.weight.abs().float() * norms[name].sqrt().reshape(1, -1)
            order = torch.sort(score, dim=-1, stable=True)[1]
            mask = torch.ones_like(score)
            mask.scatter_(1, order[:, : int(score.shape[1] * (1 - dose))], 0.0)
            found[f"model.layers.{number}.{name}"] = mask
        hidden = [block(given, **keywords[at]) for at, given in enumerate(hidden)]
    return found


def _add(norms: dict[str, torch.Tensor], name: str, samples: int) -> Any:  # noqa: ANN401
    def hook(_module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:  # noqa: ANN401
        norms[name] += inputs[0].float().reshape(-1, inputs[0].shape[-1]).norm(p=2, dim=0) ** 2 / samples

    return hook


def _entered(network: Any, rows: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:  # noqa: ANN401
    first = network.model.layers[0]
    hidden, keywords = [], []

    def catch(_module: Any, arguments: tuple[Any, ...], given: dict[str, Any]) -> None:  # noqa: ANN401
        hidden.append(arguments[0])
        keywords.append(given)
        raise _Entrance

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    for row in rows:
        try:
            network(row, use_cache=False)
        except _Entrance:
            continue
    handle.remove()
    return hidden, keywords
