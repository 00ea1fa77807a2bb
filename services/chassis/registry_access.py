"""Settings of a service that calls the registry: TLS and API key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxreval.errors import KeyUnreadable
from cxreval.wire.channel import ApiKey, TlsFiles, read_key
from services.chassis.config import ConfigError, setting


@dataclass(frozen=True, kw_only=True)
class RegistryAccess:
    """The settings; to be inherited by a configuration, which adds the address."""

    registry_ca: str = setting(
        "", "PEM file of the authority that signed the registry's certificate; empty: no TLS"
    )
    registry_certificate: str = setting(
        "", "PEM file of this service's certificate for the registry"
    )
    registry_key: str = setting("", "PEM file of that certificate's key")
    registry_api_key: str = setting(
        "",
        "API key for the registry; only in the environment or the file",
        secret=True,
        flag=False,
    )
    trust_network: bool = setting(
        False,
        "send the API key to other machines without TLS; only if something else encrypts it",
    )

    def check_registry_access(self) -> None:
        """Raises `ConfigError` for an unusable key, or a certificate without an authority."""
        self.api_key()
        if not self.registry_ca and (self.registry_certificate or self.registry_key):
            raise ConfigError("registry_certificate and registry_key need registry_ca")

    def registry_tls(self) -> TlsFiles | None:
        """Returns the TLS files for the registry; None without TLS."""
        if not self.registry_ca:
            return None
        return TlsFiles(
            Path(self.registry_ca), _path(self.registry_certificate), _path(self.registry_key)
        )

    def api_key(self) -> ApiKey | None:
        """Returns the API key for the registry, or None. Raises `ConfigError`."""
        try:
            text = self.registry_api_key
            return read_key(text, "registry_api_key", self.trust_network) if text else None
        except KeyUnreadable as error:
            raise ConfigError(error.message) from None


def _path(text: str) -> Path | None:
    return Path(text) if text else None
