"""Settings of the registry."""

import re
from dataclasses import dataclass

from services.chassis.config import ConfigError, ServerConfig, setting

_DATABASE = re.compile(r"(sqlite:///(?!:memory:)|postgresql\+psycopg://).+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig(ServerConfig):
    """What the registry can be told. Raises `ConfigError` when a value does not fit."""

    database_url: str = setting(
        "sqlite:///cxreval-data/registry.db",
        "database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
        secret=True,
    )
    artifact_dir: str = setting("cxreval-data/artifacts", "directory that keeps the uploaded checkpoints")
    signing_key: str = setting(
        "cxreval-data/signing-key.pem", "Ed25519 key, a PEM file, that signs the receipts of the board; made if missing"
    )
    lease_seconds: float = setting(60.0, "how long a worker's lease lasts unless it is renewed")
    max_attempts: int = setting(3, "leases in a row without a new prediction after which an evaluation fails")

    def __post_init__(self) -> None:
        checks = [
            # The value is not shown: it may hold a password.
            ("database_url", _DATABASE.fullmatch(self.database_url), "sqlite:///FILE or postgresql+psycopg://..."),
            ("artifact_dir", self.artifact_dir, "a directory"),
            ("signing_key", self.signing_key, "a file"),
            ("lease_seconds", 0 < self.lease_seconds <= 86_400, "more than 0, at most 86400"),
            ("max_attempts", 0 < self.max_attempts <= 100, "1 to 100"),
        ]
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"{name} does not fit; expected {expected}")
