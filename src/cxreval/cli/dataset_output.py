"""Prints what `cxreval dataset` read of a data set, in at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.table import Table

from cxreval.cli import output
from cxreval.datasets.description import Description
from cxreval.datasets.label_rules import MAJORITY, LabelRules
from cxreval.datasets.labels import FindingCounts, constant_findings, finding_counts
from cxreval.datasets.verify import Check

_WIDTH = 80


def print_description(described: Description) -> None:
    """Prints how the table was read, the counts of each finding, and warnings."""
    spec, rules = described.spec, described.parsed.rules
    print_lines("benchmark", f"{spec.name}: {spec.image_count} images of "
                f"{spec.patient_count} patients, {len(spec.findings)} findings")  # fmt: skip
    for name, text in _reading(rules):
        print_lines(name, text)
    if described.parsed.unlisted:
        print_lines("left out", f"{described.parsed.unlisted} rows about other images")
    if described.parsed.ties:
        print_lines("ties", f"{described.parsed.ties} labels about which the readers are divided; "
                    "no metric counts them")  # fmt: skip
    counts = finding_counts(described.cohort)
    print_counts(counts)
    for warning in constant_findings(counts):
        print_lines("warning", warning)


def print_checks(checks: Sequence[Check]) -> None:
    """Prints the result of each check with its problems, counts and warnings."""
    for check in checks:
        print_lines("FAILED" if check.problems else "ok", f"{check.name}: {check.summary}")
        for problem in check.problems:
            output.console.print(f"            {problem}", soft_wrap=True)
        if check.counts:
            print_counts(check.counts)
        for warning in check.warnings:
            print_lines("warning", warning)


def print_lines(name: str, text: str) -> None:
    """Prints a text after a name of up to nine characters, wrapped and indented below it."""
    width = min(output.console.width, _WIDTH)
    lines = textwrap.wrap(text, width, initial_indent=f"{name:12}", subsequent_indent=" " * 12)
    output.console.print("\n".join(lines), soft_wrap=True)


def print_counts(counts: Sequence[FindingCounts]) -> None:
    """Prints a table of images and patients with each finding and without."""
    table = Table(box=None, pad_edge=False)
    table.add_column("finding", overflow="fold")
    for name in ("present", "patients", "absent", "patients", "no label"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in counts:
        numbers = (row.positive_images, row.positive_patients, row.negative_images,
                   row.negative_patients, row.unknown_images)  # fmt: skip
        table.add_row(row.finding, *map(str, numbers))
    output.console.print()
    output.console.print(table, width=min(output.console.width, _WIDTH))
    output.console.print()


def _reading(rules: LabelRules) -> list[tuple[str, str]]:
    """Returns how a table is read, as pairs of a name and a text."""
    part = f"part {rules.patient_part} between slashes of " if rules.patient_part else ""
    lines = [("image", f"column {rules.image}"), ("patient", f"{part}column {rules.patient}")]
    blank = f"blank: {rules.blank}"
    if rules.names:
        split = f"separated by {rules.separator!r}" if rules.separator else "one a row"
        lines.append(("labels", f"names in column {rules.names}, {split}; {blank}"))
    else:
        positive, negative = " or ".join(rules.positive), " or ".join(rules.negative)
        uncertain = " or ".join(rules.uncertain_values)
        open_labels = f"{uncertain} is uncertain: {rules.uncertain}; " if uncertain else ""
        values = f"{positive} is present, {negative} is absent; {open_labels}{blank}"
        lines.append(("labels", f"a column for each finding; {values}"))
    if rules.reader:
        whose = "majority" if rules.readers == MAJORITY else f"only {rules.readers}"
        lines.append(("readers", f"column {rules.reader}, {whose}"))
    named = [f"{name} (column {column})" for name in ("sex", "age", "view")
             if (column := getattr(rules, name))]  # fmt: skip
    return [*lines, ("slices", ", ".join(named))] if named else lines
