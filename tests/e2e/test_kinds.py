"""Every kind of submission from `submit` to the board, with real services and a real worker."""

import gzip
import math

import grpc
import pyarrow as pa
import pytest
from pyarrow import parquet

from cxreval.api.registry.v1 import leaderboard_service_pb2
from cxreval.audit import receipts
from cxreval.client import EvaluationStatus, Fault, Kind, SubmissionStatus, Tier
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import OutputsIncomplete, SubmissionState
from cxreval.evaluation.driver import EvaluationDriver, local_benchmarks
from tests.support import onnx_models
from tests.support.inference import png
from tests.support.registry import Registry
from tests.support.scoring import describe, small_table
from tests.support.system import System, claim, command, manifest, predictions

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 9)]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kinds")
    data = directory / "data"
    sick = [
        (image, "|".join(FINDINGS) if i % 2 else "No Finding") for i, image in enumerate(IMAGES)
    ]
    describe(data, "small", IMAGES, small_table(data, sick))
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(256, 256, seed=number))
    with System(directory, {"small": data}, lease_seconds=10.0) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


def run(system):
    """Runs the queued evaluation to its end."""
    clients = (system.registry, system.inference, system.scoring)
    ended = EvaluationDriver(*clients, system.data, "test", 10.0).run_next(lambda *_: None)
    assert ended
    return ended


def row(system, submission):
    (found,) = [
        entry for entry in system.registry.leaderboard("small") if entry.submission == submission
    ]
    return found


def table(cell=lambda image, finding: 0.5, images=IMAGES):
    lines = [",".join(["Image Index", *FINDINGS])]
    lines += [
        ",".join([image, *(str(cell(image, finding)) for finding in FINDINGS)]) for image in images
    ]
    return "\n".join(lines) + "\n"


def perfect(image, _):
    return 0.25 + 0.5 * (IMAGES.index(image) % 2)


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_a_table_of_predictions_is_scored(system, tmp_path, form):
    file = tmp_path / f"predictions.{form}"
    if form == "parquet":
        columns = {
            "image": IMAGES,
            **{finding: [perfect(image, finding) for image in IMAGES] for finding in FINDINGS},
        }
        parquet.write_table(pa.table(columns), file)
    else:
        content = table(perfect).encode()
        file.write_bytes(gzip.compress(content) if form == "csv.gz" else content)
    submitted = system.registry.submit("small", predictions(f"Table {form}"), file)
    assert (submitted.kind, submitted.status) == (Kind.PREDICTIONS, SubmissionStatus.QUEUED)
    ended = run(system)
    assert ended.status is EvaluationStatus.SUCCEEDED, ended.failure
    assert (ended.images_done, ended.provenance["kind"]) == (len(IMAGES), "predictions")
    assert ended.provenance["artifact_sha256"] == submitted.manifest.artifact_sha256
    assert not {"profile", "inference_runtime"} & set(ended.provenance)
    found = row(system, submitted.name)
    assert (found.kind, found.tier, found.score) == (Kind.PREDICTIONS, Tier.SCORED, 1.0)
    assert found.interval is not None  # it has evidence, and is ranked with executed rows


def broken(wrong):
    return lambda image, finding: wrong if (image, finding) == (IMAGES[2], "Mass") else 0.5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (table(images=IMAGES[:-2]),
         f"MISSING_IMAGES: 2 of 8 images have no prediction, the first is {IMAGES[-2]!r}"),
        (table(images=[*IMAGES, "other.png"]), "UNKNOWN_IMAGE: 1 image is not in the benchmark"),
        (table(broken(math.nan)),
         f"INVALID_PROBABILITY: the table row 3, image {IMAGES[2]!r}: column 'Mass' is 'nan'"),
        (table(broken("")),
         f"TABLE_INVALID: the table row 3, image {IMAGES[2]!r}: column 'Mass' is empty"),
        (table() + table(lambda *_: 0.6).partition("\n")[2],
         "DUPLICATE_IMAGE: 8 images are predicted twice"),
        (table().replace("Mass", "Lump"),
         "UNKNOWN_FINDING: the table has 1 unknown column, the first is 'Lump'"),
        ("\x89PNG", "UNKNOWN_FINDING: the table has 1 unknown column"),
    ],
)  # fmt: skip
def test_a_table_with_a_mistake_is_the_submitters_fault_and_says_where(
    system, tmp_path, content, says
):
    before = list(system.registry.leaderboard("small"))
    (tmp_path / "predictions.csv").write_text(content)
    submitted = system.registry.submit("small", predictions(), tmp_path / "predictions.csv")
    failure = run(system).failure
    assert (failure.reason, failure.fault) == ("PREDICTIONS_INVALID", Fault.SUBMISSION)
    assert says in failure.message
    assert "/tmp" not in failure.message
    assert system.registry.get_submission(submitted.name).status is SubmissionStatus.FAILED
    assert list(system.registry.leaderboard("small")) == before


