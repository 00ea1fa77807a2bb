"""How every client of cxreval opens a channel: TLS, message limits, keepalive, fast reconnects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import grpc

from cxreval.wire.limits import MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS client. Without `certificate` and `key` the client does not identify itself."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


_SERVICE_CONFIG = {
    # A headless Service resolves to every replica; use them all.
    "loadBalancingConfig": [{"round_robin": {}}],
    # A service that restarts is away for a second. A repeated call does no harm: at worst a lease nobody heard of runs
    # out, or a failure that was recorded the first time is answered with LEASE_LOST.
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
    # An evaluation outlives a restarted service: find it again within seconds, not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Idle streams behind NAT die silently without pings.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


def connect(target: str, tls: TlsFiles | None = None) -> grpc.Channel:
    """Opens a channel to `host:port`. Nothing is sent before the first call."""
    options = list(CHANNEL_OPTIONS)
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        tls.key.read_bytes() if tls.key else None,
        tls.certificate.read_bytes() if tls.certificate else None,
    )
    return grpc.secure_channel(target, credentials, options=options)
