"""Reads the tensors of a state dict and runs no code of its file.

A pickle may name any function. Here it gets the few that build tensors; every other name becomes an
object that does nothing, so that a training script's other entries do not matter.
"""

from __future__ import annotations

import collections
import io
import pickle
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cxreval.errors import CheckpointUnreadable, ModelTooLarge
from cxreval.export.pytorch_file import MAX_FILE_BYTES, WRAPPERS, FileKind
from cxreval.fields import printable

_EXPECTED = "a state dict, as torch.save(model.state_dict()) or safetensors write it"
_MAX_NAME = 200
_MAX_TENSORS = 100_000

Tensors = dict[str, torch.Tensor]


def read_state_dict(file: Path, kind: FileKind) -> Tensors:
    """Returns the tensors in a file by name, as they are in the file.

    Raises:
        CheckpointUnreadable: the file is damaged, or holds no state dict.
        ModelTooLarge: the tensors have more than `MAX_FILE_BYTES`.
        MemoryError: there is no memory for them.
    """
    if kind is FileKind.SAFETENSORS:
        try:
            tensors = load_file(file)
        except SafetensorError as error:
            problem = f"the safetensors file is damaged ({printable(str(error))[:_MAX_NAME]})"
            raise _unreadable(problem) from None
    else:
        tensors = named_tensors(_unpickled(file))
    return _checked(tensors)


def named_tensors(payload: Any) -> Tensors:
    """Returns the tensors of a state dict, which may be in the dict of a training script.

    Raises `CheckpointUnreadable` if there is none.
    """
    for _ in range(3):
        if isinstance(payload, _Unknown):
            raise _unreadable(
                f"it holds a whole model ({type(payload).__name__}), which needs its code; "
                "save model.state_dict() instead"
            )
        if not isinstance(payload, Mapping):
            break
        inner = [payload[key] for key in WRAPPERS if isinstance(payload.get(key), _CONTAINERS)]
        if not inner:
            named = {
                str(name): tensor
                for name, tensor in payload.items()
                if isinstance(tensor, torch.Tensor)
            }
            if not named:
                raise _unreadable("it holds no tensors by name")
            return named
        payload = inner[0]
    raise _unreadable(f"it holds a {type(payload).__name__}, not a state dict")


def _checked(tensors: Tensors) -> Tensors:
    if len(tensors) > _MAX_TENSORS:
        raise _unreadable(f"it holds {len(tensors)} tensors")
    # The elements of a tensor may share their memory, so its size says nothing about the file's.
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > MAX_FILE_BYTES:
        expected = f"at most {MAX_FILE_BYTES} bytes"
        message = f"the tensors have {size} bytes; expected {expected}"
        raise ModelTooLarge(message, field="artifact", expected=expected)
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise _unreadable(
                f"{printable(name)[:_MAX_NAME]} is sparse, quantized or without values"
            )
    return tensors


def _unpickled(file: Path) -> Any:
    unpickler: Any = types.ModuleType("unpickler")
    unpickler.Unpickler, unpickler.load = _Unpickler, _load
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Checkpoints that Python 2 wrote name their tensors with byte strings.
            return torch.load(
                file,
                map_location="cpu",
                pickle_module=unpickler,
                weights_only=False,
                encoding="latin1",
            )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- a pickle can make its reader raise anything
        if "can't allocate memory" in str(error):
            raise MemoryError from None
        raise _unreadable("it is damaged, or no file of torch.save") from None


class _Unknown:
    """An object of a class that a pickle names and that is not loaded; it does nothing."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> _Unknown:
        return super().__new__(cls)

    def __init__(self, *_arguments: Any, **_named: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _item: Any) -> None:
        """Drops an item of a list."""

    def extend(self, _items: Any) -> None:
        """Drops items of a list."""

    def add(self, _item: Any) -> None:
        """Drops an item of a set."""


_CONTAINERS = (Mapping, _Unknown)

_rebuild: Any = torch._utils  # noqa: SLF001 -- the functions that a file of torch.save names
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): _rebuild._rebuild_tensor,  # noqa: SLF001
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild._rebuild_tensor_v2,  # noqa: SLF001
    ("torch._utils", "_rebuild_parameter"): _rebuild._rebuild_parameter,  # noqa: SLF001
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("torch", "UntypedStorage"): torch.UntypedStorage,
    **{
        ("torch", name): kind
        for name, kind in vars(torch).items()
        if isinstance(kind, torch.dtype)
        or (isinstance(kind, type) and issubclass(kind, torch.storage.TypedStorage))
    },
}


class _Unpickler(pickle.Unpickler):
    """Loads tensors and the containers of Python; every other class becomes `_Unknown`."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns what a pickle names, if it is one of the few things that build tensors."""
        if known := _ALLOWED.get((module, name)):
            return known
        return type(printable(f"{module}.{name}")[:_MAX_NAME].replace("\0", " "), (_Unknown,), {})


def _load(file: io.BufferedIOBase, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def _unreadable(problem: str) -> CheckpointUnreadable:
    message = f"the checkpoint cannot be read: {problem}; expected {_EXPECTED}"
    return CheckpointUnreadable(message, field="artifact", expected=_EXPECTED)
