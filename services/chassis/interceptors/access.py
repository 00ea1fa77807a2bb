"""Admits calls by the roles of their callers.

The roles that may call an rpc are an option of the rpc in its .proto file; a service without these
options cannot be added to a server. Health and reflection are open to all. The Open Inference
Protocol is a foreign contract, so its roles are listed here.
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
from services.chassis.interceptors.call import Call, certificate_names
from services.chassis.principal import EVERYBODY, Principal, enter
from services.chassis.reflection import V1, V1ALPHA

OPEN_SERVICES = frozenset({"grpc.health.v1.Health", V1, V1ALPHA})
FOREIGN_SERVICES = {"inference.GRPCInferenceService": frozenset({Role.WORKER})}

HEADER = "authorization"
_SCHEME = "Bearer "


class UndeclaredRpc(Exception):
    """An rpc has no access option in its .proto file."""


def allowed_roles(service: str, method: str) -> frozenset[Role] | None:
    """Returns the roles that may call an rpc; None if it is open without authentication.

    Raises:
        UndeclaredRpc: the rpc has no access option.
    """
    if service in OPEN_SERVICES:
        return None
    if service in FOREIGN_SERVICES:
        return FOREIGN_SERVICES[service]
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    options: Any = descriptor.GetOptions()
    roles = options.Extensions[access_pb2.allow].roles
    allowed = frozenset(
        Role(access_pb2.Role.Name(role).removeprefix("ROLE_").lower()) for role in roles if role
    )
    if not allowed:
        option = "(cxreval.api.access.v1.allow)"
        raise UndeclaredRpc(f"{service}/{method} has no option {option}; list the roles in it")
    return allowed


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a call, read on demand."""

    context: grpc.aio.ServicerContext[Any, Any]

    def bearer(self) -> str:
        """Returns the token of `authorization: Bearer`, or an empty text without that header.

        Raises:
            KeyUnknown: the header has another form.
        """
        values = [value for key, value in self.context.invocation_metadata() or () if key == HEADER]
        if not values:
            return ""
        value = values[0]
        if len(values) > 1 or not isinstance(value, str) or not value.startswith(_SCHEME):
            expected = "one entry `authorization: Bearer KEY` in the metadata"
            raise KeyUnknown(
                f"the call's credentials have another form; expected {expected}",
                expected=expected,
            )
        return value.removeprefix(_SCHEME)

    def certificate_names(self) -> frozenset[str]:
        """Returns the names of the client's certificate."""
        return certificate_names(self.context)


class Authenticator(Protocol):
    """Identifies callers."""

    async def principal(self, credentials: Credentials) -> Principal:
        """Returns the caller; one without a name if the call has no credentials.

        Raises:
            KeyUnknown, KeyExpired, KeyRevoked: the credentials are not valid.
        """


class OpenAccess:
    """Gives every caller all roles."""

    async def principal(self, credentials: Credentials) -> Principal:  # noqa: ARG002
        """Returns `EVERYBODY`."""
        return EVERYBODY


@dataclass(frozen=True, slots=True)
class Access:
    """Admits or refuses calls.

    `allowed_certificates`: if not empty, the client's certificate must have one of these names.
    """

    authenticator: Authenticator
    allowed_certificates: Sequence[str] = ()

    async def admit(self, call: Call, allowed: frozenset[Role] | None) -> None:
        """Identifies the caller of a call and checks its roles.

        Raises:
            ServiceUnavailable: callers cannot be identified at the moment.
            CertificateNotAllowed: the client's certificate has no allowed name.
            KeyMissing, KeyUnknown, KeyExpired, KeyRevoked: the call has no valid key.
            RoleRequired: the caller does not have a required role.
        """
        if allowed is not None:
            call.principal = await self._principal(call, allowed)
            enter(call.principal)

    async def check(self, call: Call, allowed: frozenset[Role]) -> None:
        """Raises as `admit`, for a call that was admitted before."""
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
            found = ", ".join(sorted(names)) or "no names"
            message = (
                f"the client's certificate has {found}; "
                "expected a name in the server's setting allowed_certificates"
            )
            raise CertificateNotAllowed(message, found=found, expected="an allowed certificate")


def _refusal(principal: Principal, method: str, allowed: frozenset[Role]) -> CxrevalError:
    expected = ", ".join(sorted(allowed))
    if not principal.name:
        message = f"{method} needs an API key; send `authorization: Bearer cxr_...` as metadata"
        return KeyMissing(message, method=method, expected="an API key")
    message = f"{principal.name} may not call {method}; expected one of the roles {expected}"
    return RoleRequired(message, method=method, expected=expected)
