"""Settings of the public page."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.config import ConfigError, ProcessConfig, setting
from services.chassis.registry_access import RegistryAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardConfig(RegistryAccess, ProcessConfig):
    """The settings of the public page."""

    listen: str = setting("127.0.0.1:8080", "address of the HTTP port; port 0 takes a free one")
    registry: str = setting("localhost:50051", "address of the registry")
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
        self.check_registry_access()

    @property
    def address(self) -> str:
        """The address at which visitors reach the page, without the last slash."""
        return self.public_url.rstrip("/") or f"http://{self.listen}"
