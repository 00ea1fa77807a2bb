"""Starts the inference service: `python -m services.inference --registry HOST:PORT`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from cxreval.api.inference.v1 import capabilities_service_pb2_grpc
from cxreval.api.oip import grpc_predict_v2_pb2_grpc
from cxreval.client import RegistryClient
from cxreval.cores import cores
from cxreval.errors import ArtifactNotFound, CxrevalError
from cxreval.imaging.cache import ImageCache
from cxreval.wire.limits import MIB
from services.chassis import logs
from services.chassis.config import ConfigError, load
from services.chassis.server import Server
from services.inference.backends.lockdown import hide_from_children
from services.inference.backends.onnx_model import OnnxModel
from services.inference.backends.precision import FP16_TOLERANCE
from services.inference.backends.session import RUNTIME, Execution
from services.inference.batching import Limits
from services.inference.config import InferenceConfig
from services.inference.model_cache import Fetch, ModelCache
from services.inference.model_pool import ModelPool
from services.inference.preprocessing import Preprocessor
from services.inference.servicer import CapabilitiesServicer, InferenceServicer

_DRAIN_SHARE = 0.9  # of the drain time, for which running models may go on


async def main(config: InferenceConfig) -> None:
    """Builds the service and serves until SIGTERM or SIGINT."""
    metrics = CollectorRegistry()
    limits = Limits(config.max_queued_images, config.max_queued_mib * MIB)
    server = Server(config, metrics)

    async def announce(model: str) -> None:
        await server.report(model, pool.is_ready(model))

    cache = ModelCache(Path(config.model_cache_dir), config.model_cache_mib * MIB, _fetch(config))
    threads = config.threads or cores()
    pool = ModelPool(
        cache,
        limits,
        metrics,
        max_loaded=config.max_loaded_models,
        max_bytes=config.max_models_mib * MIB,
        host_limits=config.host_limits(),
        open_model=partial(
            OnnxModel,
            threads=threads,
            max_batch=config.max_batch_size,
            execution=config.execution(),
        ),
        announce=announce,
    )
    preprocessor = Preprocessor(config.decode_threads or cores(), _image_cache(config), metrics)
    servicer = InferenceServicer(pool, preprocessor, limits)
    server.add(grpc_predict_v2_pb2_grpc, servicer)
    execution = config.execution()
    capabilities = CapabilitiesServicer(
        f"{RUNTIME}, {execution}", _repeat_tolerance(execution), execution.device, threads
    )
    server.add(capabilities_service_pb2_grpc, capabilities)

    try:
        await _load(pool, config)
        # The rest of the drain time is for the answers to the calls whose models were ended.
        await server.serve(
            pool.is_healthy, partial(servicer.drain, _DRAIN_SHARE * config.drain_seconds)
        )
    finally:
        pool.close()
        preprocessor.close()


def _repeat_tolerance(execution: Execution) -> float:
    """Returns the largest difference that is expected of two answers to one image.

    It is 0 on a CPU as saved. Half precision and a GPU round differently in batches of other sizes.
    """
    return FP16_TOLERANCE if execution.gpu or execution.fp16 else 0.0


async def _load(pool: ModelPool, config: InferenceConfig) -> None:
    for name, file in config.models().items():
        try:
            await pool.load_file(name, file, config.preprocessing)
        except OSError as error:
            raise ConfigError(f"model {name}: cannot read {file}: {error.strerror}") from None


def _image_cache(config: InferenceConfig) -> ImageCache | None:
    if not config.image_cache_mib:
        return None
    try:
        return ImageCache(Path(config.image_cache_dir), config.image_cache_mib * MIB)
    except OSError as error:
        raise ConfigError(
            f"cannot write image_cache_dir {config.image_cache_dir!r}: {error.strerror}"
        ) from None


def _fetch(config: InferenceConfig) -> Fetch:
    if config.registry:
        return RegistryClient(
            config.registry, config.registry_tls(), config.api_key()
        ).download_artifact

    def refuse(digest: str) -> Iterator[bytes]:
        raise ArtifactNotFound(
            f"model {digest} is not in the cache, and no registry to fetch it from is configured",
            field="model_name",
            expected="a cached model, or the setting registry",
            model=digest,
        )

    return refuse


if __name__ == "__main__":
    try:
        hide_from_children()
        configuration = load(InferenceConfig, "inference", sys.argv[1:], os.environ)
        logs.configure(configuration.log_level)
        asyncio.run(main(configuration))
    except (ConfigError, CxrevalError) as problem:
        sys.exit(f"inference: {problem}")
