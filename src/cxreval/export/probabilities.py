"""Turns what a network returns into one tensor of probabilities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cxreval.errors import ModelOutputMismatch
from cxreval.preprocessing import Activation


class Probabilities(nn.Module):
    """Wraps a network so that it returns probabilities of some of its columns, in a given order.

    With `thresholds` (columns,), TorchXRayVision's operating points, each probability is rescaled
    so that its operating point becomes 0.5, as the library does: `p / 2t` below it, and `1 - (1 -
    p) / 2(1 - t)` above.
    """

    columns: torch.Tensor
    thresholds: torch.Tensor | None

    def __init__(
        self,
        network: nn.Module,
        columns: Sequence[int],
        activation: Activation = Activation.SIGMOID,
        thresholds: torch.Tensor | None = None,
        output: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.activation = activation
        self.output = output
        self.register_buffer("columns", torch.tensor(list(columns)))
        self.register_buffer("thresholds", thresholds)
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps a batch of images to (N, columns) probabilities."""
        answer = selected(self.network(pixels), self.output)
        if self.activation is Activation.SOFTMAX_POSITIVE:
            answer = answer.reshape(answer.shape[0], -1, 2).softmax(-1)[:, :, 1]
        elif self.activation is Activation.SIGMOID:
            answer = torch.sigmoid(answer)
        probabilities = answer.index_select(1, self.columns)
        if self.thresholds is None:
            return probabilities
        below = probabilities / (self.thresholds * 2)
        above = 1.0 - (1.0 - probabilities) / ((1 - self.thresholds) * 2)
        return torch.where(probabilities < self.thresholds, below, above)


def selected(answer: Any, output: str) -> torch.Tensor:
    """Returns the output of a network that `output` names: a key of its dict, or a position.

    Raises `ModelOutputMismatch` if there is no such tensor, or several and none is named.
    """
    if isinstance(answer, torch.Tensor):
        return answer
    outputs = _by_name(answer)
    tensors = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    if output in tensors:
        return tensors[output]
    if len(tensors) == 1 and not output:
        return next(iter(tensors.values()))
    expected = f"outputs.tensor, one of {', '.join(tensors)}" if tensors else "a tensor"
    raise ModelOutputMismatch(
        f"the network returns {len(tensors)} tensors; expected {expected}",
        field="outputs.tensor",
        expected=expected,
    )


def _by_name(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        names = {str(key)[:100]: value for key, value in answer.items()}
        return {name: value for name, value in names.items() if re.fullmatch(r"[\w.:/-]+", name)}
    if isinstance(answer, tuple | list):
        return {str(position): value for position, value in enumerate(answer)}
    return {}
