"""`cxreval` on real services: submit, watch, print the board, predict, verify data."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from onnx import helper

from cxreval.client import RegistryClient
from cxreval.datasets.nih import FINDINGS
from cxreval.manifest.document import read_document
from tests.support import onnx_models
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, command, json_of

NAN = (helper.make_node("Log", ["logits"], ["shifted"]),)  # NaN for negative logits
IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 9)]

MANIFEST = (
    """
kind: checkpoint
format: onnx
model: Pooled [bold]
organisation: Tests
open_source: true
source_kind: checkpoint
contact: tests@example.org
preprocessing_profile: xrv-224
output_names:
"""
    + "".join(f"  - {finding}\n" for finding in FINDINGS)
    + """
reproduction:
  repository: https://example.org/repository
  commit: 0123456789abcdef0123456789abcdef01234567
  seed: 7
environment:
  python_version: 3.11.7
"""
)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("command")
    data = directory / "data"
    labels = small_table(
        data,
        [(image, "|".join(FINDINGS) if i % 2 else "No Finding") for i, image in enumerate(IMAGES)],
    )
    describe(data, "small", IMAGES, labels)
    (data / "images").mkdir()
    for number, image in enumerate(IMAGES):
        (data / "images" / image).write_bytes(png(256, 256, seed=number))
    (directory / "manifest.yaml").write_text(MANIFEST)
    with System(directory, {"small": data}) as running:
        yield running


def at(system, *services):
    options = system.addresses()
    return [option for name in services for option in options[options.index(f"--{name}") :][:2]]


def test_from_a_data_set_to_a_row_on_the_board(system, tmp_path):
    registry = at(system, "registry")
    data = system.data["small"]
    assert command("dataset", "verify", str(data), "--benchmark", "small").returncode == 0
    registered = json_of("dataset", "register", str(data), "--benchmark", "small", *registry)
    digest = onnx_models.classifier(tmp_path)
    manifest = str(system.directory / "manifest.yaml")
    submitted = json_of(
        "submit", manifest, str(tmp_path / f"{digest}.onnx"), "--benchmark", "small", *registry
    )
    assert (submitted["status"], submitted["manifest"]["artifact_sha256"]) == ("queued", digest)

    worked = command("worker", *system.addresses(), "--data", f"small={data}", "--once", "--json")
    assert worked.returncode == 0, worked.stderr
    assert json.loads(worked.stdout)["provenance"]["benchmark_digest"] == registered["digest"]

    watched = command("status", submitted["name"], "--watch", *registry)
    assert watched.returncode == 0
    assert "published" in watched.stdout
    board = json_of("leaderboard", "--benchmark", "small", *registry)
    (row,) = board["entries"]
    assert (row["model"], row["tier"], row["rank"]) == ("Pooled [bold]", "executed", 1)
    status = json_of("status", submitted["name"], *registry)
    assert (status["score"]["value"], status["score"]["interval"]) == (
        row["score"],
        row["interval"],
    )
    assert f"AUROC     {100 * row['score']:.2f}" in watched.stdout
    assert board["sota_steps"][0]["score"] == row["score"]
    printed = command("leaderboard", "--benchmark", "small", *registry).stdout
    assert "Pooled [bold]" in printed  # a name is text, not markup
    assert f"{100 * row['score']:.2f}" in printed

    predicted = json_of(
        "predict",
        submitted["name"],
        str(data / "images" / IMAGES[0]),
        *at(system, "registry", "inference"),
    )
    assert set(predicted["probabilities"]) == set(FINDINGS)


def test_a_named_list_of_a_data_set_is_described_as_a_benchmark_of_its_own(system, tmp_path):
    labels = small_table(tmp_path, [(image, "Mass") for image in IMAGES])
    (tmp_path / "mine.txt").write_text("\n".join(IMAGES[:3]))
    names = ("--list", "mine.txt", "--labels", labels.name, "--findings", "Mass, Hernia")
    described = json_of(
        "dataset", "describe", str(tmp_path), "--name", "mine", "--title", "Mine", *names
    )
    assert described["benchmark"]["image_count"] == 3
    assert described["benchmark"]["findings"] == ["Mass", "Hernia"]
    before = (tmp_path / "benchmark.toml").read_text()
    refused = command(
        "dataset", "describe", str(tmp_path), "--name", "Not A Name", "--title", "Mine", *names
    )
    assert (refused.returncode, (tmp_path / "benchmark.toml").read_text()) == (1, before)
    assert "DATASET_INVALID: the new specification: name is 'Not A Name'" in refused.stderr
    second = command(
        "dataset", "describe", str(tmp_path), "--name", "second", "--title", "Second", *names
    )
    assert (second.returncode, (tmp_path / "benchmark.toml").read_text()) == (1, before)
    assert "describes 'mine'" in second.stderr
    registered = json_of(
        "dataset", "register", str(tmp_path), "--benchmark", "mine", *at(system, "registry")
    )
    assert registered["digest"] == described["digest"]


def test_phantoms_are_drawn_and_are_a_benchmark(tmp_path):
    drawn = json_of("dataset", "phantom", str(tmp_path), "--patients", "20", "--only", "test")
    assert drawn["benchmark"]["synthetic"] is True
    verified = command(
        "dataset", "verify", str(tmp_path), "--benchmark", drawn["benchmark"]["name"]
    )
    assert verified.returncode == 0, verified.stdout


def test_a_new_registry_shows_the_published_claims_and_their_one_step(system):
    board = json_of("leaderboard", *at(system, "registry"))
    assert all(row["tier"] == "claimed" for row in board["entries"])
    assert [
        (row["model"], f"{100 * row['score']:.2f}", row["submitted_date"])
        for row in board["entries"]
    ] == [
        ("TorchXRayVision", "85.80", "2025-12-19"),
        ("CheXNet", "84.10", "2025-12"),
        ("DenseNet-121 (Chest X-ray)", "82.60", "2025-12"),
        ("ResNet-50 (Chest X-ray)", "80.40", "2025-12"),
    ]
    assert [step["model"] for step in board["sota_steps"]] == ["TorchXRayVision"]
    printed = command("leaderboard", *at(system, "registry")).stdout
    assert "Nothing has been run or scored here yet" in printed
    assert "never ranked with" in printed


@pytest.mark.parametrize(
    ("make", "reason", "says"),
    [
        (onnx_models.not_onnx, "MODEL_NOT_ONNX", ""),
        (onnx_models.external_data, "MODEL_EXTERNAL_DATA", ""),
        (
            lambda directory: onnx_models.classifier(directory, channels=3),
            "MODEL_INPUT_MISMATCH",
            "set preprocessing.channels: 3",
        ),
        (
            lambda directory: onnx_models.classifier(directory, columns=5),
            "MODEL_OUTPUT_MISMATCH",
            "returns 5 columns",
        ),
        (
            lambda directory: onnx_models.classifier(directory, extra_nodes=NAN),
            "INVALID_PROBABILITY",
            "is nan; expected a number within [0, 1]; 8 images are wrong; a value that is not",
        ),
        (
            onnx_models.logits,
            "INVALID_PROBABILITY",
            "these look like logits: set outputs.activation: sigmoid",
        ),
    ],
)
def test_a_bad_checkpoint_fails_with_its_reason_and_leaves_no_row(
    system, tmp_path, make, reason, says
):
    registry, data = at(system, "registry"), system.data["small"]
    json_of("dataset", "register", str(data), "--benchmark", "small", *registry)
    before = json_of("leaderboard", "--benchmark", "small", *registry)["entries"]
    checkpoint = tmp_path / f"{make(tmp_path)}.onnx"
    submission = hand_in(system, checkpoint)
    assert (
        command("worker", *system.addresses(), "--data", f"small={data}", "--once").returncode == 0
    )
    ended = command("status", submission, "--watch", *registry)
    assert ended.returncode == 2
    assert reason in ended.stdout
    failure = json_of("status", submission, *registry)["failure"]
    assert (failure["reason"], failure["fault"]) == (reason, "submission")
    assert says in failure["message"]
    assert json_of("leaderboard", "--benchmark", "small", *registry)["entries"] == before
    if reason != "INVALID_PROBABILITY":  # which only a run shows
        manifest = str(system.directory / "manifest.yaml")
        refused = command("submit", manifest, str(checkpoint), "--benchmark", "small", *registry)
        assert refused.returncode == 1
        assert f"error: {reason}: " in refused.stderr


def hand_in(system, checkpoint):
    """Submits without the checks of the command line, as another client may."""
    document = read_document(system.directory / "manifest.yaml", datetime.now(UTC).date(), None)
    manifest = replace(document.manifest, artifact_sha256=checkpoint.stem)
    with RegistryClient(at(system, "registry")[1]) as client:
        submission = client.create_submission("small", manifest).name
        client.upload_artifact(submission, checkpoint)
        return submission


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("0123456789abcdef0123456789abcdef01234567", "main"), "COMMIT_NOT_FROZEN"),
        (("contact: tests@example.org\n", ""), "MISSING_FIELD"),
        (("xrv-224", "xrv-225"), "UNKNOWN_PROFILE"),
        (("- Hernia", "- Hernias"), "UNKNOWN_FINDING"),
    ],
)
def test_a_bad_manifest_is_one_line_with_its_reason(system, tmp_path, change, reason):
    assert change[0] in MANIFEST
    (tmp_path / "manifest.yaml").write_text(MANIFEST.replace(*change))
    (tmp_path / "model.onnx").write_bytes(b"model")
    ended = command(
        "submit",
        str(tmp_path / "manifest.yaml"),
        str(tmp_path / "model.onnx"),
        *at(system, "registry"),
    )
    assert ended.returncode == 1
    assert f"error: {reason}: manifest." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_registry_that_is_away_is_named_too():
    ended = command("leaderboard", "--registry", "127.0.0.1:1")
    assert ended.returncode == 1
    assert "SERVICE_UNAVAILABLE" in ended.stderr


def test_one_request_id_follows_an_evaluation_through_all_services(system, tmp_path):
    registry, data = at(system, "registry"), system.data["small"]
    json_of("dataset", "register", str(data), "--benchmark", "small", *registry)
    digest = onnx_models.classifier(tmp_path, seed=3)
    submitted = json_of(
        "submit",
        str(system.directory / "manifest.yaml"),
        str(tmp_path / f"{digest}.onnx"),
        "--benchmark",
        "small",
        *registry,
    )
    worked = command("worker", *system.addresses(), "--data", f"small={data}", "--once", "--json")
    evaluation = json.loads(worked.stdout)["name"]
    assert evaluation.startswith(submitted["name"])
    identifier = evaluation.rpartition("/")[2]
    methods = {}
    for service in ("registry", "inference", "scoring"):
        lines = map(json.loads, (system.directory / f"{service}.log").read_text().splitlines())
        methods[service] = {
            line["message"].split()[0] for line in lines if line.get("request_id") == identifier
        }
    assert "inference.GRPCInferenceService/RepositoryModelLoad" in methods["inference"]
    assert "cxreval.api.scoring.v1.ScoringService/ScorePredictions" in methods["scoring"]
    # Inference fetches the model with the id of the same request.
    assert "cxreval.api.registry.v1.ArtifactService/DownloadArtifact" in methods["registry"]
    assert "cxreval.api.registry.v1.EvaluationService/CompleteEvaluation" in methods["registry"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--tls-ca", "/absent.pem"], "tls_ca is '/absent.pem'"),
        (
            ["--tls-ca", __file__, "--tls-certificate", __file__],
            "only one of tls_certificate and tls_key is given; give both or neither",
        ),
        (["--tls-certificate", __file__, "--tls-key", __file__], "needs --tls-ca"),
    ],
)
def test_tls_files_that_do_not_fit_are_named(flags, named):
    ended = command(*flags, "leaderboard", "--registry", "127.0.0.1:1")
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert "MALFORMED_FIELD" in ended.stderr
    assert named in ended.stderr
