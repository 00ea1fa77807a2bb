"""A commit fetched from a real git server over TLS, and servers that answer something else."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.errors import (
    ArtifactTooLarge,
    CommitNotFrozen,
    CommitNotInBundle,
    CxrevalError,
    DownloadFailed,
    MalformedField,
    SourceBundleUnreadable,
    SourceTreeRefused,
)
from cxreval.files import file_sha256
from cxreval.reproduction import fetch as fetch_module
from cxreval.reproduction.fetch import fetch
from cxreval.reproduction.source_bundle import unpack
from tests.support import git_repositories as git
from tests.support.certificates import make_certificates

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A git server on loopback with TLS; `answer` may be replaced by something else."""

    def __init__(self, root: Path, certificates: Path) -> None:
        self.answer: Answer = lambda handler: by_git(handler, root, self.body)
        self.body = b""
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests += 1
                outer.body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.answer(self)

            def log_message(self, *_arguments: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def by_git(handler: BaseHTTPRequestHandler, root: Path, body: bytes) -> None:
    """Answers with what `git http-backend`, a CGI program, answers."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "GIT_PROTOCOL": handler.headers["Git-Protocol"] or "",
        "REQUEST_METHOD": "POST",
        "PATH_INFO": handler.path,
        "CONTENT_TYPE": handler.headers["Content-Type"],
    }
    answer = subprocess.run(
        ["git", "http-backend"],
        input=body,
        env=environment,
        capture_output=True,
        check=False,  # it fails where it refuses
        timeout=30,
    ).stdout
    head, _, content = answer.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    send(handler, int(fields.pop("Status", "200").split()[0]), content)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory)
    return directory


@pytest.fixture
def server(tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    server = Server(tmp_path, certificates)
    yield server
    server.close()


def test_a_commit_that_no_branch_has_any_more_is_fetched_without_its_history(
    server: Server, tmp_path: Path
) -> None:
    git.repository(tmp_path / "me", {"secret": b"once" * 10_000})
    (tmp_path / "me/secret").unlink()
    commit = git.commit_files(tmp_path / "me", {"a.py": b"print(1)\n"})
    git.commit_files(tmp_path / "me", {"a.py": b"print(2)\n"})
    bundle = tmp_path / "source.bundle"
    fetch(f"{server.url}/me/.git", commit, bundle, allow_private=True)
    tree = unpack(bundle, commit, tmp_path / "tree")
    assert [file.path for file in tree.files] == ["a.py"]
    assert (tmp_path / "tree/a.py").read_bytes() == b"print(1)\n"
    assert bundle.stat().st_size < 1000
    assert server.requests == 1


def test_what_the_repository_does_not_have_is_said(server: Server, tmp_path: Path) -> None:
    git.repository(tmp_path / "me", {"a.py": b"1"})
    with pytest.raises(CommitNotInBundle, match="not our ref"):
        fetch(f"{server.url}/me/.git", "1" * 40, tmp_path / "out", allow_private=True)
    with pytest.raises(DownloadFailed, match="the server answers 404"):
        fetch(f"{server.url}/you/.git", "1" * 40, tmp_path / "out", allow_private=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("repository", "commit", "kind"),
    [
        ("http://example.org/r", "1" * 40, MalformedField),
        ("ssh://git@example.org/r", "1" * 40, MalformedField),
        ("file:///etc", "1" * 40, MalformedField),
        ("ext::sh -c id", "1" * 40, MalformedField),
        ("-u/bin/sh", "1" * 40, MalformedField),
        ("https://me:secret@example.org/r", "1" * 40, MalformedField),
        ("https://example.org/r?x=1", "1" * 40, MalformedField),
        ("https://example.org/r#x", "1" * 40, MalformedField),
        ("https://example.org/\r\nX: y", "1" * 40, MalformedField),
        ("https://example.org/é", "1" * 40, MalformedField),
        ("https://example.org/r", "main", CommitNotFrozen),
        ("https://127.0.0.1/r", "1" * 40, DownloadFailed),
        ("https://localhost/r", "1" * 40, DownloadFailed),
        ("https://[::1]/r", "1" * 40, DownloadFailed),
        ("https://169.254.169.254/latest", "1" * 40, DownloadFailed),
        ("https://[::ffff:10.0.0.1]/r", "1" * 40, DownloadFailed),
        ("https://2130706433/r", "1" * 40, DownloadFailed),
        ("https://no-such-host.invalid/r", "1" * 40, DownloadFailed),
    ],
)
def test_nothing_is_sent_to_other_addresses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    commit: str,
    kind: type[CxrevalError],
) -> None:
    def connected(*_arguments: object) -> None:
        pytest.fail("a connection was made")

    monkeypatch.setattr(socket, "create_connection", connected)
    with pytest.raises(kind):
        fetch(repository, commit, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def packets(*lines: bytes) -> bytes:
    return b"".join(b"%04x" % (len(line) + 4) + line for line in lines)


def drips(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(packets(b"x"))
        threading.Event().wait(0.02)


HEAD = packets(b"packfile\n")
ANSWERS: dict[str, tuple[Answer, type[CxrevalError], str]] = {
    "a redirect": (
        lambda it: send(it, 301, b"", Location="https://169.254.169.254/r"), DownloadFailed,
        "answers 301 .* leads to https://169.254.169.254/r; state the address",
    ),
    "a refusal": (lambda it: send(it, 401, b""), DownloadFailed, "answers 401"),
    "a web page": (lambda it: send(it, 200, b"<html></html>"), DownloadFailed, "not speak git"),
    "nothing": (lambda it: send(it, 200, b""), DownloadFailed, "broke off"),
    "half": (
        lambda it: send(it, 200, HEAD + b"00ff\1PACK", **{"Content-Length": "999"}),
        DownloadFailed, "not fetched",
    ),
    "a failure": (
        lambda it: send(it, 200, HEAD + packets(b"\3disk \33[31mfull")), DownloadFailed,
        r"it says: disk  \[31mfull",
    ),
    "too much": (
        lambda it: send(it, 200, HEAD + packets(b"\1" + bytes(60_000)) * 3), ArtifactTooLarge,
        "at most 100000 bytes",
    ),
    "drips": (drips, DownloadFailed, "took more than 1 s"),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_a_server_that_answers_something_else_is_named_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    server.answer, kind, words = ANSWERS[case]
    monkeypatch.setattr(fetch_module, "MAX_BUNDLE_BYTES", 100_000)
    monkeypatch.setattr(fetch_module, "SECONDS", 1.0)
    with pytest.raises(kind, match=words) as caught:
        fetch(server.url + "/r", "1" * 40, tmp_path / "out", allow_private=True)
    assert caught.value.message.isprintable()
    assert list(tmp_path.iterdir()) == []
    assert server.requests == 1


def test_a_server_that_sends_another_commit_gives_no_files(server: Server, tmp_path: Path) -> None:
    other = git.pack([git.record(*git.commit("2" * 40))])
    for content, kind in ((other, CommitNotInBundle), (other[:-1], SourceBundleUnreadable)):
        server.answer = lambda it, content=content: send(
            it, 200, HEAD + packets(b"\1" + content) + b"0000"
        )
        fetch(server.url + "/r", "1" * 40, tmp_path / "bundle", allow_private=True)
        with pytest.raises(kind):
            unpack(tmp_path / "bundle", "1" * 40, tmp_path / "tree")
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_a_certificate_of_an_unknown_authority_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DownloadFailed, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(server.url + "/r", "1" * 40, tmp_path / "out", allow_private=True)
    assert server.requests == 0


# --- the command ----------------------------------------------------------------------------------


def bundle_command(server: Server, commit: str, out: Path, *options: str) -> Result:
    address = f"{server.url}/me/.git"
    words = ["submission", "bundle", address, "--commit", commit, "--output", str(out), *options]
    return CliRunner().invoke(app, words)


def test_the_command_writes_the_bundle_of_a_public_repository(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "is_public", lambda _: True)
    commit = git.repository(tmp_path / "me", {"reproduce.py": b"1", "requirements.lock": b""})
    done = bundle_command(server, commit, tmp_path / "out", "--json")
    facts = json.loads(done.output)
    tree = unpack(tmp_path / "out", commit, tmp_path / "tree")
    assert (facts["tree_sha256"], facts["files"]) == (tree.digest, 2)
    assert facts["reproduction"]["bundle_sha256"] == file_sha256(tmp_path / "out")


def test_the_command_leaves_a_file_as_it_was_if_what_it_fetched_does_not_hold(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git.repository(tmp_path / "me", {"reproduce.py": b"1"})
    other = git.commit_files(tmp_path / "me", {"reproduce.py": b"2"})
    out = tmp_path / "folder" / "out"
    out.parent.mkdir()
    out.write_text("earlier")

    def error(commit: str, *options: str) -> BaseException | None:
        return bundle_command(server, commit, out, *options).exception

    assert isinstance(error(commit), DownloadFailed)  # loopback is no public network
    monkeypatch.setattr(fetch_module, "is_public", lambda _: True)
    assert isinstance(error(commit), SourceTreeRefused)  # it has no lock
    assert isinstance(error("main"), CommitNotFrozen)
    assert isinstance(error(commit, "--output", str(tmp_path / "none" / "out")), MalformedField)
    server.answer = lambda it: by_git(
        it, tmp_path, server.body.replace(commit.encode(), other.encode())
    )
    assert isinstance(error(commit, "--lock", ""), CommitNotInBundle)
    assert [file.name for file in out.parent.iterdir()] == ["out"]
    assert out.read_text() == "earlier"
