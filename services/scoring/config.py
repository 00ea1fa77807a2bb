"""Settings of the scoring service."""

from dataclasses import dataclass
from pathlib import Path

from services.chassis.config import ConfigError, ServerConfig, check_at_least, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig(ServerConfig):
    """The settings of the scoring service."""

    listen: str = setting("127.0.0.1:50053", "address of the gRPC port; port 0 takes a free one")
    data: tuple[str, ...] = setting(
        (), "NAME=DIRECTORY: a benchmark and the directory of its image list and label table"
    )
    max_concurrent: int = setting(4, "maximum number of reports computed at once; others wait")
    max_streams: int = setting(
        32,
        "maximum number of tables of predictions in memory, of open streams and of interrupted "
        "ones that can be resumed; for NIH's findings a table has 57 bytes for each image",
    )

    def __post_init__(self) -> None:
        """Checks the settings. Raises `ConfigError`."""
        check_at_least(self, 1, "max_concurrent", "max_streams")
        self.directories()

    def directories(self) -> dict[str, Path]:
        """Returns the data-set directory of each benchmark. Raises `ConfigError`."""
        pairs = [item.partition("=") for item in self.data]
        for name, _, path in pairs:
            if not name or not path:
                raise ConfigError(f"data is {self.data!r}; expected NAME=DIRECTORY for each")
        return {name: Path(path) for name, _, path in pairs}
