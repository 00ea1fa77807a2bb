"""Metrics and ranking: pure functions, shared by the scoring service, the registry and a person's
own desk."""
