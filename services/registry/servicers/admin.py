"""AdminService: organisations, keys, quotas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cxreval.api.registry.v1 import admin_service_pb2 as pb
from cxreval.api.registry.v1 import admin_service_pb2_grpc
from cxreval.fields import field_error, require
from cxreval.resource_names import KeyName, OrganisationName
from services.chassis.principal import caller
from services.registry.convert import admin as convert
from services.registry.convert import requests
from services.registry.store.organisations import Organisations
from services.registry.store.quotas import Quotas

MAX_LIFETIME = timedelta(days=3660)

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
        values = convert.organisation(request.organisation)
        organisation = await asyncio.to_thread(self._organisations.create, *values, caller().name)
        _log.info("organisation created", extra={"organisation": organisation.id})
        return convert.organisation_message(organisation)

    async def UpdateOrganisation(
        self, request: pb.UpdateOrganisationRequest, context: Any
    ) -> pb.Organisation:
        """Replaces an organisation's display name and quota."""
        values = convert.organisation(request.organisation)
        organisation = await asyncio.to_thread(self._organisations.update, *values, caller().name)
        _log.info("organisation updated", extra={"organisation": organisation.id})
        return convert.organisation_message(organisation)

    async def ListOrganisations(
        self, request: pb.ListOrganisationsRequest, context: Any
    ) -> pb.ListOrganisationsResponse:
        """Returns a page of organisations, oldest first."""
        cursor = requests.cursor("organisations", "", request.page_size, request.page_token)
        page = await asyncio.to_thread(self._organisations.page, cursor)
        return pb.ListOrganisationsResponse(
            organisations=[convert.organisation_message(item) for item in page.items],
            next_page_token=page.next_token,
        )

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Any
    ) -> pb.CreateApiKeyResponse:
        """Creates a key and returns its text, which no other call returns."""
        parent = OrganisationName.parse(request.parent, "parent")
        role, expire_time = convert.key_role(request.role), self._expire_time(request)
        request_id = requests.request_id(request.request_id)
        key, text = await asyncio.to_thread(
            self._organisations.create_key, parent, role, expire_time, caller().name, request_id
        )
        _log.info("key created", extra={"key": str(key.name), "role": role})
        return pb.CreateApiKeyResponse(key=convert.key_message(key), text=text)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Any
    ) -> pb.ListApiKeysResponse:
        """Returns a page of an organisation's keys, oldest first."""
        parent = OrganisationName.parse(request.parent, "parent")
        cursor = requests.cursor("keys", str(parent), request.page_size, request.page_token)
        page = await asyncio.to_thread(self._organisations.keys, parent, cursor)
        return pb.ListApiKeysResponse(
            keys=[convert.key_message(item) for item in page.items], next_page_token=page.next_token
        )

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> pb.ApiKey:
        """Revokes a key."""
        name = KeyName.parse(request.name)
        key = await asyncio.to_thread(self._organisations.revoke_key, name, caller().name)
        _log.info("key revoked", extra={"key": str(name)})
        return convert.key_message(key)

    async def ListAdminEvents(
        self, request: pb.ListAdminEventsRequest, context: Any
    ) -> pb.ListAdminEventsResponse:
        """Returns the latest admin events, newest first."""
        events = await asyncio.to_thread(self._organisations.admin_events)
        return pb.ListAdminEventsResponse(events=map(convert.event_message, events))

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
        return convert.usage_message(name, organisation.quota, usage)

    def _expire_time(self, request: pb.CreateApiKeyRequest) -> datetime | None:
        if not request.HasField("lifetime"):
            return None
        seconds = request.lifetime.seconds
        if not 1 <= seconds <= MAX_LIFETIME.total_seconds():
            raise field_error(
                "lifetime", f"{seconds} s", f"unset, or 1 second to {MAX_LIFETIME.days} days"
            )
        return self._clock() + timedelta(seconds=seconds)
