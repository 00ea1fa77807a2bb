"""Reads gzip files with bounded memory and processor time.

`gzip` of the standard library reads the name in a header byte by byte and accepts any number of
empty members, so that a file without content can take minutes.
"""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

MAX_MEMBERS = 100_000
"""Maximum number of members; a blocked gzip file (bgzip) has one for each 64 KiB."""

_CHUNK_BYTES = 1 << 16
_GZIP_WINDOW = 31  # zlib's value for a gzip header and a window of any size


class GzipReader(io.RawIOBase):
    """The uncompressed content of a gzip file of one or more members.

    Reading raises `EOFError` for a truncated file and `zlib.error` for a corrupt one or for one
    with more than `MAX_MEMBERS`.
    """

    def __init__(self, compressed: BinaryIO) -> None:
        self._compressed = compressed
        self._pending = b""
        self._members = 0
        self._member: zlib._Decompress | None = None

    def readable(self) -> bool:
        """Returns true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a part of the buffer and returns its size; 0 at the end of the file."""
        while member := self._member or self._next_member():
            content = member.decompress(self._pending or self._read(), len(buffer))
            self._pending = member.unconsumed_tail
            if member.eof:
                self._pending, self._member = member.unused_data, None
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0

    def _next_member(self) -> zlib._Decompress | None:
        """Returns a decompressor for the next member, if there is one.

        Zeros may fill the end of the file.
        """
        padding = b"\0" if self._members else b""
        self._pending = self._pending.lstrip(padding)
        while not self._pending:
            content = self._compressed.read(_CHUNK_BYTES)
            if not content:
                return None
            self._pending = content.lstrip(padding)
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise zlib.error(f"the file has more than {MAX_MEMBERS} gzip members")
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        return self._member

    def _read(self) -> bytes:
        """Returns the next compressed bytes of a member that has not ended."""
        content = self._compressed.read(_CHUNK_BYTES)
        if not content:
            raise EOFError("the gzip file is truncated")
        return content
