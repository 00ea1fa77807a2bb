"""A model that does not fit on the disk of the cache is refused by name and leaves nothing."""

from __future__ import annotations

import hashlib
import resource
from pathlib import Path

import pytest

from cxreval.errors import ServiceUnavailable, StorageFull
from services.inference.model_cache import ModelCache

MODEL = bytes(1 << 20)
DIGEST = hashlib.sha256(MODEL).hexdigest()


def cache(directory: Path) -> ModelCache:
    return ModelCache(directory, 1 << 30, lambda _: iter([MODEL]))


def test_a_full_disk_is_named_and_the_next_fetch_works(tmp_path: Path) -> None:
    models, limits = cache(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StorageFull, match="no disk space for models"):
            models.file(DIGEST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    assert models.file(DIGEST).read_bytes() == MODEL


def test_a_directory_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    models = cache(tmp_path / "models")
    (tmp_path / "models").rmdir()
    with pytest.raises(ServiceUnavailable, match="disk for models cannot be used") as caught:
        models.file(DIGEST)
    assert not isinstance(caught.value, StorageFull)
