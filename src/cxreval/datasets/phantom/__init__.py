"""The built-in synthetic benchmark: computer-generated chest radiographs.

`generate` writes a data set of phantoms in NIH's layout: 1024 x 1024 8-bit PNGs of patients with
follow-up studies, split by patient. Each of the 14 findings is drawn with its typical appearance.
Label frequencies, co-occurrence and persistence follow NIH's label table, except for seven rare
findings: they are raised to 2.5 to 4 % of the images (Hernia from 0.2 %), so that a few hundred
test images include positives of each. No image shows a patient, and no score on them says
anything about patients.

The same seed gives the same label table and the same pixels on every machine, with any number of
processes and for any subset of the images. The compressed bytes of the PNGs are the same for the
same zlib.
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
