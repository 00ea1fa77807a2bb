"""Each declared operation equals its library on all 198 real radiographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.library_pipelines import CASES, Case, check, gray_image, radiographs


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_the_library_on_every_real_radiograph(shared: Path, case: Case) -> None:
    files = radiographs(shared)
    assert len(files) == 198
    for file in files:
        check(case, gray_image(file))
