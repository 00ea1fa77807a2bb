"""A registry that requires API keys, with keys of every role for two organisations."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import grpc

from cxreval.audit.receipts import Signer
from cxreval.client import ApiKey, Quota, Role, WorkerClient
from cxreval.wire.channel import connect
from services.registry.__main__ import CREATE_OPERATOR_KEY, migrate, now
from services.registry.store.database import Database
from services.registry.store.organisations import Organisations
from tests.support.registry import Registry, fresh_database, registry_service

ORGANISATIONS = ("acme", "rival")


def operator_key(directory: Path, database_url: str) -> str:
    """Returns the text of a first operator's key, created as the registry's command does.

    Migrates the database first.
    """
    database = Database(database_url)
    migrate(database, Signer.from_file(directory / "signing-key.pem"))
    text = Organisations(database, now).create_operator_key(CREATE_OPERATOR_KEY)
    database.close()
    return text


class ClosedRegistry(ExitStack):
    """A registry with `--access=keys`; a context manager.

    `keys` has the text of each key by organisation and role, such as `acme/submitter`.
    """

    def __init__(self, directory: Path, kind: str = "sqlite", *flags: str) -> None:
        super().__init__()
        self.directory = directory
        self.database_url = fresh_database(kind, directory)
        self.service = registry_service(
            directory, "--access=keys", *flags, database_url=self.database_url
        )
        self.keys: dict[str, str] = {}

    def __enter__(self) -> ClosedRegistry:
        super().__enter__()
        self.keys["operator"] = operator_key(self.directory, self.database_url)
        self.enter_context(self.service)
        self.operator = self.client("operator")
        for organisation in ORGANISATIONS:
            self.operator.create_organisation(organisation, organisation.title(), Quota())
            for role in (Role.SUBMITTER, Role.VIEWER):
                self.keys[f"{organisation}/{role}"] = self.operator.create_key(organisation, role)[
                    1
                ]
        self.keys["worker"] = self.operator.create_key("operators", Role.WORKER)[1]
        return self

    def client(self, who: str = "") -> WorkerClient:
        """Returns a client with one of the keys, or an anonymous one."""
        return self.enter_context(WorkerClient(self.service.address, key=self._key(who)))

    def stubs(self, who: str = "") -> Registry:
        """Returns stubs with one of the keys, or anonymous ones."""
        return self.enter_context(Registry(self.service.address, self._key(who)))

    def channel(self, key: str = "") -> grpc.Channel:
        """Returns a channel with this key, or without one."""
        return self.enter_context(connect(self.service.address, key=ApiKey(key) if key else None))

    def _key(self, who: str) -> ApiKey | None:
        return ApiKey(self.keys[who]) if who else None
