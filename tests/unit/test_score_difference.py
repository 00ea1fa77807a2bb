"""The difference of two scores on a benchmark that is too small for its interval."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cxreval.records import Agreement, Verdict
from services.registry.domain import agreements
from tests.support.registry import small_spec


@pytest.mark.parametrize(("values", "defined"), [((0.7, 0.8, 0.9), True), ((np.nan,) * 3, False)])
def test_an_interval_that_is_not_defined_is_absent(
    values: tuple[float, ...], defined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreements, "macro", lambda *_: SimpleNamespace(value=0.8))
    replicate = SimpleNamespace(metric="auroc", finding="", values=np.array(values))
    evidence = SimpleNamespace(replicates=[replicate])
    item = cast(
        "Any", SimpleNamespace(name="a", report=SimpleNamespace(metrics=()), evidence=evidence)
    )
    found = Agreement(
        evaluation="b", with_evaluation="a", verdict=Verdict.AGREES, images=3, images_total=3,
        bit_identical=True, max_difference=0.0, mean_difference=0.0, worst_image="",
        worst_finding="", tolerance=1e-4, time=datetime(2026, 11, 30, tzinfo=UTC),
    )  # fmt: skip
    scored = agreements._with_score(found, item, item, small_spec("small"))
    assert scored.score_difference == 0.0
    assert (scored.score_low, scored.score_high) == ((0.0, 0.0) if defined else (None, None))
