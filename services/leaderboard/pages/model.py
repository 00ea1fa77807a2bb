"""The page of a model that has a row: its figures, and the evidence behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from cxreval.client import LeaderboardEntry, Submission
from cxreval.imaging.description import describe, steps_in_words
from cxreval.manifest.text import write_manifest
from cxreval.preprocessing import Activation
from cxreval.records import Tier
from services.leaderboard.charts import curves, findings, slices, svg
from services.leaderboard.charts.curves import Curve
from services.leaderboard.data import BoardData
from services.leaderboard.figures import measure_of, rank_texts
from services.leaderboard.pages import report as reports
from services.leaderboard.pages.life import life
from services.leaderboard.pages.parts import Drawn, Part, part_of, parts_of
from services.leaderboard.pages.provenance import provenance
from services.leaderboard.pages.report import RowReport
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page

_MAX_YAML = 12_000
_ACTIVATIONS = {
    Activation.NONE: "the model's outputs",
    Activation.SIGMOID: "the sigmoid of the model's outputs",
    Activation.SOFTMAX_POSITIVE: "the softmax of each finding's two outputs",
}


def model(
    data: SiteData, board: BoardData, submission: Submission, entry: LeaderboardEntry, number: int
) -> Content:
    """Returns the page of a row with a part of its findings. Raises `NotFound`."""
    parts = parts_of(board.spec.findings)
    part = part_of(parts, number)
    evaluation = data.store.evaluation(entry.evaluation) if entry.evaluation else None
    evidence = data.store.evidence(entry.evaluation) if evaluation else None
    report = reports.row_report(board, submission.name, evaluation, evidence)
    measure = measure_of(board.spec.ranking_metric)
    rival = None if entry.tier is Tier.CLAIMED else rival_of(board, entry)
    return page(
        data,
        "model.html",
        board=board,
        spec=board.spec,
        submission=submission,
        manifest=submission.manifest,
        entry=entry,
        rank=rank_texts(board.entries)[entry.submission],
        measure=measure,
        rival=rival,
        part=part,
        parts=parts,
        covered=_covered(report, board),
        findings=_findings(report, board, rival, part, entry.model),
        means=reports.mean_table(report),
        all_findings=reports.finding_table(report, part.findings),
        curves=_curves(report, part.findings) if evidence else (),
        slices=_slices(report) if number == 1 else None,
        slice_table=reports.slice_table(report, part.findings),
        preprocessing=_preprocessing(submission),
        manifest_yaml=_manifest_text(submission),
        report=evaluation.report if evaluation else None,
        provenance=provenance(evaluation) if evaluation else (),
        life=life(board.events.get(submission.name, ())),
        receipt=data.store.receipt(submission.name) is not None,
    )


def rival_of(board: BoardData, entry: LeaderboardEntry) -> LeaderboardEntry | None:
    """Returns the row to compare with: the record's holder; for the holder, the best other row."""
    rows = [row for row in board.evidence_rows if row.score is not None]
    others = [row for row in rows if row.submission != entry.submission]
    return next((row for row in others if row.sota), next(iter(others), None))


def _covered(report: RowReport, board: BoardData) -> int:
    """Returns the number of findings of a board that have a value."""
    metric = board.spec.ranking_metric
    return sum(
        report.estimate(metric, finding).value is not None for finding in board.spec.findings
    )


def _findings(
    report: RowReport, board: BoardData, rival: LeaderboardEntry | None, part: Part, name: str
) -> Drawn | None:
    other, submission = (rival.model, rival.submission) if rival else ("", "")
    rows = reports.finding_rows(report, board, submission, part.findings)
    if all(row.estimate.value is None for row in rows) and not rival:
        return None
    measure = measure_of(board.spec.ranking_metric)
    return Drawn(
        svg.both(
            lambda width, prefix: findings.chart(
                rows, measure, model=name, other=other, width=width, prefix=prefix
            ),
            "findings",
        ),
        findings.table(rows, measure, model=name, other=other),
    )


def _curves(report: RowReport, names: Sequence[str]) -> Sequence[tuple[str, Drawn]]:
    """Returns the three kinds of curves with their titles."""
    kinds: Sequence[
        tuple[str, str, Callable[..., Markup], Callable[[RowReport, Sequence[str]], list[Curve]]]
    ] = (
        ("ROC", "auroc", curves.roc, reports.roc),
        (
            "Precision and recall",
            "average_precision",
            curves.precision_recall,
            reports.precision_recall,
        ),
        ("Calibration", "calibration_error", curves.calibration, reports.calibration),
    )
    drawn = []
    for title, metric, draw, read in kinds:
        found, measure = read(report, names), measure_of(metric)
        drawn.append((title, Drawn(draw(found, measure), curves.table(found, measure))))
    return drawn


def _slices(report: RowReport) -> Drawn | None:
    """Returns the slices of the mean over all findings; None where none has a value."""
    rows = reports.slice_rows(report)
    if all(row.estimate.value is None for row in rows):
        return None
    measure, overall = measure_of(report.sliced_metric), report.estimate(report.sliced_metric)
    return Drawn(
        svg.both(
            lambda width, prefix: slices.chart(rows, measure, overall, width=width, prefix=prefix),
            "slices",
        ),
        slices.table(rows, measure, overall),
    )


def _preprocessing(submission: Submission) -> tuple[str, dict[str, str]] | None:
    """Returns the declared preprocessing as a sentence, and its steps with their words."""
    interface = submission.manifest.interface
    if interface is None:
        return None
    steps = interface.preprocessing.normalised
    words = steps_in_words(steps)
    words["probabilities"] = _ACTIVATIONS[interface.outputs.activation]
    return describe(steps), words


def _manifest_text(submission: Submission) -> tuple[str, bool]:
    """Returns the manifest as its submitter would write it, and whether its end is left out."""
    text = write_manifest(submission.manifest)
    if len(text) <= _MAX_YAML:
        return text, False
    return text[: text.rindex("\n", 0, _MAX_YAML) + 1], True
