"""Runs chest X-ray classifiers on a fixed benchmark, scores them against hidden labels, publishes a ranked board."""

__version__ = "0.1.0"
