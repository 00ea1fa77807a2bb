"""Reads git objects from a process that answers as `git cat-file --batch` does.

Nothing of an answer is trusted: the SHA-1 of each object is computed here and compared with the
name that was asked for. So whatever the process is, it can only answer with the right bytes or
not at all.

SHA-1 is git's own name of a commit, and collisions of it can be made: two files of one name, both
by the same author. Git finds the known ways of making them and refuses such files; Python's
`hashlib` does not. `source_tree.SourceTree.digest` is a SHA-256 of what was read, for whoever
compares it with another copy of the commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from cxreval.errors import CommitNotInBundle, SourceBundleUnreadable, SourceTreeRefused
from cxreval.fields import printable

MAX_METADATA_BYTES = 1 << 22
"""Maximum size of a commit and of a tree, the list of one folder's entries."""

READY = b"ready\n"
"""First line of a process that reads a source bundle, unless it refuses it."""

REFUSED = b"refused "
"""Begins the only line of such a process that refuses the bundle; the reason follows."""

_MESSAGE_BYTES = 1000
_LINE_BYTES = 200
_PIECE_BYTES = 1 << 20
_KILLED = 128  # the shell's convention, which bubblewrap follows: 128 + the signal
_HEADER = re.compile(rb"([0-9a-f]{40}) (?:missing|(commit|tree|blob|tag) (0|[1-9][0-9]{0,15}))\n")
_TREE = re.compile(rb"tree ([0-9a-f]{40})\n")
_ENTRY = re.compile(rb"([1-7][0-7]{4,5}) ([^\0/]+)\0(.{20})", re.DOTALL)


class TreeEntry(NamedTuple):
    """An entry of a folder: mode in octal digits as git writes it, name, name of the object."""

    mode: str
    name: bytes
    sha1: str


def tree_of(commit: bytes) -> str:
    """Returns the name of a commit's tree. Raises `SourceTreeRefused` if it states none."""
    if found := _TREE.match(commit):
        return found[1].decode()
    raise SourceTreeRefused("the commit states no tree", field="reproduction.commit")


