"""Makes the golden files: data as commit a7cddaa stored it, and that version's answers about it.

    git worktree add /tmp/base a7cddaa
    PYTHONPATH=/tmp/base/src:/tmp/base python tests/golden/generate.py tests/golden

It uses that version's code and the modules `keys`, `observe` and `rows` of this directory. It makes

- `data/`: label tables and image lists of the benchmarks, each with its `benchmark.toml`;
- `registry.db.gz`: the database file of a SQLite registry;
- `postgresql.json.gz`: all rows of the same registry on PostgreSQL, for an empty database at
  revision 0009;
- `expected.json`: the answers of that version's registry, which are the same for both databases,
  and the rows that migrations to earlier revisions and back change.

Clock, identifiers and keys are fixed, so that both databases have the same rows and a second run
gives the same files. The clock is set to 2100, so that no deadline has passed when a registry
serves these files, and unfinished submissions stay unfinished.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import observe
import rows
from cryptography.fernet import Fernet
from keys import ENDPOINT_TOKEN, token_key, write_keys
from sqlalchemy import create_engine
from typer.testing import CliRunner

from cxreval.audit.receipts import Signer
from cxreval.cli.app import app
from cxreval.datasets.benchmark import FINDINGS, BenchmarkSpec, list_sha256
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.phantom import dataset as phantom
from cxreval.datasets.truth import Truth, load_truth
from cxreval.manifest.model import (
    CheckpointFormat,
    ClaimedMetric,
    Endpoint,
    Environment,
    Kind,
    Manifest,
    Reproduction,
    SourceKind,
)
from cxreval.manifest.rules import problems
from cxreval.resource_names import (
    BenchmarkName,
    EvaluationName,
    KeyName,
    OrganisationName,
    SubmissionName,
)
from services.chassis.principal import Role
from services.registry import __main__ as registry_main
from services.registry import migrations
from services.registry.domain.access import Quota
from services.registry.domain.board import PROFILE_DIGEST
from services.registry.domain.records import (
    Change,
    ChangeRequest,
    Failure,
    Fault,
    Lease,
    PredictionBatch,
)
from services.registry.store.benchmarks import Benchmarks
from services.registry.store.database import Database
from services.registry.store.evaluations import Evaluations
from services.registry.store.events import Events
from services.registry.store.lifecycle import Lifecycle
from services.registry.store.organisations import Organisations
from services.registry.store.submissions import Submissions
from services.registry.store.vault import Vault
from tests.support.registry import fresh_database, registry_service

COMMIT = "a7cddaa"
REVISIONS = ("0008", "0006", "0003", "0001")
"""The revisions to which migrations downgrade; the first schema cannot be downgraded."""

BEGIN = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LEASE_SECONDS, MAX_ATTEMPTS = 60.0, 3
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
)

State = dict[str, Any]


# --- benchmarks -----------------------------------------------------------------------------------


def column_table(
    directory: Path, name: str, findings: dict[str, float], patients: int, seed: int, unknown: float
) -> BenchmarkSpec:
    """Writes a benchmark whose label table has a column for each finding.

    `findings`: share of the patients who have each finding. `unknown`: share of the empty labels.
    """
    random = np.random.default_rng(seed)
    lines = [f"Image Index,Patient ID,Patient Gender,{','.join(findings)}"]
    images = []
    for patient in range(1, patients + 1):
        ill = {finding: random.random() < share for finding, share in findings.items()}
        for follow_up in range(int(random.integers(2, 4))):
            image = f"{patient:08d}_{follow_up:03d}.png"
            labels = [
                ""
                if random.random() < unknown
                else str(int(ill[finding] and random.random() < 0.8))
                for finding in findings
            ]
            lines.append(f"{image},{patient},{'MF'[patient % 2]},{','.join(labels)}")
            images.append(image)
    return _described(directory, name, tuple(findings), images, lines)


def named_table(directory: Path, name: str, patients: int, seed: int) -> BenchmarkSpec:
    """Writes a benchmark over all findings whose label table has NIH's form."""
    random = np.random.default_rng(seed)
    lines, images = [HEADER], []
    for patient in range(1, patients + 1):
        ill = [finding for finding in FINDINGS if random.random() < 0.3]
        for follow_up in range(2):
            image = f"{patient:08d}_{follow_up:03d}.png"
            shown = "|".join(item for item in ill if random.random() < 0.9) or "No Finding"
            age = 15 + patient * 2
            sex, view = "MF"[patient % 2], ("PA", "AP")[follow_up]
            lines.append(f"{image},{shown},{follow_up},{patient},{age},{sex},{view}")
            images.append(image)
    return _described(directory, name, FINDINGS, images, lines)


