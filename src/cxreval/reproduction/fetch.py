"""Fetches a commit from a public repository over https. Needs dulwich.

One request of git's protocol, version 2, asks for one commit without its history. The answer is
stored as a source bundle and not looked into: `source_bundle.unpack` proves it like any other.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import urlsplit

from dulwich.errors import GitProtocolError
from dulwich.protocol import Protocol, pkt_line

from cxreval.errors import ArtifactTooLarge, CommitNotInBundle, DownloadFailed
from cxreval.fields import check_https_url, field_error, printable, shown
from cxreval.files import disk_error, durable_file
from cxreval.public_addresses import is_public
from cxreval.reproduction.source_bundle import MAX_BUNDLE_BYTES, check_commit

SECONDS = 600.0
"""How long fetching a commit may take."""

_FIELD = "reproduction.repository"
_IDLE_SECONDS = 30.0
_HTTPS_PORT = 443
_DELIMITER = b"0001"
_CONTENT_TYPE = "application/x-git-upload-pack"
_DATA, _PROGRESS = 1, 2  # the first byte of a packet; 3 is a failure


def fetch(repository: str, commit: str, destination: Path, *, allow_private: bool = False) -> None:
    """Writes a source bundle with a commit of a repository.

    The commit's hash proves the content, not its author: some hosts also serve commits of a
    repository's forks under its address. Submodules are not fetched, so `unpack` refuses a commit
    that has any.

    Args:
        repository: `https://host/path`, without credentials and query. Redirects are refused.
        commit: full hash of the commit, 40 lower-case hex characters.
        destination: file to write.
        allow_private: whether the host may be in the worker's own network.

    Raises:
        CommitNotFrozen: `commit` is not a full hash.
        MalformedField: `repository` has another form.
        DownloadFailed: the host is not in the public network or does not answer, its certificate
            is wrong, it refuses or redirects the request, is too slow, or breaks off.
        CommitNotInBundle: the repository does not have the commit.
        ArtifactTooLarge: the answer has more than `MAX_BUNDLE_BYTES`.
        ServiceUnavailable: the file cannot be written.
    """
    check_commit(commit)
    check_https_url(_FIELD, repository, required=True)
    parts = urlsplit(repository)
    if parts.query or parts.fragment or not repository.isascii():
        raise field_error(_FIELD, repository, "https://host/path in ASCII, without ? and #")
    try:
        with durable_file(destination) as file:
            file.write(f"# v2 git bundle\n{commit} refs/commits/{commit}\n\n".encode())
            try:
                with (
                    _connected(parts.hostname or "", parts.port, allow_private) as connection,
                    _asked(connection, parts.path.rstrip("/"), commit) as response,
                ):
                    _check_status(repository, response)
                    _receive(Protocol(response.read, _ignore), commit, _Stored(file).write)
            except (OSError, http.client.HTTPException) as error:
                _fail(repository, str(error) or type(error).__name__)
            except GitProtocolError as error:
                _fail(repository, f"the server broke off or does not speak git ({error})")
    except OSError as error:
        raise disk_error(error, "source bundles") from error


@dataclass(frozen=True, slots=True)
class _Stored:
    """A file whose errors are not taken for those of the connection."""

    file: BinaryIO

    def write(self, data: bytes) -> None:
        """Writes data. Raises `ServiceUnavailable` if it cannot."""
        try:
            self.file.write(data)
        except OSError as error:
            raise disk_error(error, "source bundles") from error


class _Connection(http.client.HTTPSConnection):
    """A connection to an address that was checked, with the certificate of the host's name."""

    def __init__(self, host: str, port: int, address: str) -> None:
        self._context = ssl.create_default_context()
        super().__init__(host, port, timeout=_IDLE_SECONDS, context=self._context)
        self._address = address
        self._socket: ssl.SSLSocket | None = None  # `sock` is None while a last response is read

    def connect(self) -> None:
        """Connects to the address, which no name server is asked for again."""
        connected = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._socket = self._context.wrap_socket(
            connected, server_hostname=self.host, do_handshake_on_connect=False
        )
        self._socket.do_handshake()

    def end(self) -> None:
        """Ends what is sent and received, from another thread."""
        if self._socket:
            with contextlib.suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def _connected(host: str, port: int | None, allow_private: bool) -> Iterator[_Connection]:
    """Yields a connection that is closed when the block ends, or after `SECONDS`."""
    port = port or _HTTPS_PORT
    connection = _Connection(host, port, _address(host, port, allow_private))
    late = threading.Event()

    def end() -> None:
        late.set()
        connection.end()

    timer = threading.Timer(SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        yield connection
    except (OSError, http.client.HTTPException, GitProtocolError):
        if late.is_set():
            _fail(host, f"it took more than {SECONDS:g} s")
        raise
    finally:
        timer.cancel()
        connection.close()


def _address(host: str, port: int, allow_private: bool) -> str:
    """Returns the address to connect to, after checking all that the name has."""
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        _fail(host, "no name server has an address of it")
    addresses = [str(entry[4][0]).partition("%")[0] for entry in resolved]
    if not allow_private and not all(is_public(ip_address(address)) for address in addresses):
        # The address stays private: it would tell the submitter about this network.
        _fail(host, "it is not in the public network")
    return addresses[0]


def _asked(connection: _Connection, path: str, commit: str) -> http.client.HTTPResponse:
    """Sends the request, and returns its answer."""
    arguments = (b"no-progress", b"ofs-delta", b"want " + commit.encode(), b"deepen 1", b"done")
    body = [pkt_line(b"command=fetch\n"), pkt_line(b"object-format=sha1\n"), _DELIMITER]
    body += [pkt_line(argument + b"\n") for argument in arguments]
    headers = {
        "Content-Type": f"{_CONTENT_TYPE}-request",
        "Accept": f"{_CONTENT_TYPE}-result",
        "Git-Protocol": "version=2",
        "User-Agent": "git/cxreval",  # some hosts answer git only
    }
    url = f"{path}/git-upload-pack"
    connection.request("POST", url, b"".join([*body, pkt_line(None)]), headers)
    return connection.getresponse()


def _check_status(repository: str, response: http.client.HTTPResponse) -> None:
    """Raises `DownloadFailed` unless the server gives what it is asked for."""
    if response.status != http.HTTPStatus.OK:
        problem = f"the server answers {response.status} {shown(response.reason)}"
        if to := response.headers["Location"]:
            problem += f" and leads to {shown(to)}; state the address that it leads to"
        _fail(repository, problem)


def _ignore(_data: bytes) -> None:
    pass


def _receive(packets: Protocol, commit: str, write: Callable[[bytes], object]) -> None:
    """Passes the pack in an answer to `write`."""
    while (packet := packets.read_pkt_line()) != b"packfile\n":
        if packet and packet.startswith(b"ERR "):
            said = printable(shown(packet[4:].decode(errors="replace").strip()))
            expected = "a commit that the repository has"
            raise CommitNotInBundle(
                f"the server does not give commit {commit}: {said}; expected {expected}",
                field="reproduction.commit",
                expected=expected,
            )
    nbytes = 0
    while packet := packets.read_pkt_line():
        if packet[0] == _DATA:
            nbytes += len(packet) - 1
            if nbytes > MAX_BUNDLE_BYTES:
                expected = f"at most {MAX_BUNDLE_BYTES} bytes"
                raise ArtifactTooLarge(
                    f"the commit has more bytes; expected {expected}",
                    field=_FIELD,
                    expected=expected,
                )
            write(packet[1:])
        elif packet[0] != _PROGRESS:
            said = printable(shown(packet[1:].decode(errors="replace").strip()))
            raise GitProtocolError(f"it says: {said}")


def _fail(subject: str, problem: str) -> NoReturn:
    raise DownloadFailed(
        f"{shown(subject)}: the commit was not fetched: {printable(problem)}",
        field=_FIELD,
        problem=printable(problem),
    )
