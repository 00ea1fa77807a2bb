"""Fits the tensors of a checkpoint to a network, whatever a training script named them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from cxreval.errors import CheckpointMismatch
from cxreval.export.pytorch_file import OLD_DENSE_LAYER
from cxreval.fields import printable

Tensors = Mapping[str, torch.Tensor]

_NAMES_SHOWN = 3
_MAX_NAME = 100
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Absent in checkpoints older than PyTorch 0.4.1; unused in eval mode.
_OPTIONAL = "num_batches_tracked"
# What a network does not need in eval mode: counters, the weights of a loss, the operation counts
# of profilers, auxiliary classifiers, and tables that libraries once stored and now compute.
_UNUSED = re.compile(
    r"(.*\.)?(num_batches_tracked|n_averaged|pos_weight|total_ops|total_params"
    r"|relative_position_index|relative_coords_table|attn_mask)"
    r"|(AuxLogits|aux1|aux2)\..*"
)


def load(network: nn.Module, tensors: Tensors) -> None:
    """Loads a checkpoint into a network, which is then in eval mode.

    Raises `CheckpointMismatch` as `fitted` does.
    """
    network.load_state_dict(fitted(network.state_dict(), tensors), strict=False)
    network.eval()


def fitted(wanted: Tensors, tensors: Tensors) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint under the names and in the types of a state dict.

    Args:
        wanted: the state dict of the network; only names, shapes and types are read.
        tensors: the checkpoint.

    Raises:
        CheckpointMismatch: names or shapes differ, or a value is not a number that is finite in
            the type in which it runs.
    """
    named = renamed(wanted, tensors)
    if problem := mismatch(wanted, named):
        raise _error(problem, f"the {len(wanted)} tensors of the network")
    return {name: _number(wanted[name], name, tensor) for name, tensor in named.items()}


def renamed(wanted: Tensors, tensors: Tensors) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint under the names of a network, as far as they correspond.

    Removes the prefix of wrapping modules, however deep. If only the last layer is missing and one
    layer of its shape is left over, such as `classifier.1` of a Sequential with a Dropout, they are
    the same. What no network needs in eval mode is left out.
    """
    modern = {OLD_DENSE_LAYER.sub(r"\1\2.", name): tensor for name, tensor in tensors.items()}
    prefix = _prefix(wanted, modern)
    named: dict[str, torch.Tensor] = {}
    for name, tensor in modern.items():
        own = name.removeprefix(prefix)
        if own in wanted or not _UNUSED.fullmatch(own):
            if own in named:
                problem = f"{_shown(name)} and another tensor have the same name without {prefix!r}"
                raise _error(problem, "different names")
            named[own] = tensor
    _rename_head(wanted, named)
    return named


def _prefix(wanted: Tensors, tensors: Tensors) -> str:
    """Returns the prefix without which most names are wanted."""
    counts: Counter[str] = Counter({"": 0})
    for name in tensors:
        position = 0
        while position >= 0 and position < len(name):
            if name[position:] in wanted:
                counts[name[:position]] += 1
            position = name.find(".", position) + 1 or -1
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)))


def _rename_head(wanted: Tensors, named: dict[str, torch.Tensor]) -> None:
    missing, unexpected = _differences(wanted, named)
    if not len(missing) == len(unexpected) in (1, 2):
        return
    for layers in (missing, unexpected):
        if len({name.rpartition(".")[0] for name in layers}) != 1:
            return
    for new in missing:
        kind = new.rpartition(".")[2]
        (old,) = [name for name in unexpected if name.rpartition(".")[2] == kind] or [""]
        if not old or named[old].ndim != wanted[new].ndim:
            return
        if named[old].shape[1:] != wanted[new].shape[1:]:
            return
        named[new] = named.pop(old)


def _differences(wanted: Tensors, named: Tensors) -> tuple[list[str], list[str]]:
    """Returns the names that are missing, and those that the network does not have."""
    missing = [name for name in wanted if name not in named and not name.endswith(_OPTIONAL)]
    return missing, [name for name in named if name not in wanted]


def mismatch(wanted: Tensors, named: Tensors) -> str:
    """Returns how the names and shapes of a checkpoint differ from those of a network, in words;
    empty if they are equal."""
    missing, unexpected = _differences(wanted, named)
    if missing or unexpected:
        return (
            f"of the {len(wanted)} tensors of the network, {len(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing{_some(missing)}, and the checkpoint "
            f"has {len(unexpected)} others{_some(unexpected)}"
        )
    wrong = [name for name in named if named[name].shape != wanted[name].shape]
    if not wrong:
        return ""
    first = wrong[0]
    found, expected = tuple(named[first].shape), tuple(wanted[first].shape)
    if len({name.rpartition(".")[0] for name in wrong}) == 1 and found and expected:
        if found[1:] == expected[1:]:
            return (
                f"the last layer {_shown(first.rpartition('.')[0])} has {found[0]} columns; "
                f"the manifest declares {expected[0]}"
            )
        if len(found) == 4 and found[0] == expected[0] and found[2:] == expected[2:]:
            return (
                f"the first layer {_shown(first)} takes {found[1]} channels; "
                f"preprocessing.channels is {expected[1]}"
            )
    return (
        f"{len(wrong)} tensors have another shape, the first is {_shown(first)} with {found} "
        f"instead of {expected}"
    )


def _number(wanted: torch.Tensor, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor in the type of `wanted`, in which it runs and must be finite."""
    types = _FLOATS if wanted.is_floating_point() else (wanted.dtype,)
    if tensor.dtype not in types:
        expected = " or ".join(map(str, types))
        raise _error(f"{_shown(name)} is of {tensor.dtype}; expected {expected}", expected)
    loaded = tensor.detach().to(wanted.dtype).contiguous()
    if not torch.isfinite(loaded).all():
        expected = f"weights that are finite as {loaded.dtype}"
        raise _error(
            f"{_shown(name)} has values that are not finite; expected {expected}", expected
        )
    return loaded


def _some(names: Sequence[str]) -> str:
    if not names:
        return ""
    rest = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f" ({', '.join(_shown(name) for name in names[:_NAMES_SHOWN])}{rest})"


def _shown(name: str) -> str:
    return printable(name)[:_MAX_NAME]


def _error(problem: str, expected: str) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"the checkpoint does not fit: {problem}", field="weights", expected=expected, found=problem
    )
