"""Each kind of image and metadata of docs/compatibility.md is read, applied, ignored or refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import CxrevalError, ImageUnreadable
from cxreval.imaging.decode import decode
from tests.support.image_kinds import SAMPLES, Sample, exif, icc, iccp, jpeg, png

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.kind for sample in SAMPLES])
def test_an_image_is_read_or_refused_as_its_kind_says(sample: Sample) -> None:
    if isinstance(sample.expected, str):
        assert sample.outcome == "refused"
        with pytest.raises(ImageUnreadable) as refusal:
            decode(sample.make())
        assert sample.expected in refusal.value.message
        assert refusal.value.metadata["field"] == "image"
        return
    decoded = decode(sample.make())
    assert decoded.dtype == sample.expected.dtype
    np.testing.assert_allclose(decoded.astype(int), sample.expected.astype(int), atol=2)


@given(position=st.integers(0, 200), value=st.integers(0, 255), kind=st.sampled_from("ep"))
def test_damaged_metadata_give_no_foreign_error(position: int, value: int, kind: str) -> None:
    content = bytearray(exif(6) if kind == "e" else icc(b"RGB ", b"para" + bytes(40)))
    content[position % len(content)] = value
    made = (
        [png((b"eXIf", bytes(content))), jpeg((0xE1, b"Exif\0\0" + bytes(content)))]
        if kind == "e"
        else [png(iccp(bytes(content)))]
    )
    for data in made:
        with contextlib.suppress(CxrevalError):
            decode(data)


def test_no_real_radiograph_is_refused(shared: Path) -> None:
    files = sorted((shared / "nih-chestxray14" / "images").glob("*.png"))
    assert len(files) > 100
    for file in files[::20]:
        decode(file.read_bytes())
