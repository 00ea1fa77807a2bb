"""What the worker asks of the converter in the sandbox, and its limits.

This module does not import PyTorch, so that the worker does not either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cxreval.manifest.model import CheckpointFormat
from cxreval.preprocessing import Activation

TOLERANCE = 1e-4
"""Largest accepted absolute difference of two probabilities of the ONNX file and of PyTorch.

Two correct programs differ by the rounding of float32, which grows with the depth of a network.
"""

MAX_CPU_SECONDS = 180
"""Limit of the processor time of a conversion."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to convert a file to.

    `outputs` has the name of each column that the network returns, or nothing if the architecture
    names its own; empty names are left out of the ONNX file.
    """

    format: CheckpointFormat
    architecture: str = ""
    outputs: tuple[str, ...] = ()
    activation: Activation = Activation.NONE
    tensor: str = ""

    def to_json(self) -> str:
        """Returns the request as one argument of a command."""
        return json.dumps(
            [self.format, self.architecture, self.outputs, self.activation, self.tensor]
        )

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Returns the request that `to_json` wrote."""
        form, architecture, outputs, activation, tensor = json.loads(text)
        return cls(
            CheckpointFormat(form), architecture, tuple(outputs), Activation(activation), tensor
        )
