"""What a submitter declares that a model was trained on, and the list that a declaration names.

A list is a text file in UTF-8 with one identifier a line, of images or of patients; blank lines are
ignored. With a salt, each line is a hash instead: the sha256 of the salt followed by the
identifier, as 64 lower-case hex characters. A list is sent compressed by zlib.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cxreval.errors import DigestMismatch, TrainingListInvalid
from cxreval.fields import SHA256, SHA256_FORM, field_error, shown
from cxreval.forms import Matching, declared

MAX_LINES = 200_000
"""Maximum number of identifiers in a list."""

MAX_LIST_BYTES = 16 << 20
"""Maximum size of a list's file."""

MAX_SENT_BYTES = 15 << 19
"""Maximum size of a compressed list, which is sent in one message."""

MAX_IDENTIFIER_CHARACTERS = 255

FIELD = "training_list"


class TrainingUse(StrEnum):
    """Which images of the benchmark's data set a model was trained or tuned on."""

    NONE = "none"
    NIH_TRAIN_VAL = "nih-train-val"
    NIH_TEST = "nih-test"
    NIH_ALL = "nih-all"
    IMAGES = "images"
    PATIENTS = "patients"


LISTED = (TrainingUse.IMAGES, TrainingUse.PATIENTS)
"""Uses that a training list states."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Data that the model was trained or tuned on, among the images of the data set."""

    uses: TrainingUse = declared(
        "Images of the data set that the model was trained or tuned on: none, a list of NIH, or "
        "the images or patients in a list of your own.",
        None,
        TrainingUse.NONE,
    )
    list_sha256: str = declared(
        "sha256 of the file with that list; `cxreval submit --training-list` fills it in.",
        Matching(SHA256.pattern, SHA256_FORM),
        "",
        "",
    )
    salt: str = declared(
        "Salt of the list's hashes, if its lines are hashes: sha256 of the salt followed by the "
        "identifier.",
        Matching("[!-~]{8,64}", "8 to 64 printable ASCII characters without spaces"),
        "",
        "",
    )


def read_training_list(file: Path) -> bytes:
    """Returns the content of a list's file. Raises `TrainingListInvalid` if it is too large."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        message = f"cannot read the training list {file}: {error}"
        raise TrainingListInvalid(message, field=FIELD) from None
    if len(content) > MAX_LIST_BYTES:
        raise field_error(FIELD, file, f"at most {MAX_LIST_BYTES} bytes", TrainingListInvalid)
    return content


def packed(content: bytes) -> bytes:
    """Returns a list's file in the form in which it is sent.

    Raises `TrainingListInvalid` if that has too many bytes.
    """
    sent = zlib.compress(content)
    _check_sent(sent)
    return sent


def unpacked(sent: bytes, data: TrainingData) -> frozenset[str]:
    """Returns the identifiers or hashes of the list that was sent with a declaration.

    Raises:
        TrainingListInvalid: it is too large, not compressed by zlib, or `listed` refuses it; or the
            declaration names no list and one was sent, or the reverse.
        DigestMismatch: it is not the file that the declaration names.
    """
    if data.uses not in LISTED or not sent:
        if sent or data.uses in LISTED:
            expected = "a list" if data.uses in LISTED else f"no list with uses: {data.uses}"
            found = "a list" if sent else "no list"
            raise field_error(FIELD, found, expected, TrainingListInvalid)
        return frozenset()
    _check_sent(sent)
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(sent, MAX_LIST_BYTES)
    except zlib.error:
        content = b""
    if not stream.eof or stream.unused_data:
        expected = f"a file of at most {MAX_LIST_BYTES} bytes, compressed by zlib"
        raise field_error(FIELD, "other bytes", expected, TrainingListInvalid)
    digest = hashlib.sha256(content).hexdigest()
    if digest != data.list_sha256:
        message = (
            f"the training list has sha256 {digest}; the manifest names {data.list_sha256}; submit "
            "the list that the manifest names"
        )
        raise DigestMismatch(message, field=FIELD, found=digest, expected=data.list_sha256)
    return listed(content, hashed=bool(data.salt))


def listed(content: bytes, *, hashed: bool) -> frozenset[str]:
    """Returns the identifiers, or hashes, in the file of a training list.

    Raises:
        TrainingListInvalid: it is not a list; the error names the first wrong line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].count(b"\n")
        raise _wrong(before + 1, "is not UTF-8", "a text file in UTF-8") from None
    if text.count("\n") > MAX_LINES:
        raise _wrong(MAX_LINES + 1, "is one too many", f"at most {MAX_LINES} lines")
    expected = f"an identifier of 1 to {MAX_IDENTIFIER_CHARACTERS} printable characters"
    names = set()
    for number, line in enumerate(text.split("\n"), start=1):
        name = line.strip()
        if not name:
            continue
        if hashed and not SHA256.fullmatch(name):
            raise _wrong(number, f"is {shown(name)!r}", f"{SHA256_FORM}, because salt is given")
        if len(name) > MAX_IDENTIFIER_CHARACTERS or not name.isprintable():
            raise _wrong(number, f"is {shown(name)!r}", expected)
        names.add(name)
    if not names:
        raise _wrong(1, "is blank", "at least one identifier, or `training_data: none`")
    return frozenset(names)


def _check_sent(sent: bytes) -> None:
    if len(sent) > MAX_SENT_BYTES:
        expected = f"at most {MAX_SENT_BYTES} bytes after compression"
        raise field_error(FIELD, f"{len(sent)} bytes", expected, TrainingListInvalid)


def _wrong(line: int, problem: str, expected: str) -> TrainingListInvalid:
    message = f"{FIELD}, line {line}: {problem}; expected {expected}"
    return TrainingListInvalid(message, field=FIELD, line=line, expected=expected)
