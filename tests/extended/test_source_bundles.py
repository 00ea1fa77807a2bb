"""Source bundles that grow in memory or time end at the limits of their reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxreval.errors import SourceBundleUnreadable
from tests.support import git_repositories as git
from tests.support.source_trees import unpacked

pytestmark = pytest.mark.timeout(600)

LARGE = 120_000_000
SIZE = git.size_bytes(LARGE)
COPY = b"\xf0\xff\xff\xff" * 7  # 7 times the first 0xffffff bytes
REST = LARGE - 7 * 0xFFFFFF - 1


def grown(base: bytes, last: bytes) -> tuple[bytes, bytes]:
    """Returns a difference to a large file, and its result, which ends with another byte."""
    body = SIZE + SIZE + COPY + b"\xf0" + REST.to_bytes(3, "little") + b"\x01" + last
    return body, base[:0xFFFFFF] * 7 + base[:REST] + last


@pytest.mark.parametrize(
    ("chain", "siblings", "words"),
    [(12, True, "more than 1 GiB of memory"), (2000, False, "ended by SIGXCPU")],
)
def test_large_files_that_differ_in_a_byte_end_at_a_limit(
    tmp_path: Path, chain: int, siblings: bool, words: str
) -> None:
    content = bytes(LARGE)
    first: git.Object = (git.BLOB, content)
    commit = git.commit(git.tree([]))
    records = [git.record(*commit), git.record(*first)]
    for number in range(chain):
        # Each is a difference to the one before, at the distance of its record.
        body, _ = grown(content, bytes([number % 256]))
        distance = len(records[-1]) + (len(records[-2]) if siblings and number % 2 else 0)
        records.append(git.record(git.OFS_DELTA, body, offset(distance)))
    with pytest.raises(SourceBundleUnreadable, match=words):
        unpacked(git.bundle(git.name_of(commit), git.pack(records)), git.name_of(commit), tmp_path)
    assert list(tmp_path.iterdir()) == []


def offset(distance: int) -> bytes:
    """Returns a distance as a pack states it."""
    encoded = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        encoded.append(distance & 127 | 128)
    return bytes(reversed(encoded))
