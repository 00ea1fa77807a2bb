"""The normal distribution: its tail in Cephes's approximation, equal to SciPy's to the last bit.

The p-values of boards were computed with `scipy.special.ndtr`, so the same approximation (Moshier,
Methods and Programs for Mathematical Functions, 1989) is computed here, without SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

QUANTILE_975 = 1.959963984540054
"""The 97.5 % quantile: half the width of a 95 % interval, in standard errors."""

_LARGEST_EXPONENT = 7.09782712893383996843e2
_ERF = (
    (9.60497373987051638749e0, 9.00260197203842689217e1, 2.23200534594684319226e3,
     7.00332514112805075473e3, 5.55923013010394962768e4),
    (1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3,
     2.26290000613890934246e4, 4.92673942608635921086e4),
)  # fmt: skip
_ERFC_BELOW_8 = (
    (2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0,
     4.86371970985681366614e1, 1.96520832956077098242e2, 5.26445194995477358631e2,
     9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2),
    (1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
     9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3,
     1.65666309194161350182e3, 5.57535340817727675546e2),
)  # fmt: skip
_ERFC_FROM_8 = (
    (5.64189583547755073984e-1, 1.27536670759978104416e0, 5.01905042251180477414e0,
     6.16021097993053585195e0, 7.40974269950448939160e0, 2.97886665372100240670e0),
    (1.0, 2.26052863220117276590e0, 9.39603524938001434673e0, 1.20489539808096656605e1,
     1.70814450747565897222e1, 9.60896809063285878198e0, 3.36907645100081516050e0),
)  # fmt: skip


def tail(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the probability beyond each of the deviations, which are 0 or more, or NaN."""
    return np.array([_tail(value) for value in deviations.ravel().tolist()]).reshape(
        deviations.shape
    )


def _tail(deviation: float) -> float:
    if math.isnan(deviation):
        return math.nan
    x = deviation * math.sqrt(0.5)
    if x < 1:
        return 0.5 - 0.5 * _scaled_ratio(x, x * x, *_ERF)
    if x * x > _LARGEST_EXPONENT:
        return 0.0
    return 0.5 * _scaled_ratio(math.exp(-x * x), x, *(_ERFC_BELOW_8 if x < 8 else _ERFC_FROM_8))


def _scaled_ratio(
    scale: float, x: float, numerator: Sequence[float], denominator: Sequence[float]
) -> float:
    """Returns `scale` times the ratio of two polynomials, whose coefficients fall in degree."""
    return scale * _polynomial(x, numerator) / _polynomial(x, denominator)


def _polynomial(x: float, coefficients: Sequence[float]) -> float:
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value
