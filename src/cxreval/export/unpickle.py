"""Opens a checkpoint; a program that runs only inside `cxreval.sandbox`.

`python -m cxreval.export.unpickle weights-only|whole FILE` writes the checkpoint's tensors to
standard output as safetensors, a format that cannot contain code. `whole` runs the code that the
pickle names.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

NEEDS_WHOLE = 3
"""Exit status of `weights-only` if the file contains more than plain containers of tensors."""

MAX_TENSOR_BYTES = 1024**3
"""Limit of the tensors' bytes; the seed systems have 28 to 98 MB."""

_MAX_ADDRESS_BYTES = 8 * 1024**3
_MAX_CPU_SECONDS = 100
_MAX_PROCESSES = 1024
_STATE_KEYS = ("state_dict", "model")
"""Keys under which training scripts store the network, beside the epoch and the optimizer."""


def main() -> None:
    """Opens the file named on the command line and writes its tensors.

    On failure it writes one line to standard error.
    """
    mode, file = sys.argv[1:]
    _limit_resources()
    stdout = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Libraries may print; only the tensors go to the original standard output.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        _convert(file, stdout, weights_only=mode == "weights-only")
    except Exception as error:  # noqa: BLE001 -- a pickle can raise anything
        sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())}\n")
        needs_whole = mode == "weights-only" and isinstance(error, pickle.UnpicklingError)
        sys.exit(NEEDS_WHOLE if needs_whole else 1)


def _limit_resources() -> None:
    """Sets hard limits, which a process without privileges cannot raise again."""
    limits = {
        resource.RLIMIT_AS: _MAX_ADDRESS_BYTES,
        resource.RLIMIT_CPU: _MAX_CPU_SECONDS,
        resource.RLIMIT_FSIZE: MAX_TENSOR_BYTES,
        resource.RLIMIT_NPROC: _MAX_PROCESSES,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (lowest, lowest))


def _convert(file: str, stdout: BinaryIO, *, weights_only: bool) -> None:
    import torch  # noqa: PLC0415 -- after the limits are set
    from safetensors.torch import save  # noqa: PLC0415

    if not weights_only:
        # Without it, torchvision cannot be imported with a CPU-only PyTorch.
        import cxreval.export.torch_libraries  # noqa: F401, PLC0415

    # Checkpoints written by Python 2 name their tensors with byte strings.
    payload = torch.load(file, map_location="cpu", weights_only=weights_only, encoding="latin1")
    tensors = {
        str(name): value
        for name, value in _state(payload).items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ValueError("the file holds no tensors by name")
    stdout.write(
        save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()})
    )
    stdout.flush()


def _state(payload: Any) -> Mapping[Any, Any]:
    """Returns the state dict of a module, of a training script's dict, or the payload itself."""
    import torch  # noqa: PLC0415

    for _ in range(3):
        if isinstance(payload, torch.nn.Module):
            return payload.state_dict()
        if not isinstance(payload, Mapping):
            break
        inner = [
            payload[key]
            for key in _STATE_KEYS
            if isinstance(payload.get(key), Mapping | torch.nn.Module)
        ]
        if not inner:
            return payload
        payload = inner[0]
    raise TypeError(f"the file holds a {type(payload).__name__}, not a network or its state dict")


if __name__ == "__main__":
    main()
