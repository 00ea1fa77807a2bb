"""Checkers from npm: html-validate, vnu and Lighthouse.

Run `npm install vnu-jar html-validate@10 lighthouse@12` in a directory, and name it in
`CXREVAL_NPM`. vnu needs `java`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import missing
from tests.support.browser import executable


def modules() -> Path:
    """Returns the directory of what npm installed; skips the test without it."""
    directory = Path(os.environ.get("CXREVAL_NPM", "/nonexistent")) / "node_modules"
    if not directory.is_dir():
        missing("the checkers of npm are not installed: see tests/support/npm.py")
    return directory


def lighthouse(address: str) -> tuple[dict[str, float], list[str]]:
    """Returns what Lighthouse says of a page on a phone: its scores, 0 to 1, and what it lacks."""
    checked = subprocess.run(
        [modules() / ".bin/lighthouse", address, "--quiet", "--output=json",
         "--chrome-flags=--headless=new --no-sandbox"],
        env=os.environ | {"CHROME_PATH": executable()},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if checked.returncode:
        raise RuntimeError(checked.stderr[-2000:])
    found: dict[str, Any] = json.loads(checked.stdout)
    lost = [
        f"{audit['id']}: {audit['title']} {audit.get('displayValue', '')}"
        for audit in found["audits"].values()
        if audit["score"] is not None and audit["score"] < 1
    ]
    return {name: each["score"] for name, each in found["categories"].items()}, lost
