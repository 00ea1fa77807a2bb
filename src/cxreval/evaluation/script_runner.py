"""Runs a submitter's script from its source bundle to its predictions, in isolation."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cxreval.client import Canaries, ScriptRecord, Usage
from cxreval.errors import SubmissionFault
from cxreval.evaluation.scripts import Script, ScriptResult
from cxreval.files import work_directory
from cxreval.reproduction.environments import Environments
from cxreval.reproduction.images import Shown, prepare
from cxreval.reproduction.isolation.contract import Isolation, Limits, Outcome, Run
from cxreval.reproduction.lock import Lock, pinned_lock, read_lock
from cxreval.reproduction.script_table import FILE, canaries_of, read_table
from cxreval.reproduction.source_bundle import unpack
from cxreval.reproduction.source_tree import SourceTree

_TICK_SECONDS = 20.0
_LIMITS = Limits()


class IsolatedRunner:
    """Runs scripts as `ScriptRunner` describes: source bundle, environment, images, isolation.

    Args:
        isolation: runs a stranger's script.
        environments: builds and keeps the environments of scripts.
        limits: of each run.
    """

    def __init__(
        self, isolation: Isolation, environments: Environments, limits: Limits = _LIMITS
    ) -> None:
        self._isolation = isolation
        self._environments = environments
        self._limits = limits

    def __call__(
        self,
        script: Script,
        images: Mapping[str, Path],
        findings: Sequence[str],
        running: Callable[[int], None],
    ) -> ScriptResult:
        """Runs a script over images and returns what came out.

        Raises:
            SourceBundleUnreadable, CommitNotInBundle, SourceTreeRefused: the source bundle does not
                prove the commit, or the entry point or the lock is not a file of it.
            LockRefused, EnvironmentUnsupported: the environment cannot be built as declared.
            EnvironmentUnavailable, SandboxUnavailable: this machine cannot build or isolate.
        """
        with work_directory() as directory, _ticking(running):
            directory.chmod(0o755)  # the script runs as another user
            tree = unpack(script.bundle, script.commit, directory / "source")
            tree.file(script.entry_point, "reproduction.entry_point")
            lock = self._lock(script, tree, directory / "source")
            with self._environments.get(
                lock, script.python_version, script.wheelhouse
            ) as environment:
                (directory / "images").mkdir()
                shown = prepare(images.items(), directory / "images", secrets.token_bytes(32))
                (directory / "list.txt").write_text(shown.list_text())
                (directory / "list.txt").chmod(0o444)
                run = Run(
                    source=directory / "source",
                    entry_point=script.entry_point,
                    environment=environment.path,
                    interpreter=environment.interpreter.executable,
                    images=directory / "images",
                    list_file=directory / "list.txt",
                    seed=script.seed,
                    checkpoint=script.checkpoint,
                    limits=self._limits,
                )
                outcome = self._isolation.run(run, running)
            provenance = {
                "entry_point": script.entry_point,
                "environment_sha256": environment.digest,
                "interpreter": environment.interpreter.version,
                "isolation": self._isolation.name,
                "limit_scratch_bytes": str(self._limits.scratch_bytes),
                "lock_sha256": environment.lock_sha256,
                "source_commit": tree.commit,
                "source_tree_sha256": tree.digest,
            }
            return _result(outcome, self._limits, shown, findings, provenance, directory / FILE)

    def _lock(self, script: Script, tree: SourceTree, source: Path) -> Lock:
        if not script.lock:
            return pinned_lock(script.dependencies)
        tree.file(script.lock, "reproduction.lock")
        markers = self._environments.interpreter(script.python_version).markers
        return read_lock(script.lock, (source / script.lock).read_bytes(), markers)


def _result(
    outcome: Outcome,
    limits: Limits,
    shown: Shown,
    findings: Sequence[str],
    provenance: Mapping[str, str],
    file: Path,
) -> ScriptResult:
    """Returns the result of a run: its table under the benchmark's names, or its error."""
    used, log = outcome.usage, outcome.log.encode()
    usage = Usage(
        used.wall_seconds, used.cpu_seconds or 0.0, used.peak_memory_bytes or 0, used.output_bytes
    )
    allowed = Usage(
        limits.wall_seconds, limits.cpu_seconds, limits.memory_bytes, limits.output_bytes
    )
    try:
        file.write_bytes(outcome.predictions())
        table = read_table(file, list(shown.images), findings)
    except SubmissionFault as error:
        return ScriptResult(error=error, record=ScriptRecord(usage, allowed, None, log))
    moved = canaries_of(table, shown.canaries)
    canaries = Canaries(moved.count, moved.over, moved.median) if moved else None
    names = {name: image for name, image in shown.images.items() if name not in shown.canaries}
    return ScriptResult(
        images=tuple(names.values()),
        probabilities=table.of(list(names)),
        findings=table.findings,
        record=ScriptRecord(usage, allowed, canaries, log),
        provenance=provenance,
    )


@contextlib.contextmanager
def _ticking(running: Callable[[int], None]) -> Iterator[None]:
    """Calls `running` in the background: a build of an environment says nothing of its progress."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(_TICK_SECONDS):
            with contextlib.suppress(Exception):  # the run itself raises a lost lease
                running(0)

    thread = threading.Thread(target=tick, name="script-ticks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
