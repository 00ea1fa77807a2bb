"""What files and libraries say of a model, for the manifest that `submission init` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cxreval.errors import MalformedField
from cxreval.export.pytorch_file import FORMATS, FileKind, kind_of
from cxreval.export.tensor_shapes import column_count, network_name, tensor_shapes
from cxreval.extras import require_extra
from cxreval.fields import field_error, shown
from cxreval.foreign_files import foreign_kind
from cxreval.manifest.model import CheckpointFormat
from cxreval.model_interface import ModelInterface, read
from cxreval.preprocessing import (
    PRESETS,
    Crop,
    CropKind,
    Interpolation,
    Layout,
    Outputs,
    Preprocessing,
    Resize,
    ResizeTo,
    TensorType,
)

# Pillow's numbers of its filters, which Hugging Face's processors state.
_RESAMPLE = {
    0: Interpolation.NEAREST,
    1: Interpolation.LANCZOS,
    2: Interpolation.BILINEAR,
    3: Interpolation.BICUBIC,
    4: Interpolation.AREA,
}
_TIMM_INTERPOLATION = {word.value: word for word in Interpolation}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_READ = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std", "crop_pct", "do_convert_rgb",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "image_processor_type", "feature_extractor_type", "processor_class", "_processor_class",
    "input_data_format", "data_format", "return_tensors", "device", "_valid_processor_keys",
    "model_input_names", "auto_map", "transformers_version", "disable_grouping",
    "default_to_square",
}  # fmt: skip
_OFF = (None, False, "none")


def from_file(file: Path) -> dict[str, Any]:
    """Returns the fields of a manifest that a checkpoint states.

    Raises:
        MalformedField: the file is of a foreign kind, or no known one.
        ModelNotOnnx: it is not a valid ONNX file.
        ExtraMissing: reading it needs an extra.
    """
    if kind := foreign_kind(file):
        expected = "an ONNX or PyTorch file"
        message = f"{file} is {kind.what}; expected {expected}: {kind.cure}"
        raise MalformedField(message, field="from", expected=expected)
    content = kind_of(file)
    if content in FORMATS[CheckpointFormat.PYTORCH_STATE_DICT]:
        return _from_state_dict(file, content)
    for form, kinds in FORMATS.items():
        if content in kinds:
            return {"format": form}
    return _from_onnx(file)


def _from_state_dict(file: Path, kind: FileKind) -> dict[str, Any]:
    """Returns what the names and shapes of the tensors say; the file is not run."""
    shapes = tensor_shapes(file, kind)
    fields: dict[str, Any] = {"format": CheckpointFormat.PYTORCH_STATE_DICT}
    if network := network_name(shapes):
        fields["architecture"] = network
    return fields | {"columns": column_count(shapes)}


def _from_onnx(file: Path) -> dict[str, Any]:
    require_extra("onnx", f"reading the ONNX file {file}", "onnx")
    from cxreval.bundle import whole  # noqa: PLC0415 -- needs the extra
    from cxreval.onnx_file.reading import parse, profile_name  # noqa: PLC0415
    from cxreval.onnx_file.signature import inputs  # noqa: PLC0415

    graph = parse(whole(file)).graph
    fields: dict[str, Any] = {"format": CheckpointFormat.ONNX}
    images = [value for value in inputs(graph) if len(value.type.tensor_type.shape.dim) == 4]
    if (name := profile_name(file)) in PRESETS:
        fields["preprocessing"] = PRESETS[name]
    elif images:
        sizes = [dim.dim_value for dim in images[0].type.tensor_type.shape.dim][1:]
        steps = _of_input(sizes, images[0].type.tensor_type.elem_type)
        fields["preprocessing"] = replace(
            steps, tensor=images[0].name if len(inputs(graph)) > 1 else ""
        )
    if graph.output and len(graph.output) > 1:
        fields["outputs"] = Outputs(tensor=_probable(graph.output).name)
    sizes = [dim.dim_value for dim in _probable(graph.output).type.tensor_type.shape.dim][1:]
    fields["columns"] = next((size for size in sizes if size), 0)
    if len(sizes) == 2 and sizes[1] == 2:
        fields["outputs"] = replace(
            fields.get("outputs", Outputs()), activation=type(Outputs().activation).SOFTMAX_POSITIVE
        )
    return fields


def _probable(outputs: Any) -> Any:
    """Returns the output that looks most like one row of columns per image: the narrowest."""
    rows = [one for one in outputs if len(one.type.tensor_type.shape.dim) in (2, 3)]
    return min(
        rows or outputs, key=lambda one: one.type.tensor_type.shape.dim[-1].dim_value or 9999
    )


def _of_input(sizes: list[int], elem_type: int) -> Preprocessing:
    """Returns ImageNet's steps for an input of these sizes; (C, H, W) or (H, W, C)."""
    nhwc = sizes[0] not in (1, 3) and sizes[2] in (1, 3)
    channels, height, width = (sizes[2], *sizes[:2]) if nhwc else sizes
    dtype = {2: TensorType.UINT8, 10: TensorType.FLOAT16}.get(elem_type, TensorType.FLOAT32)
    size = (height or 224, width or 224)
    mean, std = _IMAGENET if channels == 3 else ((0.5,), (0.5,))
    raw = dtype == TensorType.UINT8
    return Preprocessing(
        channels=channels or 3,
        value_range=(0.0, 255.0) if raw else (0.0, 1.0),
        resize=Resize(ResizeTo.EXACT, size if size[0] != size[1] else size[:1]),
        mean=() if raw else mean,
        std=() if raw else std,
        layout=Layout.NHWC if nhwc else Layout.NCHW,
        dtype=dtype,
    )


