"""A training list is one identifier a line; everything else is refused with its line."""

import hashlib
import zlib

import pytest

from cxreval.datasets.training_list import (
    MAX_LINES,
    MAX_LIST_BYTES,
    TrainingData,
    TrainingUse,
    listed,
    packed,
    read_training_list,
    unpacked,
)
from cxreval.errors import DigestMismatch, TrainingListInvalid


def declared(content, uses=TrainingUse.IMAGES, salt=""):
    return TrainingData(uses, hashlib.sha256(content).hexdigest(), salt)


def test_lines_are_identifiers_without_spaces_and_blank_lines():
    content = "\ufeffa.png\r\n\n  b.png \nä.png".encode()
    assert unpacked(packed(content), declared(content)) == {"a.png", "b.png", "ä.png"}


@pytest.mark.parametrize(
    ("content", "hashed", "line"),
    [
        (b"", False, 1),
        (b"\n \n", False, 1),
        (b"a.png\nb\x00.png", False, 2),
        (b"a.png\nb\x1b[31m", False, 2),
        (b"a.png\rb.png", False, 1),
        ("a\u202e.png".encode(), False, 1),
        (b"a.png\n\xff\xfe", False, 2),
        (b"x" * 256, False, 1),
        (b"\n" * (MAX_LINES + 1), False, MAX_LINES + 1),
        (b"a.png", True, 1),
        (b"A" * 64, True, 1),
    ],
)
def test_a_wrong_line_is_refused_and_named(content, hashed, line):
    with pytest.raises(TrainingListInvalid) as caught:
        listed(content, hashed=hashed)
    assert caught.value.metadata["line"] == str(line)
    assert caught.value.metadata["expected"]


def test_a_full_list_of_hashes_fits_into_one_message():
    hashes = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(MAX_LINES))
    content = "\n".join(hashes).encode()
    assert len(unpacked(packed(content), declared(content, salt="a-salt-of-mine"))) == MAX_LINES


@pytest.mark.parametrize(
    "sent",
    [
        zlib.compress(b"0" * (MAX_LIST_BYTES + 1)),
        zlib.compress(b"a.png")[:-1],
        zlib.compress(b"a.png") + b"more",
        b"a.png",
    ],
    ids=["bomb", "cut", "trailing", "plain"],
)
def test_bytes_that_are_no_compressed_list_are_refused(sent):
    with pytest.raises(TrainingListInvalid, match="compressed by zlib"):
        unpacked(sent, declared(b"a.png"))


def test_another_list_than_the_declared_one_is_refused():
    with pytest.raises(DigestMismatch, match="submit the list that the manifest names"):
        unpacked(packed(b"a.png"), declared(b"b.png"))


@pytest.mark.parametrize(
    ("sent", "uses"), [(b"", TrainingUse.IMAGES), (packed(b"a.png"), TrainingUse.NIH_TEST)]
)
def test_exactly_the_uses_with_a_list_have_one(sent, uses):
    with pytest.raises(TrainingListInvalid):
        unpacked(sent, TrainingData(uses))


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path):
    file = tmp_path / "list.txt"
    with pytest.raises(TrainingListInvalid, match="cannot read"):
        read_training_list(file)
    with file.open("wb") as stream:
        stream.truncate(MAX_LIST_BYTES + 1)
    with pytest.raises(TrainingListInvalid, match="at most"):
        read_training_list(file)
