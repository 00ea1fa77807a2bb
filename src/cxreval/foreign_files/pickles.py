"""Reads what a pickle names, from its opcodes, without running it."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickletools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from cxreval.foreign_files.kinds import MODULE, NO_TENSORS, PICKLED, TRANSFORMERS, ForeignKind

_MAX_OPCODES = 500_000
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save before 1.6 wrote it as a first pickle
_BEFORE_THE_OBJECT = 3  # magic number, version, facts about the system
_IGNORED = ("PROTO", "FRAME", "MARK", "PUT", "BINPUT", "LONG_BINPUT")
_FROM_MEMO = ("BINGET", "LONG_BINGET")
_CONTAINERS = ("collections OrderedDict", "collections defaultdict", "builtins dict")
_NETWORK_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
_TRANSFORMERS = re.compile(
    r"(.*\.)?(patch_embeddings\.projection|embedder\.embedder\.convolution"
    r"|attention\.(attention|self)\.query|self_attn\.q_proj"
    r"|embeddings\.(convolution|patch_embeddings|token_embedding|word_embeddings))\.(weight|bias)"
)


@dataclass(slots=True)
class _Pickle:
    """What the opcodes of a pickle state, in their order: classes, texts and others."""

    tokens: list[tuple[str, str]] = field(default_factory=list)
    number: int = 0
    complete: bool = False
    _memo: list[str] = field(default_factory=list)
    _texts: tuple[str, str] = ("", "")  # the last two

    def add(self, opcode: str, argument: object) -> None:
        """Adds an opcode."""
        if opcode in _FROM_MEMO and isinstance(argument, int) and argument < len(self._memo):
            argument = self._memo[argument]
        if opcode == "STOP":
            self.complete = True
        elif opcode == "MEMOIZE":
            self._memo.append(self._texts[1])
        elif opcode in ("GLOBAL", "INST"):
            self.tokens.append(("class", str(argument)))
        elif opcode == "STACK_GLOBAL":
            self.tokens[-2:] = [("class", " ".join(self._texts))]
        elif isinstance(argument, str):
            self._texts = (self._texts[1], argument)
            self.tokens.append(("text", argument))
        elif opcode not in _IGNORED:
            if opcode == "LONG1" and isinstance(argument, int):
                self.number = argument
            self.tokens.append(("other", ""))


def pickle_kind(content: bytes) -> tuple[ForeignKind, str] | None:
    """Returns the kind of a pickle that is no checkpoint with tensors, and a detail.

    None for a state dict, a training script's dict with one, and for what is not clear.
    """
    stream = io.BytesIO(content)
    pickle = _read(stream)
    if pickle.number == _TORCH_MAGIC:
        for _ in range(_BEFORE_THE_OBJECT):
            pickle = _read(stream)
    name = _pickled_class(pickle)
    if name:
        package = name.partition(".")[0].partition(" ")[0]
        if not name.startswith("torch._"):
            return PICKLED.get(package, MODULE), name.replace(" ", ".")[:100]
    if has_transformers_names(text for kind, text in pickle.tokens if kind == "text"):
        return TRANSFORMERS, ""
    if pickle.complete and not any(
        kind == "class" and name.startswith("torch") for kind, name in pickle.tokens
    ):
        return NO_TENSORS, ""
    return None


def has_transformers_names(names: Iterable[str]) -> bool:
    """Returns whether names of weights are those of Hugging Face transformers."""
    return any(_TRANSFORMERS.fullmatch(name) for name in names)


def _pickled_class(pickle: _Pickle) -> str:
    """Returns the class of the pickled object, or of the network in a dict; "" for a dict."""
    tokens = pickle.tokens
    # torch.save before 1.6 marked classes with the text; protocols 0 and 1 name a function first.
    if tokens[:1] in ([("text", "module")], [("class", "copy_reg _reconstructor")]):
        tokens = tokens[1:]
    kind, name = tokens[0] if tokens else ("", "")
    if kind == "class":
        return "" if name in _CONTAINERS else name
    for (first, key), (second, value) in itertools.pairwise(tokens):
        if first == "text" and key in _NETWORK_KEYS and second != "text":
            return value if second == "class" and value not in _CONTAINERS else ""
    return ""


def _read(stream: io.BytesIO) -> _Pickle:
    """Reads one pickle from a stream, as far as it is well formed."""
    pickle = _Pickle()
    # A pickle that is cut off, or none, raises; what was read stands.
    with contextlib.suppress(ValueError, IndexError, OverflowError):
        for opcode, argument, _ in itertools.islice(pickletools.genops(stream), _MAX_OPCODES):
            pickle.add(opcode.name, argument)
    return pickle
