"""The card of a benchmark: who may replace it, what it may say, and the event of each change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxreval.api.registry.v1 import benchmark_service_pb2 as pb
from cxreval.audit import chain
from cxreval.audit.chain import Head
from cxreval.client import BenchmarkCard, RegistryClient
from cxreval.client.verification import Verification
from cxreval.errors import BenchmarkNotFound, CxrevalError, MalformedField, RoleRequired
from cxreval.records import Change
from cxreval.wire import benchmarks as wire
from services.chassis.principal import Principal
from services.registry.convert import benchmarks as convert
from services.registry.domain import seed
from services.registry.store.benchmarks import Benchmarks
from tests.integration.test_registry_lifecycle import PARENT, Registry
from tests.integration.test_registry_lifecycle import registry as registry  # noqa: PLC0414 - the fixture
from tests.integration.test_registry_migrations import go_to
from tests.integration.test_results_command import SPEC, Results

CARD = replace(seed.CARD, description="Ein Röntgen <b>&amp;</b> =1+1", year=None)
STRANGER = Principal("stranger", frozenset())


@pytest.fixture
def benchmarks(registry: Registry) -> Benchmarks:
    return Benchmarks(registry.database, registry.now)


def links(registry: Registry) -> list[chain.AuditEvent]:
    registry.events.chain()
    return [link for part in registry.events.links(0, 100, STRANGER) for link in part]


def test_each_change_of_a_card_is_one_public_event_of_the_audit_chain(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    digest, published = benchmarks.get(PARENT).spec.digest, registry.published()
    for card in (CARD, CARD, BenchmarkCard(), seed.CARD):
        found = benchmarks.update_card(PARENT, card, "because", "operator")
        assert found == benchmarks.get(PARENT)
        assert (found.card, found.spec.digest) == (card, digest)
    registry.change(published, Change.DISPUTED)
    chained = links(registry)
    assert chain.verify(iter(chained)) == registry.events.head()
    events = [link for link in chained if link.submission == str(PARENT)]
    assert [(link.version, link.change, link.state, link.reason) for link in events] == [
        (version, "card_updated", "", "because") for version in (1, 2, 3)
    ]
    assert [dict(link.details) for link in events] == [
        {key: str(value) for key, value in asdict(card).items() if value}
        for card in (CARD, BenchmarkCard(), seed.CARD)
    ]


def test_way_back_is_refused_once_a_card_was_changed_and_keeps_events_before(
    registry: Registry, benchmarks: Benchmarks
) -> None:
    benchmarks.seed_card(PARENT, CARD)
    benchmarks.seed_card(PARENT, seed.CARD)
    assert benchmarks.get(PARENT).card == CARD
    registry.published()
    before = links(registry)
    go_to(registry, "0014")
    go_to(registry, "head")
    assert links(registry) == before
    assert benchmarks.get(PARENT).card is None
    registry.published()
    benchmarks.update_card(PARENT, CARD, "", "operator")
    with pytest.raises(ValueError, match="keep 0015"):
        go_to(registry, "0014")
    assert benchmarks.get(PARENT).card == CARD
    assert chain.verify(iter(links(registry))).place == len(before) + 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * 2001),
        ("description", "a line\nand another"),
        ("description", " spaces around "),
        ("task", "x" * 101),
        ("modality", "left\N{RIGHT-TO-LEFT OVERRIDE}right"),
        ("language", "\x1b[31mred"),
        ("licence", "x" * 201),
        ("paper", "http://example.org/paper"),
        ("paper", "javascript:alert(1)"),
        ("download", "https://user:secret@example.org"),
        ("download", "https://example.org/a b"),
        ("licence_url", "https://" + "x" * 2000),
        ("year", 0),
        ("year", 99999),
        ("image_count", 0),
        ("image_count", -1),
        ("patient_count", 1 << 40),
    ],
)
def test_a_malformed_field_of_a_card_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(MalformedField) as caught:
        convert.card(pb.BenchmarkCard(**{field: value}))
    assert caught.value.metadata["field"] == f"card.{field}"


def test_a_card_with_every_field_or_none_is_accepted() -> None:
    for card in (CARD, BenchmarkCard(), BenchmarkCard(description="x" * 2000, year=1895)):
        assert convert.card(wire.card_message(card)) == card


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    with Results(tmp_path_factory.mktemp("cards")) as found:
        yield found


def card_events(client: RegistryClient) -> list[chain.AuditEvent]:
    parent = f"benchmarks/{SPEC.name}"
    return [event for event in client.audit_chain() if event.submission == parent]


def test_an_operator_replaces_the_card_from_a_file_and_the_registry_verifies(
    results: Results, tmp_path: Path
) -> None:
    (operator,) = (name for name in results.keys if name.endswith("operator"))
    file = tmp_path / "card.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in asdict(CARD).items() if value}))
    command = ("benchmark", "card", SPEC.name, "--file", str(file), "--reason", "now described")
    printed = results.run(*command, who=operator).stdout
    assert "paper: https://arxiv.org/abs/1705.02315" in printed
    assert results.operator.card(SPEC.name) == CARD
    assert results.acme.cards() == {seed.BENCHMARK: seed.CARD, SPEC.name: CARD}
    shown = json.loads(results.run("benchmark", "show", SPEC.name, "--json").stdout)
    assert shown["card"]["image_count"] == 112120
    client = results.operator
    events = card_events(client)
    deadline = time.monotonic() + 60
    while not events and time.monotonic() < deadline:  # an event joins the chain after a moment
        time.sleep(0.1)
        events = card_events(client)
    Verification(client, client.public_key(), Head()).run()
    assert [(event.change, event.reason) for event in events] == [("card_updated", "now described")]
    with pytest.raises(RoleRequired):
        results.acme.update_card(SPEC.name, CARD)
    with pytest.raises(BenchmarkNotFound):
        client.update_card("no-such-benchmark", CARD)
    assert results.operator.card(SPEC.name) == CARD


@pytest.mark.parametrize(
    "content",
    [
        "", "- a list", "colour: red", "year: '2017'", "year: true", "description: 5", "a: [",
        "description: " + "x" * 70000, "!!python/object/apply:os.system ['true']",
    ],
)  # fmt: skip
def test_a_file_that_is_no_card_is_refused(results: Results, tmp_path: Path, content: str) -> None:
    file = tmp_path / "card.yaml"
    file.write_text(content)
    before = results.operator.card(SPEC.name)
    with pytest.raises(CxrevalError) as caught:
        results.run("benchmark", "card", SPEC.name, "--file", str(file))
    assert caught.value.metadata["field"].startswith("card")
    assert results.operator.card(SPEC.name) == before
