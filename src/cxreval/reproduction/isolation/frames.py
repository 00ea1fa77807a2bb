"""Reads what the supervisor of a sandbox writes, which is checked like any input of a stranger."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
import zlib
from dataclasses import dataclass

from cxreval.reproduction.isolation.contract import Ended, Limits

_LINE_BYTES = 64 << 10
_OTHER_BYTES = 4096
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and movements of the cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links and other commands with a text
    r"|\x1b[ -/]*[0-~]?",
    re.MULTILINE,
)
_KEPT = "\n\t"


@dataclass(frozen=True)
class End:
    """How a script ended, as its supervisor saw it."""

    status: int
    """Exit status, or minus the number of a signal."""
    size: int | None
    """Size of the table; None if there is none."""
    full: tuple[str, ...]
    """Which of `scratch` and `output` had no room left."""
    killed: int
    """Processes that were killed at the limit of memory, where the supervisor can read it."""


class Frames:
    """What came of a run until now. No more is kept than the limits allow."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line = bytearray()
        self._stream = zlib.decompressobj()
        self._log = bytearray()
        self._output = bytearray()
        self._other = bytearray()
        self.started = False
        self.rows = 0
        self.end: End | None = None

    def feed(self, data: bytes) -> None:
        """Reads the next bytes. What is no line of a supervisor is kept as a problem."""
        pieces = data.split(b"\n")
        for piece in pieces[:-1]:
            self._line += piece[:_LINE_BYTES]
            self._read(bytes(self._line))
            self._line.clear()
        if len(self._line) < _LINE_BYTES:
            self._line += pieces[-1][:_LINE_BYTES]

    def problem(self) -> str:
        """Returns the text of other programs, such as an error of bubblewrap."""
        return clean((self._other + self._line[:_OTHER_BYTES]).decode(errors="replace")).strip()

    def log(self) -> str:
        """Returns the script's log, cut at its limit and without control characters."""
        text = clean(self._log.decode("utf-8", errors="replace"))
        if len(self._log) >= self._limits.log_bytes:
            text += f"\n[cut after {self._limits.log_bytes} bytes]\n"
        return text

    def ended(self) -> Ended:
        """Returns how the script ended, by its status and its output."""
        end = self.end
        if end is None or end.status != 0:
            full = end.full if end else ()
            return (
                Ended.OUTPUT
                if "output" in full
                else (Ended.SCRATCH if "scratch" in full else Ended.FAILED)
            )
        if not end.size:
            return Ended.NO_OUTPUT
        return Ended.OUTPUT if end.size > self._limits.output_bytes else Ended.FINISHED

    def output(self) -> bytes:
        """Returns the table of predictions; empty if it was not sent completely."""
        return bytes(self._output) if self.end and len(self._output) == self.end.size else b""

    def _read(self, line: bytes) -> None:
        try:
            ((key, value),) = json.loads(line).items()
            if key == "started":
                self.started = True
            elif key == "log":
                room = self._limits.log_bytes - len(self._log)
                self._log += base64.b64decode(value, validate=True)[:room]
            elif key == "rows":
                self.rows = max(self.rows, int(value))
            elif key == "output":
                room = self._limits.output_bytes - len(self._output)
                piece = base64.b64decode(value, validate=True)
                self._output += self._stream.decompress(piece, room + 1)
            elif key == "end":
                self.end = _end(value)
            else:
                raise ValueError(key)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, zlib.error):
            if room := _OTHER_BYTES - len(self._other):
                self._other += (line + b"\n")[:room]


def _end(value: dict[str, object]) -> End:
    status, size, killed, full = (value[key] for key in ("status", "size", "killed", "full"))
    if not isinstance(status, int) or not isinstance(killed, int) or not isinstance(full, list):
        raise TypeError(value)
    if size is not None and not isinstance(size, int):
        raise TypeError(value)
    return End(status, size, tuple(map(str, full)), killed)


def clean(text: str) -> str:
    """Returns a text without commands for a terminal and without invisible characters.

    A carriage return, by which a progress bar writes its line again, becomes a new line.
    """
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(
        character
        for character in text
        if character in _KEPT or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
    )
