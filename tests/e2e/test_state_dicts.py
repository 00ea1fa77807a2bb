"""PyTorch state dicts from `submit` to the board: a real worker converts them in its sandbox."""

from dataclasses import replace

import numpy as np
import pytest

from cxreval.client import (
    CheckpointFormat,
    EvaluationStatus,
    Fault,
    SubmissionStatus,
    Tier,
    file_sha256,
)
from cxreval.datasets.nih import FINDINGS
from cxreval.evaluation.driver import (
    PLATFORM_FAILED,
    Abilities,
    EvaluationDriver,
    local_benchmarks,
)
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES
from cxreval.model_interface import preset
from tests.conftest import require_module
from tests.support.inference import png
from tests.support.scoring import describe, small_table
from tests.support.system import System, manifest

require_module("safetensors")
require_module("cxreval.export.torch_libraries")

import torch  # noqa: E402 -- an optional extra

from cxreval import sandbox  # noqa: E402
from cxreval.export.conversion import convert_checkpoint  # noqa: E402
from tests.support import checkpoints  # noqa: E402

IMAGES = [f"{patient:08d}_000.png" for patient in range(1, 5)]
OUTPUTS = ("", *reversed(FINDINGS))
"""Names in another order than the benchmark's, with one that is not a finding."""


@pytest.fixture(scope="module")
def pixels():
    encoded = [png(256, 256, seed=number) for number in range(len(IMAGES))]
    return encoded, np.concatenate(
        [PROFILES["imagenet-224"].apply(decode(image)) for image in encoded]
    )


@pytest.fixture(scope="module")
def system(tmp_path_factory, pixels):
    directory = tmp_path_factory.mktemp("state-dicts")
    data = directory / "data"
    sick = [
        (image, "|".join(FINDINGS) if i % 2 else "No Finding") for i, image in enumerate(IMAGES)
    ]
    describe(data, "small", IMAGES, small_table(data, sick))
    (data / "images").mkdir()
    for image, encoded in zip(IMAGES, pixels[0], strict=True):
        (data / "images" / image).write_bytes(encoded)
    with System(directory, {"small": data}, lease_seconds=5.0) as running:
        running.registry.create_benchmark(local_benchmarks(running.data)["small"])
        yield running


@pytest.fixture(scope="module")
def network(pixels):
    return checkpoints.torchvision_network(
        "resnet50", pixels[1][:, :, ::2, ::2], outputs=len(OUTPUTS)
    )


def declared(architecture, outputs=OUTPUTS):
    form = CheckpointFormat.PYTORCH_STATE_DICT
    return replace(
        manifest("PyTorch", "imagenet-224", outputs), format=form, architecture=architecture
    )


def failure(system, submission):
    (evaluation,) = system.registry.list_evaluations(submission)
    assert system.registry.get_submission(submission).status is SubmissionStatus.FAILED
    assert "/tmp" not in evaluation.failure.message
    return evaluation.failure


def clients(system):
    return system.registry, system.inference, system.scoring


def returned(system, submission):
    """Returns the evaluation to the queue, for another worker."""
    driver = EvaluationDriver(
        *clients(system), system.data, "unable", abilities=Abilities(convert_checkpoint)
    )
    evaluation = driver.run_next(lambda *_: None)
    assert evaluation.status is EvaluationStatus.QUEUED
    event = list(system.registry.submission_events(submission))[-1]
    assert (event.change, event.reason, event.details["failure"], event.details["fault"]) == (
        "returned", PLATFORM_FAILED, "CONVERSION_UNAVAILABLE", Fault.SYSTEM,
    )  # fmt: skip


@pytest.fixture
def no_sandbox(monkeypatch):
    monkeypatch.setattr(sandbox, "_binaries", lambda: iter([]))
    sandbox._probed.cache_clear()
    yield
    sandbox._probed.cache_clear()


@pytest.mark.timeout(500)
@pytest.mark.usefixtures("no_sandbox")
def test_a_state_dict_is_converted_and_run_by_a_worker_that_can(
    system, network, pixels, tmp_path, caplog
):
    weights = checkpoints.save_state_dict(
        network, tmp_path / "resnet50.pth", data_parallel=True, wrapped=True
    )
    good = system.registry.submit("small", declared("resnet50"), weights)
    assert (
        EvaluationDriver(*clients(system), system.data, "unable").run_next(lambda *_: None) is None
    )
    returned(system, good.name)
    assert "no sandbox: bwrap is not installed" in caplog.text
    other = system.registry.submit("small", declared("densenet121"), weights)
    evil = checkpoints.hostile(tmp_path / "evil.pth", "raise RuntimeError('executed')")
    hostile = system.registry.submit("small", declared("resnet50"), evil)
    system.start_worker()
    for submission in (other, hostile, good):
        system.wait(submission.name, 200.0)  # PyTorch is slow to start on a busy machine

    refused = failure(system, other.name)
    assert (refused.reason, refused.fault) == ("CHECKPOINT_MISMATCH", Fault.SUBMISSION)
    assert "of the 727 tensors of the network" in refused.message
    refused = failure(system, hostile.name)
    # Its code was not run; its tensors are no ResNet's.
    assert (refused.reason, refused.fault) == ("CHECKPOINT_MISMATCH", Fault.SUBMISSION)

    (evaluation,) = system.registry.list_evaluations(good.name)
    assert evaluation.status is EvaluationStatus.SUCCEEDED, evaluation.failure
    evidence = evaluation.provenance
    assert evidence["artifact_sha256"] == file_sha256(weights)
    assert evidence["converted_sha256"] == evidence["model_sha256"] != evidence["artifact_sha256"]
    assert float(evidence["conversion_largest_difference"]) <= float(
        evidence["conversion_tolerance"]
    )
    assert (evidence["architecture"], evidence["conversion_images"]) == ("resnet50", "4")
    assert evidence["torch_version"] == torch.__version__
    assert evidence["onnxscript_version"]
    (row,) = [
        entry for entry in system.registry.leaderboard("small") if entry.submission == good.name
    ]
    assert row.tier is Tier.EXECUTED

    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels[1])).sigmoid().numpy()
    columns = [column for column, name in enumerate(OUTPUTS) if name]
    answers = dict(system.inference.predict_many(
        evidence["converted_sha256"], preset("imagenet-224"), zip(IMAGES, pixels[0], strict=True)
    ))  # fmt: skip
    np.testing.assert_allclose(
        np.stack([answers[image] for image in IMAGES]), expected[:, columns], atol=1e-5
    )
