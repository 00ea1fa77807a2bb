"""Sources of an evaluation's predictions: a model that inference runs, or a submitted table."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxreval.client import InferenceClient, Lease, WorkerClient
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    ArtifactCorrupt,
    CxrevalError,
    DatasetInvalid,
    DuplicateImage,
    InvalidProbability,
    MissingImages,
    ModelNotFound,
    ModelOutputMismatch,
    PredictionsInvalid,
    TableInvalid,
    UnknownFinding,
    UnknownImage,
    UnknownProfile,
)
from cxreval.fields import required
from cxreval.files import work_directory
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.model_interface import ModelInterface

Rows = Iterator[tuple[str, NDArray[np.float32]]]
"""Pairs of image and probabilities, float32 of shape (covered findings,), in their order."""


class Source(Protocol):
    """The source of the predictions of one evaluation.

    `findings`: the findings that it covers, at least one, in the benchmark's order.
    """

    findings: tuple[str, ...]

    def rows(self, images: Sequence[str], *, one_by_one: bool = False) -> Rows:
        """Yields the predictions of the images, in order; may be called again after an error.

        With `one_by_one`, a model gets an image after it has answered the one before.
        """

    def renew(self) -> None:
        """Ends the processes that run the model; the next prediction starts new ones."""

    def repeat_tolerance(self) -> float | None:
        """Returns the largest difference that is expected of two predictions of one image.

        None if no model runs.
        """

    def provenance(self) -> Mapping[str, str]:
        """Returns the provenance of the predictions."""


class Checkpoint:
    """An ONNX file that the inference service runs: submitted, or converted from a PyTorch file; or
    the archive of a submission's files.

    Args:
        inference: client of the service.
        lease: lease of the evaluation.
        directory: directory of the benchmark's images.
        sha256: digest of the ONNX file or the archive.
        outputs: the finding of each output column.
        evidence: provenance of the conversion, if there was one.
        interface: interface of a converted file; by default, that of the manifest.
    """

    def __init__(
        self,
        inference: InferenceClient,
        lease: Lease,
        directory: Path,
        sha256: str,
        outputs: Sequence[str],
        evidence: Mapping[str, str] = MappingProxyType({}),
        interface: ModelInterface | None = None,
    ) -> None:
        self._inference = inference
        interface = interface or lease.submission.manifest.interface
        if interface is None:
            raise required("manifest.preprocessing", "the steps from an image to the model's input")
        self._interface = interface
        self._files = lease.submission.manifest.files
        self._ensemble = lease.submission.manifest.ensemble
        self._owner = lease.owner
        self._directory = directory
        self._sha256 = sha256
        self._evidence = evidence
        self._width = len(outputs)
        self.findings = lease.benchmark.covered_by(outputs)
        if not self.findings:
            expected = f"an output for at least one of {', '.join(lease.benchmark.findings)}"
            message = f"the model has no output for a finding of the benchmark; expected {expected}"
            raise ModelOutputMismatch(message, field="output_names", expected=expected)
        self._columns = [outputs.index(finding) for finding in self.findings]

    def rows(self, images: Sequence[str], *, one_by_one: bool = False) -> Rows:
        """Loads the model and sends the encoded images."""
        self._inference.load(
            self._sha256, self._interface, self._width, self._owner, self._files, self._ensemble
        )
        encoded = read_images(self._directory, images)
        if one_by_one:
            for image, content in encoded:
                output = self._inference.predict(self._sha256, self._interface, content)
                yield image, output[self._columns]
            return
        for image, output in self._inference.predict_many(self._sha256, self._interface, encoded):
            yield image, output[self._columns]

    def renew(self) -> None:
        """Unloads the model; the next prediction loads it."""
        with contextlib.suppress(ModelNotFound):
            self._inference.unload(self._sha256)

    def repeat_tolerance(self) -> float:
        """Returns the tolerance that the inference service states."""
        return self._inference.capabilities().repeat_tolerance

    def provenance(self) -> Mapping[str, str]:
        """Returns the runtime with its device and threads, the model and its preprocessing.

        Raises:
            UnknownProfile: the inference service has other steps for the submission's preset.
        """
        capabilities = self._inference.capabilities()
        steps = self._interface.preprocessing
        profiles = {profile.name: profile.digest for profile in capabilities.profiles}
        if steps.preset and profiles.get(steps.preset) != steps.digest:
            known = ", ".join(profiles)
            message = (
                f"the inference service has no profile {steps.preset!r} with digest "
                f"{steps.digest}; expected one of {known}"
            )
            raise UnknownProfile(message, field="preprocessing_profile", expected=known)
        # An older inference service does not state where it runs models.
        stated = {
            "device": capabilities.device,
            "threads": str(capabilities.threads or ""),
        }
        return {
            **{key: value for key, value in stated.items() if value},
            "inference_runtime": capabilities.runtime,
            "model_sha256": self._sha256,
            "profile": steps.name,
            "profile_digest": steps.digest,
            **self._evidence,
        }


class Table:
    """A submitted table of predictions, which is downloaded and checked when this is created.

    Raises:
        PredictionsInvalid: the file is not a table, or does not have exactly the benchmark's
            images; the message names image and column.
        ArtifactCorrupt: the downloaded bytes do not match their digest.
    """

    def __init__(self, registry: WorkerClient, lease: Lease, images: Sequence[str]) -> None:
        self._rows, findings = image_rows(images), lease.benchmark.findings
        with work_directory() as directory:
            file = directory / "predictions"
            download(registry, lease.submission.manifest.artifact_sha256, file)
            try:
                # Repeated rows are read, so that the error can name the first image with two
                # different predictions.
                named, values, covered = read_predictions(file, findings, 2 * len(images))
                self._table = PredictionTable(self._rows, findings, covered)
                self._table.add(named, values)
                self._table.check_complete()
            except _TABLE_FAULTS as error:
                raise _refused(error, file) from None
        self.findings = self._table.findings

    def rows(self, images: Sequence[str], *, one_by_one: bool = False) -> Rows:  # noqa: ARG002
        """Yields the predictions of the images, in order."""
        for image in images:
            yield image, self._table.probabilities[self._rows[image]]

    def renew(self) -> None:
        """Does nothing: no model runs."""

    def repeat_tolerance(self) -> None:
        """Returns None: no model runs."""

    def provenance(self) -> Mapping[str, str]:
        """Returns nothing: no model ran."""
        return {}


_TABLE_FAULTS = (
    TableInvalid,
    UnknownFinding,
    InvalidProbability,
    UnknownImage,
    DuplicateImage,
    MissingImages,
)


def _refused(error: CxrevalError, file: Path) -> PredictionsInvalid:
    message = error.message.replace(str(file), "the table")
    facts = {key: value for key, value in error.metadata.items() if key != "file"}
    return PredictionsInvalid(f"{error.reason}: {message}", **facts)


def download(registry: WorkerClient, sha256: str, file: Path) -> None:
    """Downloads an artifact to a file.

    Raises:
        ArtifactCorrupt: the downloaded bytes do not match their digest.
    """
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        for chunk in registry.download_artifact(sha256):
            digest.update(chunk)
            stream.write(chunk)
    if digest.hexdigest() != sha256:
        message = f"the bytes of artifacts/{sha256} have sha256 {digest.hexdigest()}; retry"
        raise ArtifactCorrupt(
            message, field="artifact_sha256", found=digest.hexdigest(), expected=sha256
        )


def read_images(directory: Path, images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yields the names and bytes of image files. Raises `DatasetInvalid` for an unreadable one."""
    for image in images:
        try:
            yield image, (directory / image).read_bytes()
        except OSError as error:
            message = f"cannot read {directory / image}: {error.strerror}"
            raise DatasetInvalid(message, file=directory / image) from None
