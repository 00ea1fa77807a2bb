"""The keys of the registry in the golden files. They are not secret."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ENDPOINT_TOKEN = "golden endpoint token"
"""The token of every endpoint in the registry."""


def token_key() -> bytes:
    """Returns the key that encrypts endpoint tokens, in Fernet's form."""
    return base64.urlsafe_b64encode(_seeded("token key"))


def write_keys(directory: Path) -> None:
    """Writes `signing-key.pem` and `token-key` in the forms that the registry reads."""
    signing = Ed25519PrivateKey.from_private_bytes(_seeded("signing key"))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(
        directory / "signing-key.pem",
        signing.private_bytes(encoding, form, serialization.NoEncryption()),
    )
    _write(directory / "token-key", token_key() + b"\n")


def _seeded(purpose: str) -> bytes:
    return hashlib.sha256(f"cxreval golden files, {purpose}".encode()).digest()


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)
