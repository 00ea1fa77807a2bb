"""Reads names and shapes of the tensors in a PyTorch file, without PyTorch and without running it.

A pickle's opcodes are followed on a stack of plain values: a class or function that they name is
never looked up, so nothing is called.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cxreval.export.known_networks import NETWORKS
from cxreval.export.pytorch_file import OLD_DENSE_LAYER, WRAPPERS, FileKind

_NEW_DENSE_LAYER = r"\1\2."

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor by its name."""

_MOST_BYTES = 16 << 20  # of a header or pickle, which has names and no values
_MOST_OPCODES = 1_000_000
_MOST_CHARACTERS = 200
_LENGTH_BYTES = 8
_HEADS = ("classifier", "fc", "head", "heads")
"""First parts of the names of a network's last layers, whose size depends on the findings."""


def tensor_shapes(file: Path, kind: FileKind) -> Shapes:
    """Returns the shapes of the tensors in a state dict; none if they cannot be read in this way.

    The file may be damaged or hostile; the converter refuses it then, when it runs in the sandbox.
    """
    try:
        named = _safetensors(file) if kind is FileKind.SAFETENSORS else _pickle(file)
    # What a hostile file can raise: wrong types, missing keys and positions, too deep nesting.
    except (
        OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, MemoryError,
        zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError,
    ):  # fmt: skip
        return {}
    return {name: shape for name, shape in named.items() if _is_shape(name, shape)}


def network_name(shapes: Shapes) -> str:
    """Returns the network, `LIBRARY/NAME`, whose tensors these are but for the last layers."""
    return NETWORKS.get(fingerprint(shapes), "")


def column_count(shapes: Shapes) -> int:
    """Returns the number of outputs of the last layer; 0 if it is not recognised."""
    heads = [
        name
        for name, shape in _without_prefix(shapes).items()
        if name.partition(".")[0] in _HEADS and name.endswith(".weight") and len(shape) == 2
    ]
    if not heads:
        return 0
    last = max(heads, key=lambda name: [int(part) for part in re.findall("[0-9]{1,9}", name)])
    return _without_prefix(shapes)[last][0]


def fingerprint(shapes: Shapes) -> str:
    """Returns a digest of names and shapes, without the last layers and the number of channels."""
    lines = []
    for name, given in _without_prefix(shapes).items():
        if name.partition(".")[0] in _HEADS or name.endswith("num_batches_tracked"):
            continue
        # The first convolution of a network for gray images has one channel instead of three.
        shape = list(given)
        if len(shape) == 4 and shape[1] == 1:
            shape[1] = 3
        lines.append(f"{OLD_DENSE_LAYER.sub(_NEW_DENSE_LAYER, name)}:{shape}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _without_prefix(shapes: Shapes) -> Shapes:
    """Returns the shapes by names without parts that all names begin with, such as `module.`."""
    names = list(shapes)
    while names and len(firsts := {name.partition(".")[0] for name in names}) == 1:
        if not all("." in name for name in names) or firsts & {*_HEADS}:
            break
        names = [name.partition(".")[2] for name in names]
    return dict(zip(names, shapes.values(), strict=True))


def _is_shape(name: object, shape: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(shape, tuple)
        and all(isinstance(size, int) and size >= 0 for size in shape)
    )


def _safetensors(file: Path) -> dict[Any, Any]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        header = json.loads(stream.read(min(length, _MOST_BYTES)))
    return {name: tuple(item["shape"]) for name, item in header.items() if "shape" in item}


def _pickle(file: Path) -> dict[Any, Any]:
    with zipfile.ZipFile(file) as archive:
        member = next(name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl")
        with archive.open(member) as stream:
            content = stream.read(_MOST_BYTES)
    payload = _followed(content)
    for _ in range(len(WRAPPERS)):
        inner = [payload[key] for key in WRAPPERS if isinstance(payload.get(key), dict)]
        if not inner:
            break
        payload = inner[0]
    return {name: item.shape for name, item in payload.items() if isinstance(item, _Tensor)}


class _Tensor:
    """What stands for a tensor of the pickle."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


_MARK = object()


class _Machine:
    """Follows the opcodes of a pickle. Its values: containers, texts, numbers, `_Tensor`, None."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[Any, Any] = {}

    def follow(self, opcode: str, argument: Any) -> None:
        """Does what an opcode says; one that is not known pushes its argument."""
        if opcode in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif opcode in _EMPTY:
            self.stack.append(_EMPTY[opcode]())
        elif opcode in _TAKES:
            taken = self.stack[-_TAKES[opcode] :]
            del self.stack[-_TAKES[opcode] :]
            self._combine(opcode, taken)
        elif opcode in _TAKES_TO_MARK:
            start = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
            taken = self.stack[start + 1 :]
            del self.stack[start:]
            self._combine(_TAKES_TO_MARK[opcode], taken)
        elif opcode not in ("PROTO", "FRAME"):
            self.stack.append(_MARK if opcode == "MARK" else argument)

    def _combine(self, opcode: str, taken: list[Any]) -> None:
        """Pushes what an opcode makes of the values that it takes, or adds them to the last one."""
        if opcode == "SETITEM":
            if isinstance(self.stack[-1], dict):
                self.stack[-1].update(zip(taken[::2], taken[1::2], strict=True))
        elif opcode.startswith("TUPLE"):
            self.stack.append(tuple(taken))
        elif opcode == "STACK_GLOBAL":
            # Names are short; joined with themselves again and again, they would fill the memory.
            is_short = all(len(part) < _MOST_CHARACTERS for part in taken)
            self.stack.append(" ".join(taken) if is_short else None)
        elif opcode == "REDUCE":
            self.stack.append(_called(*taken))
        elif opcode in ("BINPERSID", "NEWOBJ"):  # a storage, or an object
            self.stack.append(None)


_EMPTY: Mapping[str, type] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_TAKES = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "SETITEM": 2, "STACK_GLOBAL": 2, "REDUCE": 2,
    "BINPERSID": 1, "NEWOBJ": 2, "BUILD": 1, "APPEND": 1, "POP": 1,
}  # fmt: skip
"""The number of values that an opcode takes from the stack."""
_TAKES_TO_MARK = {
    "TUPLE": "TUPLE", "SETITEMS": "SETITEM", "APPENDS": "APPEND", "ADDITEMS": "APPEND",
}  # fmt: skip
"""Opcodes that take the values since the last mark, with what they do with them."""


def _followed(content: bytes) -> Any:
    """Returns what the pickle of an object stands for."""
    machine = _Machine()
    for opcode, argument, _ in itertools.islice(pickletools.genops(content), _MOST_OPCODES):
        if opcode.name == "STOP":
            return machine.stack[-1]
        machine.follow(opcode.name, argument)
    return None


def _called(function: Any, arguments: Any) -> Any:
    """Returns what stands for the result of a call; nothing is called."""
    if function == "collections OrderedDict":
        return {}
    if function in ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"):
        return _Tensor(arguments[2])
    if function == "torch._utils _rebuild_parameter":
        return arguments[0]
    return None
