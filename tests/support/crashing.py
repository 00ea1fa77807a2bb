"""A registry that dies by kill -9 at a point that the test chooses, and is started again at once, as a cluster would.

The point is written into a file: `before leased` is the moment at which that change is flushed but not committed,
`after leased` the one at which it is committed and nobody has heard of it. The file is gone when the process has died.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

import services.registry.__main__ as registry
from services.registry.store import evaluations, lifecycle, submissions
from tests.support.processes import Service

_CHANGE = "change"


class CrashingRegistry(Service):
    """See the module."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._point = directory / "point"
        super().__init__("registry", arguments, directory / "registry.log")
        self._command[2:3] = [__name__, str(self._point)]

    def die(self, point: str) -> None:
        """Lets the process die at the point when it comes there next."""
        self._point.write_text(point)

    def has_died(self, seconds: float = 5) -> bool:
        """Whether it came there; waits for a moment, since it may come there after it has answered."""
        deadline = time.monotonic() + seconds
        while self._point.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._point.exists()


def main(point: Path, arguments: Sequence[str]) -> None:
    """Starts registries, one after the other as they die, until one ends by itself or SIGTERM comes."""
    _watch(point)
    while True:
        child = os.fork()
        if not child:
            registry.main(arguments)
            os._exit(0)
        signal.signal(signal.SIGTERM, lambda *_, child=child: os.kill(child, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(os.waitstatus_to_exitcode(status))


def _watch(point: Path) -> None:
    def reached(found: str) -> None:
        if point.exists() and point.read_text() == found:
            point.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    append, lease_queued = submissions.append, evaluations.lease_queued

    def appending(session: Session, row: Any, change: Any, *arguments: Any, **more: Any) -> Any:
        session.info[_CHANGE] = change
        return append(session, row, change, *arguments, **more)

    def leasing(*arguments: Any) -> Any:
        reached("before leased")  # one statement: there is nothing between its effect and its commit
        found = lease_queued(*arguments)
        reached("after leased" if found else "")
        return found

    def before(session: Session) -> None:
        session.flush()
        reached(f"before {session.info.get(_CHANGE)}")

    def after(session: Session) -> None:
        reached(f"after {session.info.get(_CHANGE)}")

    for module in (submissions, evaluations, lifecycle):
        module.append = appending  # type: ignore[attr-defined]
    evaluations.lease_queued = leasing
    event.listen(Session, "before_commit", before)
    event.listen(Session, "after_commit", after)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
