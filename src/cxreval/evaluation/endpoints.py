"""Predictions from an endpoint: a submitter's own server, which is sent every image.

The address comes from an untrusted manifest. Its host name is resolved once, the resolved addresses
are checked, and the connection goes to a checked address: no name can lead into the worker's own
network.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxreval.client import Lease
from cxreval.client.endpoint import (
    IN_FLIGHT,
    TENSOR_TYPES,
    EndpointClient,
    ModelInfo,
    ModelInput,
)
from cxreval.errors import (
    EndpointRefused,
    EndpointUnavailable,
    ModelOutputMismatch,
    ServiceUnavailable,
)
from cxreval.evaluation.sources import Rows, read_images
from cxreval.fields import split_host_port
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import Profile, profile_of
from cxreval.manifest.model import Endpoint
from cxreval.metrics.predictions import invalid_probability
from cxreval.model_interface import probabilities
from cxreval.preprocessing import Outputs, Preprocessing
from cxreval.public_addresses import is_public
from cxreval.records import ENDPOINT_TOLERANCE

RETRY_SECONDS = 120.0
"""Longest time without a response before an endpoint counts as unavailable."""


class EndpointSource:
    """Source of predictions that sends images to an endpoint, at the rate that its manifest allows.

    `allow_private`: whether the endpoint may be in the worker's own network.
    """

    def __init__(
        self,
        lease: Lease,
        directory: Path,
        *,
        allow_private: bool,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        manifest = lease.submission.manifest
        if manifest.endpoint is None:
            raise EndpointRefused("the manifest declares no endpoint")
        self._endpoint: Endpoint = manifest.endpoint
        self._token = lease.endpoint_token
        self._directory = directory
        self._steps = manifest.declared_preprocessing
        self._outputs = manifest.outputs or Outputs()
        self._findings = lease.benchmark.findings
        self._width = len(manifest.output_names)
        self.findings = lease.benchmark.covered_by(manifest.output_names)
        self._columns = [manifest.output_names.index(finding) for finding in self.findings]
        self._allow_private = allow_private
        self._retry_seconds = retry_seconds
        self._metadata: dict[str, str] = {}

    def rows(self, images: Sequence[str], *, one_by_one: bool = False) -> Rows:
        """Yields the predictions of the images, in order.

        Images are sent encoded if the model takes that, else as tensors of the declared
        preprocessing.

        Raises:
            EndpointUnavailable: the endpoint did not respond within `retry_seconds`.
            EndpointRefused: the endpoint refused a request, is in a private network, takes another
                kind of input, or returned the wrong columns.
            InvalidProbability: a value is not finite or outside 0 to 1.
        """
        with self._client() as client:
            model = self._describe(client)
            prepared = self._prepared(model, read_images(self._directory, images))
            in_flight = 1 if one_by_one else IN_FLIGHT
            sent = client.predict_many(model.input, prepared, in_flight, self._outputs.tensor)
            for image, output in sent:
                yield image, self._probabilities(image, output, model.input)

    def renew(self) -> None:
        """Does nothing: the server is the submitter's."""

    def repeat_tolerance(self) -> float:
        """Returns the tolerance of every endpoint."""
        return ENDPOINT_TOLERANCE

    def provenance(self) -> Mapping[str, str]:
        """Returns the endpoint's address and the model's metadata, which `rows` requests."""
        return {
            "endpoint_address": self._endpoint.address,
            "endpoint_model": self._endpoint.model_name,
            "endpoint_tls": str(self._endpoint.tls).lower(),
            **self._metadata,
        }

    def _client(self) -> EndpointClient:
        endpoint = self._endpoint
        address, private = resolve(endpoint.address, allow_private=self._allow_private)
        if self._token and not endpoint.tls and not private:
            raise EndpointRefused("the token is not sent in plain text; set endpoint.tls to true")
        return EndpointClient(
            address,
            endpoint.address,
            tls=endpoint.tls,
            model=endpoint.model_name,
            token=self._token,
            requests_per_second=endpoint.requests_per_second,
            retry_seconds=self._retry_seconds,
        )

    def _describe(self, client: EndpointClient) -> ModelInfo:
        """Requests the model's metadata, keeps it for the provenance, and returns it."""
        model = client.describe(self._steps.tensor if self._steps else "")
        self._metadata = {
            "endpoint_platform": model.platform,
            "endpoint_versions": ", ".join(model.versions),
        }
        if not model.input.takes_images:
            steps = _steps_for(model.input, self._steps)
            self._metadata |= {"profile": steps.name, "profile_digest": steps.digest}
        return model

    def _prepared(
        self, model: ModelInfo, images: Iterator[tuple[str, bytes]]
    ) -> Iterator[tuple[str, bytes | NDArray[Any]]]:
        if model.input.takes_images:
            return iter(images)
        return _tensors(profile_of(_steps_for(model.input, self._steps)), images)

    def _probabilities(
        self, image: str, output: NDArray[Any], to: ModelInput
    ) -> NDArray[np.float32]:
        """Returns the findings' values: of the only row, or the mean over the rows of the crops."""
        tensors = self._steps is not None and not to.takes_images
        rows = profile_of(self._steps).crops if self._steps and tensors else 1
        try:
            values = probabilities(output, self._outputs.activation)
        except ModelOutputMismatch as error:
            raise EndpointRefused(error.message, **error.metadata) from None
        if values.shape != (rows, self._width):
            expected = f"({rows}, {self._width}), a column for each of output_names"
            raise EndpointRefused(
                f"the model returned shape {output.shape}; expected {expected}", expected=expected
            )
        values = values[:, self._columns]
        valid = ((values >= 0) & (values <= 1)).all(axis=1)
        if not valid.all():
            raise invalid_probability(image, self._findings, values[~valid])
        mean: NDArray[np.float32] = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


