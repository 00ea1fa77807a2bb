"""Declared training data and rules of the board in the database, and the way back without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxreval.datasets.benchmark import StepRule
from cxreval.datasets.training_list import TrainingData, TrainingUse
from cxreval.errors import QuotaExceeded
from cxreval.resource_names import SubmissionName
from services.chassis.principal import EVERYBODY
from services.registry.store.benchmarks import Benchmarks
from tests.integration.test_registry_lifecycle import MANIFEST, PARENT, Registry
from tests.integration.test_registry_lifecycle import registry as registry  # noqa: PLC0414 - the fixture
from tests.integration.test_registry_migrations import go_to
from tests.integration.test_registry_quotas import Store, member
from tests.integration.test_registry_quotas import store as store  # noqa: PLC0414 - the fixture
from tests.support.registry import small_spec

LISTED = replace(MANIFEST, training_data=TrainingData(TrainingUse.IMAGES, "0" * 64))


def test_way_back_keeps_a_database_without_declarations(registry: Registry) -> None:
    name = registry.published()
    before = registry.submissions.get(name, EVERYBODY)
    go_to(registry, "0015")
    go_to(registry, "head")
    assert registry.submissions.get(name, EVERYBODY) == before
    assert registry.on_board() == [name.submission]


@pytest.mark.parametrize("rules", [{"steps": StepRule.CLEAN}, {"ladder": True}])
def test_way_back_is_refused_once_a_benchmark_has_a_rule_of_the_board(
    registry: Registry, rules: dict[str, Any]
) -> None:
    benchmarks = Benchmarks(registry.database, registry.now)
    spec = replace(small_spec("ruled"), **rules)
    assert spec.digest != small_spec("ruled").digest
    assert benchmarks.create(spec).spec == spec
    with pytest.raises(ValueError, match="keep 0017"):
        go_to(registry, "0015")


def test_way_back_is_refused_once_training_data_is_declared(registry: Registry) -> None:
    declared = replace(MANIFEST, training_data=TrainingData(TrainingUse.NONE))
    name = registry.create(declared)
    assert registry.submissions.get(name, EVERYBODY).manifest == declared
    with pytest.raises(ValueError, match="keep 0017"):
        go_to(registry, "0015")


def test_a_list_counts_towards_the_bytes_of_its_organisation(store: Store) -> None:
    store.limit(stored_bytes=10)
    created = store.submissions.create(PARENT, LISTED, "", member("acme"), None, b"12345678")
    assert store.usage().stored_bytes == 8
    with pytest.raises(QuotaExceeded, match="8 of 10 bytes are taken"):
        store.submissions.create(PARENT, LISTED, "", member("acme"), None, b"123")
    assert store.usage().stored_bytes == 8
    name = SubmissionName(PARENT.benchmark, created.id)
    assert store.submissions.training_list(name, member("acme")) == b"12345678"