def from_timm(name: str) -> Preprocessing:
    """Returns the preprocessing of timm's data configuration of a model, as its validation does.

    Raises:
        MalformedField: timm has no such model, or the configuration has no equal declaration.
        ExtraMissing: timm is not installed.
    """
    require_extra("export", "reading timm's configurations", "timm", "torch")
    from cxreval.export import torch_libraries  # noqa: PLC0415 -- needs the extra

    timm: Any = torch_libraries.timm
    name = name.removeprefix("timm/")
    known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if known is None:
        raise field_error("from-timm", name, "a model of timm.list_models()")
    return of_timm_config(timm.data.resolve_data_config(pretrained_cfg=known.to_dict()))


def of_timm_config(config: Mapping[str, Any]) -> Preprocessing:
    """Returns the declaration of a configuration as `timm.data.resolve_data_config` returns it.

    Raises `MalformedField` if there is no equal one.
    """
    channels, height, width = config["input_size"]
    interpolation = _TIMM_INTERPOLATION.get(config["interpolation"])
    mode, share = config.get("crop_mode", "center"), config["crop_pct"] or 0.875
    if interpolation is None:
        words = ", ".join(_TIMM_INTERPOLATION)
        raise field_error("from-timm.interpolation", config["interpolation"], f"one of {words}")
    scaled = math.floor(height / share), math.floor(width / share)
    if mode == "squash":
        resize = Resize(ResizeTo.EXACT, scaled, interpolation)
    elif mode == "center" and height == width:
        resize = Resize(ResizeTo.SHORT_SIDE, scaled[:1], interpolation)
    else:
        expected = "crop_mode squash, or center with a square input; write the steps yourself"
        raise field_error("from-timm.crop_mode", f"{mode} for {height}x{width}", expected)
    return _valid(
        Preprocessing(
            channels=channels,
            resize=resize,
            crop=Crop(CropKind.CENTER, (height, width)),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
        ),
        "from-timm",
    )


def from_processor(file: Path) -> Preprocessing:
    """Returns the preprocessing of a Hugging Face image processor (preprocessor_config.json).

    Raises:
        MalformedField: it is unreadable, or has a key that has no equal declaration.
    """
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise field_error("from-preprocessor", file, "the JSON of an image processor")
    try:
        return _valid(_of_processor(config), "from-preprocessor")
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError):
        expected = "the values that Hugging Face's image processors write"
        raise field_error("from-preprocessor", file, expected) from None


def _of_processor(config: dict[str, Any]) -> Preprocessing:
    further = config.keys() - _READ - _WITHOUT_EFFECT
    for key in sorted(key for key in further if config[key] not in _OFF):
        expected = "a key that preprocessing can express; write the steps yourself"
        raise field_error(f"from-preprocessor.{shown(key)}", config[key], expected)
    resize, crop = Resize(), Crop()
    if config.get("do_resize", True):
        resize = _resize(config)
    if config.get("do_center_crop", False):
        crop = Crop(CropKind.CENTER, _pair(config["crop_size"]))
    if "crop_pct" in config and config["crop_pct"] and config.get("do_resize", True):
        resize, crop = _convnext(config, resize)
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    is_normal = config.get("do_normalize", True)
    mean = tuple(map(float, config["image_mean"])) if is_normal else ()
    std = tuple(map(float, config["image_std"])) if is_normal else ()
    white = 255 * factor
    white = round(white) if math.isclose(white, round(white), rel_tol=1e-6) else white
    return Preprocessing(
        value_range=(0.0, float(white)), resize=resize, crop=crop, mean=mean, std=std
    )


def _resize(config: Mapping[str, Any]) -> Resize:
    size, interpolation = config["size"], _RESAMPLE[config.get("resample", 2)]
    if isinstance(size, dict) and size.keys() == {"shortest_edge"}:
        return Resize(ResizeTo.SHORT_SIDE, (int(size["shortest_edge"]),), interpolation)
    if isinstance(size, int) and config.get("default_to_square") is False:
        return Resize(ResizeTo.SHORT_SIDE, (size,), interpolation)
    return Resize(ResizeTo.EXACT, _pair(size), interpolation)


def _convnext(config: Mapping[str, Any], resize: Resize) -> tuple[Resize, Crop]:
    """Returns the steps of ConvNeXT's processor: below 384 a resize by `crop_pct` and a crop."""
    edge = resize.size[0]
    if edge >= 384:
        return replace(resize, to=ResizeTo.EXACT, size=(edge,)), Crop()
    scaled = int(edge / float(config["crop_pct"]))
    return (
        replace(resize, to=ResizeTo.SHORT_SIDE, size=(scaled,)),
        Crop(CropKind.CENTER, (edge,)),
    )


def _pair(size: Any) -> tuple[int, ...]:
    if isinstance(size, dict):
        if size.keys() != {"height", "width"}:
            raise KeyError(size)
        return int(size["height"]), int(size["width"])
    return (int(size),)


def _valid(steps: Preprocessing, field: str) -> Preprocessing:
    """Returns valid steps. Raises `CxrevalError` for a malformed value or a contradiction."""
    return read(ModelInterface(steps).json, field).preprocessing
