"""Source bundles that grow in memory or time end at the limits of their reader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cxreval.errors import SourceBundleUnreadable
from cxreval.reproduction.git_objects import Objects
from tests.support import git_repositories as git
from tests.support.source_trees import unpacked

pytestmark = pytest.mark.timeout(600)

LARGE = 120_000_000
SIZE = git.size_bytes(LARGE)
REST = LARGE - 7 * 0xFFFFFF - 1
COPY = b"\xf0\xff\xff\xff" * 7 + b"\xf0" + REST.to_bytes(3, "little")  # all but the last byte
READER = "cxreval.reproduction.pack_reader"


def large_files(number: int, *, siblings: bool) -> bytes:
    """Returns a bundle of large files, each a difference to the one before.

    With `siblings`, two are to the same one, so that it is kept while the first is followed.
    """
    commit = git.commit(git.tree([]))
    records = [git.record(*commit), git.record(git.BLOB, bytes(LARGE))]
    for step in range(number):
        body = SIZE + SIZE + COPY + b"\x01" + bytes([step % 256])
        distance = len(records[-1]) + (len(records[-2]) if siblings and step % 2 else 0)
        records.append(git.record(git.OFS_DELTA, body, offset(distance)))
    return git.bundle("1" * 40, git.pack(records))


def test_large_files_end_at_the_memory_limit(tmp_path: Path) -> None:
    with pytest.raises(SourceBundleUnreadable, match="need more than 1 GiB of memory"):
        unpacked(large_files(12, siblings=True), "1" * 40, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_large_files_end_at_the_limit_of_processor_time(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(large_files(500, siblings=False))
    program = f"import {READER} as reader; reader._CPU_SECONDS = 3; reader.main()"
    shell = f"{sys.executable} -c '{program}' {tmp_path}/bundle; exit $?"
    with (
        pytest.raises(SourceBundleUnreadable, match="was ended by SIGXCPU"),
        Objects(["/bin/sh", "-c", shell], 300),
    ):
        pass


def offset(distance: int) -> bytes:
    """Returns a distance as a pack states it."""
    encoded = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        encoded.append(distance & 127 | 128)
    return bytes(reversed(encoded))
