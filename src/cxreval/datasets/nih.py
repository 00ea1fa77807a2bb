"""The findings of NIH ChestX-ray14, as its label table spells them.

Only code for NIH's data imports this module: the seeded claims, the label-table format, the
phantoms and the exports of networks trained on NIH's labels. Other code takes the findings of its
benchmark.
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
"""The entry in NIH's table for an image without any of the findings."""
