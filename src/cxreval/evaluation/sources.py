"""Where an evaluation's predictions come from: a model that inference runs, or a table that was
handed in."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxreval.client import InferenceClient, Lease, RegistryClient
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    ArtifactCorrupt,
    CxrevalError,
    DatasetInvalid,
    DuplicateImage,
    InvalidProbability,
    MissingImages,
    ModelOutputMismatch,
    PredictionsInvalid,
    TableInvalid,
    UnknownFinding,
    UnknownImage,
    UnknownProfile,
)
from cxreval.metrics.predictions import PredictionTable, image_rows

Rows = Iterator[tuple[str, NDArray[np.float32]]]
"""Images, each with its probabilities, float32 of shape (findings,), in the order of the
benchmark's findings."""


class Source(Protocol):
    """Gives the predictions of one evaluation."""

    def rows(self, images: Sequence[str]) -> Rows:
        """The predictions of these images of the benchmark, in order. May be asked again after an
        error that passes."""

    def provenance(self) -> Mapping[str, str]:
        """What it was that gave them."""


class Checkpoint:
    """An ONNX file, run by the inference service: the submitted one, or one that was made of it.

    Args:
        inference: the service.
        lease: the evaluation.
        directory: the benchmark's images.
        sha256: digest of the file.
        outputs: the finding in each column of its output.
        evidence: where it was made of the submitted one, how.
    """

    def __init__(
        self,
        inference: InferenceClient,
        lease: Lease,
        directory: Path,
        sha256: str,
        outputs: Sequence[str],
        evidence: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._inference = inference
        self._profile = lease.submission.manifest.preprocessing_profile
        self._directory = directory
        self._sha256 = sha256
        self._evidence = evidence
        self._width = len(outputs)
        missing = [finding for finding in lease.benchmark.findings if finding not in outputs]
        if missing:
            message = f"the model has no output for {', '.join(missing)}"
            expected = "an output for each finding of the benchmark"
            raise ModelOutputMismatch(message, field="output_names", expected=expected)
        self._columns = [outputs.index(finding) for finding in lease.benchmark.findings]

    def rows(self, images: Sequence[str]) -> Rows:
        """Loads the model, and sends the images as they are."""
        self._inference.load(self._sha256, self._profile, self._width)
        encoded = read_images(self._directory, images)
        for image, output in self._inference.predict_many(self._sha256, self._profile, encoded):
            yield image, output[self._columns]

    def provenance(self) -> Mapping[str, str]:
        """Raises `UnknownProfile` when the inference service does not have the submission's
        preprocessing profile."""
        capabilities = self._inference.capabilities()
        profiles = {profile.name: profile for profile in capabilities.profiles}
        profile = profiles.get(self._profile)
        if profile is None:
            known = ", ".join(profiles)
            message = f"the inference service has no profile {self._profile!r}; it has {known}"
            raise UnknownProfile(message, field="preprocessing_profile", expected=known)
        return {
            "inference_runtime": capabilities.runtime,
            "model_sha256": self._sha256,
            "profile": profile.name,
            "profile_digest": profile.digest,
            **self._evidence,
        }


class Table:
    """A table of predictions that was handed in."""

    def __init__(self, registry: RegistryClient, lease: Lease, images: Sequence[str]) -> None:
        self._registry = registry
        self._sha256 = lease.submission.manifest.artifact_sha256
        self._findings = lease.benchmark.findings
        self._images = images

    def rows(self, images: Sequence[str]) -> Rows:
        """Reads the whole table, and checks it, before the first row comes.

        Raises:
            PredictionsInvalid: it is no table, or does not have exactly the benchmark's images; the
                message names image and column.
            ArtifactCorrupt: it did not arrive as it was handed in.
        """
        rows = image_rows(self._images)
        table = PredictionTable(rows, self._findings)
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "predictions"
            download(self._registry, self._sha256, file)
            try:
                # A row may come twice: whoever joins two files is told of the first image that
                # differs.
                table.add(*read_predictions(file, self._findings, most_rows=2 * len(self._images)))
                table.check_complete()
            except _TABLE_FAULTS as error:
                raise _refused(error, file) from None
        for image in images:
            yield image, table.probabilities[rows[image]]

    def provenance(self) -> Mapping[str, str]:
        """Nothing ran."""
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


def download(registry: RegistryClient, sha256: str, file: Path) -> None:
    """Writes an artifact to a file. Raises `ArtifactCorrupt` when the bytes that came have another
    digest."""
    digest = hashlib.sha256()
    with file.open("wb") as stream:
        for chunk in registry.download_artifact(sha256):
            digest.update(chunk)
            stream.write(chunk)
    if digest.hexdigest() != sha256:
        message = f"artifacts/{sha256} came with the digest {digest.hexdigest()}"
        raise ArtifactCorrupt(
            message, field="artifact_sha256", found=digest.hexdigest(), expected=sha256
        )


def read_images(directory: Path, images: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The files of images, one after the other. Raises `DatasetInvalid` for one that cannot be
    read."""
    for image in images:
        try:
            yield image, (directory / image).read_bytes()
        except OSError as error:
            message = f"cannot read {directory / image}: {error.strerror}"
            raise DatasetInvalid(message, file=directory / image) from None
