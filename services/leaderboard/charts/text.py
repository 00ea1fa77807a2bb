"""Text of charts: what may be drawn of it, how wide it is, and how it is shortened or wrapped."""

import unicodedata
from functools import lru_cache

# Advance widths in twentieths of an em, rounded up: for each character the wider one of DejaVu
# Sans and Liberation Sans. Other sans-serif fonts of browsers are narrower than DejaVu Sans.
_WIDTHS = {
    6: "'IijlłıΙ",
    7: " ,./:;\\|ι·’",
    8: "()-[]ft‹›",
    9: "!r",
    10: '"*J`',
    11: "cszεζгзсэ“”",
    12: "?L_kvxyŁΓγκλνξςυχвтухчь–•",
    13: "$0123456789FTabdeghnopqu{}ßøþđΞΣΤβδηθμορστГЗТУабеиклоря",
    14: "ABEKPSVXYZÞΑΒΔΕΖΚΛΡΥΧαπφАБВЕРХЧЬднпц",
    15: "CNRUΝψИКСЭЯъ",
    16: "&DGHOQØΗΘΟΠΦΩДЛНОПЦмы",
    17: "#+<=>^w~ΨωЪю×−±≤≥↑↓",
    18: "MΜМФЫф",
    19: "жшщ□",
    20: "%WmÆæ—…→←",
    21: "@œ",
    22: "ŒЖШЩЮ",
}
_WIDTH_OF = {character: width for width, characters in _WIDTHS.items() for character in characters}

# The widest character of each other block that is drawn, in twentieths of an em. A character of a
# block that is not listed is drawn as a box, because some are many ems wide (U+FDFD, U+12031).
_BLOCKS = (
    (0x00A0, 0x01C3, 22),  # Latin
    (0x01C4, 0x02FF, 29),
    (0x0370, 0x058F, 25),  # Greek, Cyrillic, Armenian
    (0x0590, 0x05FF, 16),  # Hebrew
    (0x0600, 0x077F, 25),  # Arabic
    (0x0900, 0x0DFF, 40),  # scripts of India
    (0x0E00, 0x0EFF, 22),  # Thai, Lao
    (0x10A0, 0x10FF, 23),  # Georgian
    (0x1200, 0x137F, 28),  # Ethiopic
    (0x1E00, 0x1FFF, 24),
    (0x2010, 0x2027, 21),  # dashes and quotation marks
    (0x2030, 0x205E, 36),
    (0x2070, 0x22FF, 30),  # superscripts, currencies, letterlike signs, arrows, mathematics
    (0x2500, 0x27BF, 28),  # boxes, shapes, dingbats
    (0x3000, 0x9FFF, 21),  # Japanese, Chinese
    (0xAC00, 0xD7A3, 21),  # Korean
    (0xF900, 0xFAFF, 21),
    (0xFF00, 0xFFEF, 21),
    (0x1F300, 0x1FAFF, 28),  # emoji
    (0x20000, 0x3134F, 21),  # Chinese
)
_MISSING = "□"
BOLD = 1.15  # a bold line is at most this much wider
_MARKS = 2  # combining marks drawn on one character: more of them would reach into other lines


@lru_cache(maxsize=20_000)
def clean(text: str) -> str:
    """Returns the text in one line, without characters that XML or a line of text cannot hold.

    Controls, surrogates, format characters such as those of direction, and non-characters are
    dropped.
    """
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category[0] == "Z" or character in "\t\n\r\f\v\x85":
            kept.append(" ")
        elif category not in {"Cc", "Cs", "Cf", "Cn"}:
            kept.append(character)
    return " ".join("".join(kept).split())


@lru_cache(maxsize=20_000)
def drawable(text: str) -> str:
    """Returns the text as a chart draws it: clean, few marks a character, boxes for the unknown."""
    drawn: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", clean(text)):
        if unicodedata.category(character) in {"Mn", "Me"}:
            marks += 1
            if drawn and marks <= _MARKS and unicodedata.category(character) == "Mn":
                drawn.append(character)
            continue
        marks = 0
        drawn.append(character if _twentieths(character) else _MISSING)
    return "".join(drawn)


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Returns the width of drawable text in user units, at a font size, as an upper bound."""
    total = sum(map(_twentieths, text))
    return total / 20 * size * (BOLD if bold else 1)


@lru_cache(maxsize=20_000)
def _twentieths(character: str) -> int:
    """Returns the width of a character in twentieths of an em: 0 of a mark, and of the unknown."""
    if unicodedata.category(character) == "Mn":
        return 0
    known = _WIDTH_OF.get(character)
    if known is not None:
        return known
    code = ord(character)
    base = _WIDTH_OF.get(unicodedata.normalize("NFD", character)[0])
    if base is not None and not _is_greek(code):
        return base if code <= 0xFF else base + 3  # such as a horn beside the letter
    return next((wide for first, last, wide in _BLOCKS if first <= code <= last), 0)


def _is_greek(code: int) -> bool:
    """Whether a character is Greek, where accents stand before capital letters."""
    return 0x370 <= code <= 0x3FF or 0x1F00 <= code <= 0x1FFF


def shorten(text: str, room: float, size: float) -> str:
    """Returns drawable text that fits into `room`; longer text loses its middle to an ellipsis."""
    text = drawable(text)
    if width(text, size) <= room + 1e-6:  # rounding of a room that was measured by this text
        return text
    parts = _characters(text)
    head, tail = "", ""
    left = room - width("…", size)
    while parts:
        from_end = len(tail) < len(head)
        part = parts.pop() if from_end else parts.pop(0)
        left -= width(part, size)
        if left < 0:
            break
        head, tail = (head, part + tail) if from_end else (head + part, tail)
    return f"{head.rstrip()}…{tail.lstrip()}"


def wrap(text: str, room: float, size: float, lines: int = 4) -> list[str]:
    """Returns drawable text as at most `lines` lines that fit into `room`; words are shortened."""
    wrapped = [""]
    for word in drawable(text).split():
        longer = f"{wrapped[-1]} {word}".strip()
        if width(longer, size) <= room:
            wrapped[-1] = longer
        elif not wrapped[-1]:
            wrapped[-1] = shorten(word, room, size)
        else:
            wrapped.append(shorten(word, room, size))
    if len(wrapped) > lines:
        wrapped[lines - 1 :] = [shorten(" ".join(wrapped[lines - 1 :]), room, size)]
    return wrapped


def _characters(text: str) -> list[str]:
    """Returns the characters of the text, each with its combining marks."""
    parts: list[str] = []
    for character in text:
        if parts and unicodedata.category(character) == "Mn":
            parts[-1] += character
        else:
            parts.append(character)
    return parts
