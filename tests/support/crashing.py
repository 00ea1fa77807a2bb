"""A registry that dies by kill -9 at points that the test chooses, and is started again at once, as
a cluster would.

A point is a moment and what the registry does. `before leased` is the moment at which that change
of a submission is flushed but not committed, `after leased` the one at which it is committed and
nobody has heard of it. `before store` and `after store` are those around one step of an upload.

The points are written into a file, one a line; the process takes out the first one when it dies
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
"""What an upload goes through. Its last transaction is the change `queued`, or for a worker's
`add_artifact`."""


class CrashingRegistry(Service):
    """See the module. It has a new database."""

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
        """Lets the process die at the first point when it comes there next, then at the second, and
        so on."""
        self._points.write_text("\n".join(points))

    def ahead(self, seconds: float = 5) -> list[str]:
        """The points it has not come to; waits for a moment, since it may come there after it has
        answered."""
        deadline = time.monotonic() + seconds
        while (points := self._points.read_text().splitlines()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return points


def main(points: Path, arguments: Sequence[str]) -> None:
    """Starts registries, one after the other as they die, until one ends by itself or SIGTERM
    comes."""
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


def _reached(points: Path, found: str) -> None:
    first, _, others = points.read_text().partition("\n")
    if found == first:
        points.write_text(others)
        os.kill(os.getpid(), signal.SIGKILL)


def _watch_changes(reached: Callable[[str], None]) -> None:
    append, lease_queued = submissions.append, evaluations.lease_queued

    def appending(session: Session, row: Any, change: Any, *arguments: Any, **more: Any) -> Any:
        session.info[_CHANGE] = change
        return append(session, row, change, *arguments, **more)

    def leasing(*arguments: Any) -> Any:
        reached(
            "before leased"
        )  # one statement: there is nothing between its effect and its commit
        found = lease_queued(*arguments)
        if found:
            reached("after leased")
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


def _watch_steps(reached: Callable[[str], None]) -> None:
    def dying(step: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*arguments: Any) -> Any:
            reached(f"before {step}")
            found = original(*arguments)
            reached(f"after {step}")
            return found

        return call

    for owner, steps in _STEPS.items():
        for step in steps:
            setattr(owner, step, dying(step, getattr(owner, step)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
