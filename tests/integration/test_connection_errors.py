"""A client that does not reach its service says what it asked, in which way, and why it failed."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.client import InferenceClient, RegistryClient, TlsFiles
from cxreval.errors import CxrevalError, ServiceUnavailable, UnknownRpc


@dataclass(frozen=True)
class Signed:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> tuple[bytes, bytes]:
        """The key and the certificate."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key, self.certificate.public_bytes(serialization.Encoding.PEM)


def signed(name: str, by: Signed | None = None, host: str = "localhost", days: int = 1) -> Signed:
    """Returns a certificate of `host` that ends in some days; without `by` it is a CA's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=by.certificate.subject if by else subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=30),
        not_valid_after=now + timedelta(days=days),
    )
    builder = builder.add_extension(x509.BasicConstraints(by is None, None), critical=True)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
    )
    return Signed(builder.sign(by.key if by else key, hashes.SHA256()), key)


class Servers(ExitStack):
    """Servers that are not the registry that a client asks for."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        authority = signed("authority")
        self.tls = TlsFiles(str(directory / "ca.pem"))
        (directory / "ca.pem").write_bytes(authority.pem[1])
        (directory / "other.pem").write_bytes(signed("other").pem[1])
        self.other_tls = TlsFiles(directory / "other.pem")
        self.plain = self._grpc(None)
        self.secure = self._grpc(signed("server", authority))
        self.expired = self._grpc(signed("server", authority, days=-1))
        self.elsewhere = self._grpc(signed("server", authority, host="elsewhere.example.org"))
        self.mutual = self._grpc(signed("server", authority), authority)
        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.callback(web.server_close)
        self.callback(web.shutdown)
        self.web = f"127.0.0.1:{web.server_port}"

    def _grpc(self, certificate: Signed | None, clients: Signed | None = None) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        if certificate:
            credentials = grpc.ssl_server_credentials(
                [certificate.pem], clients.pem[1] if clients else None, bool(clients)
            )
            port = server.add_secure_port("localhost:0", credentials)
        else:
            port = server.add_insecure_port("localhost:0")
        server.start()
        self.callback(server.stop, None)
        return f"localhost:{port}"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


def failure(target: str, tls: TlsFiles | None) -> CxrevalError:
    with RegistryClient(target, tls) as client, pytest.raises(CxrevalError) as caught:
        client.leaderboard("nih-chestxray14")
    return caught.value


REACHES: dict[str, tuple[Callable[[Servers], tuple[str, TlsFiles | None]], str]] = {
    "nothing listens": (lambda _: ("127.0.0.1:1", None), "no server listens there"),
    "unknown host": (lambda _: ("none.invalid:1", None), "there is no host of this name"),
    "TLS server without TLS": (lambda servers: (servers.secure, None), "it may require TLS"),
    "plain server with TLS": (
        lambda servers: (servers.plain, servers.tls),
        "the server does not speak TLS",
    ),
    "expired": (lambda servers: (servers.expired, servers.tls), "certificate has expired"),
    "another host": (lambda servers: (servers.elsewhere, servers.tls), "for another host name"),
    "another CA": (lambda servers: (servers.secure, servers.other_tls), "not signed by the given"),
    "no certificate": (
        lambda servers: (servers.mutual, servers.tls),
        "it may require a client certificate",
    ),
    "a web server": (lambda servers: (servers.web, None), "does not speak gRPC"),
}


def test_each_way_not_to_reach_the_registry_is_named_with_address_and_tls(
    servers: Servers,
) -> None:
    asked = {name: make(servers) for name, (make, _) in REACHES.items()}
    with futures.ThreadPoolExecutor(len(asked)) as pool:
        jobs = {name: pool.submit(failure, *where) for name, where in asked.items()}
        errors = {name: job.result(timeout=60) for name, job in jobs.items()}
    for name, (target, tls) in asked.items():
        error = errors[name]
        way = "with TLS" if tls else "without TLS"
        assert type(error) is ServiceUnavailable, name
        assert error.message.startswith(f"cannot reach the registry at {target} {way}: "), name
        assert REACHES[name][1] in error.message, name
        assert error.metadata == {
            "service": "registry", "target": target, "tls": "true" if tls else "false",
        }  # fmt: skip


def test_another_grpc_server_is_named_as_such(servers: Servers) -> None:
    with InferenceClient(servers.plain) as client, pytest.raises(UnknownRpc) as caught:
        client.capabilities()
    assert (
        f"the server at {servers.plain} does not have the rpc that was called; it is another "
        "service than the inference service" in caught.value.message
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {"CXREVAL_CLIENT_REGISTRY": "WEB"}, "the address is from CXREVAL_CLIENT_REGISTRY"),
        (("--registry", "WEB"), {}, "the address is from --registry"),
    ],
)
def test_the_command_line_says_where_the_address_came_from_and_how_to_change_it(
    servers: Servers, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    arguments = tuple(text.replace("WEB", servers.web) for text in arguments)
    values = {name: text.replace("WEB", servers.web) for name, text in environment.items()}
    result = CliRunner().invoke(app, ("leaderboard", *arguments), env=values)
    assert isinstance(result.exception, ServiceUnavailable)
    (note,) = result.exception.__notes__
    assert note.startswith(
        f"{said}; change it with --registry HOST:PORT or CXREVAL_CLIENT_REGISTRY\nTLS is off; "
    )
    assert "--tls-ca FILE before the command" in note


def test_an_error_that_the_service_raised_gets_no_note() -> None:
    result = CliRunner().invoke(app, ("status", "not a name"))
    assert isinstance(result.exception, CxrevalError)
    assert not hasattr(result.exception, "__notes__")
