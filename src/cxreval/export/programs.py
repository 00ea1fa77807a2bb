"""Opens TorchScript modules and programs of torch.export: code of a stranger, so only in the
sandbox.

PyTorch's messages name source files and internal checks; the errors here say what a submitter can
do instead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cxreval.errors import CheckpointUnreadable, ModelInputMismatch, ModelUnsupported

_OPERATOR = re.compile(r"\b([A-Za-z_]\w{0,40}::\w{1,60}|torch\.ops\.\w{1,40}\.\w{1,60})")
_jit: Any = torch.jit  # without types
_CURE = "export it to ONNX on your machine and set format: onnx"


def open_torchscript(file: Path) -> nn.Module:
    """Returns a TorchScript module in eval mode.

    Raises:
        CheckpointUnreadable: the file is damaged.
        ModelInputMismatch: the module needs more than one input.
        ModelUnsupported: the module uses operators that PyTorch does not have.
    """
    try:
        loaded = _jit.load(str(file), map_location="cpu")
    except Exception as error:  # noqa: BLE001 -- opening a stranger's file can raise anything
        raise failure(error, "a TorchScript module (torch.jit.save)") from None
    module: nn.Module = loaded.eval()
    schema = getattr(getattr(loaded, "forward", None), "schema", None)
    if schema is None:
        raise _unreadable("it has no method forward", "a module with a method forward")
    needed = [part for part in schema.arguments[1:] if not part.has_default_value()]
    if len(needed) > 1:
        raise _too_many_inputs(len(needed))
    return module


def open_program(file: Path) -> tuple[nn.Module, int | None]:
    """Returns the module of a program of torch.export, and its batch size if that is fixed.

    Raises:
        CheckpointUnreadable: the file is damaged.
        ModelInputMismatch: the program needs more than one input, or has a fixed batch size
            other than 1.
        ModelUnsupported: the program uses operators that PyTorch does not have.
    """
    try:
        program: Any = torch.export.load(file)
        inputs = set(program.graph_signature.user_inputs)
        values = [node.meta.get("val") for node in program.graph.nodes if node.name in inputs]
        module: nn.Module = program.module(check_guards=False)
        for method in ("train", "eval"):  # which would raise; the mode is part of the graph
            module.__dict__.pop(method, None)
    except Exception as error:  # noqa: BLE001 -- opening a stranger's file can raise anything
        raise failure(error, "a program of torch.export.save") from None
    if len(values) != 1 or not isinstance(values[0], torch.Tensor) or not values[0].ndim:
        raise _too_many_inputs(len(values))
    batch = values[0].shape[0]
    if not isinstance(batch, int):
        return module, None
    if batch != 1:
        expected = "one image, or any number of images"
        raise ModelInputMismatch(
            f"the program was exported for batches of {batch} images; expected {expected}: "
            "export it again with dynamic_shapes=({0: torch.export.Dim('batch')},)",
            field="artifact",
            expected=expected,
        )
    return module, batch


def failure(error: Exception, expected: str) -> Exception:
    """Returns the error for an exception that PyTorch raised while it opened a file."""
    if out_of_memory(error):
        return MemoryError()
    operator = unknown_operator(error)
    if operator and re.search(r"[Uu]nknown builtin op|does not exist|has no attribute", str(error)):
        return ModelUnsupported(
            f"the file needs the operator {operator}, which PyTorch {torch.__version__} does not "
            f"have; {_CURE}",
            field="artifact",
            expected="operators of PyTorch",
        )
    return _unreadable(
        f"PyTorch {torch.__version__} cannot open it ({type(error).__name__})", expected
    )


def unsupported(error: Exception) -> Exception:
    """Returns the error for an exception of the conversion to ONNX."""
    if out_of_memory(error):
        return MemoryError()
    operator = unknown_operator(error)
    problem = f"the operator {operator} has no form in ONNX" if operator else "its graph has none"
    return ModelUnsupported(
        f"the model cannot be converted to ONNX: {problem}; {_CURE}",
        field="artifact",
        expected="operators that ONNX has",
    )


def not_run(error: Exception, shape: tuple[int, ...], kind: str) -> Exception:
    """Returns the error for an exception that a network raised on images of a shape."""
    if out_of_memory(error):
        return MemoryError()
    expected = "a network that takes the images as `preprocessing` declares them"
    return ModelInputMismatch(
        f"the network fails on images of shape {shape} and type {kind} ({type(error).__name__}); "
        f"expected {expected}: check channels, size, layout and dtype",
        field="preprocessing",
        expected=expected,
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was refused."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def unknown_operator(error: Exception) -> str:
    """Returns the first operator that a message of PyTorch names; empty if it names none."""
    named = _OPERATOR.search(str(error))
    return named[1] if named else ""


def _too_many_inputs(count: int) -> ModelInputMismatch:
    expected = "one input, the images"
    return ModelInputMismatch(
        f"the network has {count} inputs; expected {expected}", field="artifact", expected=expected
    )


def _unreadable(problem: str, expected: str) -> CheckpointUnreadable:
    message = f"the file cannot be opened: {problem}; expected {expected}"
    return CheckpointUnreadable(message, field="artifact", expected=expected)
