"""Settings of the inference service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cxreval.errors import KeyUnreadable
from cxreval.wire.channel import ApiKey, TlsFiles, read_key
from services.chassis.config import ConfigError, ServerConfig, setting
from services.inference.backends.session import PROVIDERS, Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig(ServerConfig):
    """What the inference service can be told.

    `max_batch_size` has one default for CPU and GPU: it is the bound of what the warm-up may find,
    and on a CPU, which gains nothing from batching, that is one image for any model that takes its
    time.
    """

    listen: str = setting("127.0.0.1:50052", "address of the gRPC port; port 0 takes a free one")
    registry: str = setting(
        "", "address of the registry that models are fetched from; empty: only cached models load"
    )
    registry_ca: str = setting(
        "", "PEM file of the authority that signs the registry; empty for plain text"
    )
    registry_certificate: str = setting(
        "", "PEM file of this service's certificate for the registry"
    )
    registry_key: str = setting("", "PEM file of that certificate's key")
    registry_api_key: str = setting(
        "",
        "API key of a worker for the registry; only in the environment or the file",
        secret=True,
        flag=False,
    )
    trust_network: bool = setting(
        False,
        "send the API key without TLS to other machines, too: something else encrypts the way",
    )
    model: tuple[str, ...] = setting((), "an ONNX file to serve from the start, FILE or NAME=FILE")
    model_cache_dir: str = setting(
        "cxreval-data/models", "directory of model files, named by their sha256"
    )
    model_cache_mib: int = setting(
        16384, "disk space for model files; the least recently used go first"
    )
    image_cache_dir: str = setting(
        "cxreval-data/images", "directory of preprocessed images; processes may share it"
    )
    image_cache_mib: int = setting(
        0, "disk space for preprocessed images, so that none is decoded twice; 0: none kept"
    )
    max_loaded_models: int = setting(
        4, "models in memory at once; the least recently used goes first"
    )
    max_models_mib: int = setting(
        8192, "size of their files together; the least recently used goes first"
    )
    max_batch_size: int = setting(
        64, "most images in one run of a model; how many are worth it is found at its load"
    )
    max_queued_images: int = setting(
        512, "images a model may have admitted and not answered; more are refused"
    )
    max_queued_mib: int = setting(512, "their size, encoded and as tensors")
    run_seconds: float = setting(
        60.0, "longest that one run of a model may take; a run that takes longer is ended"
    )
    provider: str = setting("", "cpu, cuda or tensorrt; empty: cuda where there is one")
    precision: str = setting(
        "as-saved", "as-saved, or fp16: half precision, checked against the file at each load"
    )
    threads: int = setting(0, "threads of one run of a model; 0: one for each core of this process")
    decode_threads: int = setting(
        0, "threads that decode images; 0: one for each core of this process"
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError`."""
        for name in (
            "model_cache_mib",
            "max_loaded_models",
            "max_models_mib",
            "max_batch_size",
            "max_queued_images",
            "max_queued_mib",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 < self.run_seconds <= 3600:
            raise ConfigError(
                f"run_seconds is {self.run_seconds}; expected more than 0, at most 3600"
            )
        for name in ("threads", "decode_threads", "image_cache_mib"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 0")
        if self.provider not in ("", *PROVIDERS):
            raise ConfigError(
                f"provider is {self.provider!r}; expected one of {', '.join(PROVIDERS)}, or nothing"
            )
        if self.precision not in ("as-saved", "fp16"):
            raise ConfigError(f"precision is {self.precision!r}; expected as-saved or fp16")
        self.models()
        self.api_key()
        if not self.registry_ca and (self.registry_certificate or self.registry_key):
            raise ConfigError("registry_certificate and registry_key need registry_ca")

    def execution(self) -> Execution:
        """How models are run."""
        return Execution(self.provider, fp16=self.precision == "fp16")

    def models(self) -> dict[str, Path]:
        """The files to serve from the start by name: a file's own name without its ending, unless
        another is given."""
        pairs = [item.rpartition("=") for item in self.model]
        found = {name or Path(file).stem: Path(file) for name, _, file in pairs}
        if len(found) < len(pairs) or not all(found):
            raise ConfigError(
                f"model is {self.model!r}; expected FILE or NAME=FILE for each, every name once"
            )
        return found

    def registry_tls(self) -> TlsFiles | None:
        """The files for a registry behind TLS."""
        if not self.registry_ca:
            return None
        return TlsFiles(
            Path(self.registry_ca), _path(self.registry_certificate), _path(self.registry_key)
        )

    def api_key(self) -> ApiKey | None:
        """Who this service is to the registry; None: whoever has its certificate, or nobody. Raises
        `ConfigError`."""
        try:
            text = self.registry_api_key
            return read_key(text, "registry_api_key", self.trust_network) if text else None
        except KeyUnreadable as error:
            raise ConfigError(error.message) from None


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))
