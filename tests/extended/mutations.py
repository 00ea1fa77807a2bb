"""A hypothesis strategy for bytes that were damaged in transport, on disk or on purpose."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hypothesis import strategies as st

_PNG = b"\x89PNG\r\n\x1a\n"


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """Returns one of the originals after one to four changes.

    A PNG often gets correct checksums, so that a reader does not stop there.
    """
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(
            (draw(st.integers(0, len(content))), draw(st.integers(0, len(content))))
        )
        match draw(
            st.sampled_from(("change", "change", "change", "cut", "end", "repeat", "insert"))
        ):
            case "change":
                content = (
                    content[:start] + bytes((draw(st.integers(0, 255)),)) + content[start + 1 :]
                )
            case "cut":
                content = content[:start] + content[end:]
            case "end":
                content = content[:end]
            case "repeat":
                content = content[:end] + content[start:]
            case _:
                content = (
                    content[:start] + draw(st.binary(min_size=1, max_size=8)) + content[start:]
                )
    return _with_right_checksums(content) if draw(st.booleans()) else content


def _with_right_checksums(content: bytes) -> bytes:
    """Returns a PNG in which each complete chunk has a correct checksum."""
    if not content.startswith(_PNG):
        return content
    mended, position = bytearray(content), len(_PNG)
    while position + 12 <= len(mended):
        end = position + 8 + int.from_bytes(mended[position : position + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(mended)
