"""Extras: what cxreval does beyond client, command line and scoring needs more packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cxreval.errors import ExtraMissing

HAS_SERVICES = any(
    (root / "services" / "chassis").is_dir() for root in (Path(__file__).parents[2], Path.cwd())
)
"""Whether this is a checkout, or the directory of an image; the wheel has no services."""

NO_SERVICES = (
    "This installation has no services: registry, inference, scoring and the public page run from "
    "a checkout or a container image."
)


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Checks that modules of an extra are installed.

    Raises:
        ExtraMissing: one of them is not; the message names it and the command that installs it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        command = f"pip install 'cxreval[{extra}]'"
        message = f"{purpose} needs {missing[0]}, which comes with an extra: {command}"
        raise ExtraMissing(message, extra=extra, module=missing[0])
