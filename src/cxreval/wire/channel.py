"""Opens the gRPC channels of all clients: TLS, API key, message limits, keepalive, retries."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from cxreval.errors import KeyNeedsTls, KeyUnreadable, ServiceUnavailable
from cxreval.retry import MULTIPLIER, RetryPolicy
from cxreval.wire.limits import MAX_MESSAGE_BYTES
from cxreval.wire.status import CODES


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS client; `certificate` and `key` are for mutual TLS."""

    ca: Path | str
    certificate: Path | str | None = None
    key: Path | str | None = None


_KEY = re.compile(r"cxr_[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key. `trust_network`: whether it may be sent to other machines in plain text."""

    text: str = field(repr=False)
    trust_network: bool = False


# Retries bridge the restart of a service. They are safe for every call: at worst a lease whose
# response was lost expires, or a failure that the first attempt recorded raises LEASE_LOST.
_RETRIES = RetryPolicy(transient=(ServiceUnavailable,), max_pause=1.0, max_attempts=5)

_SERVICE_CONFIG = {
    # The name of a headless Service resolves to every replica; distribute the calls over them.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": _RETRIES.max_attempts,
                "initialBackoff": f"{_RETRIES.initial_pause:g}s",
                "maxBackoff": f"{_RETRIES.max_pause:g}s",
                "backoffMultiplier": MULTIPLIER,
                "retryableStatusCodes": [CODES[error].name for error in _RETRIES.transient],
            },
        }
    ],
}

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Reconnect to a restarted service within seconds; gRPC's default is up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Without pings, a NAT gateway drops idle streams silently.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


def read_key(text: str, source: str, trust_network: bool) -> ApiKey:
    """Returns the API key in the text of `source`, a file or a variable.

    Raises:
        KeyUnreadable: the text is not one API key; the message does not repeat it.
    """
    if not _KEY.fullmatch(text.strip()):
        expected = "one API key, cxr_..."
        message = f"{source} does not hold an API key; expected {expected}"
        raise KeyUnreadable(message, field=source, expected=expected)
    return ApiKey(text.strip(), trust_network)


def connect(target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> grpc.Channel:
    """Returns a channel to `host:port`, which connects at the first call.

    Raises:
        KeyNeedsTls: the key would be sent in plain text to another machine.
    """
    _check_key(target, tls, key)
    options = _options(tls)
    channel = (
        grpc.secure_channel(target, _credentials(tls), options)
        if tls
        else grpc.insecure_channel(target, options)
    )
    return grpc.intercept_channel(channel, _KeySender(key)) if key else channel


def connect_async(
    target: str, tls: TlsFiles | None = None, key: ApiKey | None = None
) -> grpc.aio.Channel:
    """Returns a channel for asyncio, as `connect` does. Its calls must send `key_metadata`."""
    _check_key(target, tls, key)
    options = _options(tls)
    if tls:
        return grpc.aio.secure_channel(target, _credentials(tls), options)
    return grpc.aio.insecure_channel(target, options)


def key_metadata(key: ApiKey) -> tuple[str, str]:
    """Returns the metadata that authenticates a call."""
    return ("authorization", f"Bearer {key.text}")


def _check_key(target: str, tls: TlsFiles | None, key: ApiKey | None) -> None:
    if key and tls is None and not (key.trust_network or is_loopback(target)):
        expected = "TLS, or an address of this machine"
        message = f"the API key is not sent to {target} in plain text; expected {expected}"
        raise KeyNeedsTls(message, target=target, expected=expected)


def is_loopback(target: str) -> bool:
    """Returns whether a gRPC target is on this machine; it makes no DNS query."""
    scheme, _, address = target.rpartition("://")
    if target.startswith("unix:"):
        return True
    host = (
        address.removeprefix("/").removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    )
    host = host.rpartition(":")[0].strip("[]") if ":" in host else host
    if scheme not in ("", "dns") or "," in host:
        return False
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _options(tls: TlsFiles | None) -> list[tuple[str, int | str]]:
    options = list(CHANNEL_OPTIONS)
    if tls is None:
        # A proxy named in the environment could read the calls and the keys in them.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        Path(tls.ca).read_bytes(),
        Path(tls.key).read_bytes() if tls.key else None,
        Path(tls.certificate).read_bytes() if tls.certificate else None,
    )


class _Details(NamedTuple):
    """A `grpc.ClientCallDetails` that can be constructed."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _KeySender(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Interceptor that adds the API key to the metadata of every call."""

    def __init__(self, key: ApiKey) -> None:
        self._entry = key_metadata(key)

    def _send(self, continuation: Any, details: Any, request: Any) -> Any:
        """Returns the call that `continuation` starts, with the API key in its metadata."""
        metadata = (*(details.metadata or ()), self._entry)
        return continuation(
            _Details(
                details.method, details.timeout, metadata, details.credentials,
                details.wait_for_ready, details.compression,
            ),
            request,
        )  # fmt: skip

    intercept_unary_unary: Any = _send
    intercept_unary_stream: Any = _send
    intercept_stream_unary: Any = _send
    intercept_stream_stream: Any = _send
