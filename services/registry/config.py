"""Settings of the registry."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from cxreval.fields import split_host_port
from services.chassis.config import ConfigError, ServerConfig, setting

_ARTIFACTS = re.compile(r"s3://[a-z0-9.-]{3,63}(/[\w./-]*)?|(?!\w+://).+")
_DATABASE = re.compile(r"(sqlite:///(?!:memory:)|postgresql\+psycopg://).+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig(ServerConfig):
    """Settings of the registry. Raises `ConfigError` for an invalid value."""

    database_url: str = setting(
        "sqlite:///cxreval-data/registry.db",
        "database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
        secret=True,
    )
    artifact_store: str = setting(
        "cxreval-data/artifacts",
        "where uploaded files are stored: a directory, or s3://BUCKET/PREFIX with AWS_... in the "
        "environment",
    )
    signing_key: str = setting(
        "cxreval-data/signing-key.pem",
        "Ed25519 key, a PEM file, that signs the receipts of the board; created if missing",
    )
    token_key: str = setting(
        "cxreval-data/token-key",
        "file with the key that encrypts the tokens of endpoints; created if missing",
    )
    access: str = setting(
        "keys",
        "keys: callers need API keys; open: every caller may do everything, on the loopback "
        "interface only",
    )
    public_board: bool = setting(
        False, "whether boards and published submissions can be read without a key"
    )
    worker_certificates: tuple[str, ...] = setting(
        (),
        "names in certificates, signed by tls_client_ca, whose clients are workers without a key",
    )
    lease_seconds: float = setting(60.0, "how long a worker's lease lasts unless it is renewed")
    max_attempts: int = setting(
        3, "number of leases in a row without a new prediction after which an evaluation fails"
    )

    replay_after_hours: float = setting(
        1.0,
        "how long after publication a row is replayed, an endpoint asked again; negative: never",
    )
    replay_every_days: float = setting(
        30.0, "how long after its last replay a row is replayed again; 0: never again"
    )
    disk_reserve_mib: int = setting(
        256,
        "free MiB on the disks of database and artifacts below which health is NOT_SERVING; "
        "uploads to a directory leave twice as many",
    )

    def __post_init__(self) -> None:
        checks = [
            ("disk_reserve_mib", self.disk_reserve_mib >= 0, "0 or more"),
            # The value is not shown: it may hold a password.
            (
                "database_url",
                _DATABASE.fullmatch(self.database_url),
                "sqlite:///FILE or postgresql+psycopg://...",
            ),
            (
                "artifact_store",
                _ARTIFACTS.fullmatch(self.artifact_store),
                "a directory or s3://BUCKET/PREFIX",
            ),
            ("signing_key", self.signing_key, "a file"),
            ("token_key", self.token_key, "a file"),
            ("access", self.access in ("keys", "open"), "keys or open"),
            (
                "access",
                self.access == "keys" or _is_loopback(self.listen),
                "keys, unless listen is a loopback address",
            ),
            (
                "worker_certificates",
                not self.worker_certificates or self.tls_client_ca,
                "tls_client_ca with it",
            ),
            ("lease_seconds", 0 < self.lease_seconds <= 86_400, "more than 0, at most 86400"),
            ("replay_after_hours", self.replay_after_hours <= 8760, "at most 8760"),
            ("replay_every_days", 0 <= self.replay_every_days <= 3660, "0 to 3660"),
            ("max_attempts", 0 < self.max_attempts <= 100, "1 to 100"),
        ]
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"{name} does not fit; expected {expected}")


def _is_loopback(address: str) -> bool:
    try:
        host, _ = split_host_port(address)
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
