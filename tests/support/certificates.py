"""Certificates for tests: a CA and the certificates it signed, created with openssl."""

import shutil
import subprocess
from pathlib import Path

from cxreval.client import TlsFiles
from tests.conftest import missing

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


def make_certificates(directory: Path) -> TlsFiles:
    """Creates keys and certificates of `ca`, `server` and `client` for localhost.

    Returns the client's files.
    """
    if shutil.which("openssl") is None:
        missing("there is no openssl to make certificates with")

    def request(*arguments: str) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", *_KEY, *arguments],
            cwd=directory,
            check=True,
            capture_output=True,
            timeout=120,
        )

    request("-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        signed = (
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        )
        request("-subj", f"/CN={name}", *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    return TlsFiles(directory / "ca.pem", directory / "client.pem", directory / "client.key")


def server_flags(directory: Path) -> list[str]:
    """Returns the flags of a service that accepts only clients with a certificate of the CA."""
    files = {"tls-certificate": "server.pem", "tls-key": "server.key", "tls-client-ca": "ca.pem"}
    return [f"--{name}={directory / file}" for name, file in files.items()]
