"""Each declared operation equals the call of the library that it is named after.

`tests/extended/test_every_radiograph.py` checks the same on every real radiograph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.library_pipelines import CASES, Case, check, gray_image, radiographs

ODD = [(1, 1), (3, 500), (223, 224), (100, 150), (449, 701), (301, 400), (448, 448), (17, 2000)]
RADIOGRAPHS = 3

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
def test_equals_the_library_on_real_radiographs(shared: Path, case: Case) -> None:
    """Each operation takes others, so that together they take most."""
    files, first = radiographs(shared), CASES.index(case) * RADIOGRAPHS
    for number in range(first, first + RADIOGRAPHS):
        check(case, gray_image(files[number % len(files)]))


@by_name
def test_equals_the_library_on_odd_shapes(case: Case) -> None:
    for shape in ODD:
        if min(shape) > 50 or case.name != "monai-longest-bilinear":  # MONAI fails on a side of 0
            check(case, np.random.default_rng(1).integers(3, 250, shape, dtype=np.uint8))


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name.startswith(("scikit", "torch-"))],
    ids=lambda case: case.name,
)
def test_resizes_in_float_have_the_full_depth_of_16_bits(case: Case) -> None:
    image = np.random.default_rng(2).integers(0, 65536, (300, 270), dtype=np.uint16)
    check(case, image, divisor=257)
