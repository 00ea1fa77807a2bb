"""Runs chest X-ray classifiers on a fixed benchmark, scores them against labels nobody else sees, publishes the board."""

__version__ = "0.1.0"
