"""Output of comparisons of rows of a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from cxreval.cli.board_output import left_out_replicates
from cxreval.cli.columns import Column, as_name
from cxreval.cli.output import console, metric_label, print_table
from cxreval.client import EntryComparison
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.metrics.ranking import Comparison
from cxreval.metrics.report import absence

_PAIR = 2


def print_comparison(
    benchmark: BenchmarkSpec, models: Mapping[str, str], comparison: EntryComparison
) -> None:
    """Prints the comparison of rows.

    `models` has the model of each submission, in the order in which they were named.
    """
    names = {
        submission: f"{number} {models[submission]}" for number, submission in enumerate(models, 1)
    }
    for submission, text in names.items():
        console.print(Text(f"{text}: {submission}"), soft_wrap=True)
    console.print()
    label = metric_label(benchmark.ranking_metric)
    if comparison.pairs:
        _print_scores(benchmark, names, comparison, label)
    if comparison.findings:
        _print_findings(names, comparison, label)


def _print_scores(
    benchmark: BenchmarkSpec, names: Mapping[str, str], comparison: EntryComparison, label: str
) -> None:
    title = f"First minus second, {label} 0-100; p after Holm's correction over all pairs"
    pairs = comparison.pairs
    columns = [
        Column("first", [as_name(names[pair.first]) for pair in pairs], wraps_to=10),
        Column("second", [as_name(names[pair.second]) for pair in pairs], wraps_to=10),
        *_differences([(pair, "") for pair in pairs]),
    ]
    print_table(title, columns)
    shares = [
        "  ".join(f"{rank}: {share:.1%}" for rank, share in enumerate(row, 1) if share > 0)
        for row in comparison.rank_frequencies.values()
    ]
    rows = [as_name(names[submission]) for submission in comparison.rank_frequencies]
    columns = [Column("model", rows, 10), Column("rank: share", shares, 10)]
    print_table("Share of the resamples in which each has which rank", columns)
    if comparison.undefined_replicates:
        console.print(left_out_replicates(comparison.undefined_replicates, benchmark))


def _print_findings(names: Mapping[str, str], comparison: EntryComparison, label: str) -> None:
    """Prints every pair by every finding; of more than two rows, by their numbers."""
    found = comparison.findings
    numbers = {submission: str(number) for number, submission in enumerate(names, 1)}
    pairs = [f"{numbers[item.first]} - {numbers[item.second]}" for item in found]
    columns = [
        Column("finding", [as_name(item.finding) for item in found], wraps_to=10),
        *([Column("rows", pairs)] if len(names) > _PAIR else []),
        *_differences([(item.comparison, item.undefined_reason) for item in found]),
    ]
    reasons = dict.fromkeys(item.undefined_reason for item in found if item.undefined_reason)
    notes = [f"{short}: no comparison, {long}." for short, long in map(absence, reasons)]
    title = f"{label} of each finding, 0-100; p after Holm's correction over all pairs and findings"
    print_table(title, columns, notes)


def _differences(pairs: Sequence[tuple[Comparison | None, str]]) -> list[Column]:
    """Returns the columns of differences, or of the reason why there is none."""
    shown = [
        (
            f"{100 * pair.difference:+.2f}",
            f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}",
            _p_value(pair.adjusted_p_value),
            "yes" if pair.separable else "no",
        )
        if pair
        else (absence(reason)[0], "-", "-", "-")
        for pair, reason in pairs
    ]
    differences, intervals, p_values, separable = zip(*shown, strict=True)
    return [
        Column("difference", differences, right=True),
        Column("95 % interval", intervals, spare=2, right=True),
        Column("p", p_values, spare=1, right=True),
        Column("told apart", separable),
    ]


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
