"""A registry that kills itself at one point of an upload after the other: `python -m tests.support.crashing_registry`.

The first argument names the points, `METHOD:before|after:CALL` separated by commas; the others are the registry's. Each
time it has died it is started again, for the next point, and at last to stay.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import Any

from services.registry import __main__ as registry
from services.registry.store import local_artifacts, s3_artifacts
from services.registry.store.submissions import Submissions

UPLOADS = (local_artifacts._LocalUpload, s3_artifacts._S3Upload)


def die_at(point: str) -> None:
    """Arms the point."""
    method, when, call = point.split(":")
    calls = 0
    for owner in (*UPLOADS, Submissions):
        original = getattr(owner, method, None)
        if original is None:
            continue

        @functools.wraps(original)
        def dying(*arguments: Any, _original: Any = original, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if (when, calls) == ("before", int(call)):
                os.kill(os.getpid(), signal.SIGKILL)
            result = _original(*arguments, **named)
            if (when, calls) == ("after", int(call)):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, method, dying)


def main() -> None:
    """One child after the other. The modules are imported once, in the parent, and nothing else is done there."""
    s3_artifacts.PIECE_BYTES = 1 << 20
    for point in [*sys.argv[1].split(","), ""]:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if point:
                die_at(point)
            registry.main(sys.argv[2:])
            return
        signal.signal(signal.SIGTERM, lambda *_, child=child: os.kill(child, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        if not point:
            sys.exit(os.waitstatus_to_exitcode(status))
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(f"the registry ended with {status} before {point}")
        sys.stderr.write(f"died at {point}\n")


if __name__ == "__main__":
    main()