def test_a_table_that_is_no_utf8_does_not_end_the_worker(system, tmp_path):
    columns = {"image": IMAGES, **{finding: [0.5] * len(IMAGES) for finding in FINDINGS}}
    parquet.write_table(
        pa.table(columns),
        tmp_path / "predictions.parquet",
        use_dictionary=False,
        compression="none",
    )
    spoiled = (
        (tmp_path / "predictions.parquet")
        .read_bytes()
        .replace(IMAGES[3].encode(), b"\xff" * len(IMAGES[3]))
    )
    (tmp_path / "predictions.parquet").write_bytes(spoiled)
    system.registry.submit("small", predictions("Spoiled"), tmp_path / "predictions.parquet")
    failure = run(system).failure
    assert (failure.reason, failure.fault) == ("PREDICTIONS_INVALID", Fault.SUBMISSION)
    assert "TABLE_INVALID: the table row 1 or after: column 'image' is not text" in failure.message


# --- claims ---------------------------------------------------------------------------------------


HOSTILE = {
    "a million commas": gzip.compress(b"," * 1_000_000),
    "open quotes": gzip.compress(table().encode() + b'"\n",' * 10_000_000),
    "a footer of structs in structs": b"PAR1" + b"\x1c" * 4096 + b"\0\x10\0\0PAR1",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_table_fails_once_as_the_submitters_fault(system, tmp_path, kind):
    file = tmp_path / "table"
    file.write_bytes(HOSTILE[kind])
    submitted = system.registry.submit("small", predictions(), file)
    run(system)
    ended = system.registry.get_submission(submitted.name)
    assert ended.status is SubmissionStatus.FAILED
    assert (ended.failure.reason, ended.failure.fault) == ("PREDICTIONS_INVALID", Fault.SUBMISSION)
    assert system.registry.get_evaluation(ended.evaluation).attempt == 1


def test_a_claim_is_on_the_board_at_once_ranked_apart_and_signed(system):
    submitted = system.registry.create_submission("small", claim())
    assert (submitted.kind, submitted.status, submitted.tier) == (
        Kind.CLAIM,
        SubmissionStatus.PUBLISHED,
        Tier.CLAIMED,
    )
    found = row(system, submitted.name)
    assert (found.kind, found.tier, found.score, found.interval, found.spread) == (
        Kind.CLAIM, Tier.CLAIMED, 0.81, None, None,
    )  # fmt: skip
    assert found.rank == 1  # claims are ranked by themselves
    content = receipts.verify(system.registry.receipt(submitted.name), system.registry.public_key())
    assert (content["kind"], content["tier"], content["score"]) == ("claim", "claimed", 0.81)
    assert [event.change for event in system.registry.submission_events(submitted.name)] == [
        "created",
        "published",
    ]
    with pytest.raises(SubmissionState):
        system.registry.cancel(submitted.name, "no")
    system.registry.withdraw(submitted.name, "it was never published")
    assert submitted.name not in [
        entry.submission for entry in system.registry.leaderboard("small")
    ]


# --- checkpoints beside them ----------------------------------------------------------------------


def test_the_board_shows_kinds_if_not_all_are_checkpoints(system, tmp_path):
    (tmp_path / "predictions.csv").write_text(table(perfect))
    system.registry.submit("small", predictions("Scored"), tmp_path / "predictions.csv")
    run(system)
    checkpoint = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    executed = system.registry.submit("small", manifest("Executed"), checkpoint)
    ended = run(system)
    assert (ended.status, ended.provenance["kind"]) == (EvaluationStatus.SUCCEEDED, "checkpoint")
    assert ended.provenance["model_sha256"] == executed.manifest.artifact_sha256
    assert row(system, executed.name).tier is Tier.EXECUTED
    printed = command(
        "leaderboard", "--benchmark", "small", "--registry", system.registry_service.address
    ).stdout
    words = [line.split() for line in printed.splitlines()]
    assert any({"Scored", "predictions", "scored"} <= set(line) for line in words), printed
    assert any({"Executed", "checkpoint", "executed"} <= set(line) for line in words), printed


# --- models that lack findings --------------------------------------------------------------------


@pytest.fixture(scope="module")
def partial(system, tmp_path_factory):
    """A checkpoint of two findings, a table of one that is always right, a complete wrong one."""
    directory = tmp_path_factory.mktemp("partial")
    outputs = ("", "Mass", "Nodule")
    checkpoint = directory / f"{onnx_models.classifier(directory, columns=3)}.onnx"
    some = system.registry.submit("small", manifest("Some", outputs=outputs), checkpoint)
    assert run(system).status is EvaluationStatus.SUCCEEDED
    lines = [f"{image},{perfect(image, '')}" for image in IMAGES]
    (directory / "mass.csv").write_text("\n".join(["image,prob_Mass", *lines, ""]))
    easy = system.registry.submit("small", predictions("Easy"), directory / "mass.csv")
    assert run(system).status is EvaluationStatus.SUCCEEDED
    (directory / "all.csv").write_text(table(lambda image, finding: 1 - perfect(image, finding)))
    worst = system.registry.submit("small", predictions("Worst"), directory / "all.csv")
    assert run(system).status is EvaluationStatus.SUCCEEDED
    return some.name, easy.name, worst.name


def test_models_that_lack_findings_are_unranked_below_the_complete_ones(system, partial):
    some, easy, worst = partial
    board = [entry for entry in system.registry.leaderboard("small") if entry.tier != Tier.CLAIMED]
    order = [entry.submission for entry in board]
    assert order.index(worst) < min(order.index(some), order.index(easy))
    for name, covered in ((some, ("Mass", "Nodule")), (easy, ("Mass",))):
        found = row(system, name)
        assert (found.rank, found.score, found.interval) == (None, None, None)
        assert (found.covered_findings, found.rank_undefined_reason) == (covered, "NOT_COVERED")
        report = next(system.registry.list_evaluations(name)).report
        values = {value.finding: value for value in report.metrics if value.metric == "auroc"}
        assert [finding for finding in FINDINGS if values[finding].value is not None] == [*covered]
        content = receipts.verify(system.registry.receipt(name), system.registry.public_key())
        assert (content["score"], content["interval"]) == (None, None)
        labels, address = system.data["small"] / "labels.csv", system.registry_service.address
        ended = command("audit", "rescore", name, "--labels", str(labels), "--registry", address)
        assert "bit for bit" in ended.stdout, ended.stderr


def test_the_board_of_a_finding_ranks_every_model_that_has_it(system, partial):
    some, easy, worst = partial
    board = {
        entry.submission: entry for entry in system.registry.leaderboard("small", findings=["Mass"])
    }
    assert (board[easy].rank, board[easy].score) == (1, 1.0)
    assert board[worst].score == 0.0
    assert None not in (board[some].rank, board[worst].rank)
    both = {
        entry.submission: entry
        for entry in system.registry.leaderboard("small", findings=["Nodule", "Mass"])
    }
    assert (both[easy].rank, both[easy].rank_undefined_reason) == (None, "NOT_COVERED")
    assert both[some].rank is not None
    steps = list(system.registry.sota_steps("small", findings=["Mass"]))
    assert steps
    address = ["--benchmark", "small", "--registry", system.registry_service.address]
    printed = command("leaderboard", *address, "--findings", "Mass, Nodule").stdout
    assert "mean over the findings below" in " ".join(printed.split())
    assert "1 of 14" in printed
    assert "not ranked, covers 1 of 14 findings: Mass" in " ".join(printed.split())
    printed = command("leaderboard", *address, "--metric", "brier").stdout
    assert "The benchmark records no replicates of brier" in " ".join(printed.split())
    ended = command("leaderboard", *address, "--findings", "Mass,Fracture")
    assert ended.returncode == 1
    assert "UNKNOWN_FINDING: findings[1] is 'Fracture'; expected one of Atelectasis" in ended.stderr


def test_pages_of_one_board_do_not_continue_another(system, partial):
    request = leaderboard_service_pb2.ListLeaderboardEntriesRequest
    with Registry(system.registry_service.address) as stubs:
        ask = stubs.leaderboard.ListLeaderboardEntries
        first = ask(request(parent="benchmarks/small", findings=["Mass"], page_size=1))
        second = ask(
            request(
                parent="benchmarks/small",
                findings=["Mass"],
                page_size=1,
                page_token=first.next_page_token,
            )
        )
        assert second.entries[0].submission != first.entries[0].submission
        for other in ({}, {"findings": ["Nodule"]}, {"findings": ["Mass"], "metric": "brier"}):
            with pytest.raises(grpc.RpcError, match="page_token"):
                ask(request(parent="benchmarks/small", page_token=first.next_page_token, **other))


def test_a_model_without_any_finding_is_refused_before_it_runs(system, tmp_path):
    with pytest.raises(OutputsIncomplete, match="has none of the findings"):
        system.registry.create_submission("small", manifest("None", outputs=("", "")))
    (tmp_path / "none.csv").write_text("\n".join(["image", *IMAGES, ""]))
    system.registry.submit("small", predictions("None"), tmp_path / "none.csv")
    failure = run(system).failure
    assert (failure.reason, failure.fault) == ("PREDICTIONS_INVALID", Fault.SUBMISSION)
    assert "TABLE_INVALID: the table has no column of a finding" in failure.message


@pytest.mark.parametrize(("declared", "file"), [(claim(), True), (predictions(), False)])
def test_submit_says_whether_a_kind_comes_with_a_file(tmp_path, declared, file):
    from cxreval.manifest.template import template

    (tmp_path / "manifest.yaml").write_text(template(declared.kind, load_spec("nih-chestxray14")))
    files = [str(tmp_path / "manifest.yaml")] * (1 + file)
    ended = command("submit", *files, "--registry", "127.0.0.1:1")
    assert ended.returncode == 1
    assert f"MALFORMED_FIELD: the manifest is of kind {declared.kind}; expected" in ended.stderr
