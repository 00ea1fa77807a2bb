"""Loads the configuration of a process: a file, then the environment, then flags.

A field `lease_seconds` of the program `registry` is `lease_seconds` in the TOML file that
`--config` names, `CXREVAL_REGISTRY_LEASE_SECONDS` in the environment and `--lease-seconds` on the
command line. An unknown key in the file or an unknown `CXREVAL_REGISTRY_...` variable is an error.
`--check-config` loads, prints and exits; `--version` prints the versions.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cxreval import version_line
from cxreval.fields import split_host_port


class ConfigError(Exception):
    """The configuration is wrong; the message names the key, its source and what is expected."""


def setting(default: Any, description: str, *, secret: bool = False, flag: bool = True) -> Any:
    """Returns a field of a configuration dataclass, with its description for `--help`.

    A secret is not printed. Other users of the machine can read flags, so `flag` is false for some
    secrets.
    """
    return field(
        default=default, metadata={"description": description, "secret": secret, "flag": flag}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """The settings of every process that listens."""

    listen: str = setting("127.0.0.1:0", "address of the port; port 0 takes a free one")
    metrics_listen: str = setting("", "address of the Prometheus /metrics port; empty for none")
    tls_certificate: str = setting(
        "", "PEM file of the server's certificate chain; empty for plain text"
    )
    tls_key: str = setting("", "PEM file of the server's key")
    drain_seconds: float = setting(30.0, "how long running calls may take to finish after SIGTERM")
    log_level: str = setting("info", "debug, info, warning or error")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(ProcessConfig):
    """The settings of every gRPC server."""

    listen: str = setting("127.0.0.1:50051", "address of the gRPC port; port 0 takes a free one")
    tls_client_ca: str = setting(
        "", "PEM file of the authority for client certificates; empty: clients need none"
    )
    allowed_certificates: tuple[str, ...] = setting(
        (),
        "certificate names of the clients that may call; empty: every client of tls_client_ca",
    )
    deadline_seconds: float = setting(300.0, "maximum deadline of a call")
    stream_deadline_seconds: float = setting(3600.0, "maximum deadline of a streaming call")
    stream_idle_seconds: float = setting(
        60.0, "how long a client may take to send the next message of a call, or to read one"
    )
    max_streams_per_caller: int = setting(
        1000,
        "maximum number of open streams of one organisation, certificate or network address",
    )


def check_at_least(config: ServerConfig, least: int, *names: str) -> None:
    """Raises `ConfigError` for the first of the named settings that is below `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise ConfigError(f"{name} is {getattr(config, name)}; expected at least {least}")


C = TypeVar("C", bound=ProcessConfig)


def load(
    kind: type[C], program: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> C:
    """Returns the configuration; exits after `--help`, `--version` and `--check-config`.

    Raises:
        ConfigError: a key is unknown or a value does not fit.
    """
    types = typing.get_type_hints(kind)
    parser = _parser(kind, program, types)
    flags = vars(parser.parse_args(arguments))
    values: dict[str, Any] = {}
    if flags["config"]:
        values |= _from_file(Path(flags["config"]), types)
    values |= _from_environment(program, environment, types)
    values |= {
        name: _convert(value, types[name], f"flag --{name.replace('_', '-')}")
        for name, value in flags.items()
        if name in types and value is not None
    }
    config = kind(**values)
    _check(config)
    if flags["check_config"]:
        secrets = {item.name for item in dataclasses.fields(kind) if item.metadata["secret"]}
        shown = {
            name: "(set)" if name in secrets else value
            for name, value in dataclasses.asdict(config).items()
        }
        json.dump(shown, sys.stdout, indent=2)
        sys.stdout.write("\n")
        sys.exit(0)
    return config


def _check(config: ProcessConfig) -> None:
    """Raises `ConfigError` for a wrong setting among those that every process has."""
    checks = _process_checks(config)
    if isinstance(config, ServerConfig):
        checks += _server_checks(config)
    for name, good, expected in checks:
        if not good:
            raise ConfigError(f"{name} is {getattr(config, name)!r}; expected {expected}")


def _process_checks(config: ProcessConfig) -> list[tuple[str, object, str]]:
    """Returns the setting, the result and what is expected, of each check."""
    levels = ("debug", "info", "warning", "error")
    files = bool(config.tls_certificate), bool(config.tls_key)
    return [
        _is_positive(config, "drain_seconds"),
        *(
            (
                name,
                not getattr(config, name) or _is_address(getattr(config, name)),
                "host:port, port 0 to 65535",
            )
            for name in ("listen", "metrics_listen")
        ),
        ("listen", config.listen, "host:port"),
        ("log_level", config.log_level in levels, ", ".join(levels)),
        # With only half of the TLS settings, the server would use plain text.
        ("tls_key", files[0] == files[1], "tls_certificate and tls_key together"),
    ]


def _server_checks(config: ServerConfig) -> list[tuple[str, object, str]]:
    """Returns the checks of a gRPC server, as `_process_checks`."""
    seconds = ("deadline_seconds", "stream_deadline_seconds", "stream_idle_seconds")
    return [
        *(_is_positive(config, name) for name in seconds),
        ("max_streams_per_caller", config.max_streams_per_caller >= 1, "at least 1"),
        (
            "tls_client_ca",
            not config.tls_client_ca or config.tls_certificate,
            "tls_certificate and tls_key with it",
        ),
        (
            "allowed_certificates",
            not config.allowed_certificates or config.tls_client_ca,
            "tls_client_ca with it",
        ),
    ]


def _is_positive(config: ProcessConfig, name: str) -> tuple[str, object, str]:
    return name, 0 < getattr(config, name) < math.inf, "a finite number above 0"


def _is_address(text: str) -> bool:
    try:
        split_host_port(text)
    except ValueError:
        return False
    return True


def _parser(
    kind: type[ProcessConfig], program: str, types: Mapping[str, Any]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m services.{program}", allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    parser.add_argument("--version", action="version", version=version_line())
    parser.add_argument(
        "--check-config", action="store_true", help="load the configuration, print it and exit"
    )
    for item in dataclasses.fields(kind):
        if not item.metadata["flag"]:
            continue
        description = f"{item.metadata['description']} (default: {item.default!r})".replace(
            "%", "%%"
        )
        action = "append" if types[item.name] == tuple[str, ...] else "store"
        parser.add_argument(
            f"--{item.name.replace('_', '-')}", metavar="VALUE", action=action, help=description
        )
    return parser


def _from_file(file: Path, types: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from None
    unknown = sorted(content.keys() - types.keys())
    if unknown:
        raise ConfigError(
            f"{file}: unknown key {unknown[0]!r}; expected one of {', '.join(sorted(types))}"
        )
    return {key: _convert(value, types[key], f"{file}: {key}") for key, value in content.items()}


def _from_environment(
    program: str, environment: Mapping[str, str], types: Mapping[str, Any]
) -> dict[str, Any]:
    prefix = f"CXREVAL_{program.upper()}_"
    values = {}
    for variable, text in environment.items():
        # Kubernetes sets variables such as CXREVAL_REGISTRY_SERVICE_HOST for a Service.
        if not variable.startswith(prefix) or variable.startswith(
            (f"{prefix}SERVICE_", f"{prefix}PORT")
        ):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in types:
            raise ConfigError(
                f"unknown variable {variable}; expected one of {', '.join(sorted(types))}"
            )
        value = (
            [part for part in text.split(",") if part] if types[name] == tuple[str, ...] else text
        )
        values[name] = _convert(value, types[name], f"variable {variable}")
    return values


def _convert(value: Any, kind: Any, source: str) -> Any:
    try:
        if kind == tuple[str, ...]:
            return tuple(str(item) for item in value)
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        return kind(value)
    except (TypeError, ValueError, KeyError):
        expected = "true or false" if kind is bool else getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{source} is {value!r}; expected {expected}") from None
