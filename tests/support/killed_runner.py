"""Runs a script that sleeps, until it is killed: `python -m tests.support.killed_runner DIRECTORY`.

It prints a line when the script has written its first rows.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from cxreval.reproduction.isolation.bubblewrap import Bubblewrap
from tests.support import hostile_ends, isolated


def say(rows: int) -> None:
    if rows:
        sys.stdout.write("runs\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run = isolated.run_of(Path(sys.argv[1]), "sleeps and ignores signals")
    Bubblewrap().run(replace(run, limits=hostile_ends.LIMITS), say)
