"""Answers with the objects of a git bundle, as `git cat-file --batch` does. Needs dulwich.

It runs in the sandbox: `python -m cxreval.reproduction.pack_reader FILE`. A bundle is compressed
twice, by zlib and by differences to other objects, and both may grow without bound; so this process
has limits on memory and time. Its first line says whether it can read the bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dulwich.bundle import Bundle, read_bundle
from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.objects import RawObjectID
from dulwich.pack import (
    DELTA_TYPES,
    MemoryPackIndex,
    Pack,
    PackData,
    take_msb_bytes_at,
    unpack_object_at,
)

from cxreval.child_limits import limit_this_process
from cxreval.reproduction.git_objects import READY, REFUSED
from cxreval.reproduction.source_tree import MAX_FILE_BYTES

MAX_OBJECTS = 500_000
"""Maximum number of objects of a bundle."""

_MEMORY_BYTES = 1 << 30
"""Memory beside the bundle itself: the largest file with the differences that make it."""

_CPU_SECONDS = 120
_PACK_HEADER_BYTES = 12
_KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_HEADERS = (b"# v2 git bundle\n", b"# v3 git bundle\n")


class _Refused(Exception):
    """A bundle breaks a rule; the argument says which."""


def main() -> int:
    """Serves the objects of the file that the command line names. Returns the exit status."""
    file = Path(sys.argv[1])
    limit_this_process(
        memory_bytes=file.stat().st_size + _MEMORY_BYTES, cpu_seconds=_CPU_SECONDS, open_files=16
    )
    try:
        pack = _opened(file)
    except _Refused as refusal:
        return _refuse(str(refusal))
    except MemoryError:
        return _refuse(f"its objects need more than {_MEMORY_BYTES >> 30} GiB of memory")
    except Exception as error:  # noqa: BLE001 -- dulwich has no list of what it raises
        return _refuse(f"it is malformed or cut off ({type(error).__name__})")
    _write(READY)
    for line in sys.stdin.buffer:
        _answer(pack, line.strip())
    return 0


def _opened(file: Path) -> Pack:
    with file.open("rb") as content:
        if content.readline(20) not in _HEADERS:
            raise _Refused("it does not begin as a git bundle")
        content.seek(0)
        bundle = read_bundle(content)
    data = _complete(bundle)
    _check_sizes(data)
    entries = data.sorted_entries()  # applies all differences
    if len({name for name, _, _ in entries}) != len(data):
        raise _Refused("it has an object twice")
    index = MemoryPackIndex(list(entries), DEFAULT_OBJECT_FORMAT, data.get_stored_checksum())
    return Pack.from_objects(data, index)


def _complete(bundle: Bundle) -> PackData:
    """Returns the pack of a bundle whose header promises a complete one."""
    if bundle.capabilities.pop("object-format", "sha1") != "sha1":
        raise _Refused("it is of a repository with SHA-256 names, which are not supported yet")
    if bundle.capabilities:
        raise _Refused("it is filtered, or needs a newer git")
    if bundle.prerequisites:
        raise _Refused(f"it needs {len(bundle.prerequisites)} commits that are not in it")
    data = bundle.pack_data
    if not isinstance(data, PackData) or not 0 < len(data) <= MAX_OBJECTS:
        raise _Refused(f"it has no objects, or more than {MAX_OBJECTS}")
    data.check()
    return data


def _check_sizes(data: PackData) -> None:
    """Checks what each object states as its size, and that nothing follows the last one."""
    content = data._buffer()  # noqa: SLF001 -- the bytes, which dulwich has in memory already
    end = _PACK_HEADER_BYTES
    for _ in range(len(data)):
        header, _, _ = take_msb_bytes_at(content, end)
        stated = header[0] & 15 | _number(header[1:]) << 4
        if stated <= MAX_FILE_BYTES:
            unpacked, end = unpack_object_at(content, end, DEFAULT_OBJECT_FORMAT.hash_func)
            if unpacked.pack_type_num in DELTA_TYPES:
                stated = _result_bytes(b"".join(unpacked.decomp_chunks))
        if stated > MAX_FILE_BYTES:
            raise _Refused(f"it has an object of {stated} bytes; at most {MAX_FILE_BYTES} are read")
    if len(content) != end + DEFAULT_OBJECT_FORMAT.oid_length:
        raise _Refused("bytes follow its last object")


def _result_bytes(difference: bytes) -> int:
    """Returns the size that a difference states for its result."""
    _, start, _ = take_msb_bytes_at(difference, 0)  # the size of its base
    return _number(take_msb_bytes_at(difference, start)[0])


def _number(digits: Sequence[int]) -> int:
    """Returns a number of seven bits in each byte, the lowest ones first."""
    return sum((digit & 127) << 7 * place for place, digit in enumerate(digits))


def _answer(pack: Pack, name: bytes) -> None:
    try:
        kind, content = pack.get_raw(RawObjectID(bytes.fromhex(name.decode())))
    except KeyError:
        _write(b"%s missing\n" % name)
        return
    _write(b"%s %s %d\n" % (name, _KINDS[kind], len(content)), content, b"\n")


def _refuse(reason: str) -> int:
    _write(REFUSED, reason.encode(), b"\n")
    return 0


def _write(*parts: bytes) -> None:
    for part in parts:
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
