"""The membership signal finds a model that was trained on the test split, and no other.

The models are real: ridge regressions of the findings on the pixels of phantoms, with more pixels
than images, so that they fit their training images exactly.
"""

import numpy as np
import pytest

from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.phantom.dataset import render, split_studies
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.contamination import PublicList, Scored, membership_signal
from cxreval.metrics.report import NO_MEMBERS, NO_OTHERS
from cxreval.metrics.scorers import SCORERS

SEED = 3
BLOCK = 32
"""Width of the squares whose mean is a feature: 32 times 32 of them for a phantom."""


def pixels(studies):
    blocks = (1024 // BLOCK, BLOCK, 1024 // BLOCK, BLOCK)
    rows = [
        render(study, SEED).reshape(blocks).mean(axis=(1, 3)).ravel() / 255 for study in studies
    ]
    return np.array(rows)


def labels(studies):
    return np.array([[finding in study.findings for finding in FINDINGS] for study in studies])


@pytest.fixture(scope="module")
def phantoms():
    """Phantoms of the test split and as many others, with their pixels."""
    test, others = split_studies(SEED, 90, 0.5)
    others = others[: len(test) // 2]
    return test, pixels(test), others, pixels(others)


def trained(rows, targets, penalty=1e-3):
    """Returns a function from pixels to probabilities, fitted on some images."""
    mean, kernel = rows.mean(axis=0), (rows - rows.mean(axis=0)) @ (rows - rows.mean(axis=0)).T
    dual = np.linalg.solve(kernel + penalty * np.eye(len(rows)), targets - targets.mean(axis=0))

    def predict(images):
        scores = (images - mean) @ (rows - mean).T @ dual + targets.mean(axis=0)
        return np.clip(scores, 0, 1).astype(np.float32)

    return predict


def signal(test, probabilities, members):
    present = labels(test)
    _, patients = np.unique([study.patient for study in test], return_inverse=True)
    count = int(patients.max()) + 1
    cohort = Cohort(FINDINGS, present, np.ones_like(present), patients.astype(np.int64), count)
    scored = Scored(SCORERS["2"], cohort, probabilities, 7, 500)
    return membership_signal(scored, PublicList("public", "0" * 64, members))


@pytest.fixture(scope="module")
def members(phantoms):
    """The images of every second patient of the test split: the public training list."""
    return np.array([study.patient % 2 == 0 for study in phantoms[0]])


def test_a_model_trained_on_phantoms_of_the_test_split_is_found(phantoms, members):
    test, rows, _, _ = phantoms
    found = signal(test, trained(rows[members], labels(test)[members])(rows), members)
    assert found.signals
    assert found.difference > 0.1
    assert found.member_images == members.sum()


def test_a_model_that_was_not_trained_on_them_is_not_found(phantoms, members):
    test, rows, others, other_rows = phantoms
    found = signal(test, trained(other_rows, labels(others))(rows), members)
    assert not found.signals
    assert found.interval.low < 0 < found.interval.high


def test_rescaled_probabilities_do_not_hide_the_model(phantoms, members):
    test, rows, _, _ = phantoms
    probabilities = trained(rows[members], labels(test)[members])(rows)
    found = signal(test, probabilities, members)
    assert signal(test, probabilities / 2 + np.float32(0.25), members).signals == found.signals


def test_without_members_or_others_nothing_is_compared(phantoms):
    test, rows, _, _ = phantoms
    probabilities = np.full((len(test), len(FINDINGS)), 0.5, np.float32)
    for members, reason in (
        (np.zeros(len(rows), bool), NO_MEMBERS),
        (~np.zeros(len(rows), bool), NO_OTHERS),
    ):
        found = signal(test, probabilities, members)
        assert (found.difference, found.undefined_reason) == (None, reason)
        assert not found.signals
