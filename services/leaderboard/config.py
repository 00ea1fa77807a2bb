"""Settings of the public page."""

from __future__ import annotations

from dataclasses import dataclass

from cxreval.errors import KeyUnreadable
from cxreval.fields import split_host_port
from cxreval.wire.channel import ApiKey, TlsFiles, read_key
from services.chassis.config import ConfigError, ProcessConfig, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardConfig(ProcessConfig):
    """The settings of the public page."""

    listen: str = setting("127.0.0.1:8080", "address of the HTTP port; port 0 takes a free one")
    registry: str = setting("localhost:50051", "address of the registry")
    registry_ca: str = setting(
        "", "PEM file of the authority that signed the registry's certificate; empty: no TLS"
    )
    registry_certificate: str = setting(
        "", "PEM file of this service's certificate for the registry"
    )
    registry_key: str = setting("", "PEM file of that certificate's key")
    registry_api_key: str = setting(
        "",
        "API key of a viewer for the registry; empty: what is public; only in the environment or "
        "the file",
        secret=True,
        flag=False,
    )
    trust_network: bool = setting(
        False,
        "send the API key to other machines without TLS; only if something else encrypts it",
    )
    data_dir: str = setting(
        "cxreval-data/leaderboard", "directory that keeps what was read from the registry"
    )
    public_url: str = setting(
        "", "address at which visitors reach the page, https://HOST; empty: that of `listen`"
    )

    def __post_init__(self) -> None:
        """Checks the settings. Raises `ConfigError`."""
        if self.public_url and not self.public_url.startswith(("https://", "http://")):
            raise ConfigError(
                f"public_url is {self.public_url!r}; expected https://HOST without a path"
            )
        self.key()

    @property
    def address(self) -> str:
        """The address at which visitors reach the page, without the last slash."""
        host, port = split_host_port(self.listen)
        return self.public_url.rstrip("/") or f"http://{host}:{port}"

    def tls(self) -> TlsFiles | None:
        """Returns the TLS files for the registry, None for plain text."""
        if not self.registry_ca:
            return None
        return TlsFiles(
            self.registry_ca, self.registry_certificate or None, self.registry_key or None
        )

    def key(self) -> ApiKey | None:
        """Returns the API key for the registry, None without one. Raises `ConfigError`."""
        if not self.registry_api_key:
            return None
        try:
            return read_key(self.registry_api_key, "registry_api_key", self.trust_network)
        except KeyUnreadable as error:
            raise ConfigError(str(error)) from None
