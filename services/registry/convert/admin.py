"""Converts organisations, keys and quotas."""

from __future__ import annotations

from cxreval.api.access.v1 import access_pb2
from cxreval.api.registry.v1 import admin_service_pb2 as pb
from cxreval.fields import check_text, field_error, require
from cxreval.records import AdminEvent, Quota, Role
from cxreval.resource_names import OrganisationName
from cxreval.wire.codec import Decoder, Encoder
from services.registry.domain.access import KEY_ROLES, ApiKey, Organisation, Usage

MAX_DISPLAY_CHARACTERS = 100
MAX_LIMIT = 2**62


def organisation(message: pb.Organisation) -> tuple[OrganisationName, str, Quota]:
    """Returns an organisation's name, display name and quota.

    Raises `MissingField`, `MalformedField`.
    """
    name = OrganisationName.parse(message.name, "organisation.name")
    check_text("organisation.display_name", message.display_name, MAX_DISPLAY_CHARACTERS)
    for limit, value in message.quota.ListFields():
        if not 0 <= value <= MAX_LIMIT:
            expected = f"unset, or 0 to {MAX_LIMIT}"
            raise field_error(f"organisation.quota.{limit.name}", value, expected)
    return name, message.display_name, _quota(message.quota)


def key_role(number: int) -> Role:
    """Returns the role of a key to create. Raises `MissingField`, `MalformedField`."""
    roles = {access_pb2.Role.Value(f"ROLE_{role.name}"): role for role in KEY_ROLES}
    expected = f"one of {', '.join(access_pb2.Role.Name(item) for item in roles)}"
    require("role", number, expected)
    if number not in roles:
        raise field_error("role", number, expected)
    return roles[number]


def usage_message(name: OrganisationName, quota: Quota, usage: Usage) -> pb.QuotaUsage:
    """Returns an organisation's quota and usage as a message."""
    message = _usage_message(usage)
    message.name = str(name)
    message.limits.CopyFrom(_quota_message(quota))
    return message


_quota = Decoder(Quota, pb.Quota)
_quota_message = Encoder(Quota, pb.Quota)
_usage_message = Encoder(Usage, pb.QuotaUsage, unset=("name", "limits"))

organisation_message = Encoder(
    Organisation,
    pb.Organisation,
    computed={"name": lambda organisation: str(OrganisationName(organisation.id))},
    unsent=("id",),
)
key_message = Encoder(
    ApiKey,
    pb.ApiKey,
    computed={"name": lambda key: str(key.name)},
    unsent=("id", "organisation"),
)
event_message = Encoder(AdminEvent, pb.AdminEvent)
