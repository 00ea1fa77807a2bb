"""Settings of the scoring service."""

from dataclasses import dataclass
from pathlib import Path

from services.chassis.config import ConfigError, ServerConfig, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig(ServerConfig):
    """What the scoring service can be told."""

    listen: str = setting("127.0.0.1:50053", "address of the gRPC port; port 0 takes a free one")
    data: tuple[str, ...] = setting((), "a benchmark and the directory of its list and label table, NAME=DIRECTORY")
    max_concurrent: int = setting(4, "reports computed at once; more wait in line")

    def __post_init__(self) -> None:
        """Raises `ConfigError`."""
        if self.max_concurrent < 1:
            raise ConfigError(f"max_concurrent is {self.max_concurrent}; expected at least 1")
        self.directories()

    def directories(self) -> dict[str, Path]:
        """The data-set directory of each benchmark. Raises `ConfigError`."""
        pairs = [item.partition("=") for item in self.data]
        for name, _, path in pairs:
            if not name or not path:
                raise ConfigError(f"data is {self.data!r}; expected NAME=DIRECTORY for each")
        return {name: Path(path) for name, _, path in pairs}
