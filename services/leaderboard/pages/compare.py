"""The page that compares two to six rows, pair by pair, over the same resamples of the patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_uppercase

from markupsafe import Markup

from cxreval.client import LeaderboardEntry
from cxreval.metrics import ranking
from cxreval.metrics.finding_comparison import compared_by_finding, finding_entry
from cxreval.metrics.ranking import Comparison, Entry, rank_frequencies
from cxreval.records import Tier
from services.leaderboard.charts import differences, ranks, svg
from services.leaderboard.charts.differences import Difference
from services.leaderboard.charts.ranks import RankShares
from services.leaderboard.charts.scales import Estimate, Measure
from services.leaderboard.data import BoardData
from services.leaderboard.figures import measure_of, rank_texts
from services.leaderboard.lookup import find_board, find_submission, row_of
from services.leaderboard.pages.parts import Drawn, part_of, parts_of
from services.leaderboard.parameters import Given, Parameters
from services.leaderboard.problems import BadParameter, BeingRead
from services.leaderboard.site import Content, SiteData
from services.leaderboard.templates import page, why

FEWEST, MOST = 2, 6
CHOICES = 100
"""Rows in the form; others are chosen by their id."""

MACRO = "Mean over the findings"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A row to compare, with its letter on the page.

    `inputs`: by finding, what the paired test takes of the row, or the reason why it has nothing;
    the finding of the macro mean is empty.
    """

    letter: str
    entry: LeaderboardEntry
    inputs: Mapping[str, Entry | str]

    @property
    def name(self) -> str:
        """Its name on the page: two rows may have models of one name, but not one letter."""
        return f"{self.letter}: {self.entry.model}"


def compare(data: SiteData, path: dict[str, str], given: Given) -> Content:
    """Returns the comparison of the rows in `s`; without `s`, a form to choose them.

    Raises:
        BadParameter: they are not two to six different rows that were run or scored here.
        NotFound: one of them does not exist.
        BeingRead: the evidence of one is not read yet.
    """
    board = find_board(data, path["benchmark"])
    parameters = Parameters(given, ("s", "part"), {"s": MOST})
    chosen = [value for name, value in given if name == "s" and value]
    if not chosen:
        return _form(data, board)
    rows = rows_of(data, board, entries_of(board, chosen))
    parts = parts_of(board.spec.findings)
    part = part_of(parts, parameters.number("part", 1))
    ranks_of = rank_texts(board.entries)
    measure = measure_of(board.spec.ranking_metric)
    macro = macro_differences(rows)
    by_finding = finding_differences(rows, board.spec.findings)
    shown = [item for item in by_finding if item.figure in part.findings]
    return page(
        data,
        "compare.html",
        board=board,
        spec=board.spec,
        rows=rows,
        ranks={row.name: ranks_of[row.entry.submission] for row in rows},
        measure=measure,
        part=part,
        parts=parts,
        macro=_drawn(macro if len(rows) == FEWEST else _by_letters(macro, rows), measure, "macro"),
        shares=_shares(rank_shares(rows, board)),
        # Of more than two rows, charts show the first one beside each other.
        by_pair=[
            (
                row.name,
                _drawn(_of_pair(shown, rows[0].name, row.name), measure, f"pair{row.letter}"),
            )
            for row in rows[1:]
        ],
        matrix=_matrix(shown, rows, measure),
        verdicts=_verdicts(rows, macro, by_finding, measure),
        query="&".join(f"s={row.entry.submission.rpartition('/')[2]}" for row in rows),
        most=MOST,
    )


def _form(data: SiteData, board: BoardData) -> Content:
    """Returns the form that chooses rows."""
    rows = [entry for entry in board.evidence_rows if entry.evaluation]
    return page(
        data,
        "compare_form.html",
        board=board,
        rows=rows[:CHOICES],
        ranks=rank_texts(board.entries),
        more=len(rows) > CHOICES,
        most=MOST,
    )


def entries_of(board: BoardData, chosen: Sequence[str]) -> list[LeaderboardEntry]:
    """Returns the rows that are named. Raises `BadParameter`, `NotFound`."""
    expected = f"{FEWEST} to {MOST} different rows of this board"
    names = [find_submission(board, identifier).name for identifier in chosen]
    for identifier, name in zip(chosen, names, strict=True):
        entry = row_of(board, name)
        if entry is None or entry.tier is Tier.CLAIMED:
            raise BadParameter("s", identifier, "a row that was run or scored here, not a claim")
        if names.count(name) > 1:
            raise BadParameter("s", identifier, f"{expected}; this one is given twice")
    if len(names) < FEWEST:
        raise BadParameter("s", f"{len(names)} row", expected)
    by_name = {entry.submission: entry for entry in board.entries}
    return [by_name[name] for name in names]


def rows_of(data: SiteData, board: BoardData, entries: Sequence[LeaderboardEntry]) -> list[Row]:
    """Returns the rows with what is compared of them. Raises `BeingRead`."""
    metric = board.spec.ranking_metric
    rows = []
    for letter, entry in zip(ascii_uppercase, entries, strict=False):
        evaluation = data.store.evaluation(entry.evaluation)
        evidence = data.store.evidence(entry.evaluation)
        if evaluation is None or evaluation.report is None or evidence is None:
            raise BeingRead("The evidence of this row")
        vectors = {
            item.finding: item.values for item in evidence.replicates if item.metric == metric
        }
        values = {
            value.finding: value
            for value in evaluation.report.metrics
            if value.metric == metric and not value.slice
        }
        inputs = {
            finding: finding_entry(entry.submission, values.get(finding), vectors.get(finding))
            for finding in ("", *board.spec.findings)
        }
        rows.append(Row(letter, entry, inputs))
    return rows


