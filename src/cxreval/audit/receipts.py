"""Receipts: statements of a registry about its published rows, signed with Ed25519 (RFC 8032).

A receipt is a self-contained JSON file, verified offline with the operator's public key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cxreval.audit.canonical import canonical_json
from cxreval.audit.key_file import key_in
from cxreval.errors import KeyUnreadable, ReceiptInvalid

_FIELDS = {"payload", "signature"}


MAX_BYTES = 1 << 20
"""Maximum size of a receipt's file."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed statement: `payload` is the signed canonical JSON, `signature` has 64 bytes."""

    payload: bytes
    signature: bytes

    def to_file(self) -> bytes:
        """Returns the content of the receipt's file."""
        content = {
            "payload": self.payload.decode(),
            "signature": base64.b64encode(self.signature).decode(),
        }
        return json.dumps(content, indent=2).encode() + b"\n"

    @classmethod
    def from_file(cls, content: bytes) -> Receipt:
        """Parses a receipt's file. Raises `ReceiptInvalid` if it is not one."""
        if len(content) > MAX_BYTES:
            raise ReceiptInvalid(f"the file is not a receipt: it has more than {MAX_BYTES} bytes")
        try:
            parsed = json.loads(content)
            if set(parsed) != _FIELDS:
                raise ValueError("its fields are not payload and signature")
            receipt = cls(
                parsed["payload"].encode(), base64.b64decode(parsed["signature"], validate=True)
            )
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ReceiptInvalid(f"the file is not a receipt: {error}") from None
        # JSON and Base64 allow several spellings of one value; a receipt has only this one, so that
        # every changed byte is detected.
        if receipt.to_file() != content:
            raise ReceiptInvalid("the file's JSON is not formatted as a receipt's")
        return receipt


class Signer:
    """Signs receipts with the operator's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, file: Path) -> Signer:
        """Returns a signer with the key of a PEM file (PKCS #8), which is created if absent.

        Raises:
            KeyUnreadable: the file is not an unencrypted Ed25519 key, or cannot be created.
        """
        try:
            key = serialization.load_pem_private_key(key_in(file, _new_key), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyUnreadable(f"cannot use the signing key {file}: {error}", file=file) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnreadable(f"{file} is not an Ed25519 private key", file=file)
        return cls(key)

    @property
    def public_key(self) -> str:
        """The public key in PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def sign(self, content: Mapping[str, Any]) -> Receipt:
        """Returns the receipt of a JSON object."""
        payload = canonical_json(content)
        return Receipt(payload, self._key.sign(payload))


def verify(receipt: Receipt, public_key: str) -> dict[str, Any]:
    """Verifies a receipt with a public key in PEM and returns the receipt's content.

    Raises:
        ReceiptInvalid: the receipt was signed with another key, or was changed.
        KeyUnreadable: the key is not an Ed25519 public key in PEM.
    """
    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except ValueError as error:
        raise KeyUnreadable(f"cannot use the public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnreadable("the public key is not an Ed25519 key")
    try:
        key.verify(receipt.signature, receipt.payload)
    except InvalidSignature:
        raise ReceiptInvalid("the signature does not match the receipt and the key") from None
    content: dict[str, Any] = json.loads(receipt.payload)
    return content


def _new_key() -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Ed25519PrivateKey.generate().private_bytes(encoding, form, serialization.NoEncryption())
