"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cxreval.client import ApiKey, RegistryClient, ServiceClient, TlsFiles
from cxreval.errors import BenchmarkNotFound, CxrevalError, KeyUnreadable, MalformedField
from cxreval.extras import HAS_SERVICES, NO_SERVICES
from cxreval.fields import HOST_PORT, field_error
from cxreval.wire.channel import read_key

S = TypeVar("S", bound=ServiceClient)

_GRPC_TARGET = re.compile("(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds|passthrough):.+")


def _address(parameter: typer.CallbackParam, value: str) -> str:
    """Returns `value` if a channel can be opened to it. Raises `MalformedField` otherwise."""
    if not (HOST_PORT.fullmatch(value) or _GRPC_TARGET.fullmatch(value)):
        expected = "host:port, such as registry.example.org:50051"
        message = f"--{parameter.name} is {value!r}; expected {expected}"
        raise MalformedField(message, field=parameter.name or "", expected=expected)
    return value


def _address_option(name: str, about: str) -> Any:
    variable = f"CXREVAL_CLIENT_{name.upper()}"
    return typer.Option(
        f"--{name}", envvar=variable, callback=_address, help=f"address of the {about}, host:port"
    )


Registry = Annotated[str, _address_option("registry", "registry")]
Inference = Annotated[str, _address_option("inference", "inference service")]
Scoring = Annotated[str, _address_option("scoring", "scoring service")]
Benchmark = Annotated[
    str,
    typer.Option(
        "--benchmark",
        envvar="CXREVAL_CLIENT_BENCHMARK",
        help="benchmark, for example nih-chestxray14; default: the registry's first one "
        "that is not retired",
    ),
]
SpecName = Annotated[
    str,
    typer.Option(
        "--benchmark",
        envvar="CXREVAL_CLIENT_BENCHMARK",
        help="benchmark, for example nih-chestxray14; default: the directory's own",
    ),
]
Submission = Annotated[
    str,
    typer.Argument(
        help="submission: its id, the first 4 or more characters of it, or its full name"
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        envvar="CXREVAL_CLIENT_TLS_CA",
        help="PEM file of the CA that signed the servers' certificates; default: no TLS",
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(
        envvar="CXREVAL_CLIENT_TLS_CERTIFICATE", help="PEM file of the client's certificate"
    ),
]
TlsKey = Annotated[
    Path | None, typer.Option(envvar="CXREVAL_CLIENT_TLS_KEY", help="PEM file of the client's key")
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        envvar="CXREVAL_CLIENT_KEY_FILE",
        help="file with the API key; default: the key in CXREVAL_CLIENT_KEY, if set",
    ),
]
TrustNetwork = Annotated[
    bool,
    typer.Option(
        "--trust-network",
        envvar="CXREVAL_CLIENT_TRUST_NETWORK",
        help="send the API key to other machines without TLS; only if the network is encrypted",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]

REGISTRY = "localhost:50051"
INFERENCE = "localhost:50052"
SCORING = "localhost:50053"

KEY_VARIABLE = "CXREVAL_CLIENT_KEY"
"""Environment variable with the API key.

There is no option for it, because other users of a machine can read the arguments of a process.
"""


@dataclass(frozen=True, slots=True)
class Connection:
    """TLS files and API key for every service. Files are read when a client is created."""

    tls_ca: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    key_file: Path | None
    trust_network: bool

    @property
    def tls(self) -> TlsFiles | None:
        """The TLS files to use, or None for plain text.

        Raises `MalformedField` when a file does not exist, or needs another one that is not given.
        """
        return _tls_files(self.tls_ca, self.tls_certificate, self.tls_key)

    @property
    def key(self) -> ApiKey | None:
        """The API key: from the file, else from the environment, else None.

        Raises `KeyUnreadable` when the file cannot be read or holds no key.
        """
        return _api_key(self.key_file, self.trust_network)


@contextmanager
def opened(context: typer.Context, client: S, option: str) -> Iterator[S]:
    """Opens a client for a block of a command, whose `option` has the address.

    To an error of the connection it adds a note: where address and TLS come from, and how to
    change them.
    """
    with client:
        try:
            yield client
        except CxrevalError as error:
            if error.metadata.get("service") == client.service:
                error.add_note(_origin(context, option))
            raise


def registry_client(
    context: typer.Context, registry: str
) -> AbstractContextManager[RegistryClient]:
    """Opens a client of the registry with the TLS files and API key of the common options."""
    connection: Connection = context.obj
    return opened(context, RegistryClient(registry, connection.tls, connection.key), "registry")


def _origin(context: typer.Context, option: str) -> str:
    """Returns where the address and the TLS files of a command come from."""
    variable = f"CXREVAL_CLIENT_{option.upper()}"
    source = context.get_parameter_source(option)
    given = {"COMMANDLINE": f"from --{option}", "ENVIRONMENT": f"from {variable}"}
    origin = given.get(source.name if source else "", "the default")
    tls = (
        "TLS is on, with --tls-ca or CXREVAL_CLIENT_TLS_CA; leave both out to connect without it"
        if context.obj.tls_ca
        else "TLS is off; --tls-ca FILE before the command, or CXREVAL_CLIENT_TLS_CA, turns it on"
    )
    services = "" if HAS_SERVICES else f"\n{NO_SERVICES}"
    return (
        f"the address is {origin}; change it with --{option} HOST:PORT or {variable}\n{tls}"
        f"{services}"
    )


def benchmark_name(client: RegistryClient, given: str) -> str:
    """Returns `given`, or the name of the registry's first benchmark if `given` is empty.

    A retired one is returned only if all are.

    Raises:
        BenchmarkNotFound: the registry has none.
    """
    if given:
        return given
    for item in sorted(client.describe_benchmarks(), key=lambda item: item.retirement is not None):
        return item.spec.name
    raise BenchmarkNotFound(
        "the registry has no benchmark; create one with `cxreval dataset register`",
        field="benchmark",
    )


def _api_key(file: Path | None, trust_network: bool) -> ApiKey | None:
    text = os.environ.get(KEY_VARIABLE, "")
    if file:
        try:
            text = file.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise KeyUnreadable(
                f"cannot read an API key from {file}: {error}", field="key_file"
            ) from None
    return read_key(text, str(file or KEY_VARIABLE), trust_network) if text or file else None


def _tls_files(ca: Path | None, certificate: Path | None, key: Path | None) -> TlsFiles | None:
    for name, file in {"tls_ca": ca, "tls_certificate": certificate, "tls_key": key}.items():
        if file and not file.is_file():
            raise field_error(name, file, "a PEM file")
    if (certificate is None) != (key is None):
        raise MalformedField(
            "only one of tls_certificate and tls_key is given; give both or neither",
            field="tls_key",
            expected="both or neither",
        )
    if ca is None:
        if certificate or key:
            raise MalformedField(
                "a client certificate needs --tls-ca FILE",
                field="tls_ca",
                expected="a PEM file",
            )
        return None
    return TlsFiles(ca, certificate, key)


def directories(data: list[str]) -> dict[str, Path]:
    """Parses `NAME=DIRECTORY` pairs.

    Raises `MalformedField` for any other form and for a directory that does not exist.
    """
    pairs = {}
    for item in data:
        name, _, directory = item.partition("=")
        if not name or not Path(directory).is_dir():
            expected = "NAME=DIRECTORY with a directory that exists"
            raise MalformedField(
                f"--data is {item!r}; expected {expected}",
                field="data",
                value=item,
                expected=expected,
            )
        pairs[name] = Path(directory)
    return pairs
