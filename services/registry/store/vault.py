"""Encrypts the tokens of endpoints, which are stored only in this form."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from cxreval.audit.key_file import key_in
from cxreval.errors import KeyUnreadable


class Vault:
    """Encrypts and decrypts tokens with the operator's key, which is not in the database."""

    def __init__(self, key: bytes) -> None:
        """Raises `ValueError` unless it is a Fernet key."""
        self._key = Fernet(key)

    @classmethod
    def from_file(cls, file: Path) -> Vault:
        """A vault with the key in a file, which is created, readable by its owner only, if it does
        not exist. Raises `KeyUnreadable`."""
        try:
            return cls(key_in(file, lambda: Fernet.generate_key() + b"\n").strip())
        except (OSError, ValueError) as error:
            raise KeyUnreadable(f"cannot use the token key {file}: {error}", file=file) from None

    def seal(self, token: str) -> bytes:
        """Encrypts a token."""
        return self._key.encrypt(token.encode())

    def open(self, sealed: bytes) -> str:
        """Decrypts a token. Raises `KeyUnreadable` when another key encrypted it."""
        try:
            return self._key.decrypt(sealed).decode()
        except InvalidToken:
            raise KeyUnreadable(
                "another token key encrypted this endpoint's token; restore that key"
            ) from None
