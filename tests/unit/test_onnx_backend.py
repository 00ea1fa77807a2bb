"""Requirements on an ONNX file, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from cxreval import sandbox
from cxreval.errors import (
    CxrevalError,
    ModelExternalData,
    ModelInputMismatch,
    ModelNotOnnx,
    ModelOutputMismatch,
    ModelUnsupported,
    ServiceUnavailable,
)
from cxreval.model_interface import ModelInterface, preset
from cxreval.onnx_file.reading import profile_name
from cxreval.onnx_file.signature import Signature, inspect
from services.inference.backends import child
from services.inference.backends.model_host import HostLimits, LoadRequirements
from services.inference.backends.onnx_model import OnnxModel
from services.inference.backends.precision import FP16_TOLERANCE
from services.inference.backends.session import AS_SAVED, Execution, OnnxSession
from tests.support import onnx_models
from tests.support.inference import HOST_LIMITS

XRV = (1, 224, 224)
XRV_INTERFACE = preset("xrv-224")
IMAGES = np.random.default_rng(7).uniform(-1024, 1024, (5, *XRV)).astype(np.float32)


_opened: list[OnnxModel] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().host.close()


def load(
    directory: Path,
    digest: str,
    *,
    interface: ModelInterface | None = XRV_INTERFACE,
    max_batch: int = 8,
    limits: HostLimits = HOST_LIMITS,
    execution: Execution = AS_SAVED,
) -> OnnxModel:
    file = directory / f"{digest}.onnx"
    model = OnnxModel(
        file,
        LoadRequirements(interface),
        threads=1,
        max_batch=max_batch,
        limits=limits,
        execution=execution,
    )
    _opened.append(model)
    return model


def test_signature_names_the_one_input_and_output(tmp_path: Path) -> None:
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"

    assert inspect(file, XRV_INTERFACE, XRV) == Signature(
        "image_tensor", XRV, None, "probabilities"
    )


def test_answers_equal_an_independent_computation(tmp_path: Path) -> None:
    model = load(tmp_path, onnx_models.classifier(tmp_path))

    rows = model.run([IMAGES])

    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, onnx_models.expected(IMAGES), atol=onnx_models.TOLERANCE)


def test_pieces_run_as_one_batch_in_their_order(tmp_path: Path) -> None:
    model = load(tmp_path, onnx_models.classifier(tmp_path))

    rows = model.run([IMAGES[3:], IMAGES[:3]])

    np.testing.assert_allclose(
        rows, onnx_models.expected(np.roll(IMAGES, 2, axis=0)), atol=onnx_models.TOLERANCE
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_batch_size_is_the_largest_batch_and_smaller_ones_are_padded(
    tmp_path: Path, batch: int
) -> None:
    model = load(tmp_path, onnx_models.classifier(tmp_path, batch=batch))

    assert model.max_batch == batch
    np.testing.assert_allclose(
        model.run([IMAGES[:1]]), onnx_models.expected(IMAGES[:1]), atol=onnx_models.TOLERANCE
    )


def test_an_answer_does_not_depend_on_the_other_images_of_its_batch(tmp_path: Path) -> None:
    model = load(tmp_path, onnx_models.batch_dependent(tmp_path))

    assert model.alone
    np.testing.assert_array_equal(model.run([IMAGES]), np.zeros((5, 1)))


def test_nan_outputs_do_not_fail_the_load_and_are_reported_as_they_are(tmp_path: Path) -> None:
    model = load(tmp_path, onnx_models.nan_output(tmp_path))

    assert np.isnan(model.run([IMAGES])).all()


def test_shape_comes_from_the_file_without_a_profile(tmp_path: Path) -> None:
    digest = onnx_models.classifier(tmp_path, channels=3, size=112, columns=2)

    model = load(tmp_path, digest, interface=None)

    assert (model.signature.image_shape, model.columns) == ((3, 112, 112), 2)


REFUSALS: list[tuple[Callable[[Path], str], type[CxrevalError], str]] = [
    (onnx_models.not_onnx, ModelNotOnnx, "not a valid ONNX model"),
    (onnx_models.empty, ModelNotOnnx, "has no graph"),
    (onnx_models.invalid_graph, ModelNotOnnx, "nowhere"),
    (onnx_models.external_data, ModelExternalData, "'secrets'"),
    (
        lambda directory: onnx_models.external_data(directory, in_subgraph=True),
        ModelExternalData,
        "'secrets'",
    ),
    (onnx_models.custom_operator, ModelUnsupported, "com.example.medical"),
    (onnx_models.fails_at_run, ModelUnsupported, "failed on 1 images"),
    (onnx_models.two_inputs, ModelInputMismatch, "'age' float"),
    (onnx_models.double_input, ModelInputMismatch, "double"),
    (
        lambda directory: onnx_models.classifier(directory, size=112),
        ModelInputMismatch,
        "(N, 1, 112, 112)",
    ),
    (
        lambda directory: onnx_models.classifier(directory, channels=3),
        ModelInputMismatch,
        "(N, 3, 224, 224)",
    ),
    (onnx_models.unknown_type, ModelInputMismatch, "unknown type 99"),
    (
        lambda directory: onnx_models.sized(directory, (100_000, *XRV)),
        ModelInputMismatch,
        "expected an input of at most",
    ),
    (lambda directory: onnx_models.columns(directory, 0), ModelOutputMismatch, "returns 0 columns"),
    (
        lambda directory: onnx_models.columns(directory, 10_001),
        ModelOutputMismatch,
        "returns 10001 columns",
    ),
    (onnx_models.two_outputs, ModelOutputMismatch, "'flat' float"),
    (onnx_models.image_output, ModelOutputMismatch, "(N, 1, 224, 224)"),
]


@pytest.mark.parametrize(("build", "error", "names"), REFUSALS)
def test_unfit_file_is_refused_with_what_was_found(
    tmp_path: Path, build: Callable[[Path], str], error: type[CxrevalError], names: str
) -> None:
    with pytest.raises(error) as refusal:
        load(tmp_path, build(tmp_path))

    assert names in refusal.value.message
    assert refusal.value.metadata["expected"]
    assert refusal.value.metadata["field"].startswith("model")


def test_truncated_file_is_not_onnx(tmp_path: Path) -> None:
    whole = (tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx").read_bytes()

    with pytest.raises(ModelNotOnnx):
        load(tmp_path, onnx_models.store(tmp_path, whole[:-100]))


@pytest.mark.parametrize(
    "shape",
    [("N", -1, -224, 224), ("N", 1, 50_000, 50_000), ("N", 2**62, 2**62, 4), (2049, 1, 8, 8)],
)
def test_impossible_image_is_refused_without_a_profile(
    tmp_path: Path, shape: onnx_models.Shape
) -> None:
    digest = onnx_models.sized(tmp_path, shape)

    with pytest.raises(ModelInputMismatch):
        load(tmp_path, digest, interface=None)


def test_negative_batch_is_a_free_one_as_for_the_runtime(tmp_path: Path) -> None:
    model = load(tmp_path, onnx_models.sized(tmp_path, (-1, *XRV)), max_batch=8)

    assert model.signature.batch is None
    np.testing.assert_allclose(
        model.run([IMAGES]), IMAGES.mean(axis=(1, 2, 3))[:, np.newaxis], atol=1e-2
    )


def test_refusal_by_the_runtime_does_not_show_where_files_are_kept(tmp_path: Path) -> None:
    file = tmp_path / f"{onnx_models.wrong_opset(tmp_path)}.onnx"
    uninspected = Signature("image_tensor", XRV, None, "probabilities")

    with pytest.raises(ModelUnsupported, match="the runtime does not have version 999") as refusal:
        OnnxSession(file, uninspected, threads=1, execution=AS_SAVED)

    assert str(tmp_path) not in refusal.value.message


def test_a_run_bound_to_the_device_answers_as_any_other(tmp_path: Path) -> None:
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    session = OnnxSession(file, inspect(file, XRV_INTERFACE, XRV), threads=1, execution=AS_SAVED)
    plain = session.run(IMAGES)

    session._on_gpu = True

    np.testing.assert_array_equal(session.run(IMAGES), plain)
    with pytest.raises(ModelUnsupported, match="the runtime failed on 2 images"):
        session.run(IMAGES[:2, :, :100])


def test_half_precision_answers_within_its_tolerance(tmp_path: Path) -> None:
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    half = load(tmp_path, file.stem, execution=Execution("cpu", fp16=True))
    images = IMAGES + np.float32(500)

    rows = half.run([images])

    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, onnx_models.expected(images), atol=FP16_TOLERANCE)
    assert np.abs(rows - load(tmp_path, file.stem).run([images])).max() > 1e-6, (
        "this is full precision"
    )


def test_model_that_half_precision_changes_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "Constant", [], ["up"], value=numpy_helper.from_array(np.array([3000.3], np.float32))
        ),  # 3000 in half precision
        helper.make_node(
            "Constant", [], ["down"], value=numpy_helper.from_array(np.array([-3000], np.float32))
        ),
        helper.make_node("Add", ["logits", "up"], ["raised"]),
        helper.make_node("Add", ["raised", "down"], ["shifted"]),
    ]
    file = tmp_path / f"{onnx_models.classifier(tmp_path, extra_nodes=nodes)}.onnx"

    with pytest.raises(
        ModelUnsupported,
        match=r"^in half precision the model's answers differ by \S+; expected at most",
    ):
        load(tmp_path, file.stem, execution=Execution("cpu", fp16=True))


def test_provider_that_this_machine_lacks_is_the_servers_fault_not_the_models(
    tmp_path: Path,
) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"

    with pytest.raises(ServiceUnavailable, match="this server was told to use cuda"):
        load(tmp_path, file.stem, execution=Execution("cuda"))


def test_a_file_says_which_profile_it_is_meant_for(tmp_path: Path) -> None:
    named, silent = (
        onnx_models.classifier(tmp_path, profile="xrv-224"),
        onnx_models.classifier(tmp_path),
    )

    assert profile_name(tmp_path / f"{named}.onnx") == "xrv-224"
    assert profile_name(tmp_path / f"{silent}.onnx") == ""
    assert profile_name(tmp_path / f"{onnx_models.not_onnx(tmp_path)}.onnx") == ""


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sandbox, "_binaries", lambda: iter([]))
    sandbox._probed.cache_clear()
    yield
    monkeypatch.undo()
    sandbox._probed.cache_clear()


@pytest.mark.usefixtures("no_sandbox")
def test_a_host_without_a_sandbox_has_no_secret_of_the_service_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CXREVAL_INFERENCE_REGISTRY_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a secret")

    model = load(tmp_path, onnx_models.classifier(tmp_path))

    environment = Path(f"/proc/{model.host.pid}/environ").read_bytes()
    assert b"MALLOC_ARENA_MAX" in environment
    assert b"a secret" not in environment
    assert "bwrap is not installed" in model.host.unprotected


def test_a_process_that_cannot_take_its_limits_is_not_the_models_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "system_call_filter", lambda *_, **__: b"no program of BPF")

    with pytest.raises(ServiceUnavailable, match="did not start"):
        load(tmp_path, onnx_models.classifier(tmp_path))


def test_failed_starts_leave_no_descriptor_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    digest = onnx_models.classifier(tmp_path)
    monkeypatch.setattr("subprocess.Popen", refuse)
    before = len([*Path("/proc/self/fd").iterdir()])

    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="Resource temporarily unavailable"):
            load(tmp_path, digest)

    assert len([*Path("/proc/self/fd").iterdir()]) == before
