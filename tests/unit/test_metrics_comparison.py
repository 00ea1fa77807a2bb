"""Comparison of two reports: findings are one family of tests, the macro mean is another."""

from dataclasses import replace

import numpy as np
import pytest

from cxreval.errors import NotComparable
from cxreval.metrics.comparison import compare_reports, first_difference
from cxreval.metrics.ranking import holm
from cxreval.metrics.report import ONE_CLASS_ONLY, Evidence, MetricValue, Replicates, Report


def report(values, vectors):
    """Returns a report of AUROCs by finding; the macro mean has the empty name."""
    metrics = [
        MetricValue("auroc", name, value, "" if value else ONE_CLASS_ONLY)
        for name, value in values.items()
    ]
    metrics.append(MetricValue("brier", "Mass", 0.1))
    metrics.append(MetricValue("auroc", "Mass", 0.5, slice="sex=F"))
    evidence = Evidence(
        tuple(Replicates("auroc", name, np.asarray(vector)) for name, vector in vectors.items())
    )
    return Report("benchmarks/b", "d" * 64, "2", 4, 2, tuple(metrics), "e" * 64, 3, 1, evidence)


def test_holm_equals_the_example_worked_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).size == 0


def test_findings_are_corrected_together_and_the_macro_is_not():
    spread = np.array([-0.01, 0.0, 0.01])
    values = {"Mass": 0.52, "Hernia": 0.53, "Edema": None, "": 0.525}
    first = report(values, dict.fromkeys(values, 0.5 + spread))
    second = report(
        dict.fromkeys(values, 0.5) | {"Edema": None}, dict.fromkeys(values, 0.5 - 0 * spread)
    )
    mass, hernia, macro = compare_reports(first, second, "auroc")
    assert [pair.finding for pair in (mass, hernia, macro)] == ["Mass", "Hernia", ""]
    # 0.02, 0.03 and 0.025 with a standard error of 0.01: z of 2, 3 and 2.5.
    assert [pair.p_value for pair in (mass, hernia, macro)] == pytest.approx(
        [0.0455, 0.0027, 0.01242], abs=1e-4
    )
    assert mass.adjusted_p_value == pytest.approx(mass.p_value)
    assert hernia.adjusted_p_value == pytest.approx(2 * hernia.p_value)
    assert macro.adjusted_p_value == macro.p_value
    assert (mass.low, mass.high) == pytest.approx(
        (0.02 - 1.96 * 0.01, 0.02 + 1.96 * 0.01), abs=1e-5
    )


def test_an_undefined_replicate_leaves_the_interval_out_and_separates_nothing():
    first = report({"Mass": 0.9}, {"Mass": [0.9, np.nan, 0.9]})
    second = report({"Mass": 0.5}, {"Mass": [0.5, np.nan, 0.5]})
    (pair,) = compare_reports(first, second, "auroc")
    assert (pair.low, pair.high, pair.p_value, pair.separable) == (None, None, 1.0, False)
    assert pair.difference == pytest.approx(0.4)


def test_reports_without_common_resamples_are_refused():
    one = report({"Mass": 0.9}, {"Mass": [0.9, 0.8, 0.9]})
    with pytest.raises(NotComparable, match="reports are of different benchmarks"):
        compare_reports(one, replace(one, benchmark_digest="f" * 64), "auroc")
    with pytest.raises(NotComparable, match="a report has no replicates"):
        compare_reports(one, replace(one, evidence=None), "auroc")


def test_equal_reports_may_differ_in_the_last_bits_of_analytic_standard_errors_only():
    one = report({"Mass": 0.9}, {"Mass": [0.9, 0.8, 0.9]})
    mass = replace(one.metrics[0], analytic_standard_error=0.0338131735254584)

    def changed(**changes):
        return replace(one, metrics=(replace(mass, **changes), *one.metrics[1:]))

    stored = changed()
    assert first_difference(changed(analytic_standard_error=0.03381317352545841), stored) == ""
    for changes in (
        {"analytic_standard_error": 0.0338131736},
        {"analytic_standard_error": None},
        {"value": np.nextafter(0.9, 1)},
    ):
        assert first_difference(changed(**changes), stored) == "auroc of Mass"
    assert first_difference(replace(stored, metrics=stored.metrics[:-1]), stored) == (
        "number of metrics"
    )
