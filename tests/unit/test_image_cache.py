"""The cache of preprocessed images: entries read as written, never torn, within the size limit."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cxreval.imaging import decode
from cxreval.imaging.cache import ImageCache, image_digest
from cxreval.imaging.preprocess import PROFILES, Tensor
from tests.conftest import REPOSITORY

XRV = PROFILES["xrv-224"]
ENTRY = 224 * 224 * 4 + 4
ROOM = 1 << 30


def image(number: int) -> str:
    return image_digest(number.to_bytes(4))


def tensor(number: int) -> Tensor:
    return np.random.default_rng(number).standard_normal(XRV.tensor_shape, np.float32)


def read(cache: ImageCache, number: int) -> Tensor | None:
    out = np.full(XRV.tensor_shape, np.nan, np.float32)
    return out if cache.read(XRV, image(number), out) else None


def files(directory: Path) -> list[Path]:
    return [path for path in directory.glob("*/*/*") if path.is_file()]


def test_another_cache_reads_exactly_the_written_entries(tmp_path: Path) -> None:
    assert ImageCache(tmp_path, ROOM).write(XRV, image(1), tensor(1))
    other = ImageCache(tmp_path, ROOM)
    np.testing.assert_array_equal(read(other, 1), tensor(1))
    assert read(other, 2) is None


def test_another_profile_or_decoder_does_not_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, out = ImageCache(tmp_path, ROOM), np.empty(XRV.tensor_shape, np.float32)
    cache.write(XRV, image(1), tensor(1))
    assert not cache.read(dataclasses.replace(XRV, digest="0" * 64), image(1), out)
    monkeypatch.setattr(decode, "REVISION", decode.REVISION + 1)
    assert not cache.read(XRV, image(1), out)


def test_torn_entries_are_removed_and_never_served(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, ROOM)
    cache.write(XRV, image(1), tensor(1))
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[100_000] ^= 1
    for torn in (b"", whole[:4096], whole[:-1], whole + b"\0", bytes(len(whole)), bytes(flipped)):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(torn)
        assert read(cache, 1) is None
        assert not file.exists()
    cache.write(XRV, image(1), tensor(1))
    np.testing.assert_array_equal(read(cache, 1), tensor(1))


WRITER = """
import sys, itertools
from pathlib import Path
from tests.unit.test_image_cache import XRV, ImageCache, image, tensor
cache = ImageCache(Path(sys.argv[1]), int(sys.argv[2]))
for number in itertools.cycle(range(40)):
    print(number, flush=True)
    cache.write(XRV, image(number), tensor(number))
"""


def start_writer(directory: Path, room: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(directory), str(room)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)


def wait_for(writer: subprocess.Popen[bytes]) -> None:
    assert writer.stdout
    assert writer.stdout.readline()


@pytest.mark.parametrize("room", [ROOM, 20 * ENTRY], ids=["roomy", "crowded"])
def test_killed_writers_leave_nothing_torn_and_nothing_locked(tmp_path: Path, room: int) -> None:
    """Two processes write the same images and are killed at random moments, three times."""
    rng = np.random.default_rng(0)
    cache = ImageCache(tmp_path, room)
    for _ in range(3):
        writers = [start_writer(tmp_path, room) for _ in range(2)]
        for writer in writers:
            wait_for(writer)
        for writer in writers:
            time.sleep(rng.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
            writer.communicate(timeout=60)
        served = [
            number
            for number in range(40)
            if (found := read(cache, number)) is not None and (found == tensor(number)).all()
        ]
        present = [number for number in range(40) if read(cache, number) is not None]
        assert served == present
        assert present
    assert cache.write(XRV, image(99), tensor(99))
    assert read(cache, 99) is not None


def test_stopped_process_that_holds_the_lock_does_not_block_others(tmp_path: Path) -> None:
    holder, other = ImageCache(tmp_path, ROOM), ImageCache(tmp_path, ROOM)
    with holder._locked():
        start = time.perf_counter()
        assert not other.write(XRV, image(1), tensor(1))
        assert time.perf_counter() - start < 1
    assert other.write(XRV, image(1), tensor(1))


def size(path: Path) -> int:
    """Returns the size of a file, or 0 if another thread removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_size_stays_in_bounds_with_many_writers(tmp_path: Path) -> None:
    caches = [ImageCache(tmp_path, 20 * ENTRY) for _ in range(2)]
    largest = 0
    with ThreadPoolExecutor(4) as threads:
        for number, _ in enumerate(
            threads.map(lambda n: caches[n % 2].write(XRV, image(n), tensor(n)), range(200))
        ):
            if number % 5 == 0:
                largest = max(largest, sum(map(size, files(tmp_path))))
    # During eviction each of the four threads may be writing one more entry.
    assert largest <= 24 * ENTRY
    assert len(files(tmp_path)) >= 10


def test_data_set_that_does_not_quite_fit_is_still_found_for_the_most_part(tmp_path: Path) -> None:
    """Evicting the least recently used entry would always evict the one needed next."""
    cache, hits = ImageCache(tmp_path, 45 * ENTRY), 0
    for _ in range(6):
        for number in range(50):
            if read(cache, number) is not None:
                hits += 1
            else:
                cache.write(XRV, image(number), tensor(number))
    assert hits > 0.5 * 5 * 50


def test_entry_larger_than_the_room_is_not_kept(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, ENTRY - 1)
    assert not cache.write(XRV, image(1), tensor(1))
    assert files(tmp_path) == []


def test_leftovers_of_killed_writers_go_when_room_is_made(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 3 * ENTRY)
    cache.write(XRV, image(1), tensor(1))
    (file,) = files(tmp_path)
    old, new = file.with_suffix(".1.1.part"), file.with_suffix(".2.2.part")
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    for number in range(2, 8):
        cache.write(XRV, image(number), tensor(number))
    assert (old.exists(), new.exists()) == (False, True)


def test_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        ImageCache(tmp_path / "file" / "images", ROOM)
