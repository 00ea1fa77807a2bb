"""An endpoint as a source of predictions: a submitter's own server, asked about every image.

Where it may be is a stranger's word, so its name is resolved once, what it resolves to is judged,
and exactly that
address is connected to: no name can point into the network that the worker stands in.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxreval.client import Lease
from cxreval.client.endpoint import EndpointClient, ModelInfo
from cxreval.errors import (
    EndpointRefused,
    EndpointUnavailable,
    InvalidProbability,
    ServiceUnavailable,
)
from cxreval.evaluation.sources import Rows, read_images
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES, Profile
from cxreval.manifest.model import Endpoint

PATIENCE_SECONDS = 120.0
"""How long an endpoint may fail without one answer between."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_AZURE_HOST = IPv4Address("168.63.129.16")
"""Public by its number, but every machine of Azure reaches its host's metadata there."""


class EndpointSource:
    """An endpoint, asked at the rate that its manifest allows. `allow_private`: also in the
    worker's own network."""

    def __init__(
        self,
        lease: Lease,
        directory: Path,
        *,
        allow_private: bool,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        manifest = lease.submission.manifest
        if manifest.endpoint is None:
            raise EndpointRefused("the manifest declares no endpoint")
        self._endpoint: Endpoint = manifest.endpoint
        self._token = lease.endpoint_token
        self._directory = directory
        self._profile = PROFILES.get(manifest.preprocessing_profile)
        self._width = len(manifest.output_names)
        self._columns = [
            manifest.output_names.index(finding) for finding in lease.benchmark.findings
        ]
        self._allow_private = allow_private
        self._patience_seconds = patience_seconds
        self._known: dict[str, str] = {}

    def rows(self, images: Sequence[str]) -> Rows:
        """Sends the images: as they are where the model takes encoded ones, else as the declared
        profile makes them.

        Raises:
            EndpointUnavailable: it gave no answer for too long.
            EndpointRefused: it refused, is in a private network, takes something else, or gives the
                wrong columns.
            InvalidProbability: a value is not finite or outside 0 to 1.
        """
        with self._client() as client:
            model = self._described(client)
            prepared = self._prepared(model, read_images(self._directory, images))
            for image, output in client.predict_many(model.input, prepared):
                yield image, self._probabilities(image, output)

    def provenance(self) -> Mapping[str, str]:
        """Where it was asked, and what it says about itself.

        It is asked now where another worker had all its answers; should it be away by now, they
        count without that.

        Raises:
            EndpointRefused: as `rows`.
        """
        if not self._known:
            with contextlib.suppress(EndpointUnavailable), self._client() as client:
                self._described(client)
        return {
            "endpoint_address": self._endpoint.address,
            "endpoint_model": self._endpoint.model_name,
            "endpoint_tls": str(self._endpoint.tls).lower(),
            **self._known,
        }

    def _client(self) -> EndpointClient:
        endpoint = self._endpoint
        address, private = resolve(endpoint.address, allow_private=self._allow_private)
        if self._token and not endpoint.tls and not private:
            raise EndpointRefused("a token is not sent in plain text; expected endpoint.tls: true")
        return EndpointClient(
            address,
            endpoint.address,
            tls=endpoint.tls,
            model=endpoint.model_name,
            token=self._token,
            requests_per_second=endpoint.requests_per_second,
            patience_seconds=self._patience_seconds,
        )

    def _described(self, client: EndpointClient) -> ModelInfo:
        """What the server says about the model; it is kept, with the profile where the model takes
        tensors."""
        model = client.describe()
        self._known = {
            "endpoint_platform": model.platform,
            "endpoint_versions": ", ".join(model.versions),
        }
        if not model.input.takes_images:
            if self._profile is None:
                expected = "preprocessing_profile in the manifest: the model takes tensors"
                raise EndpointRefused(
                    f"the manifest names no profile; expected {expected}", expected=expected
                )
            self._known |= {"profile": self._profile.name, "profile_digest": self._profile.digest}
        return model

    def _prepared(
        self, model: ModelInfo, images: Iterator[tuple[str, bytes]]
    ) -> Iterator[tuple[str, bytes | NDArray[np.float32]]]:
        if model.input.takes_images or self._profile is None:
            return iter(images)
        return _tensors(self._profile, images)

    def _probabilities(self, image: str, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """The findings' values: of the one row, or the mean of those that came for several
        crops."""
        rows = 1 if self._profile is None or "profile" not in self._known else self._profile.crops
        if output.shape != (rows, self._width):
            expected = f"({rows}, {self._width}), a column for each of output_names"
            raise EndpointRefused(
                f"the model gave shape {output.shape}; expected {expected}", expected=expected
            )
        found: NDArray[np.float32] = output.mean(axis=0, dtype=np.float64).astype(np.float32)[
            self._columns
        ]
        if not ((output >= 0) & (output <= 1))[:, self._columns].all():
            expected = "finite numbers from 0 to 1"
            raise InvalidProbability(
                f"the answer to {image!r} has other values; expected {expected}", image=image
            )
        return found


def _tensors(
    profile: Profile, images: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for image, encoded in images:
        yield image, profile.apply(decode(encoded)).reshape(profile.crops, *profile.shape)


def resolve(address: str, *, allow_private: bool) -> tuple[str, bool]:
    """One numeric gRPC address of a `host:port`, and whether it is in a private network.

    Raises:
        EndpointUnavailable: there is no such name.
        EndpointRefused: one of its addresses is in a private network, and that is not allowed.
        ServiceUnavailable: no name server answers.
    """
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            # Whose name server it is cannot be told. A fault of ours must not be booked on all who
            # hand in endpoints.
            raise ServiceUnavailable(f"no name server answers about {host}") from None
        raise EndpointUnavailable(f"endpoint.address: there is no host {host}") from None
    addresses = [ip_address(str(item[4][0]).partition("%")[0]) for item in found]
    private = [item for item in addresses if _is_private(item)]
    if private and not allow_private:
        # Not which one: what a name means inside is none of a submitter's business.
        message = f"endpoint.address {address} is not in the public network; expected one that everybody reaches"
        raise EndpointRefused(message, field="endpoint.address", expected="a public address")
    chosen = addresses[0]
    return (
        f"ipv4:{chosen}:{port}" if chosen.version == 4 else f"ipv6:[{chosen}]:{port}"
    ), _is_private(chosen)


def _is_private(found: IPv4Address | IPv6Address) -> bool:
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped:
            return _is_private(found.ipv4_mapped)
        # Outside of the global unicast range, and in these parts of it, an address may carry an
        # IPv4 address and lead wherever that one does.
        if found not in _GLOBAL_UNICAST or found.sixtofour or found.teredo:
            return True
    return not found.is_global or found.is_multicast or found == _AZURE_HOST
