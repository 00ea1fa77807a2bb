"""Runs chest X-ray classifiers on a benchmark, scores them and publishes a ranked board."""

import os

# onnxruntime 1.32 writes a device id and reports to its vendor, unless this is set before it is
# imported. That must not happen on the machines of a hospital.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
