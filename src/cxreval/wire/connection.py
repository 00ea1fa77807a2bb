"""Says why a call did not reach its service: what was asked, in which way, and the likely cause."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from cxreval.errors import CxrevalError, DeadlineExceeded, ServiceUnavailable, UnknownRpc
from cxreval.wire.status import service_error, transport_error

_CAUSES = (
    ("Connection refused", "no server listens there"),
    ("errors resolving", "there is no host of this name"),
    ("DNS resolution failed", "there is no host of this name"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS; connect without TLS"),
    ("certificate has expired", "the server's certificate has expired; its operator must renew it"),
    ("certificate is not yet valid", "the server's certificate is not valid yet; check the clocks"),
    ("Hostname Verification", "the server's certificate is for another host name"),
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not signed by the given CA"),
    ("security handshaker", "the given TLS files are not a usable CA, certificate and key in PEM"),
    ("HTTP/2", "the server there does not speak gRPC; it may be a web server"),
    ("unreachable", "no route leads to this host"),
    ("timed out", "the host does not answer"),
)
"""What gRPC's text contains, and what it means; the first that fits is taken."""

_CLOSED = ("Socket closed", "Connection reset", "Broken pipe")


@dataclass(frozen=True, slots=True)
class Peer:
    """The service that a client calls: `service` is its name, `target` its address."""

    service: str
    target: str
    tls: bool


def call_error(error: grpc.RpcError, peer: Peer) -> CxrevalError:
    """Returns the error that the service raised, or one that says why it was not reached.

    The error of a service that was not reached has `service`, `target` and `tls` in its metadata.
    """
    if named := service_error(error):
        return named
    failure = transport_error(error)
    kind, where = type(failure), f"{peer.service} at {peer.target}"
    way = "with TLS" if peer.tls else "without TLS"
    if kind is ServiceUnavailable:
        message = f"cannot reach the {where} {way}: {_cause(error.details() or '', tls=peer.tls)}"
    elif kind is UnknownRpc:
        message = (
            f"the server at {peer.target} does not have the rpc that was called; it is another "
            f"service than the {peer.service}, or another version of it"
        )
    elif kind is DeadlineExceeded:
        message = f"the {where} did not answer in time, {way}"
    else:
        return failure
    return kind(message, service=peer.service, target=peer.target, tls=str(peer.tls).lower())


def _cause(details: str, *, tls: bool) -> str:
    """Returns the likely cause behind the details of a status; the details if it is unknown."""
    for text, cause in _CAUSES:
        if text in details:
            return cause
    if any(text in details for text in _CLOSED):
        wanted = "a client certificate" if tls else "TLS"
        return f"the server closed the connection; it may require {wanted}, or be stopping"
    return details
