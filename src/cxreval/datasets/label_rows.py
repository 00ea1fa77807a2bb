"""Collects what the rows of a label table say about each image of a list."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxreval.datasets.columns import AGE, IMAGE, LABELS, PATIENT, SEX, VIEW, folded
from cxreval.datasets.image_names import ImageMatcher
from cxreval.datasets.label_rules import MAJORITY, LabelPolicy, LabelRules
from cxreval.datasets.label_values import (
    ABSENT,
    PRESENT,
    UNKNOWN,
    CellReader,
    Labels,
    NameReader,
)
from cxreval.datasets.mistakes import Mistakes
from cxreval.datasets.nih import FINDINGS, NO_FINDING
from cxreval.fields import shown

_NIH_RULES = LabelRules(image=IMAGE, patient=PATIENT, sex=SEX, age=AGE, view=VIEW)
_NIH_PATIENT = re.compile(r"[0-9]{1,18}")
_NIH_AGE = re.compile(r"([0-9]{1,3})")
_AGE = re.compile(r"\s*([0-9]{1,3})(?:\.0+)?Y?\s*")  # 62, 62.0 or, as in DICOM, 062Y
_MAX_PATIENT_CHARACTERS = 255
_COLUMNS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class About:
    """What a row says about an image, apart from its labels.

    `patient`: the number in NIH's layout, else the digest of the identifier. `age`: in years.
    """

    patient: int | str
    sex: str
    view: str
    age: int | None


@dataclass(slots=True)
class ImageRows:
    """What all rows of one image say; `votes` has the labels of each reader."""

    line: int
    about: About
    votes: dict[str, Labels] = field(default_factory=dict)


class LabelRows:
    """The rows of a label table about the images of a list, by image.

    `rows`: what they say. `mistakes`: what is wrong with the table. `unlisted`: number of rows
    about other images, and `first_unlisted` line and name of one of them.
    """

    def __init__(
        self,
        file: Path,
        header: Sequence[str],
        images: Sequence[str],
        findings: Sequence[str],
        rules: LabelRules | None,
    ) -> None:
        """Finds the columns of the rules; `rules` are None for NIH's layout.

        Raises:
            DatasetInvalid: a column is missing, repeated or ambiguous.
        """
        self.rows: dict[str, ImageRows] = {}
        self.mistakes = Mistakes(file)
        self.unlisted, self.first_unlisted = 0, (0, "")
        self._nih, self._findings = rules is None, tuple(findings)
        self._header = [*header] if self._nih else [name.strip() for name in header]
        self.rules = rules or _nih_rules(self._header, findings)
        exact = {image: (image,) for image in images}
        self._find = exact.get if self._nih else ImageMatcher(images).find
        self._columns = self._checked_columns()
        self.mistakes.check()
        self._read = self._label_reader()
        slices = {self.rules.sex, self.rules.age, self.rules.view}
        needed = [number for name, number in self._columns.items() if name not in slices]
        self._width = max(needed) + 1 if self._nih else len(header)

    def _optional(self) -> set[str]:
        """Returns the columns that a table in NIH's layout may lack."""
        rules = self.rules
        return {rules.sex, rules.age, rules.view, *self._findings} if self._nih else set()

    def _checked_columns(self) -> dict[str, int]:
        """Returns the number of each column that is read; adds the mistakes of the header."""
        rules, header = self.rules, self._header
        if len(header) == 1 and (other := next((c for c in ";\t|" if c in header[0]), "")):
            cure = "save the table with commas"
            self.mistakes.add(f"line 1: separates columns by {other!r}; {cure}", line=1)
            return {}
        columns = [rules.image, rules.patient, rules.names, rules.reader]
        columns += [rules.sex, rules.age, rules.view]
        columns += [] if rules.names else self._findings
        optional = self._optional()
        spellings: dict[str, list[str]] = {}
        for name in dict.fromkeys(header):
            spellings.setdefault(folded(name), []).append(name)
        for name in dict.fromkeys(filter(None, columns)):
            alike = [other for other in spellings.get(folded(name), ()) if other != name]
            if name not in header and name not in optional:
                hint = f"did you mean {alike[0]!r}?" if alike else f"it has {_some(header)}"
                self.mistakes.add(f"has no column {name!r}; {hint}", field=name)
            elif header.count(name) > 1:
                self.mistakes.add(f"line 1: has the column {name!r} twice; rename one", field=name)
            elif alike and name in self._findings:
                self.mistakes.add(
                    f"line 1: columns {name!r} and {shown(alike[0])!r} differ only in case or "
                    "underscores; rename one",
                    field=name,
                )
        both = {*header} & {*FINDINGS, *self._findings}
        if self._nih and rules.names and both:
            self.mistakes.add(f"line 1: has columns {LABELS!r} and {min(both)!r}; remove one")
        return {name: header.index(name) for name in columns if name and name in header}

    def _label_reader(self) -> CellReader | NameReader:
        rules, findings = self.rules, self._findings
        if not rules.names:
            columns = [self._columns.get(finding) for finding in findings]
            return CellReader(rules, columns, findings, self.mistakes, exact=self._nih)
        vocabulary = {*FINDINGS, NO_FINDING, *findings} if self._nih else None
        return NameReader(rules, self._columns[rules.names], findings, vocabulary, self.mistakes)

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Adds a row, or a mistake for each wrong cell of it."""
        if len(cells) < self._width or (len(cells) > self._width and not self._nih):
            expected = f"{self._width}, as in line 1"
            self.mistakes.add(
                f"line {line}: has {len(cells)} cells; expected {expected}", line=line
            )
            return
        image = self._image(line, cells)
        if image is None:
            return
        reader = cells[self._columns[self.rules.reader]].strip() if self.rules.reader else ""
        if self.rules.reader and not reader:
            self.mistakes.add(f"line {line}: {self.rules.reader} is blank; expected who read it")
            return
        patient, labels = self._patient(line, image, cells), self._read(line, cells)
        if patient is not None:
            self._add(line, image, reader, labels, self._about(patient, cells))

    def named(self, cells: Sequence[str]) -> tuple[str, str | None, str] | None:
        """Returns what a row names: its image, the image of the list if it is one, its patient.

        The patient is the number in NIH's layout, else the identifier. None if a cell is malformed
        or missing. No mistake is added.
        """
        rules = self.rules
        if len(cells) <= max(self._columns[rules.image], self._columns[rules.patient]):
            return None
        name, patient = cells[self._columns[rules.image]], cells[self._columns[rules.patient]]
        if self._nih:
            patient = str(int(patient)) if _NIH_PATIENT.fullmatch(patient) else ""
        elif rules.patient_part:
            patient = [*patient.split("/"), *[""] * rules.patient_part][rules.patient_part - 1]
        fitting = self._find(name) or ()
        listed = fitting[0] if len(fitting) == 1 else None
        return (name, listed, patient.strip()) if patient.strip() else None

    def _image(self, line: int, cells: Sequence[str]) -> str | None:
        """Returns the image of the list that a row is about, or None."""
        column = self.rules.image
        name = cells[self._columns[column]]
        fitting = self._find(name) or ()
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            first, second = map(shown, fitting)
            self.mistakes.add(
                f"line {line}: {column} is {shown(name)!r}, which may be {first!r} or {second!r}; "
                "write more of its path",
                line=line,
            )
        elif not name.strip() and not self._nih:
            self.mistakes.add(f"line {line}: {column} is blank; expected an image", line=line)
        else:
            if not self.unlisted:
                self.first_unlisted = line, shown(name)
            self.unlisted += 1
        return None

    def _patient(self, line: int, image: str, cells: Sequence[str]) -> int | str | None:
        """Returns the number or the digest of the patient, or None after adding a mistake.

        Messages show no identifier that may be a name.
        """
        column, part = self.rules.patient, self.rules.patient_part
        text = cells[self._columns[column]]
        if self._nih:
            if _NIH_PATIENT.fullmatch(text):
                return int(text)
            problem = f"line {line}: patient is {shown(text)!r}; expected a number"
            self.mistakes.add(problem, line=line, image=image)
            return None
        if part:
            text = [*text.split("/"), *[""] * part][part - 1]
        text = text.strip()
        if 0 < len(text) <= _MAX_PATIENT_CHARACTERS and text.casefold() != "nan":
            return hashlib.sha256(text.encode()).hexdigest()
        where = f"{column}, part {part} between slashes," if part else column
        expected = f"1 to {_MAX_PATIENT_CHARACTERS} characters that identify the patient"
        problem = f"line {line}: {where} is blank or too long; expected {expected}"
        self.mistakes.add(problem, line=line, image=image)
        return None

    def _about(self, patient: int | str, cells: Sequence[str]) -> About:
        rules = self.rules
        sex, view, age = (
            cells[number] if (number := self._columns.get(name, len(cells))) < len(cells) else ""
            for name in (rules.sex, rules.view, rules.age)
        )
        if not self._nih:
            sex, view = ("" if text.strip() == "nan" else text.strip() for text in (sex, view))
        years = (_NIH_AGE if self._nih else _AGE).fullmatch(age)
        return About(patient, sex, view, int(years[1]) if years else None)

    def _add(self, line: int, image: str, reader: str, labels: Labels, about: About) -> None:
        """Adds the labels that a reader gives an image; a mistake if two rows contradict."""
        row = self.rows.setdefault(image, ImageRows(line, about))
        if row.about.patient != about.patient:
            problem = f"image {image!r} has another patient than on line {row.line}"
        elif reader not in row.votes:
            row.votes[reader] = labels
            return
        elif self.rules.names and not self.rules.separator:
            row.votes[reader] = tuple(map(max, row.votes[reader], labels))
            return
        elif reader:
            problem = f"image {image!r} has a second row of reader {shown(reader)!r}; remove one"
        else:
            readers = "" if self._nih else ", or name the column of readers: --reader COLUMN"
            problem = f"image {image!r} has a second row; remove one{readers}"
        self.mistakes.add(f"line {line}: {problem}", line=line, image=image)

    def decided(self, image: str) -> tuple[Labels, int] | None:
        """Returns the labels of an image and the number of ties, or None if it has no labels.

        A tie is a finding that as many readers call present as absent.
        """
        row = self.rows.get(image)
        if row is None or not row.votes:
            return None
        if self.rules.readers not in ("", MAJORITY):
            labels = row.votes.get(self.rules.readers)
            return None if labels is None else (labels, 0)
        votes = [*row.votes.values()]
        if len(votes) == 1:
            return votes[0], 0
        counts = [(vote.count(PRESENT), vote.count(ABSENT)) for vote in zip(*votes, strict=True)]
        labels = tuple(
            PRESENT if yes > no else ABSENT if no > yes else UNKNOWN for yes, no in counts
        )
        return labels, sum(yes == no > 0 for yes, no in counts)


def _nih_rules(header: Sequence[str], findings: Sequence[str]) -> LabelRules:
    """Returns the rules of a table in NIH's layout: one column of names, or one a finding."""
    if LABELS in header or not {*header} & {*FINDINGS, *findings}:
        return replace(_NIH_RULES, names=LABELS, separator="|")
    return replace(_NIH_RULES, positive=("1",), negative=("0",), blank=LabelPolicy.IGNORE)


def _some(names: Sequence[str]) -> str:
    """Returns the first names as text, with the number of the others."""
    rest = len(names) - _COLUMNS_SHOWN
    shown_names = ", ".join(repr(shown(name)) for name in names[:_COLUMNS_SHOWN])
    return f"{shown_names or 'none'}{f' and {rest} more' if rest > 0 else ''}"
