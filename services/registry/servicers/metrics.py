"""Metrics of submissions and evaluations by state, counted in the database at each scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cxreval.errors import ServiceUnavailable
from services.registry.store.database import Database


class StateCollector(Collector):
    """Gauges by state. They are missing from a scrape while the database is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[GaugeMetricFamily]:
        """The families without values, so that registering them needs no database."""
        return [_submissions({}), _evaluations({})]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families with their counts."""
        try:
            yield _submissions(self._database.submissions_by_state())
            yield _evaluations(self._database.evaluations_by_state())
        except ServiceUnavailable:
            return  # `Database` has logged the cause


def _submissions(counts: Mapping[str, int]) -> GaugeMetricFamily:
    return _gauge("cxreval_registry_submissions", "Submissions by state.", counts)


def _evaluations(counts: Mapping[str, int]) -> GaugeMetricFamily:
    return _gauge("cxreval_registry_evaluations", "Evaluations by state.", counts)


def _gauge(name: str, description: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, description, labels=["state"])
    for state, count in counts.items():
        family.add_metric([str(state)], count)
    return family
