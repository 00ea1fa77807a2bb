"""What the public page offers to programs: tables, feeds, pictures, citations, a sitemap."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import feedparser
import pandas
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from cxreval.records import Change
from services.leaderboard import site
from services.leaderboard.problems import TooLarge
from services.leaderboard.programs.citation import latex
from services.leaderboard.programs.feed import MAX_ENTRIES, board_feed
from services.leaderboard.programs.indexing import dataset
from services.leaderboard.programs.tables import MAX_ROWS, formula_safe, table_csv
from services.leaderboard.routes import ROUTES
from services.leaderboard.site import SiteData
from tests.support import board_data
from tests.support.board_data import (
    ADDRESS,
    BEST,
    CLAIM,
    EARLIER,
    FINDINGS,
    HOSTILE,
    RUNNING,
    SECOND,
    UNDEFINED,
    WITHDRAWN,
    name_of,
)  # fmt: skip

API = "/api/v1/benchmarks/hostile"
ATOM = "{http://www.w3.org/2005/Atom}"
FORMULA_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
TEXT = st.lists(
    st.sampled_from([*FORMULA_SIGNS, *",;|\t\r\n\"' \\{}<>&", "a", "\u202e", "\x00", "\U0001f600"])
    | st.characters(codec="utf-8"),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SiteData:
    return board_data.site_data(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def visitor(data: SiteData) -> Iterator[TestClient]:
    with board_data.visitor(data) as client:
        yield client


def named(data: SiteData, text: str) -> SiteData:
    """Returns the site with a text of a stranger in every place that takes one."""
    board = data.boards["hostile"]
    submissions = {
        name: replace(item, manifest=replace(item.manifest, model=text, organisation=text))
        for name, item in board.submissions.items()
    }
    entries = tuple(
        replace(item, model=text, organisation=text, note=text) for item in board.entries
    )
    events = {
        name: tuple(replace(event, reason=text) for event in of_it)
        for name, of_it in board.events.items()
    }
    spec = replace(board.spec, title=text)
    changed = replace(board, spec=spec, submissions=submissions, entries=entries, events=events)
    return replace(data, boards={"hostile": changed})


# --- tables ---------------------------------------------------------------------------------------


@given(TEXT)
@example(",=1")
@example(";=1")
@example("|=1")
@example('"=1')
@example("\t\t=1")
def test_no_spreadsheet_finds_a_formula_in_a_cell_whatever_separates_cells(text: str) -> None:
    line = io.StringIO()
    csv.writer(line).writerow(["before", formula_safe(text), "after"])
    for piece in re.split(r'[,;|\t\r\n"]', line.getvalue()):
        assert not piece.strip().startswith(tuple(FORMULA_SIGNS))


@pytest.mark.parametrize("text", ["Model 1", "a-b", "x = 1", "CheXNet (2017)", "模型"])
def test_a_usual_name_is_written_as_it_is(text: str) -> None:
    assert formula_safe(text) == text


@given(text=TEXT)
def test_csv_has_a_row_for_each_entry_whatever_its_text(data: SiteData, text: str) -> None:
    body = table_csv(named(data, text), {"benchmark": "hostile"}, ()).body
    assert isinstance(body, str)
    head, *rows = csv.reader(io.StringIO(body))
    assert len(rows) == 4
    assert {len(row) for row in rows} == {len(head)} == {len(set(head))}


def test_pandas_reads_csv_with_numbers_as_numbers(visitor: TestClient) -> None:
    frame = pandas.read_csv(io.StringIO(visitor.get(f"{API}/entries.csv").text))
    assert frame["submission"].tolist() == [name_of(i) for i in (BEST, SECOND, UNDEFINED, CLAIM)]
    for column in ("score", "score_low", "claimed_score", "auroc", "brier_high|Hernia", "rank"):
        assert frame[column].dtype.kind == "f", column
    assert frame["score"].tolist()[:2] == [0.8, 0.7]
    assert frame["auroc_low|low"][0] == 0.8 - 0.01
    assert frame["open_source"].tolist() == [True, False, True, True]
    assert pandas.to_datetime(frame["publish_time"])[0] == datetime(
        2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC
    )


def test_parquet_has_the_columns_and_the_values_of_the_csv(visitor: TestClient) -> None:
    table = pandas.read_parquet(io.BytesIO(visitor.get(f"{API}/entries.parquet").content))
    text = pandas.read_csv(io.StringIO(visitor.get(f"{API}/entries.csv").text))
    assert list(table) == list(text)
    assert table["model"][0] == HOSTILE  # a typed file needs no mark before a formula
    numbers = table.select_dtypes("number").columns
    assert len(numbers) > len(FINDINGS) * 12
    pandas.testing.assert_frame_equal(
        table[numbers].astype(float), text[numbers].astype(float), check_exact=True
    )


def test_columns_depend_on_the_findings_only(visitor: TestClient) -> None:
    heads = {
        visitor.get(f"/api/v1/benchmarks/{name}/entries.csv").text.partition("\r\n")[0]
        for name in ("empty", "claims")
    }
    assert len(heads) == 1


def test_filters_choose_the_rows_of_a_table(visitor: TestClient) -> None:
    def rows(query: str) -> list[str]:
        text = visitor.get(f"{API}/entries.csv?{query}").text
        return [row["submission"][-1] for row in csv.DictReader(io.StringIO(text))]

    assert rows("tier=claimed&tier=reproduced") == ["1", "3"]
    assert rows("open=no") == ["1"]
    assert rows("sort=model&tier=executed") == [BEST[-1], UNDEFINED[-1]]
    assert rows(f"as_of={EARLIER}") == [WITHDRAWN[-1], BEST[-1]]
    assert rows("since=2026-01-03") == []


def test_a_table_that_is_too_large_is_refused_with_what_to_do(data: SiteData) -> None:
    board = data.boards["hostile"]
    large = replace(board, entries=board.entries[:1] * (MAX_ROWS + 1))
    with pytest.raises(TooLarge, match=r"10,001 rows; at most 10,000"):
        table_csv(replace(data, boards={"hostile": large}), {"benchmark": "hostile"}, ())


def test_pandas_reads_a_table_from_its_address(data: SiteData) -> None:
    with board_data.served(data) as address:
        frame = pandas.read_csv(f"{address}{API}/entries.csv")
    assert frame["score"].tolist()[:2] == [0.8, 0.7]


# --- JSON -----------------------------------------------------------------------------------------


def test_pages_of_entries_are_the_whole_board_in_order(visitor: TestClient) -> None:
    address, found = f"{API}/entries?page_size=1&sort=rank", []
    for _ in range(4):
        answer = visitor.get(address).json()
        found += [row["submission"] for row in answer["entries"]]
        assert answer["total"] == 4
        address = answer["next"]
    assert address is None
    assert found == [name_of(identifier) for identifier in (BEST, SECOND, UNDEFINED, CLAIM)]


def test_a_page_token_of_an_earlier_board_is_refused(data: SiteData, visitor: TestClient) -> None:
    token = visitor.get(f"{API}/entries?page_size=1").json()["next_page_token"]
    board = data.boards["hostile"]
    changed = replace(data, boards={"hostile": replace(board, entries=board.entries[1:])})
    with board_data.visitor(changed) as later:
        answer = later.get(f"{API}/entries?page_size=1&page_token={token}")
    assert answer.status_code == 400
    assert answer.json()["parameter"] == "page_token"


def test_pages_of_changes_are_all_changes_newest_first(visitor: TestClient) -> None:
    address, places = "/api/v1/changes?page_size=3", []
    while address:
        answer = visitor.get(address).json()
        places += [change["place"] for change in answer["changes"]]
        address = answer["next"]
    assert places == [8, 7, 6, 5, 4, 3, 2, 1]


def test_a_row_that_was_withdrawn_later_has_its_figures_on_the_earlier_day(
    visitor: TestClient,
) -> None:
    rows = visitor.get(f"{API}/entries?as_of={EARLIER}").json()["entries"]
    assert [row["submission"] for row in rows] == [name_of(WITHDRAWN), name_of(BEST)]
    assert rows[0]["figures"]["brier"]["findings"]["low"]["value"] == 0.85
    whole = visitor.get(f"{API}/submissions/{WITHDRAWN}?as_of={EARLIER}")
    assert whole.status_code == 200
    assert whole.json()["row"]["score"] == 0.85
    assert whole.json()["state"] == "published"


def test_a_withdrawn_row_answers_with_its_tombstone(visitor: TestClient) -> None:
    answer = visitor.get(f"{API}/submissions/{WITHDRAWN}")
    assert answer.status_code == 410
    assert answer.json()["tombstone"] == {
        "submission": name_of(WITHDRAWN), "model": "Withdrawn", "organisation": "Tests",
        "state": "withdrawn", "time": "2026-02-01T01:00:00Z", "reason": HOSTILE,
        "superseded_by": None,
    }  # fmt: skip


def test_a_submission_has_all_its_figures_with_slices(visitor: TestClient) -> None:
    report = visitor.get(f"{API}/submissions/{SECOND}").json()["report"]
    assert len(report["figures"]) == len(board_data.values(0.7))
    assert {figure["slice"] for figure in report["figures"]} == {None, "sex=F"}
    assert report["seed"] == str(2**64 - 1)


def test_no_answer_has_a_contact_or_an_endpoint(visitor: TestClient) -> None:
    for path, name, _ in ROUTES:
        if name == "api_unknown" or path.endswith((".png", ".parquet")):
            continue
        for identifier in (BEST, WITHDRAWN):
            body = visitor.get(path.format(benchmark="hostile", submission=identifier)).content
            assert b"tests@example.org" not in body, path
            assert b"secret" not in body, path


def test_a_wrong_method_is_a_problem_document_too(visitor: TestClient) -> None:
    answer = visitor.post("/api/v1/benchmarks")
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "NOT_ALLOWED"


@pytest.mark.parametrize("path", ["/api/v1/benchmarks", "/api/nowhere", "/b/hostile"])
def test_a_query_that_is_too_long_is_a_problem_document_below_api_and_else_a_page(
    visitor: TestClient, path: str
) -> None:
    answer = visitor.get(f"{path}?x={'y' * 2001}")
    assert answer.status_code == 400
    assert "more than 2,000 characters" in answer.text
    if path.startswith("/api/"):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["reason"] == "QUERY_TOO_LONG"
    else:
        assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/api/v1/benchmarks", "/b/hostile"])
def test_too_many_waiting_visitors_get_a_problem_document_below_api_and_else_a_page(
    visitor: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(site, "MAX_WAITING", 0)
    answer = visitor.get(f"{path}?as_of=2026-01-07")
    assert answer.status_code == 503
    if path.startswith("/api/"):
        assert answer.json()["reason"] == "BUSY"
    else:
        assert "Too many requests at once" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/feed.atom", "/b/hostile/feed.atom", "/sitemap.xml", f"/b/hostile/m/{BEST}/receipt.json",
    ],
)  # fmt: skip
def test_a_file_without_days_names_as_of_as_unknown_in_a_problem_document(
    visitor: TestClient, path: str
) -> None:
    answer = visitor.get(f"{path}?as_of=2026-01-07")
    assert answer.status_code == 400
    assert answer.json()["parameter"] == "as_of"
    assert answer.json()["expected"] == "no parameter"


# --- Atom -----------------------------------------------------------------------------------------


def test_the_feed_has_every_change_newest_first_with_what_it_was(visitor: TestClient) -> None:
    feed = feedparser.parse(visitor.get("/b/hostile/feed.atom").content)
    assert not feed.bozo
    assert feed.version == "atom10"
    kinds = [(entry.tags[0].term, entry.link[-1]) for entry in feed.entries]
    assert kinds == [
        ("withdrawn", WITHDRAWN[-1]), ("disputed", BEST[-1]), ("published", WITHDRAWN[-1]),
        ("published", UNDEFINED[-1]), ("published", SECOND[-1]), ("step", BEST[-1]),
        ("published", CLAIM[-1]),
    ]  # fmt: skip
    assert "AUROC × 100 80.00 (79.00 to 81.00)" in feed.entries[5].summary  # noqa: RUF001
    times = [entry.updated_parsed for entry in feed.entries]
    assert times == sorted(times, reverse=True)


@given(text=TEXT)
def test_a_feed_is_valid_whatever_the_text_of_strangers(data: SiteData, text: str) -> None:
    root = ET.fromstring(board_feed(named(data, text), {"benchmark": "hostile"}, ()).body)
    entries = root.findall(f"{ATOM}entry")
    assert len(entries) == 7
    for element in (root, *entries):
        for required in ("id", "title", "updated"):
            assert len(element.findall(f"{ATOM}{required}")) == 1
        assert [link.get("rel") for link in element.findall(f"{ATOM}link")].count("alternate") == 1
    assert root.findtext(f"{ATOM}author/{ATOM}name")
    assert root.find(f"{ATOM}link[@rel='self']") is not None
    identifiers = [entry.findtext(f"{ATOM}id") or "" for entry in entries]
    assert len(set(identifiers)) == 7
    assert all(re.fullmatch(r"tag:[A-Za-z0-9.-]+,2026:\S+", each) for each in identifiers)
    for time in root.iter(f"{ATOM}updated"):
        datetime.fromisoformat(time.text or "")


def test_a_feed_has_at_most_its_newest_entries(data: SiteData) -> None:
    board, name = data.boards["hostile"], name_of(BEST)
    many = tuple(
        board_data.event(place, name, Change.CORRECTED, "2026-01-01T00:00:00.000000")
        for place in range(1, MAX_ENTRIES + 50)
    )
    longer = replace(data, boards={"hostile": replace(board, events={name: many})})
    root = ET.fromstring(board_feed(longer, {"benchmark": "hostile"}, ()).body)
    entries = root.findall(f"{ATOM}entry")
    assert len(entries) == MAX_ENTRIES
    newest = f"tag:boards.example.org,2026:/{name}/events/{MAX_ENTRIES + 49}"
    assert entries[0].findtext(f"{ATOM}id") == newest


@pytest.mark.parametrize("address", ["/feed.atom", "/b/empty/feed.atom", "/b/claims/feed.atom"])
def test_every_feed_is_read_by_a_reader(visitor: TestClient, address: str) -> None:
    answer = visitor.get(address)
    assert answer.headers["content-type"].startswith("application/atom+xml")
    assert not feedparser.parse(answer.content).bozo


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        (BEST, "rank 1 of 3, AUROC × 100 80.00, disputed"),  # noqa: RUF001
        (UNDEFINED, "no rank"),
        (CLAIM, "claimed, AUROC × 100 90.00"),  # noqa: RUF001
        (WITHDRAWN, "no row: withdrawn"),
        (RUNNING, "no row: running"),
    ],
)
def test_a_badge_says_what_the_row_is_worth(
    visitor: TestClient, identifier: str, text: str
) -> None:
    answer = visitor.get(f"/b/hostile/m/{identifier}/badge.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert text in "".join(ET.fromstring(answer.content).itertext())


@pytest.mark.parametrize(
    "address",
    [
        *(f"/b/{name}/preview.png" for name in ("hostile", "empty", "claims")),
        *(f"/b/hostile/m/{each}/preview.png" for each in (BEST, UNDEFINED, CLAIM, RUNNING)),
    ],
)
def test_a_preview_is_a_picture_of_the_size_that_crawlers_expect(
    visitor: TestClient, address: str
) -> None:
    answer = visitor.get(address)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (1200, 630)


def test_badges_and_previews_show_the_board_of_a_day(visitor: TestClient) -> None:
    def badge(identifier: str, day: object) -> str:
        answer = visitor.get(f"/b/hostile/m/{identifier}/badge.svg?as_of={day}")
        return "".join(ET.fromstring(answer.content).itertext())

    assert "rank 1 of 2, AUROC × 100 85.00" in badge(WITHDRAWN, EARLIER)  # noqa: RUF001
    assert "rank 2 of 2" in badge(BEST, EARLIER)
    assert "no row on 2025-12-31" in badge(BEST, "2025-12-31")
    pictures = {
        visitor.get(f"/b/hostile{path}/preview.png{query}").content
        for path in (f"/m/{BEST}", "")
        for query in ("", f"?as_of={EARLIER}", "?as_of=2025-12-31")
    }
    assert len(pictures) == 5  # today the record's picture is that of its row
    assert visitor.get(f"/b/hostile/m/{WITHDRAWN}/preview.png?as_of={EARLIER}").status_code == 200


def test_a_withdrawn_row_has_no_preview(visitor: TestClient) -> None:
    assert visitor.get(f"/b/hostile/m/{WITHDRAWN}/preview.png").status_code == 410


# --- citations ------------------------------------------------------------------------------------


@given(TEXT)
def test_latex_sees_nothing_but_text(text: str) -> None:
    written = latex(text)
    commands = r"\\textbraceleft\{\}|\\textbraceright\{\}|\\textbackslash\{\}|\\textascii\w+\{\}"
    rest = re.sub(commands + r"|\\[$&#%_]", "", written)
    assert not set(rest) & set("{}\\$&#%_^~\n\r")


@pytest.mark.parametrize(
    ("query", "day"), [("", "2026-02-01"), (f"?as_of={EARLIER}", str(EARLIER))]
)
def test_a_citation_names_the_board_and_the_day(visitor: TestClient, query: str, day: str) -> None:
    bib = visitor.get(f"/b/hostile/citation.bib{query}").text
    assert bib.startswith(f"@misc{{cxreval-hostile-{day},\n")
    assert bib.count("{") == bib.count("}")
    assert f"url = {{{ADDRESS}/b/hostile?as_of={day}}}" in bib
    cff = yaml.safe_load(visitor.get(f"/b/hostile/CITATION.cff{query}").text)
    assert cff["cff-version"] == "1.2.0"
    assert cff["date-released"] == day
    assert cff["url"] == f"{ADDRESS}/b/hostile?as_of={day}"
    assert cff["title"].startswith("Title =cmd()")
    assert cff["authors"] == [{"name": "cxreval"}]


# --- crawlers -------------------------------------------------------------------------------------


def test_the_sitemap_lists_the_pages_of_boards_and_rows(visitor: TestClient) -> None:
    assert f"Sitemap: {ADDRESS}/sitemap.xml" in visitor.get("/robots.txt").text
    root = ET.fromstring(visitor.get("/sitemap.xml").content)
    addresses = [element.text or "" for element in root.iter() if element.tag.endswith("loc")]
    rows = {f"{ADDRESS}/b/hostile/m/{each}" for each in (BEST, SECOND, UNDEFINED, CLAIM)}
    assert rows < set(addresses)
    assert f"{ADDRESS}/b/hostile/m/{WITHDRAWN}" not in addresses
    for address in addresses:
        assert visitor.get(address.removeprefix(ADDRESS)).status_code == 200, address


@given(text=TEXT)
def test_the_description_of_a_data_set_is_json_that_no_markup_ends(
    data: SiteData, text: str
) -> None:
    changed = named(data, text)
    described = dataset(changed, changed.boards["hostile"])
    assert not set(described) & set("<>&")
    assert json.loads(described)["name"] == f"{text}: leaderboard"


def test_a_link_to_a_row_shows_its_picture_elsewhere(visitor: TestClient) -> None:
    text = visitor.get(f"/b/hostile/m/{SECOND}").text
    picture = f"{ADDRESS}/b/hostile/m/{SECOND}/preview.png"
    assert f'<meta property="og:image" content="{picture}">' in text


@pytest.mark.parametrize("name", ["hostile", "empty", "claims"])
def test_a_link_to_a_board_shows_its_picture_elsewhere(visitor: TestClient, name: str) -> None:
    text = visitor.get(f"/b/{name}").text
    assert f'<meta property="og:image" content="{ADDRESS}/b/{name}/preview.png">' in text
    found = re.search(r'<script type="application/ld\+json">(.*?)</script>', text)
    assert found
    described: dict[str, Any] = json.loads(found[1])
    assert described["@type"] == "Dataset"
    for item in described["distribution"]:
        assert visitor.get(item["contentUrl"].removeprefix(ADDRESS)).status_code == 200
    title = re.search(r'<meta property="og:title" content="([^"<>]*)">', text)
    assert title
