"""`cxreval admin` and `cxreval quota`: organisations, API keys and quotas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cxreval.cli import options, output
from cxreval.client import Organisation, Quota, Role
from cxreval.errors import OrganisationNotFound
from cxreval.fields import field_error

app = typer.Typer(help="Manage organisations and API keys; for operators.", no_args_is_help=True)
organisations = typer.Typer(
    help="Manage organisations, which own submissions.", no_args_is_help=True
)
keys = typer.Typer(help="Manage API keys.", no_args_is_help=True)
app.add_typer(organisations, name="organisation")
app.add_typer(keys, name="key")

Name = Annotated[
    str, typer.Argument(help="identifier of the organisation: lower-case letters, digits, hyphens")
]
Limit = Annotated[
    str | None,
    typer.Option(help="limit, or `none` for no limit; default: unchanged, at first `none`"),
]

_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@organisations.command("create")
def create_organisation(
    context: typer.Context,
    organisation: Name,
    display_name: Annotated[str, typer.Option(help="display name; default: the identifier")] = "",
    submissions_per_day: Limit = None,
    concurrent: Limit = None,
    stored_bytes: Limit = None,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Create an organisation."""
    quota = _changed(Quota(), submissions_per_day, concurrent, stored_bytes)
    with options.registry_client(context, registry) as client:
        _show([client.create_organisation(organisation, display_name or organisation, quota)], json)


@organisations.command("update")
def update_organisation(
    context: typer.Context,
    organisation: Name,
    display_name: Annotated[str, typer.Option(help="display name; default: unchanged")] = "",
    submissions_per_day: Limit = None,
    concurrent: Limit = None,
    stored_bytes: Limit = None,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Change the name or the quota of an organisation."""
    with options.registry_client(context, registry) as client:
        current = next(
            (item for item in client.list_organisations() if item.organisation == organisation),
            None,
        )
        if current is None:
            raise OrganisationNotFound(
                f"organisations/{organisation} does not exist", name=organisation
            )
        quota = _changed(current.quota, submissions_per_day, concurrent, stored_bytes)
        _show(
            [client.update_organisation(organisation, display_name or current.display_name, quota)],
            json,
        )


@organisations.command("list")
def list_organisations(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """List organisations with their quotas."""
    with options.registry_client(context, registry) as client:
        _show(list(client.list_organisations()), json)


@keys.command("create")
def create_key(
    context: typer.Context,
    organisation: Name,
    role: Annotated[Role, typer.Option(help="what the key permits")] = Role.SUBMITTER,
    lifetime: Annotated[
        str, typer.Option(help="time until the key expires, such as 90d or 12h; default: never")
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Create an API key and print it. It cannot be printed again."""
    with options.registry_client(context, registry) as client:
        key, text = client.create_key(organisation, role, _lifetime(lifetime))
    if json:
        output.print_json({"key": key, "text": text})
    else:
        output.errors.print(f"{key.name} ({key.role}). Store this key; it cannot be shown again.")
        output.console.print(text, soft_wrap=True)


@keys.command("list")
def list_keys(
    context: typer.Context,
    organisation: Name,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """List the keys of an organisation, without their secrets."""
    with options.registry_client(context, registry) as client:
        listed = list(client.list_keys(organisation))
    if json:
        output.print_json(listed)
        return
    for key in listed:
        life = f"created {output.moment(key.create_time)}, expires {output.moment(key.expire_time)}"
        output.print_item(key.name, [key.role, life, f"revoked {output.moment(key.revoke_time)}"])


@keys.command("revoke")
def revoke_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="organisations/{organisation}/keys/{key}")],
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Revoke an API key. This cannot be undone."""
    with options.registry_client(context, registry) as client:
        revoked = client.revoke_key(key)
    if json:
        output.print_json(revoked)
    else:
        output.console.print(f"{revoked.name} is revoked.")


@app.command()
def events(
    context: typer.Context,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Show the latest changes that operators made to organisations and keys."""
    with options.registry_client(context, registry) as client:
        latest = client.admin_events()
    if json:
        output.print_json(latest)
        return
    for event in latest:
        output.print_item(
            f"{output.moment(event.time)}  {event.action}", [event.target, f"by {event.actor}"]
        )


def quota(
    context: typer.Context,
    organisation: Annotated[
        str, typer.Argument(help="identifier of the organisation; default: your own")
    ] = "",
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Show the quota of your organisation, its use, and when the daily part resets."""
    with options.registry_client(context, registry) as client:
        usage = client.quota(organisation)
    if json:
        output.print_json(usage)
        return
    limits = usage.limits
    rows = [
        ("submissions today", str(usage.submissions_today), _limit(limits.submissions_per_day)),
        ("concurrent", str(usage.concurrent), _limit(limits.concurrent)),
        ("stored bytes", str(usage.stored_bytes), _limit(limits.stored_bytes)),
    ]
    _print((f"{usage.organisation}", "used", "limit"), rows)
    output.console.print(f"The daily quota resets at {usage.reset_time.isoformat()}.")


def _changed(quota: Quota, *values: str | None) -> Quota:
    names = ("submissions_per_day", "concurrent", "stored_bytes")
    given = {
        name: _number(name, value)
        for name, value in zip(names, values, strict=True)
        if value is not None
    }
    return replace(quota, **given)


def _number(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise field_error(name, text, "a whole number, or none")
    return int(text)


def _lifetime(text: str) -> timedelta | None:
    if not text:
        return None
    match = _LIFETIME.fullmatch(text)
    if match is None:
        raise field_error("lifetime", text, "a whole number followed by s, m, h or d, such as 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _show(shown: Sequence[Organisation], json: bool) -> None:
    if json:
        output.print_json(shown)
        return
    rows = [
        (
            item.organisation,
            item.display_name,
            _limit(item.quota.submissions_per_day),
            _limit(item.quota.concurrent),
            _limit(item.quota.stored_bytes),
        )
        for item in shown
    ]
    _print(("organisation", "name", "per day", "concurrent", "bytes"), rows)


def _limit(value: int | None) -> str:
    return "no limit" if value is None else str(value)


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    output.console.print(table)
