"""What a row says of its reproduction."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cxreval.client import evidence_text
from cxreval.records import Agreement, Verdict


@pytest.mark.parametrize(("over", "flagged"), [(0, False), (8, False), (9, True), (32, True)])
def test_a_reproduction_is_flagged_when_more_than_a_quarter_of_its_canaries_moved(
    over: int, flagged: bool
) -> None:
    found = Agreement(
        evaluation="b", with_evaluation="a", verdict=Verdict.AGREES, images=512,
        images_total=25596, bit_identical=False, max_difference=3e-6, mean_difference=1e-7,
        worst_image="image", worst_finding="Mass", tolerance=1e-4,
        time=datetime(2026, 11, 30, tzinfo=UTC), canaries=32, canaries_flagged=over,
        canary_difference=0.01,
    )  # fmt: skip
    text = evidence_text.reproduced(found)
    assert text.startswith("reproduced on 512 of 25,596 images, max |Δp| 3e-06 (2026-11-30)")
    assert (f"flagged: {over} of 32 canaries" in text) is flagged
