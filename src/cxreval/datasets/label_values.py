"""Reads the labels in one row of a label table: from a cell for each finding, or from names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cxreval.datasets.columns import folded
from cxreval.datasets.label_rules import LabelPolicy, LabelRules, normalised
from cxreval.datasets.mistakes import Mistakes
from cxreval.fields import shown

PRESENT, ABSENT, UNKNOWN = 1, 0, -1

Labels = tuple[int, ...]
"""The label of each finding: `PRESENT`, `ABSENT` or `UNKNOWN`."""

_BY_POLICY = {
    LabelPolicy.IGNORE: UNKNOWN,
    LabelPolicy.POSITIVE: PRESENT,
    LabelPolicy.NEGATIVE: ABSENT,
}
_BLANK = ("", "nan")
_BLANK_CURE = "say how to read blank cells: --blank {}"
_UNCERTAIN_CURE = "say how to read uncertain labels: --uncertain ignore, positive or negative"


class CellReader:
    """Reads rows with a cell for each finding."""

    def __init__(
        self,
        rules: LabelRules,
        columns: Sequence[int | None],
        findings: Sequence[str],
        mistakes: Mistakes,
        *,
        exact: bool,
    ) -> None:
        """Creates a reader.

        `columns`: number of each finding's column, or None if it has none. `exact`: whether a cell
        must be spelled as the rules spell it; else ` 1.0` is also `1`, and `nan` is blank.
        """
        self._form = str if exact else normalised
        self._blanks = ("",) if exact else _BLANK
        self._columns = [*zip(findings, columns, strict=True)]
        self._mistakes = mistakes
        self._labels: dict[str, int | None] = {
            **{self._form(value): PRESENT for value in rules.positive},
            **{self._form(value): ABSENT for value in rules.negative},
            **{
                self._form(value): _BY_POLICY.get(rules.uncertain)
                for value in rules.uncertain_values
            },
            **{value: _BY_POLICY.get(rules.blank) for value in self._blanks},
        }
        positive, negative = " or ".join(rules.positive), " or ".join(rules.negative)
        blank = "" if rules.blank is LabelPolicy.REFUSE else ", or nothing"
        self._expected = f"{positive} for present, {negative} for absent{blank}"
        self._known = {cell: label for cell, label in self._labels.items() if label is not None}

    def __call__(self, line: int, cells: Sequence[str]) -> Labels:
        """Returns the labels of a row; adds a mistake for each cell that is no label."""
        return tuple(
            UNKNOWN
            if column is None
            else self._known[cells[column]]
            if cells[column] in self._known
            else self._label(line, finding, cells[column])
            for finding, column in self._columns
        )

    def _label(self, line: int, finding: str, cell: str) -> int:
        """Returns the label in a cell that is not spelled as the rules spell it."""
        value = self._form(cell)
        label = self._labels.get(value)
        if label is not None:
            return label
        if value in self._blanks:
            cure = _BLANK_CURE.format("ignore, negative or positive")
            self._mistakes.add_uncovered(cure, f"line {line}: {finding} is blank")
        elif value in self._labels:
            where = f"line {line}: {finding} is {shown(cell)!r}, which is uncertain"
            self._mistakes.add_uncovered(_UNCERTAIN_CURE, where)
        else:
            problem = f"line {line}: {finding} is {shown(cell)!r}; expected {self._expected}"
            self._mistakes.add(problem, line=line, field=finding)
        return UNKNOWN


class NameReader:
    """Reads rows with one cell of findings' names."""

    def __init__(
        self,
        rules: LabelRules,
        column: int,
        findings: Sequence[str],
        vocabulary: Collection[str] | None,
        mistakes: Mistakes,
    ) -> None:
        """Creates a reader of a column.

        `vocabulary`: all names that the table may have; None if it may have any, which are ignored
        unless only case or underscores distinguish them from a finding.
        """
        self._rules, self._column, self._findings = rules, column, findings
        self._vocabulary, self._mistakes = vocabulary, mistakes
        self._spelling = {folded(finding): finding for finding in findings}

    def __call__(self, line: int, cells: Sequence[str]) -> Labels:
        """Returns the labels of a row; adds a mistake for each name that is not spelled right."""
        cell = cells[self._column]
        present = set(names_in(cell, self._rules.separator))
        if self._vocabulary is None and not present:
            return self._blank(line)
        for name in sorted(present or {""}):
            if self._vocabulary is not None:
                if name not in self._vocabulary:
                    self._mistakes.add(f"line {line}: unknown finding {shown(name)!r}", line=line)
            elif (finding := self._spelling.get(folded(name), name)) != name:
                column = self._rules.names
                self._mistakes.add(
                    f"line {line}: {column} names {shown(name)!r}; expected {finding!r}", line=line
                )
        return tuple(PRESENT if finding in present else ABSENT for finding in self._findings)

    def _blank(self, line: int) -> Labels:
        """Returns the labels of a row that names nothing, not even that there is no finding."""
        label = _BY_POLICY.get(self._rules.blank)
        if label is None:
            cure = _BLANK_CURE.format("ignore or negative")
            self._mistakes.add_uncovered(cure, f"line {line}: {self._rules.names} is blank")
        return (UNKNOWN if label is None else label,) * len(self._findings)


def names_in(cell: str, separator: str) -> list[str]:
    """Returns the names in a cell such as `Mass|Nodule` or `['mass', 'nodule']`, without spaces.

    Without a `separator`, the cell is one name. A blank cell, `nan` and `[]` name nothing.
    """
    text = cell.strip()
    if text.casefold() in _BLANK:
        return []
    if not separator:
        return [text]
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    names = (name.strip().strip("'\"").strip() for name in text.split(separator))
    return [name for name in names if name and name.casefold() != "nan"]
