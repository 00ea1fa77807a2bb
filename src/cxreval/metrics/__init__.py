"""Metrics and ranking, as pure functions that the services and `cxreval score` share."""
