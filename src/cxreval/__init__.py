"""Runs chest X-ray classifiers on a benchmark, scores them and publishes a ranked board."""

import os
import platform

# onnxruntime 1.32 writes a device id and reports to its vendor, unless this is set before it is
# imported. That must not happen on the machines of a hospital.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"


def build_info() -> dict[str, str]:
    """Returns the versions that a report of a defect needs: `version`, `python` and `platform`."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def version_line() -> str:
    """Returns what `--version` prints."""
    return "cxreval {version}, Python {python}, {platform}".format(**build_info())
