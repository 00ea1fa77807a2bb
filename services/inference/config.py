"""Settings of the inference service."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from cxreval.client.inference import INFER_SECONDS, LOAD_SECONDS
from cxreval.onnx_file.signature import MAX_BATCH
from cxreval.preprocessing import PRESETS
from cxreval.wire.limits import MIB
from services.chassis.config import ConfigError, ServerConfig, check_at_least, setting
from services.chassis.registry_access import RegistryAccess
from services.inference.backends.model_host import HostLimits
from services.inference.backends.session import PROVIDERS, Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig(RegistryAccess, ServerConfig):
    """Settings of the inference service.

    `max_batch_size` has one default for CPU and GPU: the warm-up chooses the batch size below it.
    On a CPU, which gains nothing from batching, it chooses one image for all but very fast models.
    """

    listen: str = setting("127.0.0.1:50052", "address of the gRPC port; port 0 takes a free one")
    registry: str = setting(
        "", "address of the registry to fetch models from; empty: only cached models can be loaded"
    )
    model: tuple[str, ...] = setting((), "an ONNX file to serve from the start, FILE or NAME=FILE")
    preprocessing: str = setting(
        "", "preset for these files; empty: the one that each file's metadata names, if any"
    )
    model_cache_dir: str = setting(
        "cxreval-data/models", "directory of model files, named by their sha256"
    )
    model_cache_mib: int = setting(
        16384, "disk space for model files; the least recently used are evicted"
    )
    image_cache_dir: str = setting(
        "cxreval-data/images", "directory of preprocessed images; processes may share it"
    )
    image_cache_mib: int = setting(
        0, "disk space for preprocessed images, to decode each once; 0 disables the cache"
    )
    max_loaded_models: int = setting(
        4, "models in memory at once; the least recently used is unloaded"
    )
    max_models_mib: int = setting(
        8192, "total size of their files; the least recently used is unloaded"
    )
    max_batch_size: int = setting(
        64, "most images in one run of a model; the warm-up at its load chooses how many"
    )
    max_queued_images: int = setting(
        512, "images that one model has admitted and not answered; more are refused"
    )
    max_queued_mib: int = setting(512, "their size, encoded and as tensors")
    model_memory_mib: int = setting(
        1024, "memory that a model may take beyond three times the size of its file"
    )
    open_seconds: float = setting(90.0, "time limit for opening a model's file")
    warm_up_seconds: float = setting(60.0, "time limit for all runs of a model's warm-up")
    run_seconds: float = setting(60.0, "time limit of one run of a model")
    provider: str = setting("", "cpu, cuda or tensorrt; empty: cuda if available")
    precision: str = setting(
        "as-saved", "as-saved, or fp16: half precision, checked against the file at each load"
    )
    threads: int = setting(
        0,
        "threads of one run of a model; 0: as many cores as affinity mask and CPU quota allow",
    )
    decode_threads: int = setting(
        0, "processes that decode images; 0: as many as `threads` has by default"
    )

    def __post_init__(self) -> None:
        """Raises `ConfigError`."""
        check_at_least(
            self,
            1,
            "model_cache_mib",
            "max_loaded_models",
            "max_models_mib",
            "max_batch_size",
            "max_queued_images",
            "max_queued_mib",
            "model_memory_mib",
        )
        self._check_times()
        if self.max_batch_size > MAX_BATCH:
            raise ConfigError(
                f"max_batch_size is {self.max_batch_size}; expected at most {MAX_BATCH}"
            )
        check_at_least(self, 0, "threads", "decode_threads", "image_cache_mib")
        if self.provider not in ("", *PROVIDERS):
            raise ConfigError(
                f"provider is {self.provider!r}; expected one of {', '.join(PROVIDERS)}, or empty"
            )
        if self.precision not in ("as-saved", "fp16"):
            raise ConfigError(f"precision is {self.precision!r}; expected as-saved or fp16")
        if self.preprocessing not in ("", *PRESETS):
            expected = f"one of {', '.join(sorted(PRESETS))}, or empty"
            raise ConfigError(f"preprocessing is {self.preprocessing!r}; expected {expected}")
        self.models()
        self.check_registry_access()

    def _check_times(self) -> None:
        """Raises `ConfigError` for a time limit after which no caller waits for the answer."""
        for name in ("open_seconds", "warm_up_seconds", "run_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a number above 0")
        limits = self.host_limits()
        loading = limits.hosts * (limits.open_seconds + limits.warm_up_seconds)
        for what, seconds, most in (
            ("open_seconds and warm_up_seconds, twice in half precision,", loading, LOAD_SECONDS),
            ("run_seconds", limits.run_seconds, INFER_SECONDS),
        ):
            if seconds > (most := min(most, self.deadline_seconds)):
                raise ConfigError(
                    f"{what} are {seconds:g} s; expected at most {most:g}, the deadline of a call"
                )

    def execution(self) -> Execution:
        """Returns provider and precision."""
        return Execution(self.provider, fp16=self.precision == "fp16")

    def host_limits(self) -> HostLimits:
        """Returns the limits of the process that runs a model."""
        return HostLimits(
            self.model_memory_mib * MIB,
            self.open_seconds,
            self.warm_up_seconds,
            self.run_seconds,
            hosts=2 if self.execution().fp16 else 1,
        )

    def models(self) -> dict[str, Path]:
        """Returns the files to serve from the start, by name.

        The name is the file's own without its suffix, unless another is given.
        """
        pairs = [item.rpartition("=") for item in self.model]
        files = {name or Path(file).stem: Path(file) for name, _, file in pairs}
        if len(files) < len(pairs) or not all(files):
            raise ConfigError(
                f"model is {self.model!r}; expected FILE or NAME=FILE for each, each name once"
            )
        return files
