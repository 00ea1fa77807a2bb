"""Scores predictions without the patients that a model was trained on, and looks for membership.

The declared training data gives a verdict and the score on the clean remainder, which is a part of
the images as a slice is. The membership signal needs no declaration: a model is usually better on
images that it was trained on than on others (Yeom et al., Privacy Risk in Machine Learning, IEEE
CSF 2018; Carlini et al., Membership Inference Attacks From First Principles, IEEE S&P 2022). It
compares the AUROC of each finding on the images of a public training list with that on the images
of all other patients. An AUROC depends on the order of the probabilities only, so rescaling them
does not hide the difference.

The signal is no proof. A list that was not drawn at random may have easier images. A model that was
trained on a list without overfitting shows no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxreval.metrics.cohort import Cohort, Slice
from cxreval.metrics.report import (
    CLEAN_SLICE,
    NO_MEMBERS,
    NO_OTHERS,
    REPLICATES_UNDEFINED,
    UNDEFINED_SHARE,
    Contamination,
    MembershipSignal,
    MetricValue,
    Replicates,
    TrainingVerdict,
)
from cxreval.metrics.scorers import Scorer, with_interval

_SIGNAL_METRIC = "auroc"


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """The images and patients of a benchmark that a model was trained on, as declared.

    `images`: shape (images,), bool. `patients`: shape (patients,), bool, by the cohort's numbers.
    It has the patient of each image, and patients with images outside the benchmark. `unmatched`:
    as in `Contamination`.
    """

    images: NDArray[np.bool_]
    patients: NDArray[np.bool_]
    unmatched: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PublicList:
    """A public training list: its name, the sha256 of its file, and which images are on it.

    `members`: shape (images,), bool, in the cohort's order.
    """

    name: str
    sha256: str
    members: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Predictions with what scores them: the arguments of `Scorer.score` that parts share."""

    scorer: Scorer
    cohort: Cohort
    probabilities: NDArray[np.float32]
    seed: int
    replicate_count: int
    covered: Sequence[str] = ()

    def parts(
        self, metrics: Sequence[str], rows: Sequence[NDArray[np.bool_]]
    ) -> list[tuple[tuple[MetricValue, ...], tuple[Replicates, ...]]]:
        """Returns the figures and replicates of some parts of the images."""
        dimension, _, value = CLEAN_SLICE.partition("=")
        return self.scorer.score_parts(
            self.cohort,
            self.probabilities,
            self.seed,
            self.replicate_count,
            metrics,
            [Slice(dimension, value, part) for part in rows],
            self.covered,
        )


def contamination(scored: Scored, exposure: Exposure, metrics: Sequence[str]) -> Contamination:
    """Returns the verdict on declared training data, with `metrics` on the clean remainder."""
    patients = scored.cohort.patients
    clean = ~exposure.patients[patients]
    overlaps = not bool(clean.all())
    return Contamination(
        verdict=TrainingVerdict.OVERLAP if overlaps else TrainingVerdict.CLEAN,
        images=int(exposure.images.sum()),
        patients=int(exposure.patients.sum()),
        clean_images=int(clean.sum()),
        clean_patients=int((~exposure.patients).sum()),
        clean_metrics=scored.parts(metrics, [clean])[0][0] if overlaps else (),
        unmatched=exposure.unmatched,
    )


def membership_signal(scored: Scored, public: PublicList) -> MembershipSignal:
    """Returns how much better predictions are on the images of a public list than on the others."""
    patients = scored.cohort.patients
    listed = np.zeros(scored.cohort.patient_count, np.bool_)
    listed[patients[public.members]] = True
    others = ~listed[patients]
    signal = MembershipSignal(
        list=public.name,
        list_sha256=public.sha256,
        member_images=int(public.members.sum()),
        member_patients=int(listed.sum()),
        other_images=int(others.sum()),
        other_patients=int((~listed).sum()),
    )
    if not (signal.member_images and signal.other_images):
        reason = NO_OTHERS if signal.member_images else NO_MEMBERS
        return replace(signal, undefined_reason=reason)
    (of_members, member_vectors), (of_others, other_vectors) = scored.parts(
        [_SIGNAL_METRIC], [public.members, others]
    )
    vectors = {
        item.finding: item.values - other
        for item in member_vectors
        if (other := _of_finding(other_vectors, item.finding)) is not None
    }
    pairs = [
        (member, other)
        for member, other in zip(of_members, of_others, strict=True)
        if member.finding in vectors
        and np.isnan(vectors[member.finding]).mean() <= UNDEFINED_SHARE
        and member.finding
        and None not in (member.value, other.value)
    ]
    if not pairs:
        return replace(signal, undefined_reason=REPLICATES_UNDEFINED)
    findings = tuple(member.finding for member, _ in pairs)
    member_score = float(np.mean([member.value for member, _ in pairs]))
    other_score = float(np.mean([other.value for _, other in pairs]))
    difference = member_score - other_score
    differences = np.array([vectors[finding] for finding in findings])
    value = with_interval(MetricValue(_SIGNAL_METRIC, "", difference), _mean(differences))
    return replace(
        signal,
        findings=findings,
        member_score=member_score,
        other_score=other_score,
        difference=difference,
        interval=value.interval,
    )


def _mean(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean over the findings that are defined in a resample, shape (replicates,).

    Few resamples lack a finding. NaN where all are undefined.
    """
    defined = ~np.isnan(differences)
    sums, counts = np.where(defined, differences, 0).sum(axis=0), defined.sum(axis=0)
    mean = np.full(counts.size, np.nan)
    np.divide(sums, counts, out=mean, where=counts > 0)
    return mean


def _of_finding(vectors: Sequence[Replicates], finding: str) -> NDArray[np.float64] | None:
    """Returns the replicates of a finding, shape (replicates,); None if it has none."""
    return next((item.values for item in vectors if item.finding == finding), None)
