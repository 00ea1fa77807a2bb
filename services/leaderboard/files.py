"""The style sheet, the script and the icon, which are the same for every visitor."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from services.leaderboard.site import Content, Page, page_of

_DIRECTORY = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_STYLES = ("page.css", "charts.css")
"""Style sheets, which are sent as one file."""


@cache
def static_files() -> dict[str, Page]:
    """Returns the files by address."""
    styles = "".join((_DIRECTORY / name).read_text(encoding="utf-8") for name in _STYLES)
    pages = {"/static/page.css": page_of(Content(styles, _TYPES[".css"]))}
    for file in sorted(_DIRECTORY.iterdir()):
        if file.name not in _STYLES:
            content = Content(file.read_bytes(), _TYPES[file.suffix])
            pages[f"/static/{file.name}"] = page_of(content)
    pages["/favicon.svg"] = pages["/favicon.ico"] = pages.pop("/static/favicon.svg")
    return pages


def versioned(address: str) -> str:
    """Returns the address of a file with its digest, so that browsers may keep it for ever."""
    return f"{address}?{version(static_files()[address])}"


def version(file: Page) -> str:
    """Returns the query that names the content of a file."""
    return "v=" + file.etag.strip('"')