def _described(
    directory: Path, name: str, findings: tuple[str, ...], images: list[str], lines: list[str]
) -> BenchmarkSpec:
    directory.mkdir(parents=True, exist_ok=True)
    labels = "".join(f"{line}\n" for line in lines).encode()
    (directory / "labels.csv").write_bytes(labels)
    (directory / "list.txt").write_text("".join(f"{image}\n" for image in images))
    spec = BenchmarkSpec(
        name=name,
        title=f"Golden benchmark {name.removeprefix('golden-')}",
        synthetic=True,
        list_file="list.txt",
        list_sha256=list_sha256(images),
        labels_file="labels.csv",
        labels_sha256=hashlib.sha256(labels).hexdigest(),
        image_count=len(images),
        patient_count=len({image.partition("_")[0] for image in images}),
        findings=findings,
        replicates=100,
    )
    (directory / "benchmark.toml").write_text(spec.to_toml())
    return spec


def undefined_resamples(truth: Truth) -> int:
    """Returns the number of resamples in which a finding has only one class."""
    table = truth.table()
    table.add(list(truth.rows), predictions(truth, 1, 1.0))
    evidence = truth.report(table).evidence
    assert evidence
    return int(np.isnan(evidence.replicates[-1].values).sum())


def first_with(make: Callable[[int], BenchmarkSpec], directory: Path, undefined: range) -> Truth:
    """Returns the benchmark of the first seed with a number of undefined resamples in a range."""
    for seed in range(500):
        truth = load_truth(make(seed), directory)
        if undefined_resamples(truth) in undefined:
            return truth
    raise RuntimeError(f"no seed gives {directory.name} {undefined} undefined resamples")


def make_benchmarks(data: Path) -> dict[str, Truth]:
    """Writes the data sets of all benchmarks and returns their truths by name.

    `golden-plain`: every resample is defined. `golden-rare`: one of 100 resamples is undefined, few
    enough to leave it out. `golden-torn`: too many resamples are undefined. `golden-void`: a
    finding has no positive image.
    """
    plain, rare, torn, void = (
        data / f"golden-{name}" for name in ("plain", "rare", "torn", "void")
    )
    share = {"Effusion": 0.45, "Cardiomegaly": 0.4, "Nodule": 0.5}
    truths = [
        first_with(
            lambda seed: column_table(plain, plain.name, share, 24, seed, 0.1), plain, range(1)
        ),
        first_with(lambda seed: named_table(rare, rare.name, 36, seed), rare, range(1, 2)),
        first_with(
            lambda seed: column_table(
                torn, torn.name, {"Mass": 0.5, "Hernia": 0.12}, 20, seed, 0.0
            ),
            torn,
            range(5, 30),
        ),
        load_truth(column_table(void, void.name, {"Edema": 0.5, "Hernia": 0.0}, 12, 1, 0.0), void),
    ]
    return {truth.spec.name: truth for truth in truths}