def _steps_for(to: ModelInput, steps: Preprocessing | None) -> Preprocessing:
    """Returns the steps for an input of tensors. Raises `EndpointRefused` if they do not fit."""
    if steps is None:
        expected = "a preprocessing_profile in the manifest"
        raise EndpointRefused(f"the model takes tensors; expected {expected}", expected=expected)
    wanted = np.dtype(TENSOR_TYPES[to.datatype]).name
    if wanted != steps.dtype:
        expected = f"preprocessing.dtype: {wanted}"
        raise EndpointRefused(
            f"the model takes {to.datatype}, and preprocessing.dtype is {steps.dtype}; "
            f"expected {expected}",
            expected=expected,
        )
    return steps


def _tensors(
    profile: Profile, images: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    for image, encoded in images:
        yield image, profile.apply(decode(encoded))


def resolve(address: str, *, allow_private: bool) -> tuple[str, bool]:
    """Returns a numeric gRPC address of a `host:port`, and whether it is in a private network.

    Raises:
        EndpointUnavailable: the host name does not exist.
        EndpointRefused: one of its addresses is in a private network, which is not allowed.
        ServiceUnavailable: no name server responds.
    """
    host, port = split_host_port(address)
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            # The failing name server may be ours, so this is not the submission's fault.
            raise ServiceUnavailable(f"no name server responds for {host}; retry later") from None
        message = f"endpoint.address: host {host} does not exist; check its spelling"
        raise EndpointUnavailable(message) from None
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in resolved]
    if not allow_private and not all(map(is_public, addresses)):
        # The resolved address stays private: it would tell the submitter about this network.
        expected = "a public address"
        message = f"endpoint.address {address} is not in the public network; expected {expected}"
        raise EndpointRefused(message, field="endpoint.address", expected=expected)
    chosen = addresses[0]
    return (
        f"ipv4:{chosen}:{port}" if chosen.version == 4 else f"ipv6:[{chosen}]:{port}"
    ), not is_public(chosen)
