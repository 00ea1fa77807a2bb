"""Secrets of submitters, kept only encrypted."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from cxreval.errors import KeyUnreadable


class Vault:
    """Seals and opens tokens of endpoints with the operator's key. Nobody reads them out of the database alone."""

    def __init__(self, key: bytes) -> None:
        """Raises `ValueError` unless it is a Fernet key."""
        self._key = Fernet(key)

    @classmethod
    def from_file(cls, file: Path) -> Vault:
        """The key in a file; it is made, readable by its owner alone, if there is none. Raises `KeyUnreadable`."""
        try:
            if not file.exists():
                _make(file)
            return cls(file.read_bytes().strip())
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
            raise KeyUnreadable("the token key is not the one that sealed the token of this endpoint") from None


def _make(file: Path) -> None:
    """Of two processes that make it at once, one wins and both use the winner's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(Fernet.generate_key() + b"\n")
        opened.flush()
        os.fsync(descriptor)
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