def describe_with_command(data: Path) -> BenchmarkSpec:
    """Writes `golden-described` with `cxreval dataset describe`."""
    directory = data / "golden-described"
    named_table(directory, directory.name, 10, 7)
    (directory / "benchmark.toml").unlink()
    result = CliRunner().invoke(
        app,
        ["dataset", "describe", str(directory), "--name", directory.name, "--title", "Golden",
         "--list", "list.txt", "--labels", "labels.csv"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return load_spec(directory.name, directory)


def demo_digest() -> str:
    """Returns the digest of the benchmark that `make demo` makes, without drawing its images."""
    phantom.render = lambda study, seed: None  # type: ignore[assignment,return-value]
    phantom.encode_png = lambda picture: b""  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as directory:
        made = phantom.generate(Path(directory), patients=1500, seed=2017, only="test", processes=1)
    return made.digest


# --- what submissions predict ---------------------------------------------------------------------


def predictions(truth: Truth, seed: int, signal: float, steps: int = 0) -> Any:
    """Returns probabilities of shape (images, findings), float32.

    `steps`: if not 0, the number of steps between 0 and 1 to which they are rounded, for ties.
    """
    noise = np.random.default_rng(seed).normal(size=truth.cohort.labels.shape)
    values = 1 / (1 + np.exp(-(signal * (truth.cohort.labels - 0.5) + noise)))
    if steps:
        values = np.round(values * steps) / steps
    return values.astype(np.float32)


# --- the registry ---------------------------------------------------------------------------------


class World:
    """A registry over one database, with a fixed clock, and the calls that fill it."""

    def __init__(
        self, database: Database, signer: Signer, vault: Vault, truths: dict[str, Truth]
    ) -> None:
        self.database, self.truths = database, truths
        self.time = BEGIN
        registry_main.now = self.now
        registry_main.migrate(database, signer)
        self.submissions = Submissions(database, self.now, signer)
        self.evaluations = Evaluations(database, self.now, signer, LEASE_SECONDS, MAX_ATTEMPTS)
        self.lifecycle = Lifecycle(database, self.now, signer)
        self.organisations = Organisations(database, self.now)
        self.events = Events(database)
        self.keys: dict[str, str] = {}
        self.names: dict[str, SubmissionName] = {}
        self.moments: list[str] = []
        self._vault = vault
        for truth in truths.values():
            Benchmarks(database, self.now).create(truth.spec)

    def now(self) -> datetime:
        """Returns the registry's time, which is constant during a call.

        The registry reads it a different number of times on the two databases.
        """
        return self.time

    def tick(self) -> None:
        """Advances the clock by a millisecond."""
        self.time += timedelta(milliseconds=1)

    def moment(self) -> None:
        """Advances the clock and records a time as of which boards are read later."""
        self.time += timedelta(minutes=1)
        self.moments.append(self.time.isoformat().replace("+00:00", "Z"))
        self.time += timedelta(minutes=1)

    def make_organisations(self) -> None:
        """Creates organisations with quotas, keys of every role, a revoked and an expired key."""
        self.keys["operator"] = self.organisations.create_operator_key("create-operator-key")
        operator = self.actor("operator")
        acme, rival = OrganisationName("acme"), OrganisationName("rival")
        self.tick()
        self.organisations.create(acme, "Acme", Quota(50, 20, 1 << 30), operator)
        self.tick()
        self.organisations.create(rival, "Rival", Quota(), operator)
        self.tick()
        self.organisations.update(rival, "Rival & Söhne", Quota(None, 5, None), operator)
        self.organisations.create(OrganisationName("idle"), "Idle", Quota(0, 0, 0), operator)
        for caller, role in (
            ("acme/submitter", Role.SUBMITTER), ("acme/viewer", Role.VIEWER),
            ("rival/submitter", Role.SUBMITTER), ("operators/worker", Role.WORKER),
        ):  # fmt: skip
            self.tick()
            parent = OrganisationName(caller.partition("/")[0])
            self.keys[caller] = self.organisations.create_key(parent, role, None, operator)[1]
        revoked, self.keys["acme/revoked"] = self.organisations.create_key(
            acme, Role.SUBMITTER, BEGIN + timedelta(days=365), operator, uuid.uuid4().hex
        )
        self.organisations.revoke_key(revoked.name, operator)
        self.keys["rival/expired"] = self.organisations.create_key(
            rival, Role.VIEWER, datetime(2001, 1, 1, tzinfo=UTC), operator
        )[1]

    def actor(self, caller: str) -> str:
        """Returns the resource name of a caller's key, which events name as their actor."""
        organisation = caller.partition("/")[0] if "/" in caller else "operators"
        return str(KeyName(organisation, self.keys[caller].split("_")[1]))

    def create(
        self, label: str, benchmark: str, manifest: Manifest, owner: str = "", token: bool = False
    ) -> None:
        """Creates a submission; `label` becomes the model's name."""
        self.tick()
        actor = self.actor(f"{owner}/submitter") if owner else self.actor("operator")
        digest = hashlib.sha256(label.encode()).hexdigest()
        manifest = replace(manifest, model=label)
        spec = self.truths[benchmark].spec
        if manifest.output_names:
            manifest = replace(manifest, output_names=("", *reversed(spec.findings)))
        claims = [
            replace(claim, finding=spec.findings[0]) if claim.finding else claim
            for claim in manifest.claimed_metrics
        ]
        manifest = replace(manifest, claimed_metrics=tuple(claims))
        if manifest.kind in (Kind.CHECKPOINT, Kind.PREDICTIONS):
            manifest = replace(manifest, artifact_sha256=digest)
        errors = problems(manifest, self.now().date(), findings=spec.findings, metrics=spec.metrics)
        assert not [str(error) for error in errors]
        created = self.submissions.create(
            BenchmarkName(benchmark), manifest, uuid.uuid4().hex if owner else "", actor, owner,
            self.seal(ENDPOINT_TOKEN) if token else None,
        )  # fmt: skip
        self.names[label] = SubmissionName(benchmark, created.id)

    def seal(self, token: str) -> bytes:
        """Returns a token as `Vault.seal` encrypts it, with the same salt each time."""
        fernet = Fernet(token_key())
        sealed = fernet._encrypt_from_parts(token.encode(), int(BEGIN.timestamp()), bytes(16))
        assert self._vault.open(sealed) == token
        return sealed

    def upload(self, label: str) -> None:
        """Records the artifact's row, of 1,000 bytes, without storing a file."""
        name = self.names[label]
        self.tick()
        self.submissions.begin_upload(name, 1000)
        self.tick()
        self.submissions.queue(name, 1000, lambda: None, "uploader")

    def lease(self, label: str, worker: str = "golden-worker") -> Lease:
        """Leases the submission, which must be the oldest in the queue."""
        name = self.names[label]
        self.tick()
        lease = self.evaluations.lease(worker, [BenchmarkName(name.benchmark)], converts=True)
        assert lease
        assert lease.submission.id == name.submission
        return lease

    def record(
        self, label: str, lease: Lease, values: Any, images: slice = slice(None)
    ) -> EvaluationName:
        """Records predictions of some images in two batches and returns the evaluation's name."""
        evaluation = EvaluationName(
            lease.evaluation.benchmark, lease.submission.id, lease.evaluation.id
        )
        listed = list(self.truths[self.names[label].benchmark].rows)[images]
        values = values[images].astype("<f4")
        half = len(listed) // 2
        for part in (slice(half, None), slice(None, half)):
            self.tick()
            batch = PredictionBatch(
                tuple(listed[part]), tuple(row.tobytes() for row in values[part])
            )
            self.evaluations.append(evaluation, lease.token, batch)
        return evaluation

    def run(self, label: str, signal: float, seed: int, steps: int = 0, values: Any = None) -> Any:
        """Evaluates a queued submission and returns its predictions."""
        truth = self.truths[self.names[label].benchmark]
        values = predictions(truth, seed, signal, steps) if values is None else values
        lease = self.lease(label)
        evaluation = self.record(label, lease, values)
        if lease.submission.manifest.architecture:
            converted = hashlib.sha256(f"ONNX form of {label}".encode()).hexdigest()
            self.evaluations.add_artifact(evaluation, lease.token, converted, 2000, lambda: None)
        table = truth.table()
        table.add(list(truth.rows), values)
        profile = hashlib.sha256(
            lease.submission.manifest.preprocessing_profile.encode()
        ).hexdigest()
        provenance = {PROFILE_DIGEST: profile, "worker": "golden", "runtime": "onnxruntime 1.0"}
        if lease.submission.manifest.endpoint:
            provenance["endpoint_server"] = "golden server 1.0"
        self.tick()
        self.evaluations.complete(evaluation, lease.token, truth.report(table), provenance)
        return values

    def fail(self, label: str, reason: str, fault: Fault) -> None:
        """Leases a submission and reports a failure of its evaluation."""
        lease = self.lease(label)
        evaluation = EvaluationName(
            lease.evaluation.benchmark, lease.submission.id, lease.evaluation.id
        )
        self.tick()
        self.evaluations.fail(
            evaluation, lease.token, Failure(reason, f"golden failure of {label}", fault)
        )
        self.time += timedelta(seconds=2 * LEASE_SECONDS)

    def change(self, label: str, change: Change, caller: str = "operator", **more: Any) -> None:
        """Changes a submission as the caller with one of the keys."""
        organisation = caller.partition("/")[0] if "/" in caller else "operators"
        request = ChangeRequest(
            change, self.actor(caller), f"golden reason: {change}", request_id=uuid.uuid4().hex,
            organisation=organisation, **more,
        )  # fmt: skip
        self.tick()
        self.lifecycle.change(self.names[label], request)


CHECKPOINT = Manifest(
    kind=Kind.CHECKPOINT,
    model="",
    organisation="Golden organisation é",
    open_source=True,
    source_kind=SourceKind.CHECKPOINT,
    contact="golden@example.org",
    source_url="https://example.org/golden",
    format=CheckpointFormat.ONNX,
    preprocessing_profile="xrv-224",
    output_names=("Effusion", "", *(item for item in FINDINGS if item != "Effusion")),
    reproduction=Reproduction(
        "https://example.org/repository", "0123456789abcdef" * 2 + "01234567", 7, "python e.py"
    ),
    environment=Environment("3.11.7", ("torch==2.13.0", "numpy==2.0.0")),
    claimed_metrics=(ClaimedMetric("auroc", 0.8), ClaimedMetric("auroc", 0.75, "Effusion")),
    submitted_date="2025-12-19",
)
STATE_DICT = replace(
    CHECKPOINT, format=CheckpointFormat.PYTORCH_STATE_DICT, architecture="densenet121-res224-nih",
    output_names=(), submitted_date="2025-11",
)  # fmt: skip
ENDPOINT = replace(
    CHECKPOINT, kind=Kind.ENDPOINT, format=None, source_kind=SourceKind.ENDPOINT,
    artifact_sha256="", endpoint=Endpoint("models.example.org:443", True, "golden", 12.5),
    submitted_date="2025-12-24",
)  # fmt: skip
PREDICTIONS = replace(
    CHECKPOINT, kind=Kind.PREDICTIONS, format=None, source_kind=SourceKind.PREDICTIONS,
    preprocessing_profile="", output_names=(), claimed_metrics=(), submitted_date="",
)  # fmt: skip
CLAIM = replace(
    CHECKPOINT, kind=Kind.CLAIM, format=None, source_kind=SourceKind.MODEL_CARD,
    preprocessing_profile="", output_names=(), reproduction=None, environment=None,
    open_source=False, submitted_date="2024-02",
)  # fmt: skip


def fill(world: World) -> None:
    """Creates submissions of every kind, with every state and every change."""
    world.make_organisations()
    _fill_plain(world)
    _fill_others(world)
    _fail(world)
    _leave_unfinished(world)
    world.events.chain()


def _fill_plain(world: World) -> None:
    """Publishes separable and inseparable rows and ties, then makes every change of a row."""
    plain = "golden-plain"
    for label, manifest, owner in (
        ("alpha", CHECKPOINT, "acme"),
        ("beta", replace(CHECKPOINT, submitted_date="2025-12"), "rival"),
        ("gamma", STATE_DICT, "acme"), ("epsilon", PREDICTIONS, ""), ("eta", CHECKPOINT, "rival"),
        ("theta", CHECKPOINT, "acme"), ("iota", CHECKPOINT, "acme"), ("kappa", CHECKPOINT, "rival"),
    ):  # fmt: skip
        world.create(label, plain, manifest, owner)
        world.upload(label)
    values = world.run("alpha", 3.0, 11)
    near = values + np.random.default_rng(12).normal(0, 0.02, values.shape)
    world.run("beta", 0, 0, values=np.clip(near, 0, 1).astype(np.float32))
    world.run("gamma", 1.6, 13, steps=4)
    world.moment()
    world.run("epsilon", 1.0, 14)
    world.create("delta", plain, ENDPOINT, "acme", token=True)
    for seed, label in enumerate(("eta", "theta", "iota", "kappa"), start=15):
        world.run(label, 0.4 * (seed - 14), seed)
    world.run("delta", 0.2, 20)
    for label, claimed in (("claim one", 0.9), ("claim two", 0.85), ("claim three", 0.95)):
        world.create(
            label,
            plain,
            replace(CLAIM, claimed_metrics=(ClaimedMetric("auroc", claimed),)),
            "rival",
        )
    world.create("claim by finding", plain, CLAIM)
    world.moment()
    world.change("eta", Change.DISPUTED, "acme/submitter")
    world.change("theta", Change.DISPUTED, "rival/submitter")
    world.change("theta", Change.RESOLVED)
    world.change(
        "theta", Change.CORRECTED, corrections={"model": "theta, corrected", "open_source": False}
    )
    world.change("kappa", Change.WITHDRAWN, "rival/submitter")
    world.change("iota", Change.WITHDRAWN, "acme/submitter")
    world.change("gamma", Change.SUPERSEDED, "acme/submitter", successor=world.names["alpha"])
    world.moment()
    world.change("iota", Change.REINSTATED)
    world.change("epsilon", Change.SUPERSEDED, successor=world.names["eta"])
    world.change("gamma", Change.REINSTATED)
    world.change(
        "claim two", Change.SUPERSEDED, "rival/submitter", successor=world.names["claim one"]
    )
    world.change(
        "claim three", Change.CORRECTED, corrections={"source_url": "https://example.org/c"}
    )
    world.moment()


def _fill_others(world: World) -> None:
    """Publishes rows on boards with undefined resamples and with an undefined finding."""
    for benchmark, signals in (
        ("golden-rare", (2.0, 1.0)), ("golden-torn", (2.5, 1.5, 1.4)), ("golden-void", (2.0, 1.0)),
    ):  # fmt: skip
        for number, signal in enumerate(signals):
            label = f"{benchmark} {number}"
            world.create(label, benchmark, CHECKPOINT, "acme")
            world.upload(label)
            world.run(label, signal, 30 + number)
    world.moment()


def _fail(world: World) -> None:
    """Makes failures by either fault, expired leases and deadlines, cancellations and retries."""
    void = "golden-void"
    for label in ("faulty", "unlucky", "retried"):
        world.create(label, void, CHECKPOINT, "acme")
        world.upload(label)
        for _ in range(MAX_ATTEMPTS if label == "unlucky" else 1):
            world.fail(label, "GOLDEN", Fault.SYSTEM if label == "unlucky" else Fault.SUBMISSION)
    world.change("retried", Change.RETRIED, "acme/submitter")
    world.run("retried", 0.5, 40)
    world.create("abandoned", void, CHECKPOINT)
    world.upload("abandoned")
    for _ in range(MAX_ATTEMPTS):
        world.lease("abandoned", "a worker that dies")
        world.time += timedelta(seconds=3 * LEASE_SECONDS)
        assert world.evaluations.take_back() == 1
    for label in ("cancelled", "cancelled early"):
        world.create(label, void, CHECKPOINT, "rival")
        if label == "cancelled":
            world.upload(label)
        world.change(label, Change.CANCELLED, "rival/submitter")
    world.create("expired upload", void, CHECKPOINT, "rival")
    world.create("expired queue", void, STATE_DICT, "acme")
    world.upload("expired queue")
    world.time += timedelta(days=8)
    assert world.lifecycle.expire() == 2
    for label, manifest in (("expired run", CHECKPOINT), ("expired endpoint", ENDPOINT)):
        world.create(label, void, manifest, "rival")
        if manifest is CHECKPOINT:
            world.upload(label)
        world.lease(label)
        world.time += timedelta(days=1)
        assert world.lifecycle.expire() == 1


def _leave_unfinished(world: World) -> None:
    """Leaves submissions in each state that has a deadline."""
    torn, plain = "golden-torn", "golden-plain"
    world.create("awaiting", plain, PREDICTIONS, "acme")
    world.submissions.begin_upload(world.names["awaiting"], 4096)
    world.create("awaiting nothing yet", plain, STATE_DICT, "rival")
    world.create("returned", torn, CHECKPOINT, "rival")
    world.upload("returned")
    world.fail("returned", "GOLDEN_SYSTEM", Fault.SYSTEM)
    world.create("running", plain, CHECKPOINT, "acme")
    world.upload("running")
    lease = world.lease("running")
    world.record("running", lease, predictions(world.truths[plain], 50, 1.0), slice(20))
    world.keys["running lease"] = lease.token
    world.create("endpoint that waits", plain, ENDPOINT, "acme", token=True)
    world.create("state dict that waits", plain, STATE_DICT, "")
    world.upload("state dict that waits")


# --- the files ------------------------------------------------------------------------------------


def filled(kind: str, directory: Path, truths: dict[str, Truth]) -> tuple[str, World]:
    """Fills a database of a kind and returns its URL and the world that filled it."""
    directory.mkdir()
    write_keys(directory)
    url = fresh_database(kind, directory)
    _fix_identifiers()
    database = Database(url)
    world = World(
        database,
        Signer.from_file(directory / "signing-key.pem"),
        Vault.from_file(directory / "token-key"),
        truths,
    )
    fill(world)
    database.close()
    return url, world


def _fix_identifiers() -> None:
    # Two streams, because SQLite and PostgreSQL use identifiers and tokens in different orders.
    identifiers, tokens = np.random.default_rng(2100), np.random.default_rng(2101)
    uuid.uuid4 = lambda: uuid.UUID(bytes=identifiers.bytes(16), version=4)  # type: ignore[assignment]
    secrets.token_hex = lambda size=32: tokens.bytes(size).hex()  # type: ignore[assignment]


def answers(url: str, directory: Path, world: World) -> State:
    """Returns the answers of a registry over a database, to an operator and to other callers."""
    flags = ("--access=keys", "--public-board=true")
    with registry_service(directory, *flags, database_url=url) as service:
        with observe.Observer(service.address, world.keys["operator"]) as operator:
            view = observe.everything(operator, world.moments)
        for caller in ("acme/submitter", "acme/viewer", "rival/submitter", "public"):
            with observe.Observer(service.address, world.keys.get(caller, "")) as observer:
                view[f"as {caller}"] = observe.restricted(observer, view["submissions"])
    return view


def migrated(url: str, before: rows.Rows) -> State:
    """Returns digests of the columns that a migration to each revision and back changes.

    The digest of a column whose values vary is None.
    """
    database, digests = Database(url), State()
    with database.engine.connect() as connection:
        for revision in REVISIONS:
            first, second = (
                rows.changed(
                    before, rows.there_and_back(connection, migrations._config(), revision)
                )
                for _ in range(2)
            )
            digests[revision] = {
                column: rows.digest(value) if value == second[column] else None
                for column, value in first.items()
            }
    database.close()
    return digests


def main(home: Path) -> None:
    """Makes all golden files in the directory `home`."""
    truths = make_benchmarks(home / "data")
    described = describe_with_command(home / "data")
    expected: State = {"commit": COMMIT}
    results: dict[str, State] = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        for kind in ("sqlite", "postgresql"):
            directory = Path(name) / kind
            url, world = filled(kind, directory, truths)
            engine = create_engine(url)
            with engine.connect() as connection:
                before = rows.dump(connection)
            engine.dispose()
            if kind == "postgresql":
                rows.write(before, home / "postgresql.json.gz")
            else:
                database = directory / "registry.db"
                with sqlite3.connect(database) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    connection.execute("VACUUM")
                connection.close()
                (home / "registry.db.gz").write_bytes(gzip.compress(database.read_bytes(), mtime=0))
            results[kind] = {
                "rows": before, "moments": world.moments, "keys": world.keys,
                "labels": {str(item): label for label, item in world.names.items()},
                "registry": answers(url, directory, world), "migrated": migrated(url, before),
            }  # fmt: skip
    # Both results are allowed: on SQLite the migration back from 0003 writes 0 for a failure.
    expected["migrated"] = {
        revision: {
            column: sorted(
                {results[kind]["migrated"][revision][column] for kind in results} - {None}
            )
            for column in results["sqlite"]["migrated"][revision]
        }
        for revision in REVISIONS
    }
    for part in ("rows", "moments", "keys", "labels", "registry"):
        left, right = results["sqlite"][part], results["postgresql"][part]
        if left != right:
            listed = list(observe.differences(left, right))[:20]
            raise SystemExit("\n".join([f"the two databases differ in {part}", *listed]))
    expected |= {
        part: results["sqlite"][part] for part in ("moments", "keys", "labels", "registry")
    }
    uncertain = [f"benchmarks/golden-{name}" for name in ("rare", "torn", "void")]
    expected["spreads_with_undefined_resamples"] = observe.take_spreads(
        expected["registry"], uncertain
    )
    expected["digests"] = {
        described.name: described.digest,
        "phantom-cxr of make demo": demo_digest(),
        "nih-chestxray14": load_spec("nih-chestxray14").digest,
        **{item: truth.spec.digest for item, truth in truths.items()},
    }
    expected["seeds"] = {item: truth.spec.seed for item, truth in truths.items()}
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (home / "expected.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
