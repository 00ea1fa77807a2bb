"""What a script is shown tells nothing about which image is which but the image itself."""

from __future__ import annotations

import random
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.errors import ImageUnreadable
from cxreval.imaging.decode import decode
from cxreval.reproduction.images import prepare, with_noise
from cxreval.reproduction.sample import draw, shuffled

SEED = b"a secret of a test"


def write_images(directory: Path, count: int = 40) -> list[tuple[str, Path]]:
    """Writes small images of one size, of very different content and compressed size."""
    directory.mkdir()
    generator = np.random.default_rng(5)
    found = []
    for number in range(count):
        high = 2 if number % 2 else 256
        file = directory / f"patient-{number}.png"
        file.write_bytes(imagecodecs.png_encode(generator.integers(0, high, (60, 50), np.uint8)))
        found.append((f"{number:04}_000.png", file))
    return found


def test_names_order_times_and_sizes_tell_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "shown"
    directory.mkdir()
    shown = prepare(write_images(tmp_path / "images"), directory, SEED, canaries=8)
    files = sorted(directory.iterdir())
    assert [file.name for file in files] == [f"{number:06}.png" for number in range(1, 49)]
    assert shown.list_text().splitlines() == [file.name for file in files] == [*shown.images]
    status = [file.stat() for file in files]
    assert {
        (one.st_size, one.st_mtime_ns, one.st_mode & 0o777, one.st_nlink) for one in status
    } == {(status[0].st_size, 0, 0o444, 1)}
    assert directory.stat().st_mode & 0o777 == 0o555
    order = [*shown.images.values()]
    assert order != sorted(order)
    assert all(b"patient" not in file.read_bytes() for file in files)


def test_pixels_are_those_that_our_decoder_gives_and_canaries_differ_by_one_level(
    tmp_path: Path,
) -> None:
    images = dict(write_images(tmp_path / "images"))
    directory = tmp_path / "shown"
    directory.mkdir()
    shown = prepare(images.items(), directory, SEED, canaries=8)
    assert len(shown.canaries) == 8
    assert len(shown.images) == 48
    for name, image in shown.images.items():
        pixels = decode((directory / name).read_bytes())
        difference = pixels.astype(int) - decode(images[image].read_bytes())
        if name in shown.canaries:
            assert shown.images[shown.canaries[name]] == image
            assert shown.canaries[name] not in shown.canaries
            assert np.abs(difference).max() == 1
        else:
            assert not difference.any()


def test_the_same_seed_gives_the_same_files_and_another_seed_another_order(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    shown = []
    for number, seed in enumerate((SEED, SEED, b"another")):
        directory = tmp_path / str(number)
        directory.mkdir()
        found = random.Random(number).sample(images, len(images))
        content = prepare(found, directory, seed, canaries=8)
        shown.append((content, [file.read_bytes() for file in sorted(directory.iterdir())]))
    assert shown[0] == shown[1]
    assert shown[0][0] != shown[2][0]
    assert set(shown[0][0].canaries) != set(shown[2][0].canaries)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 2), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_form_of_an_image_is_shown_as_it_is_decoded(
    shape: tuple[int, ...], dtype: type[np.uint8 | np.uint16], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype)
    file = tmp_path / "a.png"
    file.write_bytes(imagecodecs.png_encode(pixels))
    directory = tmp_path / "shown"
    directory.mkdir()
    shown = prepare([("a", file)], directory, SEED)
    assert len(shown.images) == 2  # fewer images than canaries: each is shown again once
    for name in shown.images:
        found = decode((directory / name).read_bytes())
        assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)
        difference = np.abs(found.astype(int) - pixels)
        assert difference.max() == (
            0 if name not in shown.canaries else 1 if dtype == np.uint8 else 257
        )
        if len(shape) == 3 and shape[2] in (2, 4):
            assert not difference[:, :, -1].any()


def test_noise_stays_in_range_and_is_balanced() -> None:
    for value in (0, 255):
        noisy = with_noise(np.full((64, 64), value, np.uint8), SEED)
        assert set(np.unique(noisy)) == {value, 1 if value == 0 else 254}
    gray = with_noise(np.full((640, 640), 100, np.uint8), SEED)
    assert abs(gray.mean() - 100) < 0.01


def test_an_unreadable_image_is_a_named_error(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"no image")
    (tmp_path / "shown").mkdir()
    with pytest.raises(ImageUnreadable):
        prepare([("a", file)], tmp_path / "shown", SEED)


names = st.lists(st.text("ab01", min_size=1, max_size=4), unique=True, max_size=30)


@settings(max_examples=50)
@given(names, st.integers(0, 40), st.binary(min_size=1, max_size=16), st.randoms())
def test_a_draw_depends_on_names_and_key_alone(
    found: list[str], count: int, key: bytes, random: random.Random
) -> None:
    drawn = draw(found, count, key)
    assert len(drawn) == min(count, len(found))
    assert drawn == [name for name in found if name in drawn]
    other = random.sample(found, len(found))
    assert set(draw(other, count, key)) == set(drawn)
    assert set(drawn) <= set(draw(found, count + 1, key))
    assert shuffled(other, key) == shuffled(found, key)


def test_each_name_is_drawn_about_as_often_over_many_keys() -> None:
    found = [f"{number:08}_000.png" for number in range(40)]
    counts = dict.fromkeys(found, 0)
    for key in range(400):
        for name in draw(found, 10, key.to_bytes(4)):
            counts[name] += 1
    assert min(counts.values()) > 60  # 100 expected, standard deviation 8.7
    assert max(counts.values()) < 140
