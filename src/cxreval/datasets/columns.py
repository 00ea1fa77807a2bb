"""Names of the columns of label tables and of tables of predictions."""

IMAGE = "Image Index"
LABELS = "Finding Labels"
PATIENT = "Patient ID"
AGE = "Patient Age"
SEX = "Patient Gender"
VIEW = "View Position"
UNREAD_COLUMNS = (
    "Follow-up #",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
    "",
)
"""Columns of NIH's label table that are not read."""

SHORT_IMAGE = "image"
"""The other name of the image's column in a table of predictions."""

PREDICTION_PREFIX = "prob_"
"""What may precede the name of a finding in a table of predictions."""


def folded(name: str) -> str:
    """Returns the name without underscores and in one case; no two columns may share this form."""
    return name.replace("_", " ").casefold()


RESERVED = frozenset(
    map(folded, (IMAGE, LABELS, PATIENT, AGE, SEX, VIEW, *UNREAD_COLUMNS, SHORT_IMAGE))
)
"""Names, folded, that a finding cannot have."""
