"""Settings of the inference service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cxreval.wire.channel import TlsFiles
from services.chassis.config import ConfigError, ServerConfig, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig(ServerConfig):
    """What the inference service can be told.

    `max_batch_size` has one default for CPU and GPU: large enough that a GPU gains most of what batching gives, small
    enough that a CPU, which gains nothing from it, makes nobody wait long behind a batch.
    """

    listen: str = setting("127.0.0.1:50052", "address of the gRPC port; port 0 takes a free one")
    registry: str = setting("", "address of the registry that models are fetched from; empty: only cached models load")
    registry_ca: str = setting("", "PEM file of the authority that signs the registry; empty for plain text")
    registry_certificate: str = setting("", "PEM file of this service's certificate for the registry")
    registry_key: str = setting("", "PEM file of that certificate's key")
    model_cache_dir: str = setting("cxreval-data/models", "directory of model files, named by their sha256")
    model_cache_mib: int = setting(16384, "disk space for model files; the least recently used go first")
    max_loaded_models: int = setting(4, "models in memory at once; the least recently used goes first")
    max_batch_size: int = setting(16, "most images in one run of a model")
    max_queued_images: int = setting(512, "images a model may have admitted and not answered; more are refused")
    max_queued_mib: int = setting(512, "their size, encoded and as tensors")
    run_seconds: float = setting(60.0, "longest that one run of a model may take; a run that takes longer is ended")
    threads: int = setting(0, "threads of one run of a model; 0: one for each core of this process")
    decode_threads: int = setting(0, "threads that decode images; 0: one for each core of this process")

    def __post_init__(self) -> None:
        """Raises `ConfigError`."""
        for name in ("model_cache_mib", "max_loaded_models", "max_batch_size", "max_queued_images", "max_queued_mib"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 < self.run_seconds <= 3600:
            raise ConfigError(f"run_seconds is {self.run_seconds}; expected more than 0, at most 3600")
        if self.threads < 0 or self.decode_threads < 0:
            raise ConfigError("threads and decode_threads: expected at least 0")
        if not self.registry_ca and (self.registry_certificate or self.registry_key):
            raise ConfigError("registry_certificate and registry_key need registry_ca")

    def registry_tls(self) -> TlsFiles | None:
        """The files for a registry behind TLS."""
        if not self.registry_ca:
            return None
        return TlsFiles(Path(self.registry_ca), _path(self.registry_certificate), _path(self.registry_key))


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))
