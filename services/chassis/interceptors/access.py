"""Lets a call in, or not: the contract says which roles an rpc takes, an authenticator says who
calls.

A rule is an option of the rpc in its .proto file. A service without rules cannot be added to a
server. Health and reflection are open; the Open Inference Protocol is somebody else's contract, so
its rule stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio
from google.protobuf import descriptor_pool

from cxreval.api.access.v1 import access_pb2
from cxreval.errors import CertificateNotAllowed, CxrevalError, KeyMissing, KeyUnknown, RoleRequired
from cxreval.records import Role
from services.chassis.interceptors.call import Call
from services.chassis.principal import EVERYBODY, Principal, enter

OPEN_SERVICES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})
FOREIGN_SERVICES = {"inference.GRPCInferenceService": frozenset({Role.WORKER})}

HEADER = "authorization"
_SCHEME = "Bearer "


class UndeclaredRpc(Exception):
    """An rpc has no rule; a defect of the contract."""


def allowed_roles(service: str, method: str) -> frozenset[Role] | None:
    """The roles that may call an rpc; None: nobody is asked who they are. Raises
    `UndeclaredRpc`."""
    if service in OPEN_SERVICES:
        return None
    if service in FOREIGN_SERVICES:
        return FOREIGN_SERVICES[service]
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    options: Any = descriptor.GetOptions()
    roles = options.Extensions[access_pb2.allow].roles
    found = frozenset(
        Role(access_pb2.Role.Name(role).removeprefix("ROLE_").lower()) for role in roles if role
    )
    if not found:
        raise UndeclaredRpc(
            f"{service}/{method} does not say who may call it: option (cxreval.api.access.v1.allow)"
        )
    return found


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a call brings to show who makes it, looked at only when it is asked for."""

    context: grpc.aio.ServicerContext[Any, Any]

    def bearer(self) -> str:
        """The text behind `authorization: Bearer`; empty without. Raises `KeyUnknown` for anything
        else there."""
        values = [value for key, value in self.context.invocation_metadata() or () if key == HEADER]
        if not values:
            return ""
        value = values[0]
        if len(values) > 1 or not isinstance(value, str) or not value.startswith(_SCHEME):
            expected = "one entry `authorization: Bearer KEY` in the metadata"
            raise KeyUnknown(
                f"the call's credentials are of another kind; expected {expected}",
                expected=expected,
            )
        return value.removeprefix(_SCHEME)

    def certificate_names(self) -> frozenset[str]:
        """The names, DNS and common, in the client's certificate; TLS has verified it. Empty
        without one."""
        found = self.context.auth_context() or {}
        properties = ("x509_common_name", "x509_subject_alternative_name")
        return frozenset(
            name.decode(errors="replace") for key in properties for name in found.get(key, ())
        )


class Authenticator(Protocol):
    """Says who calls."""

    async def principal(self, credentials: Credentials) -> Principal:
        """The caller; one without a name when they do not say who they are.

        Raises:
            KeyUnknown, KeyExpired, KeyRevoked: their credentials are not good.
        """


class OpenAccess:
    """Takes everybody for somebody who may do everything."""

    async def principal(self, credentials: Credentials) -> Principal:  # noqa: ARG002
        """Everybody."""
        return EVERYBODY


@dataclass(frozen=True, slots=True)
class Access:
    """The gate before every rpc. `allowed_certificates`: with any, only clients with one of these
    names come in."""

    authenticator: Authenticator
    allowed_certificates: Sequence[str] = ()

    async def admit(self, call: Call, allowed: frozenset[Role] | None) -> None:
        """Says who makes the call, and whether they may.

        Raises:
            ServiceUnavailable: who knows is away.
            CertificateNotAllowed: the client's certificate has none of the names that may call.
            KeyMissing, KeyUnknown, KeyExpired, KeyRevoked: nobody knows who calls.
            RoleRequired: somebody else may.
        """
        if allowed is not None:
            call.principal = await self._principal(call, allowed)
            enter(call.principal)

    async def check(self, call: Call, allowed: frozenset[Role]) -> None:
        """Raises as `admit`, for a call that was let in before."""
        await self._principal(call, allowed)

    async def _principal(self, call: Call, allowed: frozenset[Role]) -> Principal:
        credentials = Credentials(call.context)
        self._check_certificate(credentials)
        principal = await self.authenticator.principal(credentials)
        if not principal.roles & allowed:
            raise _refusal(principal, call.method, allowed)
        return principal

    def _check_certificate(self, credentials: Credentials) -> None:
        if not self.allowed_certificates:
            return
        names = credentials.certificate_names()
        if names.isdisjoint(self.allowed_certificates):
            found = ", ".join(sorted(names)) or "no certificate"
            message = f"the client's certificate is of {found}; expected a name in the setting allowed_certificates"
            raise CertificateNotAllowed(message, found=found, expected="an allowed certificate")


def _refusal(principal: Principal, method: str, allowed: frozenset[Role]) -> CxrevalError:
    expected = ", ".join(sorted(allowed))
    if not principal.name:
        message = (
            f"{method} needs a key; expected `authorization: Bearer cxr_...` in the call's metadata"
        )
        return KeyMissing(message, method=method, expected="an API key")
    message = f"{principal.name} may not call {method}; expected one of the roles {expected}"
    return RoleRequired(message, method=method, expected=expected)
