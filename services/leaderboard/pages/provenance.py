"""What a worker states about a run, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

from cxreval.client import Evaluation
from services.leaderboard.charts.timeline import duration
from services.leaderboard.templates import count, moment


def _number(text: str) -> str:
    return f"{float(text):,.4g}"


_WORDS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "cpu": ("Processor", str),
    "cpu_cores": ("Cores", str),
    "threads": ("Threads", str),
    "device": ("Device", str),
    "memory_bytes": ("Memory", lambda text: f"{int(text) / 2**30:,.1f} GiB"),
    "worker_platform": ("System", str),
    "inference_runtime": ("Runtime", str),
    "cxreval_version": ("cxreval", str),
    "started": ("Started", lambda text: moment(datetime.fromisoformat(text))),
    "finished": ("Finished", lambda text: moment(datetime.fromisoformat(text))),
    "images_per_second": ("Images a second", _number),
    "scoring_seconds": ("Scoring", lambda text: duration(float(text))),
    "attempt": ("Attempt", str),
    "profile": ("Preprocessing", str),
    "profile_digest": ("Preprocessing, digest", str),
    "artifact_sha256": ("Submitted file, sha256", str),
    "model_sha256": ("Model that ran, sha256", str),
    "converted_sha256": ("Converted model, sha256", str),
    "repeat_images": ("Images predicted twice", lambda text: count(int(text))),
    "repeat_largest_difference": ("Largest difference of the two", str),
    "repeat_tolerance": ("Tolerance of that difference", str),
}
_ELSEWHERE = ("benchmark_digest", "kind")  # on the page already


def provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Returns what the worker stated about a run: names and values, known ones first.

    The time an image took is computed from its rate, else from begin and end of the whole run.
    """
    stated = evaluation.provenance
    lines = [
        (name, _written(write, stated[key]))
        for key, (name, write) in _WORDS.items()
        if stated.get(key)
    ]
    time = _time_an_image(evaluation)
    if time:
        lines.append(time)
    others = sorted(stated.keys() - _WORDS.keys() - {*_ELSEWHERE})
    return lines + [(key.replace("_", " "), stated[key]) for key in others]


def _written(write: Callable[[str], str], text: str) -> str:
    """Returns a value in its usual form, or as it is if it is not of that form."""
    with suppress(ValueError, OverflowError):
        return write(text)
    return text


def _time_an_image(evaluation: Evaluation) -> tuple[str, str] | None:
    stated, report = evaluation.provenance, evaluation.report
    with suppress(KeyError, ValueError, OverflowError, ZeroDivisionError):
        if "images_per_second" in stated:
            return "Time per image", f"{1000 / float(stated['images_per_second']):,.3g} ms"
        began, ended = (datetime.fromisoformat(stated[key]) for key in ("started", "finished"))
        if report and ended > began:
            share = (ended - began).total_seconds() / report.image_count
            return "Whole run, per image", f"{1000 * share:,.3g} ms"
    return None
