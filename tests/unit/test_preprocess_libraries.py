"""Each declared operation equals the call of the library that it is named after.

`tests/extended/test_every_radiograph.py` checks the same on every real radiograph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.library_pipelines import FEW, Case, cases, check, gray_image, radiographs

CASES = cases()
ODD = [(1, 1), (3, 500), (223, 224), (100, 150), (449, 701), (301, 400), (448, 448), (17, 2000)]


@pytest.mark.parametrize(
    ("number", "case"), enumerate(CASES), ids=lambda value: getattr(value, "name", "")
)
def test_equals_the_library_on_real_radiographs(shared: Path, number: int, case: Case) -> None:
    files = radiographs(shared)
    for file in (files[(number * FEW + index) % len(files)] for index in range(FEW)):
        check(case, gray_image(file))


@pytest.mark.parametrize("shape", ODD)
@pytest.mark.parametrize(
    "case", [case for case in CASES if "monai-longest" not in case.name], ids=lambda case: case.name
)
def test_equals_the_library_on_odd_shapes(case: Case, shape: tuple[int, int]) -> None:
    check(case, np.random.default_rng(1).integers(3, 250, shape, dtype=np.uint8))


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name.startswith(("scikit", "torch-"))],
    ids=lambda case: case.name,
)
def test_resizes_in_float_have_the_full_depth_of_16_bits(case: Case) -> None:
    image = np.random.default_rng(2).integers(0, 65536, (300, 270), dtype=np.uint16)

    def call(levels: np.ndarray) -> np.ndarray:
        return case.call(levels.astype(np.float64)) / 257

    check(Case(case.name, case.steps, call), image)
