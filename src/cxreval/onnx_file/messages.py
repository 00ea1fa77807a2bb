"""Says in plain words what ONNX or onnxruntime say about a file.

Their messages hold paths, places in their source, and names of C++ functions, which tell a
submitter nothing. The usual ones become a sentence with the cure; of others, that is removed.
"""

from __future__ import annotations

import re

_MAX_READ = 4000  # characters of another library's message; names in it may be long
_MAX_TEXT = 300  # characters of a message

_MEANINGS = (
    (
        (
            r"Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status "
            r"Message: ?(.*)"
        ),
        "the operator {0} {1!r} failed: {2}",
    ),
    (
        r"Opset (\d+) is under development",
        (
            "the runtime does not have version {0} of an operator set; export the model with "
            "an older opset_version"
        ),
    ),
    (
        r"No Op registered for (\S*) with domain_version of (-?\d+)",
        (
            "version {1} of the operator set has no operator {0}; export the model with an "
            "opset_version that has it"
        ),
    ),
    (
        r"Op registered for (\S+) is deprecated in domain_version of (\d+)",
        (
            "version {1} of the operator set has no operator {0} any more; export the model "
            "with the operator that replaces it"
        ),
    ),
    (
        r"No opset import for domain '?((?!optype)[^\s']*)",
        "the file imports no operator set of the domain {0!r}; add it to opset_import",
    ),
    (
        r"([^\s(]+)\(-?\d+\) is not a registered function/op",
        "the runtime has no operator {0}; export the model with operators of ONNX",
    ),
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        "it has IR version {0}; save it with IR version {1} or older",
    ),
    (
        r"Your model ir_version (\d+) is higher than the checker's \((\d+)\)",
        "it has IR version {0}; save it with IR version {1} or older",
    ),
    (
        r"Could not find an implementation for (\w+)\((\d+)\) node with name '(.*?)'",
        (
            "the runtime does not implement version {1} of the operator {0} for these types; "
            "export the model with a newer opset_version, or in float32"
        ),
    ),
    (
        r"topologically sorted, however input '(.*?)' of node: .*?OpType: (\S*) is not output",
        "the operator {1} takes {0!r}, which no earlier node returns; export the model again",
    ),
    (
        r"\(SSA\) form, however '(.*?)' has been used as .*? names? multiple times",
        "two values have the name {0!r}; export the model again",
    ),
    (
        (
            r"Got invalid dimensions for input: (.*?) for the following indices "
            r"index: (\d+) Got: (\d+) Expected: (\d+)"
        ),
        (
            "the input {0!r} has size {2} on axis {1}, and the file fixes {3}; export the "
            "model with dynamic axes"
        ),
    ),
    (
        r"Invalid rank for input: (.*?) Got: (\d+) Expected: (\d+)",
        "the input {0!r} has {1} dimensions, and the file fixes {2}",
    ),
    (
        r"External data path|stored externally|external TensorProto|Missing 'location'",
        "a tensor has its data in another file; submit that file too, or save all in one",
    ),
    (
        r"Error parsing message|Wire format was corrupt|Protobuf parsing failed",
        "it is cut off, or is of another format; save it with onnx.save or torch.onnx.export",
    ),
    (r"'utf-8' codec can't (?:de|en)code", "a name is not valid UTF-8; export the model again"),
    (
        r".*\(op_type:(\w+)(?:, node name: (.*?))?\): (?:\[\w+\] )?(.+)",
        "the operator {0} does not accept its inputs: {2}",
    ),
    (
        r"Node \((.*?)\) Op \((\w+)\) (?:\[\w+\] )?(.+)",
        "the operator {1} does not accept its inputs: {2}",
    ),
    (
        r"This is an invalid model\. In Node, \(\"?(.*?)\"?, (\w+), .*? Error (.+)",
        "the operator {1} is used wrongly: {2}",
    ),
)

_LABELS = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"Load model from .*? failed: ?",
    r"Exception during (?:initialization|loading): ",
)
_NOISE = (
    r" ?==> Context: .*",
    r"Please fix either the inputs/outputs or the model\.",
    r"[\w\s=!<>&|.()*+-]*? was false\. ?",
    r"\b(?:onnxruntime|onnx|std|google|gsl|absl|Eigen)::[\w:~]+(?:<[^>]*>)*(?:::\w+)*",
    r"\b(?=\d*[a-f])[0-9a-f]{16,}\b",
    r"(?<![\w'\"(])/(?:onnxruntime|home|tmp|root|usr|opt|etc|var|build|work|run|data|mnt)\S*",
    r"\S*/\S+\.onnx\b",
)
_SOURCE = re.compile(r"\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ ")


def plain(error: Exception | str) -> str:
    """Returns what an error of ONNX or onnxruntime means, on one short line.

    It has no path, place in source, name of a C++ function or control character.
    """
    text = _scrubbed(" ".join(str(error)[:_MAX_READ].split()))
    for pattern, sentence in _MEANINGS:
        if match := re.search(pattern, text):
            values = [value or "" for value in match.groups()]
            text = sentence.format(*values)
            break
    text = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    # Some versions of Python show no text at all where a name in it is not UTF-8.
    return text[:_MAX_TEXT].strip(" :.,") or "a name may not be valid UTF-8; export the model again"


def _scrubbed(text: str) -> str:
    """Returns a message without places in source, names of functions, and paths."""
    for pattern in _LABELS:
        text = re.sub(pattern, "", text)
    while match := _SOURCE.search(text):
        text = text[: match.start()] + _after_function(text[match.end() :])
    for pattern in (*_LABELS, *_NOISE):
        text = re.sub(pattern, "", text)
    return " ".join(text.split())


def _after_function(text: str) -> str:
    """Returns what follows the name of a function, with its parameters if they are given."""
    name = text.partition("(")[0]
    if "(" not in text or "::" not in name:
        return text.partition(" ")[2]
    depth = 0
    for index, letter in enumerate(text[len(name) :], len(name)):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[index + 1 :].removeprefix(" const").lstrip()
    return ""
