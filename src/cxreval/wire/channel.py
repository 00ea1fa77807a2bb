"""How every client of cxreval opens a channel: TLS, API key, message limits, keepalive, fast
reconnects."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from cxreval.errors import KeyNeedsTls, KeyUnreadable
from cxreval.wire.limits import MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS client. Without `certificate` and `key` the client does not identify
    itself."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


_KEY = re.compile(r"cxr_[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What a caller shows to say who they are. `trust_network`: send it in plain text to other
    machines, too."""

    text: str = field(repr=False)
    trust_network: bool = False


_SERVICE_CONFIG = {
    # A headless Service resolves to every replica; use them all.
    "loadBalancingConfig": [{"round_robin": {}}],
    # A service that restarts is away for a second. A repeated call does no harm: at worst a lease
    # nobody heard of runs out, or a failure that was recorded the first time is answered with
    # LEASE_LOST.
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # An evaluation outlives a restarted service: find it again within seconds, not within gRPC's
    # two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Idle streams behind NAT die silently without pings.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


def read_key(text: str, source: str, trust_network: bool) -> ApiKey:
    """A key out of a file or a variable, `source`. Raises `KeyUnreadable`; the text is not
    repeated."""
    if not _KEY.fullmatch(text.strip()):
        expected = "one API key, cxr_..."
        raise KeyUnreadable(
            f"{source} holds no API key; expected {expected}", field=source, expected=expected
        )
    return ApiKey(text.strip(), trust_network)


def connect(target: str, tls: TlsFiles | None = None, key: ApiKey | None = None) -> grpc.Channel:
    """Opens a channel to `host:port`. Nothing is sent before the first call.

    Raises:
        KeyNeedsTls: the key would travel in plain text to another machine.
    """
    if key and tls is None and not (key.trust_network or is_loopback(target)):
        expected = "TLS, or an address of this machine"
        message = f"the API key is not sent to {target} in plain text; expected {expected}"
        raise KeyNeedsTls(message, target=target, expected=expected)
    channel = _channel(target, tls)
    return grpc.intercept_channel(channel, _KeySender(key.text)) if key else channel


def is_loopback(target: str) -> bool:
    """Whether a gRPC target is on this machine, whatever a name server says."""
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


def _channel(target: str, tls: TlsFiles | None) -> grpc.Channel:
    options = list(CHANNEL_OPTIONS)
    if tls is None:
        # A proxy from the environment would read what goes through it, and get to see keys for this
        # very machine.
        return grpc.insecure_channel(target, options=[*options, ("grpc.enable_http_proxy", 0)])
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.certificate.read_bytes() if tls.certificate else None,
    )
    return grpc.secure_channel(target, credentials, options=options)


class _Details(NamedTuple):
    """`grpc.ClientCallDetails` that can be made."""

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
    """Adds the key to the metadata of every call."""

    def __init__(self, text: str) -> None:
        self._entry = ("authorization", f"Bearer {text}")

    def _send(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), self._entry)
        return continuation(
            _Details(
                details.method, details.timeout, metadata, details.credentials, details.wait_for_ready,
                details.compression,
            ),
            request,
        )  # fmt: skip

    intercept_unary_unary: Any = _send
    intercept_unary_stream: Any = _send
    intercept_stream_unary: Any = _send
    intercept_stream_stream: Any = _send
