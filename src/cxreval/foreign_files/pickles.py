"""Reads what a pickle names, from its opcodes, without running it."""

from __future__ import annotations

import io
import pickletools
import re
from dataclasses import dataclass, field

from cxreval.foreign_files.kinds import MODULE, NO_TENSORS, PICKLED, TRANSFORMERS, ForeignKind

_MAX_OPCODES = 500_000
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save before 1.6 wrote it as a first pickle
_BEFORE_THE_OBJECT = 3  # magic number, version, facts about the system
_IGNORED = ("PROTO", "FRAME", "MARK", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
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


def has_transformers_names(names: object) -> bool:
    """Returns whether names of weights are those of Hugging Face transformers."""
    return any(_TRANSFORMERS.fullmatch(name) for name in names)  # type: ignore[attr-defined]


def _pickled_class(pickle: _Pickle) -> str:
    """Returns the class of the pickled object, or of the network in a dict; "" for a dict."""
    tokens = pickle.tokens
    # torch.save before 1.6 marked classes with the text; protocols 0 and 1 name a function first.
    if tokens[:1] in ([("text", "module")], [("class", "copy_reg _reconstructor")]):
        tokens = tokens[1:]
    kind, name = tokens[0] if tokens else ("", "")
    if kind == "class":
        return "" if name in _CONTAINERS else name
    for (first, key), (second, value) in zip(tokens, tokens[1:], strict=False):
        if first == "text" and key in _NETWORK_KEYS and second != "text":
            return value if second == "class" and value not in _CONTAINERS else ""
    return ""


def _read(stream: io.BytesIO) -> _Pickle:
    """Reads one pickle from a stream, as far as it is well formed."""
    pickle, memo = _Pickle(), list[str]()
    texts = ["", ""]
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            name = opcode.name
            if name == "STOP" or count > _MAX_OPCODES:
                pickle.complete = name == "STOP"
                break
            if name == "MEMOIZE":
                memo.append(texts[-1])
            if name in _IGNORED:
                continue
            if name in ("GLOBAL", "INST"):
                pickle.tokens.append(("class", str(argument)))
            elif name == "STACK_GLOBAL":
                pickle.tokens[-2:] = [("class", f"{texts[-2]} {texts[-1]}")]
            elif isinstance(argument, str):
                texts = [texts[-1], argument]
                pickle.tokens.append(("text", argument))
            elif name in ("BINGET", "LONG_BINGET") and argument < len(memo):
                texts = [texts[-1], memo[argument]]
                pickle.tokens.append(("text", memo[argument]))
            else:
                pickle.number = argument if name == "LONG1" else pickle.number
                pickle.tokens.append(("other", ""))
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError):
        pass  # it is cut off or no pickle; what was read stands
    return pickle
