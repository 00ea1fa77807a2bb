"""Tables that fit the terminal: names wrap, and what matters least is left out, by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cxreval.fields import printable

LEFT_TO_RIGHT_MARK = "\u200e"
_RIGHT_TO_LEFT = frozenset({"R", "AL"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a printed table.

    Attributes:
        head: its title.
        cells: its texts, one for each row.
        wraps_to: width down to which its texts may wrap; 0 if they never wrap.
        spare: 0 if it is always shown; of the others, the highest is left out first.
        right: whether it is aligned to the right, as numbers are.
    """

    head: str
    cells: Sequence[str]
    wraps_to: int = 0
    spare: int = 0
    right: bool = False

    @property
    def least(self) -> int:
        """The least width that loses nothing."""
        lines = [line for cell in (self.head, *self.cells) for line in cell.split("\n")]
        widest = max(map(cell_len, lines))
        return min(widest, self.wraps_to) if self.wraps_to else widest


def fitting(
    columns: Sequence[Column], width: int, *, edge: bool = True
) -> tuple[list[Column], list[str]]:
    """Returns the columns that fit into a width, and the titles of those that are left out."""
    shown, left_out = list(columns), []
    # Rich adds two spaces after each column and one before the first; without an edge, none there.
    while sum(column.least + 2 for column in shown) + (1 if edge else -2) > width:
        last = max(shown, key=lambda column: column.spare)
        if not last.spare:
            break
        shown.remove(last)
        left_out.append(" ".join(last.head.split()))
    return shown, left_out


def table(
    title: str,
    columns: Sequence[Column],
    styles: Sequence[str | None] = (),
    sections: Sequence[int] = (),
    *,
    edge: bool = True,
) -> Table:
    """Returns a table of columns.

    `styles`: one for each row, if any. `sections`: rows that a line follows.
    """
    made = Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=edge,
        show_edge=edge,
    )
    for column in columns:
        made.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=not column.wraps_to,
            overflow="fold",
        )
    for number, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        style = styles[number] if styles else None
        made.add_row(*map(Text, cells), style=style, end_section=number in sections)
    return made


def as_name(text: str) -> str:
    """Returns a name for a cell: printable, and in a script from right to left with a mark behind.

    Without the mark, a terminal would order the numbers of the next cells as part of the name.
    """
    text = printable(text)  # a control character would be laid out without a width
    backwards = any(unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT for letter in text)
    return text + LEFT_TO_RIGHT_MARK if backwards else text


def left_out_note(titles: Sequence[str]) -> list[str]:
    """Returns a sentence that names the columns that are left out; none if there are none."""
    return [f"Left out at this width: {', '.join(titles)}."] if titles else []
