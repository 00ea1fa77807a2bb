"""Declarations, each with the call of the library that it must equal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import (
    ANTIALIAS,
    Crop,
    CropKind,
    Equalize,
    EqualizeKind,
    Interpolation,
    Layout,
    Library,
    Preprocessing,
    Resize,
    ResizeTo,
    Square,
    TensorType,
)
from tests.conftest import require_module

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZE = 224
FEW = 4
"""Number of radiographs that `make test` uses for each operation; others for each."""

Call = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A declaration, and the call of a library on an image (H, W) or (H, W, 3)."""

    name: str
    steps: Preprocessing
    call: Call


def radiographs(shared: Path) -> list[Path]:
    """Returns the files of all real radiographs."""
    return sorted((shared / "nih-chestxray14/images").glob("*.png"))


@lru_cache(maxsize=200)
def gray_image(file: Path) -> np.ndarray:
    """Returns a radiograph, decoded, as gray."""
    image = decode(file.read_bytes())
    return image if image.ndim == 2 else np.ascontiguousarray(image[:, :, 0])


def check(case: Case, image: np.ndarray) -> None:
    """Asserts that the profile gives what the library gives, within the profile's tolerance."""
    profile = profile_of(case.steps)
    tensor, expected = profile.apply(image), case.call(image)
    assert tensor.dtype == profile.dtype
    np.testing.assert_allclose(
        tensor.astype(np.float64),
        expected.reshape(tensor.shape).astype(np.float64),
        rtol=0,
        atol=profile.tolerance,
        err_msg=f"{case.name}, image {image.shape} {image.dtype}",
    )


def cases() -> list[Case]:
    """Returns every resize of every library, and whole pipelines of people."""
    return [*_resizes(), *_levels(), *_pipelines()]


def _resizes() -> Iterator[Case]:
    calls = {
        Library.PILLOW: pillow,
        Library.OPENCV: opencv,
        Library.SCIKIT_IMAGE: scikit_image,
        Library.TORCH: torch_interpolate,
    }
    for library, call in calls.items():
        for interpolation, choices in ANTIALIAS[library].items():
            for antialias in choices:
                yield Case(
                    f"{library}-{interpolation}{'-antialias' if antialias else ''}",
                    gray(Resize(ResizeTo.EXACT, (SIZE,), interpolation, antialias, library)),
                    call(interpolation, antialias=antialias),
                )


def gray(resize: Resize, **further: Any) -> Preprocessing:
    """Returns steps whose values are levels of 8 bits, so that a tolerance is in levels."""
    return Preprocessing(channels=1, value_range=(0, 255), resize=resize, **further)


def pillow(interpolation: Interpolation, *, antialias: bool, size: int = SIZE) -> Call:
    """Returns Pillow's resize; in two calls, because Pillow 13 exchanges the passes at times."""
    image = require_module("PIL.Image")
    names = {"area": "BOX", "nearest": "NEAREST"}
    method = image.Resampling[names.get(interpolation, interpolation.upper())]

    def call(levels: np.ndarray) -> np.ndarray:
        picture = image.fromarray(levels)
        if antialias:
            picture = picture.resize((size, picture.height), method)
        return np.asarray(picture.resize((size, size), method))

    return call


def opencv(interpolation: Interpolation, *, antialias: bool) -> Call:
    """Returns OpenCV's resize."""
    cv2 = require_module("cv2")
    names = {"bilinear": "LINEAR", "bicubic": "CUBIC", "lanczos": "LANCZOS4"}
    method = getattr(cv2, f"INTER_{names.get(interpolation, interpolation.upper())}")
    return lambda image: np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=method))


def scikit_image(interpolation: Interpolation, *, antialias: bool) -> Call:
    """Returns scikit-image's resize."""
    resize = require_module("skimage.transform").resize
    order = {"nearest": 0, "bilinear": 1, "bicubic": 3}[interpolation]
    return lambda image: np.asarray(
        resize(image, (SIZE, SIZE), order, anti_aliasing=antialias, preserve_range=True)
    )


