"""The phantom cohort: patients, their studies, the findings of each study, and the split.

Frequencies, co-occurrence and persistence follow NIH's `Data_Entry_2017_v2020.csv` (112,120 images
of 30,805 patients): each finding's odds were fitted there by logistic regression on the findings
before it in `FINDINGS` and on whether the patient's previous image had it. Drawing the findings in
that order therefore reproduces the pairwise frequencies too.
"""

from __future__ import annotations

from dataclasses import dataclass

from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.phantom.canvas import stream

_COHORT, _SPLIT = 10, 11  # keys of the random streams

_STUDIES = (0.568, 0.702, 0.770, 0.813, 0.843, 0.869, 0.889, 0.905, 0.917, 0.928, 0.937, 1.0)
"""Share of NIH's patients with at most 1, 2, ... images; the 6 % with more than 12 get 12."""

_MALE, _PA = 0.565, 0.600
"""Shares of NIH's images."""

_ODDS: dict[str, tuple[float, float, tuple[float, ...]]] = {
    "Atelectasis": (0.0849, 0.594, ()),
    "Cardiomegaly": (0.0193, 0.421, (1.3,)),
    "Effusion": (0.0658, 0.730, (3.2, 5.6)),
    "Infiltration": (0.1447, 0.521, (1.7, 1.0, 1.8)),
    "Mass": (0.0333, 0.616, (1.1, 0.6, 1.9, 1.1)),
    "Nodule": (0.0409, 0.368, (0.8, 0.7, 1.1, 1.5, 2.7)),
    "Pneumonia": (0.0079, 0.081, (1.6, 1.0, 1.3, 3.0, 0.9, 0.8)),
    "Pneumothorax": (0.0226, 1.114, (1.3, 0.4, 1.5, 0.9, 1.4, 1.0, 0.7)),
    "Consolidation": (0.0224, 0.217, (2.6, 1.2, 1.9, 1.2, 2.5, 1.6, 1.5, 0.9)),
    "Edema": (0.0098, 0.221, (0.6, 1.5, 2.0, 2.4, 1.0, 0.9, 15.0, 0.5, 1.2)),
    "Emphysema": (0.0116, 0.438, (1.5, 0.9, 1.0, 1.0, 1.7, 0.7, 0.9, 4.9, 0.9, 0.8)),
    "Fibrosis": (0.0122, 0.218, (1.3, 1.2, 0.9, 1.2, 1.3, 1.8, 0.8, 1.0, 1.0, 0.6, 0.9)),
    "Pleural_Thickening": (
        0.0181,
        0.176,
        (1.2, 1.1, 2.0, 1.1, 2.2, 2.0, 1.0, 1.5, 1.3, 0.8, 1.7, 3.3),
    ),
    "Hernia": (0.0013, 0.807, (1.8, 1.2, 0.5, 0.8, 3.2, 0.7, 1.0, 0.7, 0.5, 0.8, 0.8, 1.7, 1.3)),
}
"""Odds of each finding: for a new finding, for a persisting one, and odds ratios.

The first value applies if no earlier finding is present and the patient's previous image did not
have the finding or there is none; the second if that image had it. The ratios are those by which
each earlier finding in `FINDINGS` multiplies either value.
"""

_RAISED = {
    "Cardiomegaly": 1.5,
    "Pneumonia": 2.2,
    "Edema": 1.4,
    "Emphysema": 2.0,
    "Fibrosis": 2.6,
    "Pleural_Thickening": 1.3,
    "Hernia": 15.0,
}
"""Factors on the odds of a new finding that raise it to about 3 % of the images.

Hernia is on 0.2 % of NIH's images; a few hundred test images would hold none.
"""


@dataclass(frozen=True, slots=True)
class Study:
    """One image of one patient: a row of the label table."""

    patient: int
    follow_up: int
    findings: frozenset[str]
    age: int
    gender: str
    view: str

    @property
    def image(self) -> str:
        """The file name in NIH's form."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def draw_studies(seed: int, patient: int) -> list[Study]:
    """Returns all studies of a patient, in order. Depends only on `seed` and `patient`."""
    random = stream(seed, _COHORT, patient)
    draw = random.random()
    count = 1 + sum(draw >= share for share in _STUDIES)
    gender = "M" if random.random() < _MALE else "F"
    age = 18 + int(60 * (random.random() + random.random()) / 2)
    studies: list[Study] = []
    for follow_up in range(count):
        previous = studies[-1].findings if studies else frozenset()
        view = "PA" if random.random() < _PA else "AP"
        findings = _draw_findings(random.random(len(FINDINGS)).tolist(), previous)
        studies.append(Study(patient, follow_up, findings, age, gender, view))
        age += random.random() < 0.2  # a follow-up every ten weeks or so
    return studies


def _draw_findings(draws: list[float], previous: frozenset[str]) -> frozenset[str]:
    present: list[bool] = []
    for finding, draw in zip(FINDINGS, draws, strict=True):
        odds_new, odds_kept, ratios = _ODDS[finding]
        odds = odds_kept if finding in previous else odds_new * _RAISED.get(finding, 1.0)
        for ratio, is_present in zip(ratios, present, strict=True):
            odds *= ratio if is_present else 1.0
        present.append(draw < odds / (1.0 + odds))
    return frozenset(
        finding for finding, is_present in zip(FINDINGS, present, strict=True) if is_present
    )


def split_studies(
    seed: int, patients: int, test_fraction: float
) -> tuple[list[Study], list[Study]]:
    """Returns the studies of patients 1 to `patients`: (test split, train_val split).

    A patient is in the test split with probability `test_fraction`, and in the same split for any
    number of patients, except that each split has at least one patient.
    """
    draws = stream(seed, _SPLIT).random(patients).tolist()
    in_order = sorted(range(patients), key=draws.__getitem__)
    count = min(max(sum(draw < test_fraction for draw in draws), 1), patients - 1)
    held_out = {index + 1 for index in in_order[:count]}
    test: list[Study] = []
    train_val: list[Study] = []
    for patient in range(1, patients + 1):
        (test if patient in held_out else train_val).extend(draw_studies(seed, patient))
    return test, train_val
