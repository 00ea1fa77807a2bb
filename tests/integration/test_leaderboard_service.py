"""The public page as a process over a real registry: changes, outages, restarts, streams."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from cxreval.client import RegistryClient
from tests.support.access import ClosedRegistry
from tests.support.leaderboard import Page
from tests.support.processes import Service
from tests.support.registry import Registry, registry_service, report_message, small_spec
from tests.support.waiting import wait_for

SPEC = small_spec("small")
BOARD = "/b/small"
SENTENCE = "The registry has not answered since"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with registry_service(tmp_path_factory.mktemp("registry")) as service:
        with Registry(service.address) as call:
            call.create_benchmark(SPEC)
        yield service


@pytest.fixture(scope="module")
def page(registry: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    publish(registry, "First model", 0.8)
    with Page(tmp_path_factory.mktemp("page"), registry.address) as running:
        assert isinstance(running, Page)
        yield running


def publish(registry: Service, model: str, score: float) -> str:
    """Publishes a row and returns the id of its submission."""
    with Registry(registry.address) as call:
        name = call.submit(SPEC.name, model.encode(), model=model).name
        call.complete(call.lease(SPEC.name), report_message(SPEC, score))
    return name.rpartition("/")[2]


def test_a_new_row_is_on_the_page_while_visitors_never_call_the_registry(
    registry: Service, page: Page
) -> None:
    wait_for(lambda: "First model" in page.get(BOARD).body)
    before = page.get(BOARD)
    identifier = publish(registry, "Second model", 0.9)
    wait_for(lambda: "Second model" in page.get(BOARD).body)
    assert page.get(BOARD).headers["ETag"] != before.headers["ETag"]
    assert "90.00" in page.get(f"{BOARD}/m/{identifier}").body
    quiet = page.calls()
    for _ in range(50):
        for path in ("/", BOARD, f"{BOARD}?sort=Hernia", f"{BOARD}/m/{identifier}", "/audit"):
            assert page.get(path).status == 200
    changed = {name for name, number in page.calls().items() if number != quiet[name]}
    assert changed <= {"GetAuditHead"}


def test_a_kept_page_is_answered_by_its_tag_alone(page: Page) -> None:
    first = page.get(BOARD)
    again = page.get(BOARD, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, "")
    assert page.get(BOARD, If_None_Match='"other"').status == 200


def test_every_answer_has_the_headers_of_safety(page: Page) -> None:
    for path in (
        "/",
        BOARD,
        "/missing",
        f"{BOARD}?page=x",
        "/static/page.css",
        "/api/v1/benchmarks",
    ):
        headers = page.get(path).headers
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers
        assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (f"{BOARD}?page=0", 400, "a whole number from 1"),
        (f"{BOARD}?page=999", 404, "999"),
        (f"{BOARD}?as_of=2026-02-30", 400, "a date YYYY-MM-DD"),
        (f"{BOARD}?tier=best", 400, "executed"),
        (f"{BOARD}?colour=red", 400, "colour"),
        (f"{BOARD}?sort=Hernja", 400, "Hernia"),
        (f"{BOARD}?page=1&page=2", 400, "at most 1"),
        (f"{BOARD}?organisation={'x' * 101}", 400, "at most 100 characters"),
        ("/b/smal", 404, "small"),
        (f"{BOARD}/m/0000", 404, "There is no submission"),
        ("/no/such/page", 404, "There is no page"),
        (f"{BOARD}?organisation={'x' * 3000}", 400, "2,000 characters"),
    ],
)
def test_a_wrong_address_is_named_with_what_was_expected(
    page: Page, path: str, status: int, text: str
) -> None:
    answer = page.get(path)
    assert answer.status == status
    assert text in answer.body


def test_a_day_before_and_after_the_first_row_have_their_boards(page: Page) -> None:
    assert "No model had been run" in page.get(f"{BOARD}?as_of=1969-12-31").body
    assert "First model" in page.get(f"{BOARD}?as_of=9999-12-31").body


def test_a_withdrawn_row_leaves_its_tombstone(registry: Service, page: Page) -> None:
    identifier = publish(registry, "Withdrawn model", 0.7)
    wait_for(lambda: page.get(f"{BOARD}/m/{identifier}").status == 200)
    with RegistryClient(registry.address) as client:
        client.withdraw(identifier, "Asked for by <b>its authors</b>.")
    wait_for(lambda: page.get(f"{BOARD}/m/{identifier}").status == 410)
    gone = page.get(f"{BOARD}/m/{identifier}").body
    assert "Asked for by &lt;b&gt;its authors&lt;/b&gt;." in gone
    assert "Withdrawn model" not in page.get(BOARD).body
    assert "Withdrawn model" in page.get("/audit").body


def test_a_running_submission_is_followed_by_events(registry: Service, page: Page) -> None:
    with Registry(registry.address) as call:
        name = call.submit(SPEC.name, b"slow", model="Slow model").name
        path = f"{BOARD}/m/{name.rpartition('/')[2]}"
        wait_for(lambda: "queued" in page.get(path).body)
        received: list[bytes] = []

        def follow() -> None:
            with urlopen(f"http://{page.address}{path}/events", timeout=60) as stream:
                received.extend(line for line in stream if line.strip())

        follower = threading.Thread(target=follow)
        follower.start()
        wait_for(lambda: received)
        call.complete(call.lease(SPEC.name), report_message(SPEC, 0.6))
        follower.join(timeout=60)
    assert not follower.is_alive()
    assert received[0] == b"event: state\n"
    assert b'"state": "queued"' in received[1]
    assert b'"state": "published"' in b"".join(received)
    assert received[-2] == b"event: ended\n"
    wait_for(lambda: "60.00" in page.get(path).body)


def test_the_last_page_is_served_while_the_registry_is_away_also_after_a_restart(
    tmp_path: Path,
) -> None:
    registry = registry_service(tmp_path)
    with registry:
        with Registry(registry.address) as call:
            call.create_benchmark(SPEC)
        identifier = publish(registry, "Kept model", 0.8)
        page = Page(tmp_path, registry.address)
        with page:
            wait_for(lambda: "Kept model" in page.get(BOARD).body)
            assert SENTENCE not in page.get(BOARD).body
            registry.kill()
            wait_for(lambda: SENTENCE in page.get(BOARD).body)
            page.kill()
            page.start()
            for path in (BOARD, f"{BOARD}/m/{identifier}", "/", "/api/v1/benchmarks"):
                assert page.get(path).status == 200
            wait_for(lambda: SENTENCE in page.get(BOARD).body)
            assert "Kept model" in page.get(BOARD).body
            registry.start()
            publish(registry, "Later model", 0.9)
            wait_for(lambda: "Later model" in page.get(BOARD).body)
            # The sentence goes when the whole refresh has succeeded, just after the row is shown.
            wait_for(lambda: SENTENCE not in page.get(BOARD).body)


def test_a_registry_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first, second = registry_service(tmp_path / "first"), registry_service(tmp_path / "second")
    second.address = first.address
    second._command[second._command.index("--listen") + 1] = first.address
    page = Page(tmp_path, first.address)
    with first, Registry(first.address) as call:
        call.create_benchmark(SPEC)
        publish(first, "Old model", 0.8)
        page.start()
    with contextlib.ExitStack() as stack:
        stack.callback(page.kill)
        wait_for(lambda: "Old model" in page.get(BOARD).body)
        with second:
            with Registry(second.address) as call:
                call.create_benchmark(SPEC)
            for number in range(3):
                publish(second, f"New model {number}", 0.5 + number / 10)
            wait_for(lambda: "New model 2" in page.get(BOARD).body)
            assert "Old model" not in page.get(BOARD).body


def test_a_registry_that_refuses_to_be_read_is_not_called_silent(tmp_path: Path) -> None:
    with ClosedRegistry(tmp_path) as closed:
        page = Page(tmp_path, closed.service.address)
        with contextlib.ExitStack() as stack:
            page.launch()
            stack.callback(page.kill)

            def refused() -> bool:
                with contextlib.suppress(OSError):  # the port is not open yet
                    return "The registry has not let this site read it" in page.get("/").body
                return False

            wait_for(refused)
            assert SENTENCE not in page.get("/").body


def test_sigterm_ends_open_streams_and_the_process_with_0(
    registry: Service, tmp_path: Path
) -> None:
    with Registry(registry.address) as call:
        name = call.submit(SPEC.name, b"never", model="Waiting model").name
    path = f"{BOARD}/m/{name.rpartition('/')[2]}"
    page = Page(tmp_path, registry.address)
    with page:
        wait_for(lambda: page.get(path).status == 200)
        with urlopen(f"http://{page.address}{path}/events", timeout=60) as stream:
            assert stream.readline() == b"event: state\n"
            assert page.stop() == 0
