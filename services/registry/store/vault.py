"""Secrets of submitters, kept only encrypted."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from cxreval.audit.key_file import key_in
from cxreval.errors import KeyUnreadable


class Vault:
    """Seals and opens tokens of endpoints with the operator's key. Nobody reads them out of the
    database alone."""

    def __init__(self, key: bytes) -> None:
        """Raises `ValueError` unless it is a Fernet key."""
        self._key = Fernet(key)

    @classmethod
    def from_file(cls, file: Path) -> Vault:
        """The key in a file; it is made, readable by its owner alone, if there is none. Raises
        `KeyUnreadable`."""
        try:
            return cls(key_in(file, lambda: Fernet.generate_key() + b"\n").strip())
        except (OSError, ValueError) as error:
            raise KeyUnreadable(f"cannot use the token key {file}: {error}", file=file) from None

    def seal(self, token: str) -> bytes:
        """A token as it is stored."""
        return self._key.encrypt(token.encode())

    def open(self, sealed: bytes) -> str:
        """A token as it was given. Raises `KeyUnreadable` when another key sealed it."""
        try:
            return self._key.decrypt(sealed).decode()
        except InvalidToken:
            raise KeyUnreadable(
                "the token key is not the one that sealed the token of this endpoint"
            ) from None
