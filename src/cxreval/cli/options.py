"""Options that several commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cxreval.client import ApiKey, RegistryClient, TlsFiles
from cxreval.errors import KeyUnreadable, MalformedField
from cxreval.wire.channel import read_key

Registry = Annotated[
    str, typer.Option("--registry", envvar="CXREVAL_CLIENT_REGISTRY", help="address of the registry, host:port")
]
Inference = Annotated[
    str, typer.Option("--inference", envvar="CXREVAL_CLIENT_INFERENCE", help="address of the inference service")
]
Scoring = Annotated[
    str, typer.Option("--scoring", envvar="CXREVAL_CLIENT_SCORING", help="address of the scoring service")
]
Benchmark = Annotated[
    str, typer.Option("--benchmark", envvar="CXREVAL_CLIENT_BENCHMARK", help="benchmark, for example nih-chestxray14")
]
TlsCa = Annotated[
    Path | None,
    typer.Option(envvar="CXREVAL_CLIENT_TLS_CA", help="PEM file of the servers' authority; without it, plain text"),
]
TlsCertificate = Annotated[
    Path | None, typer.Option(envvar="CXREVAL_CLIENT_TLS_CERTIFICATE", help="PEM file of the client's certificate")
]
TlsKey = Annotated[Path | None, typer.Option(envvar="CXREVAL_CLIENT_TLS_KEY", help="PEM file of the client's key")]
KeyFile = Annotated[
    Path | None,
    typer.Option(envvar="CXREVAL_CLIENT_KEY_FILE", help="file with the API key; or put the key in CXREVAL_CLIENT_KEY"),
]
TrustNetwork = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        envvar="CXREVAL_CLIENT_TRUST_NETWORK",
        help="send the API key without TLS to other machines, too: something else encrypts the way",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]

REGISTRY = "localhost:50051"
INFERENCE = "localhost:50052"
SCORING = "localhost:50053"
BENCHMARK = "nih-chestxray14"


KEY_VARIABLE = "CXREVAL_CLIENT_KEY"
"""The variable that may hold an API key. There is no such option: other users of a machine see the options."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How services are reached."""

    tls: TlsFiles | None
    key: ApiKey | None


def registry_client(context: typer.Context, registry: str) -> RegistryClient:
    """A client of the registry as the common options want it."""
    connection: Connection = context.obj
    return RegistryClient(registry, connection.tls, connection.key)


def api_key(file: Path | None, trust_network: bool) -> ApiKey | None:
    """The API key in a file, else the one in the environment, else None. Raises `KeyUnreadable`."""
    text = os.environ.get(KEY_VARIABLE, "")
    if file:
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise KeyUnreadable(f"cannot read an API key from {file}: {error}", field="key_file") from None
    return read_key(text, str(file or KEY_VARIABLE), trust_network) if text or file else None


def tls_files(ca: Path | None, certificate: Path | None, key: Path | None) -> TlsFiles | None:
    """The TLS files to use, None for plain text. Raises `MalformedField` when one is absent or lacks what it needs."""
    for name, file in {"tls_ca": ca, "tls_certificate": certificate, "tls_key": key}.items():
        if file and not file.is_file():
            raise MalformedField(f"{name} is {str(file)!r}; expected a PEM file", field=name, expected="a PEM file")
    if (certificate is None) != (key is None):
        raise MalformedField("tls_certificate and tls_key need each other", field="tls_key", expected="both or neither")
    if ca is None:
        if certificate or key:
            raise MalformedField("a client certificate needs --tls-ca too", field="tls_ca", expected="a PEM file")
        return None
    return TlsFiles(ca, certificate, key)


def directories(data: list[str]) -> dict[str, Path]:
    """`NAME=DIRECTORY` pairs. Raises `MalformedField`."""
    pairs = {}
    for item in data:
        name, _, directory = item.partition("=")
        if not name or not Path(directory).is_dir():
            expected = "NAME=DIRECTORY with a directory that exists"
            raise MalformedField(
                f"--data is {item!r}; expected {expected}", field="data", value=item, expected=expected
            )
        pairs[name] = Path(directory)
    return pairs
