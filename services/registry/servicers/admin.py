"""AdminService: organisations, keys, quotas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cxreval.api.access.v1 import access_pb2
from cxreval.api.registry.v1 import admin_service_pb2 as pb
from cxreval.api.registry.v1 import admin_service_pb2_grpc
from cxreval.fields import check_text, field_error, require
from cxreval.resource_names import KeyName, OrganisationName
from services.chassis.principal import Role, caller
from services.registry import convert
from services.registry.domain.access import KEY_ROLES, ApiKey, Organisation, Quota
from services.registry.store.organisations import Organisations
from services.registry.store.quotas import Quotas

MAX_DISPLAY_CHARACTERS = 100
MAX_LIMIT = 2**62
MAX_LIFETIME = timedelta(days=3660)

_LIMITS = ("submissions_per_day", "concurrent", "stored_bytes")
_log = logging.getLogger(__name__)


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Manages organisations, API keys and quotas."""

    def __init__(
        self, organisations: Organisations, quotas: Quotas, clock: Callable[[], datetime]
    ) -> None:
        self._organisations = organisations
        self._quotas = quotas
        self._clock = clock

    async def CreateOrganisation(
        self, request: pb.CreateOrganisationRequest, context: Any
    ) -> pb.Organisation:
        """Creates an organisation, or returns the existing one with the same values."""
        values = _declared(request.organisation)
        organisation = await asyncio.to_thread(self._organisations.create, *values, caller().name)
        _log.info("organisation created", extra={"organisation": organisation.id})
        return _organisation_message(organisation)

    async def UpdateOrganisation(
        self, request: pb.UpdateOrganisationRequest, context: Any
    ) -> pb.Organisation:
        """Replaces an organisation's display name and quota."""
        values = _declared(request.organisation)
        organisation = await asyncio.to_thread(self._organisations.update, *values, caller().name)
        _log.info("organisation updated", extra={"organisation": organisation.id})
        return _organisation_message(organisation)

    async def ListOrganisations(
        self, request: pb.ListOrganisationsRequest, context: Any
    ) -> pb.ListOrganisationsResponse:
        """Returns a page of organisations, oldest first."""
        cursor = convert.cursor("organisations", "", request.page_size, request.page_token)
        page = await asyncio.to_thread(self._organisations.page, cursor)
        return pb.ListOrganisationsResponse(
            organisations=[_organisation_message(item) for item in page.items],
            next_page_token=page.next_token,
        )

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Any
    ) -> pb.CreateApiKeyResponse:
        """Creates a key and returns its text, which no other call returns."""
        parent = OrganisationName.parse(request.parent, "parent")
        role, expire_time = _role(request.role), self._expire_time(request)
        request_id = convert.request_id(request.request_id)
        key, text = await asyncio.to_thread(
            self._organisations.create_key, parent, role, expire_time, caller().name, request_id
        )
        _log.info("key created", extra={"key": str(key.name), "role": role})
        return pb.CreateApiKeyResponse(key=_key_message(key), text=text)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Any
    ) -> pb.ListApiKeysResponse:
        """Returns a page of an organisation's keys, oldest first."""
        parent = OrganisationName.parse(request.parent, "parent")
        cursor = convert.cursor("keys", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._organisations.keys, parent, cursor)
        return pb.ListApiKeysResponse(
            keys=[_key_message(item) for item in page.items], next_page_token=page.next_token
        )

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> pb.ApiKey:
        """Revokes a key."""
        name = KeyName.parse(request.name)
        key = await asyncio.to_thread(self._organisations.revoke_key, name, caller().name)
        _log.info("key revoked", extra={"key": str(name)})
        return _key_message(key)

    async def ListAdminEvents(
        self, request: pb.ListAdminEventsRequest, context: Any
    ) -> pb.ListAdminEventsResponse:
        """Returns the latest admin events, newest first."""
        events = await asyncio.to_thread(self._organisations.admin_events)
        return pb.ListAdminEventsResponse(
            events=[
                pb.AdminEvent(
                    time=convert.timestamp(event.time),
                    actor=event.actor,
                    action=event.action,
                    target=event.target,
                )
                for event in events
            ]
        )

    async def GetQuota(self, request: pb.GetQuotaRequest, context: Any) -> pb.QuotaUsage:
        """Returns limits and usage of an organisation."""
        who = caller()
        if not request.name:
            require(
                "name",
                who.organisation,
                "organisations/{organisation}, as the caller belongs to none",
            )
        name = (
            OrganisationName.parse(request.name)
            if request.name
            else OrganisationName(who.organisation)
        )
        organisation, usage = await asyncio.to_thread(self._quotas.get, name, who)
        return pb.QuotaUsage(
            name=str(name),
            limits=_quota_message(organisation.quota),
            submissions_today=usage.submissions_today,
            concurrent=usage.concurrent,
            stored_bytes=usage.stored_bytes,
            reset_time=convert.timestamp(usage.reset_time),
        )

    def _expire_time(self, request: pb.CreateApiKeyRequest) -> datetime | None:
        if not request.HasField("lifetime"):
            return None
        seconds = request.lifetime.seconds
        if not 1 <= seconds <= MAX_LIFETIME.total_seconds():
            raise field_error(
                "lifetime", f"{seconds} s", f"unset, or 1 second to {MAX_LIFETIME.days} days"
            )
        return self._clock() + timedelta(seconds=seconds)


def _declared(message: pb.Organisation) -> tuple[OrganisationName, str, Quota]:
    name = OrganisationName.parse(message.name, "organisation.name")
    check_text("organisation.display_name", message.display_name, MAX_DISPLAY_CHARACTERS)
    limits = {
        limit: getattr(message.quota, limit) for limit in _LIMITS if message.quota.HasField(limit)
    }
    for limit, value in limits.items():
        if not 0 <= value <= MAX_LIMIT:
            raise field_error(f"organisation.quota.{limit}", value, f"unset, or 0 to {MAX_LIMIT}")
    return name, message.display_name, Quota(**limits)


def _role(number: int) -> Role:
    known = {access_pb2.Role.Value(f"ROLE_{role.name}"): role for role in KEY_ROLES}
    expected = f"one of {', '.join(access_pb2.Role.Name(item) for item in known)}"
    require("role", number, expected)
    if number not in known:
        raise field_error("role", number, expected)
    return known[number]


def _organisation_message(organisation: Organisation) -> pb.Organisation:
    return pb.Organisation(
        name=str(OrganisationName(organisation.id)),
        display_name=organisation.display_name,
        quota=_quota_message(organisation.quota),
        create_time=convert.timestamp(organisation.create_time),
    )


def _quota_message(quota: Quota) -> pb.Quota:
    return pb.Quota(**{limit: getattr(quota, limit) for limit in _LIMITS})


def _key_message(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        name=str(key.name),
        role=f"ROLE_{key.role.name}",
        create_time=convert.timestamp(key.create_time),
        expire_time=convert.timestamp(key.expire_time) if key.expire_time else None,
        revoke_time=convert.timestamp(key.revoke_time) if key.revoke_time else None,
    )
