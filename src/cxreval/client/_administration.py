"""The client's methods of the registry for audit, organisations, keys and quotas."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, TypeVar

from cxreval.api.registry.v1 import admin_service_pb2, audit_service_pb2, benchmark_service_pb2
from cxreval.audit.chain import AuditEvent, Head
from cxreval.audit.receipts import Receipt
from cxreval.client import _messages
from cxreval.client._calls import listing, operation
from cxreval.client._registry_calls import RegistryCalls, benchmark_name
from cxreval.client.models import DescribedBenchmark, KeyInfo, Organisation, QuotaUsage, Rescore
from cxreval.metrics.report import Report
from cxreval.records import AdminEvent, BenchmarkCard, Quota, Retirement, Role
from cxreval.resource_names import BenchmarkName, OrganisationName
from cxreval.wire import benchmarks as wire_benchmarks
from cxreval.wire import reports

T = TypeVar("T")


class AdministrationMethods(RegistryCalls):
    """What `RegistryClient` and `AsyncRegistryClient` share of audit and administration."""

    # --- benchmarks -------------------------------------------------------------------------------

    @listing
    def describe_benchmarks(self) -> AsyncIterator[DescribedBenchmark]:
        """Yields all benchmarks with their retirements and cards, oldest first."""
        return self._listed(_messages.described_benchmark)

    def _listed(self, decoded: Callable[[Any], T]) -> AsyncIterator[T]:
        """Yields all benchmarks, oldest first."""
        request = benchmark_service_pb2.ListBenchmarksRequest()
        return self._items(self._benchmarks.ListBenchmarks, request, "benchmarks", decoded)

    # --- retirement of benchmarks -----------------------------------------------------------------

    @operation
    async def retire_benchmark(
        self, benchmark: str, reason: str, superseded_by: str = ""
    ) -> Retirement:
        """Retires a benchmark, which then takes no submissions, and returns its retirement.

        Repeated with another reason or benchmark that supersedes it, it replaces these.
        """
        request = benchmark_service_pb2.RetireBenchmarkRequest(
            name=benchmark_name(benchmark),
            reason=reason,
            superseded_by=benchmark_name(superseded_by) if superseded_by else "",
        )
        answer = await self._ask(self._benchmarks.RetireBenchmark, request)
        return wire_benchmarks.retirement(answer)

    @operation
    async def reinstate_benchmark(self, benchmark: str, reason: str) -> None:
        """Lets a retired benchmark take submissions again; idempotent."""
        request = benchmark_service_pb2.ReinstateBenchmarkRequest(
            name=benchmark_name(benchmark), reason=reason
        )
        await self._ask(self._benchmarks.ReinstateBenchmark, request)

    @operation
    async def retirement(self, benchmark: str) -> Retirement | None:
        """Returns why a benchmark takes no submissions; None if it takes them."""
        request = benchmark_service_pb2.GetBenchmarkRequest(name=benchmark_name(benchmark))
        answer = await self._ask(self._benchmarks.GetBenchmark, request)
        return wire_benchmarks.retirement(answer) if answer.HasField("retirement") else None

    @operation
    async def retirements(self) -> dict[str, Retirement]:
        """Returns the retirement of each retired benchmark, by the benchmark's identifier."""
        return {
            BenchmarkName.parse(message.name).benchmark: wire_benchmarks.retirement(message)
            async for message in self._listed(lambda message: message)
            if message.HasField("retirement")
        }

    # --- cards of benchmarks ----------------------------------------------------------------------

    @operation
    async def card(self, benchmark: str) -> BenchmarkCard | None:
        """Returns what is stated about a benchmark's data set; None if nothing is."""
        request = benchmark_service_pb2.GetBenchmarkRequest(name=benchmark_name(benchmark))
        answer = await self._ask(self._benchmarks.GetBenchmark, request)
        return wire_benchmarks.card(answer.card) if answer.HasField("card") else None

    @operation
    async def cards(self) -> dict[str, BenchmarkCard]:
        """Returns the card of each benchmark that has one, by the benchmark's identifier."""
        return {
            BenchmarkName.parse(message.name).benchmark: wire_benchmarks.card(message.card)
            async for message in self._listed(lambda message: message)
            if message.HasField("card")
        }

    @operation
    async def update_card(
        self, benchmark: str, card: BenchmarkCard, reason: str = ""
    ) -> BenchmarkCard:
        """Replaces the card of a benchmark and returns it; the audit chain gets an event."""
        request = benchmark_service_pb2.UpdateBenchmarkCardRequest(
            name=benchmark_name(benchmark), card=wire_benchmarks.card_message(card), reason=reason
        )
        answer = await self._ask(self._benchmarks.UpdateBenchmarkCard, request)
        return wire_benchmarks.card(answer.card)

    # --- audit ------------------------------------------------------------------------------------

    @operation
    async def audit_head(self) -> Head:
        """Returns the head of the audit chain; a new event is in the chain within a second."""
        return _messages.head(
            await self._ask(self._audit.GetAuditHead, audit_service_pb2.GetAuditHeadRequest())
        )

    @listing
    async def audit_chain(self, after_place: int = 0) -> AsyncIterator[AuditEvent]:
        """Yields the events of the audit chain, oldest first, without verifying them.

        `cxreval.audit.chain.verify` verifies them.
        """
        request = audit_service_pb2.ReadAuditChainRequest(after_place=after_place)
        async for answer in self._answers(self._audit.ReadAuditChain, request):
            for link in answer.links:
                yield _messages.audit_event(link)

    @operation
    async def receipt(self, submission: str, version: int = 0) -> Receipt:
        """Returns the receipt of a row, without verifying it; by default the latest.

        `cxreval.audit.receipts.verify` verifies it.
        """
        name = await self._full_name(submission)
        request = audit_service_pb2.GetReceiptRequest(name=name, version=version)
        return _messages.receipt(await self._ask(self._audit.GetReceipt, request))

    @operation
    async def record_rescore(self, evaluation: str, report: Report) -> Rescore:
        """Records that the caller computed this report again, and returns how it compares."""
        request = audit_service_pb2.RecordRescoreRequest(
            evaluation=evaluation, report=reports.report_message(report)
        )
        return _messages.rescore(await self._ask(self._audit.RecordRescore, request))

    @listing
    def list_rescores(self, benchmark: str) -> AsyncIterator[Rescore]:
        """Yields the rescores of a benchmark's submissions, oldest first."""
        request = audit_service_pb2.ListRescoresRequest(parent=benchmark_name(benchmark))
        return self._items(self._audit.ListRescores, request, "rescores", _messages.rescore)

    @operation
    async def public_key(self) -> str:
        """Returns the public key of the registry's receipts, in PEM.

        To verify receipts independently of the registry, get the key from the operator.
        """
        request = audit_service_pb2.GetPublicKeyRequest()
        return str((await self._ask(self._audit.GetPublicKey, request)).pem)

    # --- organisations, keys, quotas --------------------------------------------------------------

    @operation
    async def quota(self, organisation: str = "") -> QuotaUsage:
        """Returns the quota of an organisation and its use; by default the caller's own."""
        name = str(OrganisationName(organisation)) if organisation else ""
        return _messages.quota_usage(
            await self._ask(self._admin.GetQuota, admin_service_pb2.GetQuotaRequest(name=name))
        )

    @operation
    async def create_organisation(
        self, organisation: str, display_name: str, quota: Quota
    ) -> Organisation:
        """Creates an organisation and returns it."""
        request = admin_service_pb2.CreateOrganisationRequest(
            organisation=_messages.organisation_message(organisation, display_name, quota)
        )
        return _messages.organisation(await self._ask(self._admin.CreateOrganisation, request))

    @operation
    async def update_organisation(
        self, organisation: str, display_name: str, quota: Quota
    ) -> Organisation:
        """Replaces the display name and quota of an organisation, and returns it."""
        request = admin_service_pb2.UpdateOrganisationRequest(
            organisation=_messages.organisation_message(organisation, display_name, quota)
        )
        return _messages.organisation(await self._ask(self._admin.UpdateOrganisation, request))

    @listing
    def list_organisations(self) -> AsyncIterator[Organisation]:
        """Yields all organisations, oldest first."""
        request = admin_service_pb2.ListOrganisationsRequest()
        return self._items(
            self._admin.ListOrganisations, request, "organisations", _messages.organisation
        )

    @operation
    async def create_key(
        self, organisation: str, role: Role, lifetime: timedelta | None = None, request_id: str = ""
    ) -> tuple[KeyInfo, str]:
        """Creates an API key and returns it with its text, which cannot be read again.

        Raises:
            ApiKeyExists: an earlier call with this `request_id` created a key; the error names it.
        """
        request = admin_service_pb2.CreateApiKeyRequest(
            parent=str(OrganisationName(organisation)),
            role=f"ROLE_{role.name}",
            request_id=request_id or str(uuid.uuid4()),
        )
        if lifetime is not None:
            request.lifetime.FromTimedelta(lifetime)
        answer = await self._ask(self._admin.CreateApiKey, request)
        return _messages.key_info(answer.key), str(answer.text)

    @listing
    def list_keys(self, organisation: str) -> AsyncIterator[KeyInfo]:
        """Yields all keys of an organisation, oldest first."""
        request = admin_service_pb2.ListApiKeysRequest(parent=str(OrganisationName(organisation)))
        return self._items(self._admin.ListApiKeys, request, "keys", _messages.key_info)

    @operation
    async def revoke_key(self, name: str) -> KeyInfo:
        """Revokes a key and returns it; the registry refuses it after at most five seconds."""
        return _messages.key_info(
            await self._ask(
                self._admin.RevokeApiKey, admin_service_pb2.RevokeApiKeyRequest(name=name)
            )
        )

    @operation
    async def admin_events(self) -> list[AdminEvent]:
        """Returns the latest changes of organisations, keys and retirement, newest first."""
        answer = await self._ask(
            self._admin.ListAdminEvents, admin_service_pb2.ListAdminEventsRequest()
        )
        return [_messages.admin_event(event) for event in answer.events]
