"""A badge for a README: the rank and score of a model on a board."""

from html import escape

from markupsafe import Markup

from services.leaderboard.charts import svg
from services.leaderboard.charts import text as texts

_ROOM = 240  # for each of the two texts
_INSET = 7


def chart(subject: str, message: str, *, prefix: str = "badge") -> Markup:
    """Returns a picture such as `nih-chestxray14 | rank 1 of 12, AUROC × 100 83.83`.

    It has its own colours, because a README is on another host's page, in a light or dark theme.
    """
    left, right = (texts.shorten(words, _ROOM, svg.SMALL) for words in (subject, message))
    divide = texts.width(left, svg.SMALL) + 2 * _INSET
    width = divide + texts.width(right, svg.SMALL) + 2 * _INSET
    whole = escape(f"{texts.clean(subject)}: {texts.clean(message)}")
    mark = escape(prefix)
    middle, end = svg.number(divide), svg.number(width)
    font = 'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"'
    return Markup(  # noqa: S704 - every piece is escaped
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{end}" height="20" viewBox="0 0 {end} 20"'
        f' role="img" aria-labelledby="{mark}-t"><title id="{mark}-t">{whole}</title>'
        f'<rect width="{end}" height="20" rx="3" fill="#0067a5"/>'
        f'<path d="M3 0H{middle}V20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="#3b4148"/>'
        f'<g fill="#fff" {font} text-anchor="middle">'
        f'<text x="{svg.number(divide / 2)}" y="14">{escape(left)}</text>'
        f'<text x="{svg.number((divide + width) / 2)}" y="14">{escape(right)}</text></g></svg>'
    )
