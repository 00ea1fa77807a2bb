"""The memory that the inference service shares with a model host."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.onnx_file.signature import Signature
from services.inference.backends.shared_memory import SharedImages, SharedRows

SHAPE = (1, 2048, 2048)  # 16 MiB: the room for requests has 4 places


def made(max_batch: int = 2) -> SharedImages:
    return SharedImages(max_batch, Signature("image", SHAPE, None, "probabilities"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_requests_never_share_room_and_leave_all_of_it_free(steps: list[tuple[bool, int]]) -> None:
    images, held = made(), {}
    for mark, (takes, number) in enumerate(steps):
        if takes:
            held[mark] = images.empty(number)
            held[mark][:, 0, 0, 0] = mark
        elif held:
            del held[sorted(held)[number % len(held)]]
        for owner in held:
            assert (held[owner][:, 0, 0, 0] == owner).all()
    held.clear()
    assert images.place([images.empty(4)]) == [(2 * 16 << 20, (4, *SHAPE))]


def test_images_of_a_request_are_run_where_they_are_and_others_are_copied_once() -> None:
    images = made()
    own, foreign = images.empty(2), np.full((1, *SHAPE), 7, np.float32)

    ((first, _), (copied, _), (part, shape)) = images.place([own, foreign, own[1:]])

    assert (first, copied) == (2 * 16 << 20, 0)
    assert (part, shape) == (first + (16 << 20), (1, *SHAPE))
    assert np.frombuffer(images._memory, np.float32, 4)[0] == 7


def test_a_request_for_which_there_is_no_room_gets_memory_of_its_own() -> None:
    images = made()
    kept = images.empty(4)
    more = images.empty(1)
    more[...] = 3

    assert images.place([kept]) == [(2 * 16 << 20, (4, *SHAPE))]
    assert images.place([more]) == [(0, (1, *SHAPE))]


def test_a_part_keeps_the_room_of_the_whole() -> None:
    images = made()
    part = images.empty(4)[3:4].reshape(1, -1)

    assert images.place([images.empty(1)]) == [(0, (1, *SHAPE))]
    del part
    assert images.place([images.empty(1)]) == [(2 * 16 << 20, (1, *SHAPE))]


def test_a_host_cannot_write_to_the_images() -> None:
    images = made()

    with pytest.raises(PermissionError):
        mmap.mmap(images.fd, images.nbytes)
    with mmap.mmap(images.fd, images.nbytes, access=mmap.ACCESS_READ) as seen:
        images.place([np.full((1, *SHAPE), 5, np.float32)])
        assert np.frombuffer(seen[:4], np.float32) == 5


def test_rows_are_copied_before_the_host_can_change_them() -> None:
    rows = SharedRows(2)
    host = mmap.mmap(rows.fd, rows.nbytes)
    np.frombuffer(host, np.float32)[:4] = (1, 2, 3, 4)

    copy = rows.copy(2, 2)
    np.frombuffer(host, np.float32)[:4] = 0

    np.testing.assert_array_equal(copy, [[1, 2], [3, 4]])