def macro_differences(rows: Sequence[Row]) -> list[Difference]:
    """Returns the paired difference of the macro mean of every two rows.

    The p-values are corrected over these pairs, as `CompareEntries` of the registry does.
    """
    inputs = [row.inputs[""] for row in rows]
    tested = [entry for entry in inputs if isinstance(entry, Entry)]
    found = {
        (pair.first, pair.second): pair for pair in (ranking.compare(tested) if tested else ())
    }
    differences = []
    for one, two in combinations(rows, 2):
        pair = found.get((one.entry.submission, two.entry.submission))
        reasons = [entry for row in (one, two) if isinstance(entry := row.inputs[""], str)]
        differences.append(_difference(MACRO, one, two, pair, *reasons[:1]))
    return differences


def finding_differences(rows: Sequence[Row], findings: Sequence[str]) -> list[Difference]:
    """Returns the paired differences of each finding.

    The p-values are corrected by Holm's method over all pairs and findings.
    """
    by_name = {row.entry.submission: row for row in rows}
    inputs = (
        (finding, {name: row.inputs[finding] for name, row in by_name.items()})
        for finding in findings
    )
    return [
        _difference(
            item.finding,
            by_name[item.first],
            by_name[item.second],
            item.comparison,
            item.undefined_reason,
        )
        for item in compared_by_finding([*by_name], inputs)
    ]


def _difference(
    figure: str, one: Row, two: Row, pair: Comparison | None, reason: str = ""
) -> Difference:
    if pair is None:
        return Difference(figure, one.name, two.name, Estimate(None, reason=why(reason)))
    estimate = Estimate(pair.difference, pair.low, pair.high)
    return Difference(figure, one.name, two.name, estimate, pair.adjusted_p_value, pair.separable)


def rank_shares(rows: Sequence[Row], board: BoardData) -> list[RankShares]:
    """Returns how often each row with a macro mean has each rank among these."""
    directions = {item.id: item.direction for item in board.spec.metrics}
    tested = [(row, entry) for row in rows if isinstance(entry := row.inputs[""], Entry)]
    if not tested:
        return []
    entries = [entry for _, entry in tested]
    shares, _ = rank_frequencies(entries, directions[board.spec.ranking_metric])
    return [
        RankShares(row.name, share) for (row, _), share in zip(tested, shares.tolist(), strict=True)
    ]


def _shares(rows: Sequence[RankShares]) -> Drawn | None:
    if len(rows) < FEWEST:
        return None
    picture = svg.both(lambda width, prefix: ranks.chart(rows, width=width, prefix=prefix), "ranks")
    return Drawn(picture, ranks.table(rows))


def _drawn(found: Sequence[Difference], measure: Measure, prefix: str) -> Drawn:
    picture: Markup = svg.both(
        lambda width, each: differences.chart(found, measure, width=width, prefix=each), prefix
    )
    return Drawn(picture, differences.table(found, measure))


def _by_letters(macro: Sequence[Difference], rows: Sequence[Row]) -> list[Difference]:
    """Returns the differences with the letters of their rows alone: names of pairs are too long."""
    pairs = combinations(rows, 2)
    return [
        replace(item, first=one.letter, second=two.letter)
        for item, (one, two) in zip(macro, pairs, strict=True)
    ]


def _of_pair(found: Sequence[Difference], first: str, second: str) -> list[Difference]:
    return [item for item in found if (item.first, item.second) == (first, second)]


def _matrix(found: Sequence[Difference], rows: Sequence[Row], measure: Measure) -> svg.Table:
    """Returns the differences with their p-values: a line a finding, a column a pair of letters."""
    cells: dict[str, list[str]] = {}
    for item in found:
        written = measure.signed(item.estimate.value)
        if item.p_value is not None:
            written += f" (p {differences.p_value(item.p_value)})"
        cells.setdefault(item.figure, []).append(written)
    pairs = [f"{one.letter} \N{MINUS SIGN} {two.letter}" for one, two in combinations(rows, 2)]
    lines = ((finding, *texts) for finding, texts in cells.items())
    return svg.Table(("Finding", *pairs), tuple(lines))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A difference in words: which row is better, and on which findings the test says so."""

    better: Row
    worse: Row
    macro: Difference
    better_on: Sequence[str]
    worse_on: Sequence[str]
    undecided: int


def _verdicts(
    rows: Sequence[Row],
    macro: Sequence[Difference],
    by_finding: Sequence[Difference],
    measure: Measure,
) -> list[Verdict]:
    """Returns the verdict of each pair of rows."""

    def ahead(item: Difference) -> bool:
        """Whether the first of the two is better; equal ones keep their order."""
        value = item.estimate.value or 0
        return value >= 0 if measure.higher_is_better else value <= 0

    verdicts = []
    for (one, two), item in zip(combinations(rows, 2), macro, strict=True):
        pair = _of_pair(by_finding, item.first, item.second)
        separable = [each for each in pair if each.separable]
        first = [each.figure for each in separable if ahead(each)]
        second = [each.figure for each in separable if not ahead(each)]
        undecided = len(pair) - len(separable)
        if ahead(item):
            verdicts.append(Verdict(one, two, item, first, second, undecided))
        else:
            verdicts.append(Verdict(two, one, item, second, first, undecided))
    return verdicts
