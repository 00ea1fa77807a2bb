"""A registry that kills itself (SIGKILL) at points that the test selects, and restarts at once.

A point is `before` or `after` and an operation. `before leased` is the moment at which that change
of a submission is flushed but not committed; at `after leased` it is committed, but no response has
been sent. `before store` and `after store` surround one step of an upload.

The points are written to a file, one per line. The process removes the first one when it dies
there.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

import services.registry.__main__ as registry
from services.registry import migrations
from services.registry.store import (
    evaluations,
    lifecycle,
    local_artifacts,
    s3_artifacts,
    submissions,
)
from services.registry.store.database import Database
from tests.support.processes import Service
from tests.support.registry import fresh_database, registry_arguments

_CHANGE = "change"
_STEPS = {
    local_artifacts._LocalUpload: ("begin", "write", "store", "place", "discard"),
    s3_artifacts._S3Upload: ("begin", "write", "store", "place", "discard"),
    evaluations.Evaluations: ("add_artifact",),
}
"""Steps of an upload.

Its last transaction is the change `queued`, or `add_artifact` for a worker's upload.
"""


class CrashingRegistry(Service):
    """The registry process described in this module, with a new database."""

    def __init__(self, directory: Path, kind: str, *flags: str, artifact_store: str = "") -> None:
        self.database_url = fresh_database(kind, directory)
        database = Database(self.database_url)
        migrations.upgrade(database.engine)
        database.close()
        self._points = directory / "points"
        self._points.touch()
        arguments = registry_arguments(directory, self.database_url, artifact_store)
        super().__init__("registry", [*arguments, *flags], directory / "registry.log")
        self._command[2:3] = [__name__, str(self._points)]

    def die(self, *points: str) -> None:
        """Makes the process die at each of these points in turn."""
        self._points.write_text("\n".join(points))

    def ahead(self, seconds: float = 5) -> list[str]:
        """Returns the points that the process has not reached.

        Waits up to `seconds`, because it may reach a point after it has responded.
        """
        deadline = time.monotonic() + seconds
        while (points := self._points.read_text().splitlines()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return points


def main(points: Path, arguments: Sequence[str]) -> None:
    """Runs registries one after the other, each after the last was killed.

    Ends when one exits by itself or SIGTERM arrives.
    """
    registry.SWEEP_SECONDS = 0.1
    s3_artifacts.PIECE_BYTES = 1 << 16  # each write is a piece
    reached = functools.partial(_reached, points)
    _watch_changes(reached)
    _watch_steps(reached)
    while True:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            registry.main(arguments)
            os._exit(0)
        signal.signal(signal.SIGTERM, lambda *_, child=child: os.kill(child, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(os.waitstatus_to_exitcode(status))


def _reached(points: Path, point: str) -> None:
    first, _, rest = points.read_text().partition("\n")
    if point == first:
        points.write_text(rest)
        os.kill(os.getpid(), signal.SIGKILL)


def _watch_changes(reached: Callable[[str], None]) -> None:
    append, lease_queued = submissions.append, evaluations.lease_queued

    def appending(session: Session, row: Any, change: Any, *arguments: Any, **more: Any) -> Any:
        session.info[_CHANGE] = change
        return append(session, row, change, *arguments, **more)

    def leasing(*arguments: Any) -> Any:
        reached("before leased")  # one statement commits at once, so this is the only point before
        lease = lease_queued(*arguments)
        if lease:
            reached("after leased")
        return lease

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


def _watch_steps(reached: Callable[[str], None]) -> None:
    def dying(step: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*arguments: Any, **more: Any) -> Any:
            reached(f"before {step}")
            result = original(*arguments, **more)
            reached(f"after {step}")
            return result

        return call

    for owner, steps in _STEPS.items():
        for step in steps:
            setattr(owner, step, dying(step, getattr(owner, step)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
