"""What transport, disk and malice do to bytes, as a hypothesis strategy."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hypothesis import strategies as st

_PNG = b"\x89PNG\r\n\x1a\n"


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """One of the originals after one to four changes; a PNG often with right checksums, so that a
    reader goes on."""
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
    """A PNG's chunks, as far as there are whole ones, each with the checksum of what it holds."""
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