def torch_interpolate(interpolation: Interpolation, *, antialias: bool) -> Call:
    """Returns PyTorch's resize of float32."""
    torch = require_module("torch")
    options: dict[str, Any] = {"mode": str(interpolation)}
    if interpolation in ("bilinear", "bicubic"):
        options |= {"antialias": antialias}

    def call(image: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(image.astype(np.float32))[None, None]
        return np.asarray(torch.nn.functional.interpolate(tensor, (SIZE, SIZE), **options))

    return call


def _levels() -> Iterator[Case]:
    cv2 = require_module("cv2")
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it looks for newer versions in the network
    albumentations = require_module("albumentations")
    for clip, tiles in ((2.0, 8), (4.0, 8), (40.0, 3), (0.5, 16), (1.0, 1)):
        clahe = cv2.createCLAHE(clip, (tiles, tiles))
        steps = Equalize(EqualizeKind.CLAHE, clip, tiles)
        yield Case(f"clahe-{clip:g}-{tiles}", gray(Resize(), equalize=steps), clahe.apply)
    fixed = albumentations.CLAHE(clip_limit=(4.0, 4.0), tile_grid_size=(8, 8), p=1)
    yield Case(
        "albumentations-clahe",
        gray(Resize(), equalize=Equalize(EqualizeKind.CLAHE, 4.0, 8)),
        lambda image: fixed(image=image)["image"],
    )
    histogram = Equalize(EqualizeKind.HISTOGRAM)
    yield Case("equalize-hist", gray(Resize(), equalize=histogram), cv2.equalizeHist)


def _pipelines() -> Iterator[Case]:
    require_module("torch")
    require_module("cxreval.export.torch_libraries")
    yield from (_torchvision_tensors(), _torchvision_five_crops(), _timm(), _timm_squash())
    yield from _monai()
    yield _albumentations()


def _torchvision_tensors() -> Case:
    torch, v2 = require_module("torch"), require_module("torchvision.transforms.v2")
    steps = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.Normalize(**IMAGENET),
        ]
    )
    resize = Resize(ResizeTo.SHORT_SIDE, (256,), Interpolation.BICUBIC, library=Library.TORCH)
    return Case(
        "torchvision-v2-tensors",
        Preprocessing(resize=resize, crop=Crop(CropKind.CENTER, (224,)), **IMAGENET),
        lambda image: np.asarray(steps(torch.from_numpy(image).expand(3, -1, -1))),
    )


def _torchvision_five_crops() -> Case:
    transforms, pil = require_module("torchvision.transforms"), require_module("PIL.Image")
    crops = transforms.Compose([transforms.Resize(256), transforms.FiveCrop((224, 200))])
    return Case(
        "torchvision-five-crops",
        Preprocessing(
            channels=1,
            value_range=(0, 255),
            resize=Resize(ResizeTo.SHORT_SIDE, (256,)),
            crop=Crop(CropKind.FIVE, (224, 200)),
            dtype=TensorType.UINT8,
            layout=Layout.NHWC,
        ),
        lambda image: np.stack([np.asarray(crop) for crop in crops(pil.fromarray(image))]),
    )


def _timm() -> Case:
    create, pil = require_module("timm.data").create_transform, require_module("PIL.Image")
    steps = create((3, 224, 224), interpolation="bicubic", crop_pct=0.875, **IMAGENET)
    return Case(
        "timm-bicubic-0.875",
        Preprocessing(
            resize=Resize(ResizeTo.SHORT_SIDE, (256,), Interpolation.BICUBIC),
            crop=Crop(CropKind.CENTER, (224,)),
            **IMAGENET,
        ),
        lambda image: np.asarray(steps(pil.fromarray(image).convert("RGB"))),
    )


def _timm_squash() -> Case:
    create, pil = require_module("timm.data").create_transform, require_module("PIL.Image")
    half = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    steps = create((3, 300, 300), interpolation="lanczos", crop_mode="squash", crop_pct=1.0, **half)
    resize = Resize(ResizeTo.EXACT, (300,), Interpolation.LANCZOS)
    return Case(
        "timm-squash",
        Preprocessing(resize=resize, **half),
        lambda image: np.asarray(steps(pil.fromarray(image).convert("RGB"))),
    )


def _monai() -> Iterator[Case]:
    transforms = require_module("monai.transforms")
    for size_mode, to, mode, interpolation in (
        ("all", ResizeTo.EXACT, "bilinear", Interpolation.BILINEAR),
        ("all", ResizeTo.EXACT, "area", Interpolation.AREA),
        ("longest", ResizeTo.LONG_SIDE, "bilinear", Interpolation.BILINEAR),
    ):
        size = (SIZE, SIZE) if size_mode == "all" else SIZE
        steps = transforms.Compose(
            [
                transforms.EnsureChannelFirst(channel_dim="no_channel"),
                transforms.ScaleIntensity(),
                transforms.Resize(size, size_mode=size_mode, mode=mode),
            ]
        )
        antialias = interpolation == Interpolation.AREA
        yield Case(
            f"monai-{size_mode}-{mode}",
            Preprocessing(
                channels=1,
                equalize=Equalize(EqualizeKind.MINMAX),
                resize=Resize(to, (SIZE,), interpolation, antialias, Library.TORCH),
            ),
            lambda image, steps=steps: np.asarray(steps(image.astype(np.float32))),
        )


def _albumentations() -> Case:
    albumentations = require_module("albumentations")
    steps = [
        albumentations.Resize(256, 256),
        albumentations.CenterCrop(224, 224),
        albumentations.Normalize(**IMAGENET),
    ]

    def call(image: np.ndarray) -> np.ndarray:
        side = max(image.shape)
        pad = albumentations.PadIfNeeded(side, side, position="center", fill=0)
        return np.asarray(
            albumentations.Compose([pad, *steps])(image=np.dstack([image] * 3))["image"]
        )

    return Case(
        "albumentations",
        Preprocessing(
            square=Square.PAD,
            resize=Resize(ResizeTo.EXACT, (256,), library=Library.OPENCV),
            crop=Crop(CropKind.CENTER, (224,)),
            layout=Layout.NHWC,
            **IMAGENET,
        ),
        call,
    )
