"""Predictions of a submitter's script, which a runner runs in isolation over all images at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxreval.client import Kind, Lease, ScriptRecord, WorkerClient
from cxreval.errors import CxrevalError, PredictionsInvalid, SandboxUnavailable
from cxreval.evaluation.sources import Rows, download
from cxreval.fields import required
from cxreval.files import work_directory
from cxreval.manifest.model import Manifest
from cxreval.metrics.predictions import PredictionTable, image_rows


@dataclass(frozen=True, slots=True)
class Script:
    """A script to run: files on this machine and what its manifest declares.

    `bundle`: the source bundle, which holds `commit`. `entry_point`, `lock`: paths in the source
    tree; without a lock, `dependencies` are installed. `wheelhouse`, `checkpoint`: None if the
    submission has none.
    """

    bundle: Path
    commit: str
    entry_point: str
    seed: int
    lock: str
    python_version: str
    dependencies: tuple[str, ...]
    wheelhouse: Path | None
    checkpoint: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class ScriptResult:
    """What came out of a run of a script.

    `probabilities`: float32 of shape (images, findings), rows in the order of `images`. `findings`:
    those that the table has, in the benchmark's order. `error`: why there is no table; None if
    there is one. `record`: what is recorded of the run; None if it did not begin.
    """

    images: tuple[str, ...] = ()
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    findings: tuple[str, ...] = ()
    record: ScriptRecord | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    error: CxrevalError | None = None


class ScriptRunner(Protocol):
    """Runs scripts in isolation."""

    def __call__(
        self,
        script: Script,
        images: Mapping[str, Path],
        findings: Sequence[str],
        running: Callable[[int], None],
    ) -> ScriptResult:
        """Runs a script over images and returns what came out.

        Args:
            script: the script.
            images: the file of each image, by the name that the benchmark has for it.
            findings: the findings of the benchmark.
            running: called at least once a minute while anything is done, with the number of rows
                that the script has written.

        Raises:
            SandboxUnavailable: this machine cannot isolate a script.
        """


class ScriptRunFailed(Exception):
    """A script gave no table. `record`: what is recorded of its run; None if it did not begin."""

    def __init__(self, error: CxrevalError, record: ScriptRecord | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.record = record


class ScriptSource:
    """The predictions of a submitter's script, which runs when this is created.

    Args:
        registry: client of the registry.
        lease: lease of the evaluation.
        files: the file of each image to predict, by the benchmark's name for it.
        runner: runs the script; None if this worker cannot.
        running: as in `ScriptRunner`.

    Raises:
        ScriptRunFailed: the script gave no table of these images.
        SandboxUnavailable: this worker cannot run it.
        ArtifactCorrupt: the downloaded bytes do not match their digest.
    """

    def __init__(
        self,
        registry: WorkerClient,
        lease: Lease,
        files: Mapping[str, Path],
        runner: ScriptRunner | None,
        running: Callable[[int], None],
    ) -> None:
        if runner is None:
            raise SandboxUnavailable("this worker cannot run scripts in isolation")
        findings = lease.benchmark.findings
        with work_directory() as directory:
            directory.chmod(0o755)
            script = _fetched(registry, lease.submission.manifest, directory)
            result = runner(script, files, findings, running)
        if result.error:
            raise ScriptRunFailed(result.error, result.record)
        self._rows = image_rows(list(files))
        self._table = PredictionTable(self._rows, findings, result.findings)
        try:
            self._table.add(result.images, result.probabilities)
            self._table.check_complete()
        except CxrevalError as error:
            # Images or values that the table must not have are the script's fault.
            text = f"{error.reason}: {error.message}"
            raise ScriptRunFailed(PredictionsInvalid(text), result.record) from None
        self._provenance = result.provenance
        self.record = result.record
        self.findings = self._table.findings

    def rows(self, images: Sequence[str], *, one_by_one: bool = False) -> Rows:  # noqa: ARG002
        """Yields the predictions of the script's one run, in the order of the images."""
        for image in images:
            yield image, self._table.probabilities[self._rows[image]]

    def renew(self) -> None:
        """Does nothing: each script runs in processes of its own."""

    def repeat_tolerance(self) -> None:
        """Returns None, because the script has ended and no image can be asked a second time."""

    def provenance(self) -> Mapping[str, str]:
        """Returns what the runner states: source tree, lock, environment, isolation."""
        return self._provenance


def _fetched(registry: WorkerClient, manifest: Manifest, directory: Path) -> Script:
    """Returns the script of a submission, with its files downloaded into a directory."""
    given = manifest.reproduction
    if given is None:
        raise required("manifest.reproduction", "the script and its commit")

    def file(name: str, sha256: str) -> Path | None:
        if not sha256:
            return None
        download(registry, sha256, directory / name)
        (directory / name).chmod(0o444)  # the script runs as another user
        return directory / name

    is_script, of_model = manifest.kind is Kind.SCRIPT, manifest.kind is Kind.CHECKPOINT
    bundle = file("source.bundle", manifest.artifact_sha256 if is_script else given.bundle_sha256)
    if bundle is None:
        raise required("manifest.reproduction.bundle_sha256", "the digest of the source bundle")
    return Script(
        bundle=bundle,
        commit=given.commit,
        entry_point=given.entry_point,
        seed=given.seed,
        lock=given.lock,
        python_version=manifest.environment.python_version if manifest.environment else "",
        dependencies=manifest.environment.dependencies if manifest.environment else (),
        wheelhouse=file("wheelhouse.zip", given.wheelhouse_sha256),
        checkpoint=file("checkpoint", manifest.artifact_sha256 if of_model else ""),
    )
