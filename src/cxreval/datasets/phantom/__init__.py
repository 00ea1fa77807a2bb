"""The embedded synthetic benchmark: chest radiographs that are drawn, not taken.

`generate` writes a data set of phantoms in NIH's layout: 1024 x 1024 8-bit PNGs of patients with
follow-ups, each of the 14 findings drawn as what it looks like, label frequencies, co-occurrence
and persistence like the real table's,
split by patient. Rare findings are the exception: seven are raised to 2.5 to 4 % of the images
(Hernia from 0.2 %), so that a few hundred test images hold positives of each. Nothing in it is a
patient, and no score on it says anything about one.

The same seed gives the same label table and the same pixels on every machine, whatever else is
drawn and by however many processes; the PNGs' compressed bytes are the same for the same zlib.
"""

from cxreval.datasets.phantom.cohort import Study, draw_studies, split_studies
from cxreval.datasets.phantom.dataset import TEST_FRACTION, encode_png, generate, render

__all__ = [
    "TEST_FRACTION",
    "Study",
    "draw_studies",
    "encode_png",
    "generate",
    "render",
    "split_studies",
]
