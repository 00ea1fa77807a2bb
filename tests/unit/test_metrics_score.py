"""`score` returns every metric per finding, macro mean and slice, with intervals and evidence."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.registry import METRICS
from cxreval.metrics.report import (
    FINDING_UNDEFINED,
    REPLICATES_UNDEFINED,
    UNDEFINED_SHARE,
    Interval,
)
from cxreval.metrics.resampling import patient_weights
from cxreval.metrics.scorers import SCORERS

score = partial(SCORERS["2"].score, recorded=("auroc",))

FINDINGS = ("Mass", "Nodule", "Hernia")
SEED = 20171208
REPLICATES = 300
SLICES = ["sex=F", "sex=M"]


def study(seed=1, images=240, patients=80, known=1.0):
    """Returns a cohort with some unknown labels, and predictions better than chance."""
    generator = np.random.default_rng(seed)
    of_image = np.concatenate(
        [np.arange(patients), generator.integers(0, patients, images - patients)]
    )
    labels = generator.random((images, len(FINDINGS))) < 0.35
    female = (generator.random(patients) < 0.5)[of_image]
    cohort = Cohort(
        findings=FINDINGS,
        labels=labels,
        known=generator.random(labels.shape) < known,
        patients=of_image,
        patient_count=patients,
        slices=(Slice("sex", "F", female), Slice("sex", "M", ~female)),
    )
    probabilities = 1 / (1 + np.exp(-(1.2 * labels - 0.9 + generator.normal(size=labels.shape))))
    return cohort, probabilities.round(2).astype(np.float32)


def only(cohort, rows):
    """Returns the cohort of these rows; patients keep their numbers."""
    return replace(
        cohort,
        labels=cohort.labels[rows],
        known=cohort.known[rows],
        patients=cohort.patients[rows],
        slices=(),
    )


def by_name(values):
    return {(value.slice, value.metric, value.finding): value for value in values}


def vectors(evidence):
    return {replicates.finding: replicates.values for replicates in evidence.replicates}


@pytest.fixture(scope="module", params=[1.0, 0.8], ids=["all labels known", "some labels unknown"])
def scored(request):
    cohort, probabilities = study(known=request.param)
    values, evidence = score(cohort, probabilities, SEED, REPLICATES)
    return cohort, probabilities, values, evidence


def test_values_come_metric_by_metric_and_then_slice_by_slice(scored):
    _, _, values, _ = scored
    names = [*FINDINGS, ""]
    expected = [("", metric, name) for metric in METRICS for name in names]
    expected += [(part, "auroc", name) for part in SLICES for name in names]
    assert [(value.slice, value.metric, value.finding) for value in values] == expected


def test_each_value_is_its_metric_over_the_known_labels(scored):
    cohort, probabilities, values, _ = scored
    found = by_name(values)
    for column, finding in enumerate(FINDINGS):
        at = cohort.known[:, column]
        positive = cohort.labels[at, column]
        for metric, definition in METRICS.items():
            value = found["", metric, finding]
            assert value.value == definition.compute(probabilities[at, column], positive)
            assert (value.positive_images, value.negative_images) == (
                positive.sum(),
                (~positive).sum(),
            )
            assert value.positive_patients == len(set(cohort.patients[at][positive]))
            assert (value.undefined_reason, value.defined_findings, value.defined_mean) == (
                "",
                0,
                None,
            )


def test_the_macro_is_the_plain_mean_and_counts_images_with_any_finding(scored):
    cohort, _, values, _ = scored
    found = by_name(values)
    anything = (cohort.labels & cohort.known).any(axis=1)
    for metric in METRICS:
        macro = found["", metric, ""]
        assert macro.value == np.mean([found["", metric, finding].value for finding in FINDINGS])
        assert (macro.defined_findings, macro.defined_mean) == (3, macro.value)
        assert (macro.positive_images, macro.negative_images) == (anything.sum(), (~anything).sum())
        assert macro.positive_patients == len(set(cohort.patients[anything]))


def test_every_interval_holds_its_value(scored):
    _, _, values, _ = scored
    for value in values:
        assert value.interval is not None
        assert value.interval_undefined_reason == ""
        assert 0 < value.interval.standard_error < 0.25
        # A bootstrap replicate is noisier than the sample, which raises the calibration error.
        if value.metric != "calibration_error":
            assert value.interval.low < value.value < value.interval.high


def test_replicates_are_the_metric_on_the_drawn_patients_images(scored):
    cohort, probabilities, _, evidence = scored
    found = vectors(evidence)
    assert list(found) == [*FINDINGS, ""]
    weights = next(patient_weights(SEED, cohort.patient_count, REPLICATES))
    for replicate in (0, 1, 100, 255):
        times = weights[cohort.patients, replicate].astype(int)
        findings = []
        for column, finding in enumerate(FINDINGS):
            rows = np.repeat(np.arange(times.size), times * cohort.known[:, column])
            findings.append(
                METRICS["auroc"].compute(probabilities[rows, column], cohort.labels[rows, column])
            )
            assert found[finding][replicate] == findings[-1]
        assert found[""][replicate] == pytest.approx(np.mean(findings), abs=1e-15)


def test_intervals_are_percentiles_of_the_replicates(scored):
    _, _, values, evidence = scored
    for finding, replicates in vectors(evidence).items():
        assert replicates.shape == (REPLICATES,)
        low, high = np.percentile(replicates, [2.5, 97.5])
        expected = Interval(low, high, np.std(replicates, ddof=1))
        assert by_name(values)["", "auroc", finding].interval == expected


def test_a_slice_equals_the_score_of_its_rows_under_the_same_draws(scored):
    cohort, probabilities, values, _ = scored
    found = by_name(values)
    for part in cohort.slices:
        of_rows, _ = score(only(cohort, part.rows), probabilities[part.rows], SEED, REPLICATES)
        for value in of_rows:
            if value.metric == "auroc":
                expected = replace(value, slice=part.name, analytic_standard_error=None)
                assert found[part.name, "auroc", value.finding] == expected


def test_the_analytic_standard_error_stands_beside_the_auroc_over_all_images(scored):
    _, _, values, _ = scored
    for value in values:
        if value.metric != "auroc" or value.slice:
            assert value.analytic_standard_error is None
        else:
            assert value.analytic_standard_error == pytest.approx(
                value.interval.standard_error, rel=0.2
            )


def test_unknown_cells_change_nothing(scored):
    cohort, probabilities, values, evidence = scored
    generator = np.random.default_rng(2)
    labels = np.where(cohort.known, cohort.labels, generator.random(cohort.labels.shape) < 0.5)
    others = np.where(cohort.known, probabilities, generator.random(labels.shape)).astype(
        np.float32
    )
    again, more = score(replace(cohort, labels=labels), others, SEED, REPLICATES)
    assert again == values
    np.testing.assert_equal(list(vectors(more).values()), list(vectors(evidence).values()))
    assert (more.roc_curves, more.reliabilities) == (evidence.roc_curves, evidence.reliabilities)


def test_order_of_the_images_changes_no_figure_by_more_than_rounding(scored):
    cohort, probabilities, values, _ = scored
    order = np.random.default_rng(3).permutation(cohort.patients.size)
    slices = tuple(replace(part, rows=part.rows[order]) for part in cohort.slices)
    again, _ = score(
        replace(only(cohort, order), slices=slices), probabilities[order], SEED, REPLICATES
    )
    for value, shuffled in zip(values, again, strict=True):
        if METRICS[value.metric].ranks_only:
            assert replace(shuffled, analytic_standard_error=value.analytic_standard_error) == value
        assert shuffled.value == pytest.approx(value.value, abs=1e-12)
        assert shuffled.analytic_standard_error == pytest.approx(
            value.analytic_standard_error, abs=1e-12
        )


def test_the_same_seed_gives_the_same_report_and_another_seed_only_other_intervals(scored):
    cohort, probabilities, values, evidence = scored
    again, more = score(cohort, probabilities, SEED, REPLICATES)
    assert again == values
    np.testing.assert_array_equal(vectors(more)[""], vectors(evidence)[""])
    other, _ = score(cohort, probabilities, SEED + 1, REPLICATES)
    assert [value.value for value in other] == [value.value for value in values]
    assert all(a.interval != b.interval for a, b in zip(values, other, strict=True))


def test_fewer_replicates_are_the_first_of_many(scored):
    cohort, probabilities, _, evidence = scored
    _, few = score(cohort, probabilities, SEED, 100)
    np.testing.assert_array_equal(vectors(few)[""], vectors(evidence)[""][:100])


def test_curves_stand_beside_the_figures(scored):
    _, _, _, evidence = scored
    assert [curve.finding for curve in evidence.roc_curves] == list(FINDINGS)
    assert [bins.finding for bins in evidence.reliabilities] == list(FINDINGS)


def test_a_finding_of_one_patient_has_values_without_intervals():
    cohort, probabilities = study()
    cohort.labels[:, 0] = cohort.patients == 0
    values, evidence = score(cohort, probabilities, SEED, REPLICATES)
    found = by_name(values)
    for metric, definition in METRICS.items():
        for finding in ("Mass", ""):
            value = found["", metric, finding]
            assert value.value is not None
            missing = (value.interval, value.interval_undefined_reason) == (
                None,
                REPLICATES_UNDEFINED,
            )
            assert missing == definition.ranks_only
    assert found["", "auroc", "Mass"].positive_patients == 1
    assert found["", "auroc", "Mass"].analytic_standard_error is None
    assert found["", "auroc", "Nodule"].interval is not None
    # (1 - 1/80) ** 80 of the resamples leave this patient out.
    undefined = np.isnan(vectors(evidence)["Mass"])
    assert undefined.mean() == pytest.approx((1 - 1 / 80) ** 80, abs=0.09)
    np.testing.assert_array_equal(np.isnan(vectors(evidence)[""]), undefined)


def test_a_few_undefined_replicates_leave_the_interval_of_the_others():
    cohort, probabilities = study()
    cohort.labels[:, 0] = cohort.patients < 6  # all six are left out of one resample in 470
    values, evidence = score(cohort, probabilities, SEED, 2000)
    replicates = vectors(evidence)["Mass"]
    assert 0 < np.isnan(replicates).mean() <= UNDEFINED_SHARE
    expected = np.nanpercentile(replicates, [2.5, 97.5])
    interval = by_name(values)["", "auroc", "Mass"].interval
    assert (interval.low, interval.high) == tuple(expected)


def test_one_replicate_has_no_interval():
    values, _ = score(*study(), SEED, 1)
    assert {(value.interval, value.interval_undefined_reason) for value in values} == {
        (None, REPLICATES_UNDEFINED)
    }


def test_a_slice_of_one_class_is_undefined_while_the_whole_is_not():
    cohort, probabilities = study()
    cohort.labels[:, 0] &= cohort.slices[0].rows
    found = by_name(score(cohort, probabilities, SEED, REPLICATES)[0])
    assert found["", "auroc", "Mass"].value is not None
    macro = found["sex=M", "auroc", ""]
    assert (macro.value, macro.undefined_reason, macro.defined_findings) == (
        None,
        FINDING_UNDEFINED,
        2,
    )
    defined = [found["sex=M", "auroc", finding].value for finding in FINDINGS[1:]]
    assert macro.defined_mean == np.mean(defined)


@settings(max_examples=60)
@given(st.integers(2, 60))
def test_patients_that_differ_only_by_a_shift_have_no_analytic_error(patients):
    """Each patient's positive and negative are shifted alike, so that the variance is zero."""
    low = (np.arange(patients) / patients).astype(np.float32)
    scores = np.concatenate([low + np.float32(0.5 / patients), low])[:, np.newaxis]
    labels = (np.arange(2 * patients) < patients)[:, np.newaxis]
    cohort = Cohort(
        ("Mass",), labels, np.ones_like(labels), np.tile(np.arange(patients), 2), patients
    )
    value, *_ = score(cohort, scores, SEED, 2)[0]
    assert value.analytic_standard_error == pytest.approx(0, abs=1e-8)
