"""The page that says how figures and ranks come about."""

from __future__ import annotations

import numpy as np

from cxreval.metrics.auroc import auroc
from cxreval.metrics.registry import METRICS
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page

_SCORES, _LABELS = (0.9, 0.4, 0.6, 0.1), (True, True, False, False)


def method(data: SiteData, _: dict[str, str], given: Given) -> Content:
    """Returns the page."""
    Parameters(given, ())
    value = auroc(np.array(_SCORES, np.float32), np.array(_LABELS))
    return page(data, "method.html", metrics=METRICS.values(), example=(3, 4), example_auroc=value)
