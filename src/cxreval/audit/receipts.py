"""Receipts: what a registry says about a row it published, signed with its Ed25519 key (RFC 8032).

A receipt is a JSON file that stands for itself: with the operator's public key it is checked
without a network.
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


@dataclass(frozen=True, slots=True)
class Receipt:
    """`payload`: canonical JSON, the very bytes that are signed. `signature`: 64 bytes."""

    payload: bytes
    signature: bytes

    def to_file(self) -> bytes:
        """The receipt as a file."""
        content = {
            "payload": self.payload.decode(),
            "signature": base64.b64encode(self.signature).decode(),
        }
        return json.dumps(content, indent=2).encode() + b"\n"

    @classmethod
    def from_file(cls, content: bytes) -> Receipt:
        """Raises `ReceiptInvalid` when it is no receipt."""
        try:
            found = json.loads(content)
            if set(found) != _FIELDS:
                raise ValueError("its fields are not payload and signature")
            receipt = cls(
                found["payload"].encode(), base64.b64decode(found["signature"], validate=True)
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ReceiptInvalid(f"the file is not a receipt: {error}") from None
        # Base64 and JSON can say one thing in several ways; a receipt has one form, so that no byte
        # can change.
        if receipt.to_file() != content:
            raise ReceiptInvalid("the file is not written as receipts are")
        return receipt


class Signer:
    """Signs receipts with the operator's key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, file: Path) -> Signer:
        """The key in a PEM file (PKCS #8); it is made, readable by its owner alone, if there is
        none.

        Raises:
            KeyUnreadable: the file is not an unencrypted Ed25519 key, or cannot be made.
        """
        try:
            key = serialization.load_pem_private_key(key_in(file, _new_key), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyUnreadable(f"cannot use the signing key {file}: {error}", file=file) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnreadable(f"{file} holds another kind of key; expected Ed25519", file=file)
        return cls(key)

    @property
    def public_key(self) -> str:
        """The public key in PEM, for those who check."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def sign(self, content: Mapping[str, Any]) -> Receipt:
        """A receipt of some JSON content."""
        payload = canonical_json(content)
        return Receipt(payload, self._key.sign(payload))


def verify(receipt: Receipt, public_key: str) -> dict[str, Any]:
    """What a receipt says. `public_key` is PEM.

    Raises:
        ReceiptInvalid: another key signed it, or a byte of it was changed.
        KeyUnreadable: the key is not an Ed25519 public key in PEM.
    """
    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except ValueError as error:
        raise KeyUnreadable(f"cannot use the public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnreadable("the public key is of another kind; expected Ed25519")
    try:
        key.verify(receipt.signature, receipt.payload)
    except InvalidSignature:
        raise ReceiptInvalid("the signature is not that of this receipt under this key") from None
    content: dict[str, Any] = json.loads(receipt.payload)
    return content


def _new_key() -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Ed25519PrivateKey.generate().private_bytes(encoding, form, serialization.NoEncryption())
