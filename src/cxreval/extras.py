"""Extras: what cxreval does beyond client, command line and scoring needs more packages."""

from __future__ import annotations

from importlib.util import find_spec

from cxreval.errors import ExtraMissing


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
