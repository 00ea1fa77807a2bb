"""Preprocessing that `submission init` reads from timm and Hugging Face gives the same pixels."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.cli.origins import from_file, from_processor, of_timm_config
from cxreval.errors import MalformedField
from cxreval.export.pytorch_file import FileKind
from cxreval.export.tensor_shapes import tensor_shapes
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import Layout, Preprocessing
from tests.conftest import require_module
from tests.support import onnx_models

HEADS = {
    "torchvision/densenet121": "classifier",
    "torchvision/resnet18": "fc",
    "torchvision/efficientnet_b0": "classifier.1",
    "timm/vit_tiny_patch16_224": "head",
}
HALF = [0.5, 0.5, 0.5]
VIT = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "resample": 2,
    "size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": HALF, "image_std": HALF,
}  # fmt: skip
CLIP = VIT | {
    "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224}, "do_convert_rgb": True,
}  # fmt: skip
CONVNEXT = VIT | {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}


def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (300, 411), np.uint8)


def difference(steps: Preprocessing, expected: npt.NDArray[np.float32]) -> float:
    profile = profile_of(steps)
    return float(abs(profile.apply(picture())[0] - expected).max()) - profile.tolerance


def processed(size: tuple[int, int], resample: int, crop: int | None) -> npt.NDArray[np.float32]:
    """What the documentation of the processors says: resize (width, height), crop, scale."""
    image = Image.fromarray(picture()).convert("RGB").resize(size, Image.Resampling(resample))
    if crop:
        left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return np.asarray((np.moveaxis(np.asarray(image), 2, 0) / 255 - 0.5) / 0.5, np.float32)


@pytest.mark.parametrize("network", HEADS)
@pytest.mark.parametrize("form", ["safetensors", "pth", "training script"])
def test_a_state_dict_states_its_network_and_its_number_of_outputs(
    tmp_path: Path, network: str, form: str
) -> None:
    torch = require_module("torch")
    from cxreval.export.architectures import NetworkSpec

    tensors = {
        f"module.{name}": torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in NetworkSpec(network, 5, 1, (224, 224)).state().items()
    }
    file = tmp_path / "model.pth"
    if form == "safetensors":
        from safetensors.torch import save_file

        save_file(tensors, file)
    elif form == "pth":
        torch.save(tensors, file)
    else:
        torch.save({"epoch": 3, "state_dict": tensors, "best": 0.8}, file)
    assert from_file(file) == {
        "format": "pytorch-state-dict", "architecture": network, "columns": 5,
    }  # fmt: skip


def test_the_manifest_of_a_state_dict_marks_what_its_file_does_not_say(tmp_path: Path) -> None:
    torch = require_module("torch")
    from cxreval.export.architectures import NetworkSpec

    tensors = NetworkSpec("resnet50", 14, 3, (224, 224)).build().state_dict()
    for name, further in (("known", {}), ("own", {"conv1.extra": torch.zeros(3)})):
        torch.save(tensors | further, tmp_path / f"{name}.pth")
        manifest = tmp_path / f"{name}.yaml"
        arguments = ["submission", "init", str(manifest), "--from", str(tmp_path / f"{name}.pth")]
        ended = CliRunner().invoke(app, arguments)
        assert ended.exit_code == 0, ended.output
    known, own = ((tmp_path / f"{name}.yaml").read_text() for name in ("known", "own"))
    assert yaml.safe_load(known)["architecture"] == "torchvision/resnet50"
    assert "set the network of your weights" not in known
    assert "set the network of your weights" in own
    assert "set your order" in known


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\x80\x02(((((",
        b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch owned\x85R.",
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
        b"\x80\x02h\x05.",
        b"\x80\x04\x8c\x01a\x94" + b"h\x00h\x00\x93q\x00" * 60 + b".",  # doubles a name
        b"\x80\x02" + b"(" * 100_000 + b".",
    ],
)
def test_a_hostile_pickle_states_nothing_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("model.pth", "w") as archive:
        archive.writestr("archive/data.pkl", hostile)
    assert tensor_shapes(Path("model.pth"), FileKind.PICKLE) == {}
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


@given(st.binary(max_size=60))
def test_any_pickle_and_any_header_states_shapes_or_nothing(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + content)
        tensor_shapes(file, FileKind.PICKLE)
        file.write_bytes(len(content).to_bytes(8, "little") + content)
        tensor_shapes(file, FileKind.SAFETENSORS)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VIT, processed((224, 224), 2, None)),
        (CLIP, processed((306, 224), 3, 224)),
        (CONVNEXT, processed((350, 256), 3, 224)),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, processed((384, 384), 3, None)),
    ],
)
def test_a_processor_of_hugging_face_gives_the_same_pixels(
    tmp_path: Path, config: dict[str, Any], expected: npt.NDArray[np.float32]
) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(config))
    assert difference(from_processor(file), expected) <= 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"do_pad": True}, "do_pad"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"size": {"longest_edge": 224}}, "from-preprocessor"),
        ({"resample": 9}, "from-preprocessor"),
        ({"image_std": [0, 0, 0]}, "std"),
        ({"image_mean": None}, "from-preprocessor"),
    ],
)
def test_a_key_that_changes_pixels_otherwise_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(VIT | changes))
    with pytest.raises(MalformedField, match=named):
        from_processor(file)


@pytest.mark.parametrize(
    "name", ["efficientnet_b0.ra_in1k", "vit_tiny_patch16_224", "convnext_atto.d2_in1k"]
)
def test_a_configuration_of_timm_gives_the_same_pixels(name: str) -> None:
    require_module("torch")
    from cxreval.export.torch_libraries import timm

    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config)
    expected = transform(Image.fromarray(picture()).convert("RGB")).numpy()
    assert difference(of_timm_config(config), expected) <= 0


def test_the_shape_of_an_onnx_input_says_layout_channels_and_size(tmp_path: Path) -> None:
    file = tmp_path / f"{onnx_models.classifier(tmp_path, channels=3, size=320, columns=5)}.onnx"
    fields = from_file(file)
    steps = fields["preprocessing"]
    assert (steps.channels, steps.resize.size, steps.layout) == (3, (320,), Layout.NCHW)
    assert fields["columns"] == 5
