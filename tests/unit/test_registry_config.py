"""The registry's settings."""

from __future__ import annotations

import pytest

from services.chassis.config import ConfigError, load
from services.registry.config import RegistryConfig


@pytest.mark.parametrize(
    "flags",
    [
        "--database-url=sqlite://",
        "--database-url=sqlite:///:memory:",
        "--database-url=postgresql://user:secret@host/name",
        "--artifact-store=",
        "--artifact-store=s3://",
        "--artifact-store=https://bucket.example.org/",
        "--lease-seconds=0",
        "--max-attempts=0",
    ],
)
def test_setting_that_does_not_fit_is_refused_by_name_and_not_shown(flags: str) -> None:
    name = flags.removeprefix("--").partition("=")[0].replace("-", "_")
    with pytest.raises(ConfigError, match=name) as caught:
        load(RegistryConfig, "registry", [flags], {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite:////data/a.db", "postgresql+psycopg://user@host/name"]
)
def test_both_databases_are_named_by_url(url: str) -> None:
    assert (
        load(RegistryConfig, "registry", [], {"CXREVAL_REGISTRY_DATABASE_URL": url}).database_url
        == url
    )