def tree_entries(tree: bytes, path: str) -> list[TreeEntry]:
    """Returns the entries of a folder.

    Raises:
        SourceTreeRefused: they are not a list of entries in git's order, each name once; `path`
            names the folder in the error.
    """
    entries: list[TreeEntry] = []
    position, last = 0, b""
    while position < len(tree):
        found = _ENTRY.match(tree, position)
        order = found[2] + (b"/" if found[1] == b"40000" else b"") if found else b""
        if not found or order <= last:
            problem = "has entries out of order" if found else "is malformed"
            message = f"folder {path or '/'} of the commit {problem}"
            expected = "a commit that `git fsck` accepts"
            raise SourceTreeRefused(
                f"{message}; expected {expected}", field="reproduction.commit", expected=expected
            )
        entries.append(TreeEntry(found[1].decode(), found[2], found[3].hex()))
        position, last = found.end(), order
    return entries


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that is asked for. `path`: what it is in the source tree, for errors."""

    kind: str
    sha1: str
    path: str
    most_bytes: int = MAX_METADATA_BYTES


class Objects:
    """The objects of a process, while the block lasts; then the process is ended.

    Args:
        command: starts the process.
        seconds: how long it may run; then it is killed.
        environment: of git; None for a reader of source bundles, which first says whether it can
            read the bundle.
    """

    def __init__(
        self, command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by __exit__
        self._process = subprocess.Popen(  # noqa: S603 -- git or the sandbox
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018, S101
        self._input: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._output: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._seconds = seconds
        self._late = threading.Event()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._introduces = environment is None

    def __enter__(self) -> Self:
        self._timer.start()
        try:
            self._introduced()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        self._process.wait()
        self._errors.close()
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):  # of a request that was not sent
                pipe.close()

    def read(self, wanted: Wanted) -> bytes:
        """Returns an object. Raises as `copy` does."""
        pieces: list[bytes] = []
        self.copy(wanted, pieces.append)
        return b"".join(pieces)

    def copy(self, wanted: Wanted, write: Callable[[bytes], object]) -> int:
        """Passes an object to `write` piece by piece, and returns its size in bytes.

        What was written is right only if the call returns.

        Raises:
            CommitNotInBundle: the object is not there, or is of another kind.
            SourceTreeRefused: it is larger than it may be; nothing was written.
            SourceBundleUnreadable: the answer is another object, or none in time.
        """
        nbytes = self._size(wanted)
        digest = hashlib.sha1(f"{wanted.kind} {nbytes}\0".encode(), usedforsecurity=False)
        left = nbytes
        while left:
            piece = self._output.read(min(left, _PIECE_BYTES))
            if not piece:
                raise self._ended()
            digest.update(piece)
            write(piece)
            left -= len(piece)
        if digest.hexdigest() != wanted.sha1 or self._output.read(1) != b"\n":
            raise _unreadable(f"the content of {wanted.path} does not hash to {wanted.sha1}")
        return nbytes

    def _size(self, wanted: Wanted) -> int:
        if self._late.is_set():
            raise self._ended()
        try:
            self._input.write(wanted.sha1.encode() + b"\n")
            self._input.flush()
        except BrokenPipeError:
            raise self._ended() from None
        line = self._output.readline(_LINE_BYTES)
        header = _HEADER.fullmatch(line)
        if not header or header[1].decode() != wanted.sha1:
            raise self._ended() if not line else _unreadable("it was answered wrongly")
        if not header[2]:
            raise _missing(wanted, "is missing")
        if (kind := header[2].decode()) != wanted.kind:
            raise _missing(wanted, f"is a {kind}, no {wanted.kind}")
        nbytes = int(header[3])
        if nbytes > wanted.most_bytes:
            expected = f"at most {wanted.most_bytes} bytes"
            raise SourceTreeRefused(
                f"{wanted.path} has {nbytes} bytes; expected {expected}",
                field="reproduction.commit",
                expected=expected,
            )
        return nbytes

    def _introduced(self) -> None:
        if not self._introduces:
            return
        line = self._output.readline(_MESSAGE_BYTES)
        if line.startswith(REFUSED):
            raise _unreadable(
                printable(line.removeprefix(REFUSED).decode(errors="replace").strip())
            )
        if line != READY:
            raise self._ended()

    def _end(self) -> None:
        self._late.set()
        self._process.kill()

    def _ended(self) -> Exception:
        """Returns the error for a process that no longer answers."""
        if self._late.is_set():
            return _unreadable(f"reading it took more than {self._seconds:g} s")
        self._process.kill()
        status = self._process.wait()
        if self._introduces and status > _KILLED:
            return _unreadable(f"reading it ended with status {status}, at a limit of its process")
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")[-_MESSAGE_BYTES:]
        if self._introduces:  # without a word on the bundle: our own failure
            return RuntimeError(f"the reader of source bundles ended with status {status}: {said}")
        return _unreadable(f"git ended with status {status}: {printable(said)}")


def _missing(wanted: Wanted, problem: str) -> CommitNotInBundle:
    what = f"{wanted.kind} {wanted.sha1}"
    if wanted.path and wanted.kind != "commit":
        what += f" ({wanted.path})"
    elif wanted.path:
        what += f" of the submodule {wanted.path}"
    expected = "the commit with all its files and submodules"
    return CommitNotInBundle(
        f"{what} {problem}; expected {expected}",
        field="reproduction.commit",
        expected=expected,
        object=wanted.sha1,
    )


def _unreadable(problem: str) -> SourceBundleUnreadable:
    expected = "a file that `cxreval submission bundle` writes"
    return SourceBundleUnreadable(
        f"the source bundle cannot be read: {problem}; expected {expected}",
        field="reproduction.bundle_sha256",
        expected=expected,
    )
