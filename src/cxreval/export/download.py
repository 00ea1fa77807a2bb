"""Downloads a file over HTTP: resumes after a break, and checks the length and the digest."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cxreval.errors import ArtifactTooLarge, DigestMismatch, DownloadFailed
from cxreval.fields import field_error
from cxreval.files import MAX_FILE_BYTES, file_sha256
from cxreval.retry import Backoff, RetryPolicy

_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 64 * 1024
_TRANSIENT_STATUSES = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)
_RETRIES = RetryPolicy(initial_pause=0.5, max_attempts=5)

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received, and the total if the server gives it."""


def _ignore(_done: int, _total: int | None) -> None:
    pass


def download(url: str, directory: Path, sha256: str = "", progress: Progress = _ignore) -> Path:
    """Returns the path of the file at `url` in `directory`; downloads it if it is not there.

    The file's name is a digest of the URL followed by the URL's last part. An incomplete download
    stays as `*.partial`. It is resumed within a call if the server's ETag shows that the file is
    unchanged, and by a later call if `sha256` is given.

    Args:
        url: http or https; http only with a `sha256`.
        directory: directory of the downloads; created if missing.
        sha256: expected digest, 64 hex characters; without it, only https protects the content.
        progress: see `Progress`.

    Raises:
        MalformedField: `url` has another form.
        DigestMismatch: the complete file has another digest; nothing is kept.
        ArtifactTooLarge: the file has more than `MAX_FILE_BYTES`; nothing is kept.
        DownloadFailed: the server refuses, sends a wrong length, or fails too often in a row.
    """
    _check(url, sha256)
    name = Path(urlsplit(url).path).name or "download"
    path = directory / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    partial = path.with_name(f"{path.name}.partial")
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        if not sha256:
            partial.unlink(missing_ok=True)
        _fetch(_Transfer(url, sha256, partial), progress)
        _check_digest(url, partial, sha256)
        partial.replace(path)
    else:
        _check_digest(url, path, sha256)
    return path


def _check(url: str, sha256: str) -> None:
    parts = urlsplit(url)
    allowed = ("https", "http") if sha256 else ("https",)
    if parts.scheme not in allowed or not parts.hostname:
        raise field_error("weights", url, "an https URL, or an http URL together with its sha256")


def _check_digest(url: str, file: Path, sha256: str) -> None:
    if not sha256:
        return
    digest = file_sha256(file)
    if digest != sha256:
        file.unlink()
        message = f"{url} has sha256 {digest}; expected {sha256}"
        raise DigestMismatch(message, field="sha256", expected=sha256, found=digest)


@dataclass(slots=True)
class _Transfer:
    """A download in progress. `etag` is set only if it identifies the bytes (a strong ETag)."""

    url: str
    sha256: str
    partial: Path
    etag: str = ""
    total: int | None = None

    @property
    def done(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0


def _fetch(transfer: _Transfer, progress: Progress) -> None:
    backoff = Backoff(_RETRIES)
    while True:
        before = transfer.done
        try:
            _request(transfer, progress)
        except (OSError, http.client.HTTPException) as error:
            problem = _retryable(transfer, error)
        else:
            if transfer.total is None or transfer.done == transfer.total:
                return
            problem = f"it broke off after {transfer.done} of {transfer.total} bytes"
        if transfer.done >= before + _CHUNK_BYTES:
            backoff.progressed()
        else:
            last = f"{problem}, the last of {_RETRIES.max_attempts} attempts without progress"
            backoff.wait(_failed(transfer.url, last))


def _retryable(transfer: _Transfer, error: OSError | http.client.HTTPException) -> str:
    """Returns the problem if a retry may succeed; otherwise raises."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            transfer.partial.unlink(missing_ok=True)  # longer than the current file of the server
        elif error.code < 500 and error.code not in _TRANSIENT_STATUSES:
            raise _failed(transfer.url, f"the server answers {error.code} {error.reason}")
        return f"the server answers {error.code} {error.reason}"
    if transfer.partial.is_dir() or not transfer.partial.parent.is_dir():
        raise _failed(transfer.url, f"{transfer.partial} cannot be written")
    return str(error) or type(error).__name__


def _request(transfer: _Transfer, progress: Progress) -> None:
    """Sends one request and reads its response until it ends or breaks off."""
    start = transfer.done if transfer.sha256 or transfer.etag else 0
    request = urllib.request.Request(transfer.url, headers={"Accept-Encoding": "identity"})  # noqa: S310 -- checked
    if start:
        request.add_header("Range", f"bytes={start}-")
        if transfer.etag:
            request.add_header("If-Range", transfer.etag)
    with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as response:
        _check(response.url, transfer.sha256)  # a redirect from https to http is refused, too
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        elif not (sent := response.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
            raise _failed(transfer.url, f"asked for bytes from {start}; the server sent {sent!r}")
        etag = response.headers["ETag"] or ""
        transfer.etag = "" if etag.startswith("W/") else etag
        transfer.total = None if response.length is None else start + response.length
        _check_size(transfer, transfer.total or 0)
        _receive(transfer, response, start, progress)


def _receive(
    transfer: _Transfer, response: http.client.HTTPResponse, start: int, progress: Progress
) -> None:
    done = start
    with transfer.partial.open("ab" if start else "wb") as file:
        progress(done, transfer.total)
        while chunk := response.read(_CHUNK_BYTES):
            done += len(chunk)
            _check_size(transfer, done)
            file.write(chunk)
            progress(done, transfer.total)


def _check_size(transfer: _Transfer, size: int) -> None:
    if size > MAX_FILE_BYTES:
        transfer.partial.unlink(missing_ok=True)
        expected = f"at most {MAX_FILE_BYTES} bytes"
        message = f"{transfer.url} has {size} bytes or more; expected {expected}"
        raise ArtifactTooLarge(message, field="weights", expected=expected, found=size)


def _failed(url: str, problem: str) -> DownloadFailed:
    return DownloadFailed(
        f"{url} was not downloaded: {problem}", field="weights", url=url, problem=problem
    )


def _opener() -> urllib.request.OpenerDirector:
    """Returns an opener without handlers for ftp and file, so that no redirect reaches them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _opener()
