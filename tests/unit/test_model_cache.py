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
        with (
            pytest.raises(StorageFull, match=r"no space left .* for models"),
            models.file(DIGEST),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    with models.file(DIGEST) as file:
        assert file.read_bytes() == MODEL


def test_a_directory_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    models = cache(tmp_path / "models")
    (tmp_path / "models").rmdir()
    with (
        pytest.raises(ServiceUnavailable, match="disk for models cannot be used") as caught,
        models.file(DIGEST),
    ):
        pass
    assert not isinstance(caught.value, StorageFull)


def test_a_file_in_use_is_not_evicted(tmp_path: Path) -> None:
    contents = {hashlib.sha256(model).hexdigest(): model for model in (b"a" * 600, b"b" * 600)}
    models = ModelCache(tmp_path, 1000, lambda digest: iter([contents[digest]]))
    first, second = contents

    with models.file(first) as file, models.file(second) as other:
        assert file.exists()
        assert other.exists()
    with models.file(second):
        pass
    with models.file(first), models.file(second):
        assert file.exists()
