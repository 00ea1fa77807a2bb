"""Which joiners and tags of a text its script or its emoji need.

A zero-width joiner or non-joiner is invisible where it changes nothing, so two names that differ
by it alone would look alike. Unicode's profile for identifiers (UAX 31, rules A1, A2 and B; RFC
5892, appendix A, as `idna` has it) allows it where letters are drawn differently: in cursive
scripts such as Persian, and behind a virama. Emoji need it in the sequences that Unicode lists,
such as that of a health worker.
"""

from __future__ import annotations

NON_JOINER, JOINER = "\u200c", "\u200d"
_TAGS = range(0xE0020, 0xE0080)  # of the flags of regions

MAX_CHARACTERS = 10_000
"""Length of a text from which no joiner counts as needed: the rules look at whole runs of marks."""


def needed(text: str) -> frozenset[int]:
    """Returns the indices of the joiners and tags that the text needs."""
    if len(text) > MAX_CHARACTERS or not any(_is_candidate(letter) for letter in text):
        return frozenset()
    import emoji  # noqa: PLC0415 -- few texts have such characters, and the list is long
    from idna import core  # noqa: PLC0415

    places = {
        index
        for sequence in emoji.emoji_list(text)
        for index in range(sequence["match_start"], sequence["match_end"])
        if _is_candidate(text[index])
    }
    for index, letter in enumerate(text):
        if letter in (NON_JOINER, JOINER) and index not in places:
            try:
                if core.valid_contextj(text, index):
                    places.add(index)
            except ValueError:  # a character without a name stands before it
                continue
    return frozenset(places)


def _is_candidate(letter: str) -> bool:
    return letter in (NON_JOINER, JOINER) or ord(letter) in _TAGS
