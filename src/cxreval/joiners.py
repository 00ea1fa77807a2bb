"""Which joiners and tags of a text its script or its emoji need.

A zero-width joiner or non-joiner is invisible where it changes nothing, so two names that differ
by it alone would look alike. Unicode's profile for identifiers (UAX 31, rules A1, A2 and B; RFC
5892, appendix A, as `idna` has it) allows it where letters are drawn differently: in cursive
scripts such as Persian, and behind a virama. Emoji need it in the sequences that Unicode lists,
such as that of a health worker.
"""

from __future__ import annotations

import contextlib
import re

NON_JOINER, JOINER = "\u200c", "\u200d"

_MODIFIERS = "[\ufe0f\U0001f3fb-\U0001f3ff]{0,2}"
_SEQUENCE = re.compile(
    rf"[^{JOINER}]{_MODIFIERS}(?:{JOINER}[^{JOINER}]{_MODIFIERS})+"
    "|\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"
)
"""What may be a sequence of joined emoji, or the flag of a region, which ends in tags."""


def needed(text: str) -> frozenset[int]:
    """Returns the indices of the joiners and tags that the text needs."""
    places: set[int] = set()
    if JOINER in text or NON_JOINER in text or "\U000e007f" in text:
        import emoji  # noqa: PLC0415 -- few texts have such characters, and the list is long
        from idna import core  # noqa: PLC0415

        for match in _SEQUENCE.finditer(text):
            if emoji.is_emoji(match[0]):
                places.update(range(*match.span()))
        for index, letter in enumerate(text):
            if letter in (NON_JOINER, JOINER) and index not in places:
                with contextlib.suppress(ValueError):  # the character before it has no name
                    if core.valid_contextj(text, index):
                        places.add(index)
    return frozenset(places)
