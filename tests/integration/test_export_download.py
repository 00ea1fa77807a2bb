"""Downloads are complete and verified, or fail with named errors, however the server behaves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cxreval.errors import ArtifactTooLarge, DigestMismatch, DownloadFailed, MalformedField
from cxreval.export import download as download_module
from cxreval.export.download import download

CONTENT = np.random.default_rng(5).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """An HTTP server on loopback with one behaviour per request; the last one is repeated."""

    def __init__(self) -> None:
        self.behaviours: list[Answer] = [whole]
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers["Range"]
                outer.ranges.append(asked)
                behaviour = (
                    outer.behaviours.pop(0) if len(outer.behaviours) > 1 else outer.behaviours[0]
                )
                behaviour(self, int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/weights/model.pt"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler, start: int) -> None:
    if start >= len(CONTENT):
        send(handler, 416, b"")
    elif start:
        content_range = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, 206, CONTENT[start:], Content_Range=content_range, ETag='"1"')
    else:
        send(handler, 200, CONTENT, ETag='"1"')


def breaks_off(handler: BaseHTTPRequestHandler, start: int) -> None:
    half = CONTENT[start : start + 400_000]
    length = str(len(CONTENT) - start)
    if start:
        content_range = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, 206, half, Content_Length=length, Content_Range=content_range, ETag='"1"')
    else:
        send(handler, 200, half, Content_Length=length, ETag='"1"')


def ignores_range(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 200, CONTENT)


def promises_too_much(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 200, CONTENT, Content_Length=str(len(CONTENT) + 5))


def promises_too_little(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 200, CONTENT[:-5])


def other_range(handler: BaseHTTPRequestHandler, start: int) -> None:
    send(
        handler,
        206,
        CONTENT[start + 7 :],
        Content_Range=f"bytes {start + 7}-{len(CONTENT) - 1}/{len(CONTENT)}",
    )


def refuses(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 404, b"")


def is_busy(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 503, b"")


def sends_to_a_file(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 302, b"", Location="file:///etc/hostname")


def is_huge(handler: BaseHTTPRequestHandler, _start: int) -> None:
    send(handler, 200, b"x", Content_Length=str(10**13))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(
        download_module, "_RETRIES", replace(download_module._RETRIES, initial_pause=0.0)
    )
    started = Server()
    yield started
    started.close()


def kept(directory: Path) -> dict[str, int]:
    return {file.name.partition("-")[2]: file.stat().st_size for file in directory.iterdir()}


def test_whole_file_is_taken_once_and_progress_counts_bytes(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    file = download(
        server.url, tmp_path / "new", SHA256, lambda done, total: seen.append((done, total))
    )
    assert file.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert download(server.url, tmp_path / "new", SHA256) == file
    assert server.ranges == [None]


def test_broken_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.behaviours = [breaks_off, breaks_off, whole]
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=400000-", "bytes=800000-"]
    assert kept(tmp_path) == {"model.pt": len(CONTENT)}


def test_later_call_resumes_an_earlier_download(server: Server, tmp_path: Path) -> None:
    server.behaviours = [breaks_off, is_busy]
    with pytest.raises(DownloadFailed, match="503"):
        download(server.url, tmp_path, SHA256)
    assert kept(tmp_path) == {"model.pt.partial": 400_000}
    server.behaviours = [whole]
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=400000-"


@pytest.mark.parametrize("partial", [len(CONTENT), len(CONTENT) + 10])
def test_partial_as_long_as_the_file_or_longer_is_fetched_anew(
    server: Server, tmp_path: Path, partial: int
) -> None:
    name = download(server.url, tmp_path, SHA256).name
    (tmp_path / name).replace(tmp_path / f"{name}.partial")
    (tmp_path / f"{name}.partial").write_bytes(bytes(partial))
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT


def test_server_that_ignores_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.behaviours = [breaks_off, ignores_range]
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=400000-"]


@pytest.mark.parametrize("behaviour", [promises_too_much, is_busy, refuses, sends_to_a_file])
def test_server_that_never_gives_the_file_is_a_named_error(
    server: Server, tmp_path: Path, behaviour: Answer
) -> None:
    server.behaviours = [behaviour]
    with pytest.raises(DownloadFailed, match="was not downloaded"):
        download(server.url, tmp_path, SHA256)
    assert "model.pt" not in kept(tmp_path)


def test_answer_with_another_range_is_refused(server: Server, tmp_path: Path) -> None:
    server.behaviours = [breaks_off, other_range]
    with pytest.raises(DownloadFailed, match="asked for bytes from 400000"):
        download(server.url, tmp_path, SHA256)


@pytest.mark.parametrize(
    ("behaviour", "sha256"),
    [(promises_too_little, SHA256), (whole, "0" * 64)],
    ids=["cut", "other digest"],
)
def test_wrong_digest_is_named_and_nothing_is_kept(
    server: Server, tmp_path: Path, behaviour: Answer, sha256: str
) -> None:
    server.behaviours = [behaviour]
    with pytest.raises(DigestMismatch, match=f"expected {sha256}"):
        download(server.url, tmp_path, sha256)
    assert kept(tmp_path) == {}


def test_damaged_file_of_an_earlier_download_is_found(server: Server, tmp_path: Path) -> None:
    file = download(server.url, tmp_path, SHA256)
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(DigestMismatch):
        download(server.url, tmp_path, SHA256)
    assert download(server.url, tmp_path, SHA256).read_bytes() == CONTENT


def test_file_above_the_limit_is_refused_before_it_comes(server: Server, tmp_path: Path) -> None:
    server.behaviours = [is_huge]
    with pytest.raises(ArtifactTooLarge, match="expected at most 2147483647 bytes"):
        download(server.url, tmp_path, SHA256)
    assert kept(tmp_path) == {}


def test_server_that_is_not_there_is_a_named_error(server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(DownloadFailed, match="refused"):
        download(server.url, tmp_path, SHA256)


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://example.org/a", "http://example.org/a", "https:///a"]
)
def test_only_https_is_trusted_without_a_digest(url: str, tmp_path: Path) -> None:
    with pytest.raises(
        MalformedField, match="expected an https URL, or an http URL together with its sha256"
    ):
        download(url, tmp_path)
    assert list(tmp_path.iterdir()) == []
