"""The vocabulary of NIH ChestX-ray14.

Only what is NIH's own imports it: the seeded claims, the label-table format, the phantoms and the
exports of networks trained on NIH's labels. Everything else takes the findings of its benchmark.
"""

from __future__ import annotations

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings, in the order of the CheXNet paper, spelled as in NIH's table."""

NO_FINDING = "No Finding"
"""What NIH's table says of an image without any of the findings."""
