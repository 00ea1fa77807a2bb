"""What a sandbox writes is read within the limits of its run, whatever it is."""

from __future__ import annotations

import base64
import json
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.reproduction.isolation.contract import Ended, Limits
from cxreval.reproduction.isolation.frames import Frames, clean

LIMITS = Limits(output_bytes=1000, log_bytes=100)


def line(key: str, value: object) -> bytes:
    return json.dumps({key: value}).encode() + b"\n"


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def end(**values: object) -> bytes:
    return line("end", {"status": 0, "size": None, "full": [], "killed": 0} | values)


def read(data: bytes) -> Frames:
    frames = Frames(LIMITS)
    frames.feed(data)
    return frames


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=4,
)
keys = st.sampled_from(["started", "log", "rows", "output", "end", "other"])


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=200) | st.builds(line, keys, values), max_size=8))
def test_no_input_is_an_error_and_none_exceeds_the_limits(pieces: list[bytes]) -> None:
    frames = read(b"".join(pieces))
    frames.ended()
    assert len(frames.output()) <= LIMITS.output_bytes
    assert len(frames.log()) <= LIMITS.log_bytes + 100
    assert len(frames.problem()) <= 4096 * 3


@given(st.data())
def test_the_same_is_read_however_the_bytes_are_split(data: st.DataObject) -> None:
    table = data.draw(st.binary(min_size=1, max_size=900))
    text = (
        line("started", True)
        + line("log", packed(b"a log"))
        + line("rows", 3)
        + line("output", packed(zlib.compress(table)))
        + end(size=len(table))
    )
    frames = Frames(LIMITS)
    at = 0
    while at < len(text):
        step = data.draw(st.integers(1, 400))
        frames.feed(text[at : at + step])
        at += step
    assert (frames.started, frames.log(), frames.rows) == (True, "a log", 3)
    assert (frames.ended(), frames.output()) == (Ended.FINISHED, table)


def test_a_stream_that_unpacks_to_more_than_the_limit_is_not_kept() -> None:
    bomb = zlib.compress(b"1" * 100_000_000)
    pieces = [bomb[at : at + 8192] for at in range(0, len(bomb), 8192)]
    frames = read(b"".join(line("output", packed(piece)) for piece in pieces) + end(size=1000))
    assert frames.output() == b""
    assert len(frames._output) <= LIMITS.output_bytes + 1


def test_a_line_without_end_is_cut() -> None:
    frames = Frames(LIMITS)
    for _ in range(200):
        frames.feed(b"x" * 10_000)
    assert len(frames._line) <= 1 << 17


def test_half_a_table_is_none() -> None:
    stream = zlib.compress(bytes(range(250)))
    assert read(line("output", packed(stream[:50])) + end(size=250)).output() == b""


def test_the_words_of_other_programs_are_kept_as_the_problem() -> None:
    assert read(b"bwrap: No permissions\n").problem() == "bwrap: No permissions"


def test_a_log_has_no_commands_for_a_terminal() -> None:
    text = "\x1b[31mred\x1b[0m\x1b]0;title\x07 10%\r20%\r\nend\x00\x08\u202e\u200b\x1bPq\x1b\\ok\n"
    assert clean(text) == "red 10%\n20%\nendok\n"


@given(st.text())
def test_a_clean_log_stays_as_it_is(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert "\x1b" not in once
