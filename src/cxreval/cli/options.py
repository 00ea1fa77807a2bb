"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxreval.client import TlsFiles
from cxreval.errors import MalformedField

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
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]

REGISTRY = "localhost:50051"
INFERENCE = "localhost:50052"
SCORING = "localhost:50053"
BENCHMARK = "nih-chestxray14"


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
