"""Declarations, each with the call of the library that it must equal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
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
HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
SIZE = 224

Call = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A declaration, and a function that imports the library and returns its call on an image."""

    name: str
    steps: Preprocessing
    library: Callable[[], Call]


def radiographs(shared: Path) -> list[Path]:
    """Returns the files of all real radiographs."""
    return sorted((shared / "nih-chestxray14/images").glob("*.png"))


@lru_cache(maxsize=200)
def gray_image(file: Path) -> np.ndarray:
    """Returns a radiograph, decoded, as gray."""
    image = decode(file.read_bytes())
    return image if image.ndim == 2 else np.ascontiguousarray(image[:, :, 0])


def check(case: Case, image: np.ndarray, *, divisor: int = 1) -> None:
    """Asserts that the profile gives what the library gives, within the profile's tolerance.

    The library gets the image in float64 and its values are divided if there is a divisor.
    """
    profile, call = profile_of(case.steps), _call(case)
    tensor = profile.apply(image)
    expected = call(image) if divisor == 1 else call(image.astype(np.float64)) / divisor
    assert tensor.dtype == profile.dtype
    np.testing.assert_allclose(
        tensor.astype(np.float64),
        expected.reshape(tensor.shape).astype(np.float64),
        rtol=0,
        atol=profile.tolerance,
        err_msg=f"{case.name}, image {image.shape} {image.dtype}",
    )


@lru_cache
def _call(case: Case) -> Call:
    return case.library()


def gray(resize: Resize, **further: Any) -> Preprocessing:
    """Returns steps whose values are levels of 8 bits, so that a tolerance is in levels."""
    return Preprocessing(channels=1, value_range=(0, 255), resize=resize, **further)


# --- resizes --------------------------------------------------------------------------------------


def _pillow(interpolation: Interpolation, *, antialias: bool) -> Call:
    """Returns Pillow's resize; in two calls, because Pillow 13 exchanges the passes at times."""
    image = require_module("PIL.Image")
    names = {"area": "BOX", "nearest": "NEAREST"}
    method = image.Resampling[names.get(interpolation, interpolation.upper())]

    def call(levels: np.ndarray) -> np.ndarray:
        picture = image.fromarray(levels)
        if antialias:
            picture = picture.resize((SIZE, picture.height), method)
        return np.asarray(picture.resize((SIZE, SIZE), method))

    return call


def _opencv(interpolation: Interpolation, *, antialias: bool) -> Call:
    cv2 = require_module("cv2")
    names = {"bilinear": "LINEAR", "bicubic": "CUBIC", "lanczos": "LANCZOS4"}
    method = getattr(cv2, f"INTER_{names.get(interpolation, interpolation.upper())}")
    return lambda image: np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=method))


def _scikit_image(interpolation: Interpolation, *, antialias: bool) -> Call:
    resize = require_module("skimage.transform").resize
    order = {"nearest": 0, "bilinear": 1, "bicubic": 3}[interpolation]
    return lambda image: np.asarray(
        resize(image, (SIZE, SIZE), order, anti_aliasing=antialias, preserve_range=True)
    )


def _torch(interpolation: Interpolation, *, antialias: bool) -> Call:
    torch = require_module("torch")
    options: dict[str, Any] = {"mode": str(interpolation)}
    if interpolation in ("bilinear", "bicubic"):
        options |= {"antialias": antialias}

    def call(image: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(image.astype(np.float32))[None, None]
        return np.asarray(torch.nn.functional.interpolate(tensor, (SIZE, SIZE), **options))

    return call


_RESIZES = {
    Library.PILLOW: _pillow,
    Library.OPENCV: _opencv,
    Library.SCIKIT_IMAGE: _scikit_image,
    Library.TORCH: _torch,
}


def _resizes() -> Iterator[Case]:
    for library, resize in _RESIZES.items():
        for interpolation, choices in ANTIALIAS[library].items():
            for antialias in choices:
                yield Case(
                    f"{library}-{interpolation}{'-antialias' if antialias else ''}",
                    gray(Resize(ResizeTo.EXACT, (SIZE,), interpolation, antialias, library)),
                    partial(resize, interpolation, antialias=antialias),
                )


# --- gray levels ----------------------------------------------------------------------------------


def _clahe(clip: float, tiles: int) -> Call:
    clahe = require_module("cv2").createCLAHE(clip, (tiles, tiles))
    return lambda image: np.asarray(clahe.apply(image))


def _albumentations() -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it looks for newer versions in the network
    return require_module("albumentations")


def _albumentations_clahe() -> Call:
    clahe = _albumentations().CLAHE(clip_limit=(4.0, 4.0), tile_grid_size=(8, 8), p=1)
    return lambda image: np.asarray(clahe(image=image)["image"])


def _levels() -> Iterator[Case]:
    for clip, tiles in ((2.0, 8), (40.0, 3), (0.5, 16), (1.0, 1)):
        steps = gray(Resize(), equalize=Equalize(EqualizeKind.CLAHE, clip, tiles))
        yield Case(f"opencv-clahe-{clip:g}-{tiles}", steps, partial(_clahe, clip, tiles))
    steps = gray(Resize(), equalize=Equalize(EqualizeKind.CLAHE, 4.0, 8))
    yield Case("albumentations-clahe", steps, _albumentations_clahe)
    steps = gray(Resize(), equalize=Equalize(EqualizeKind.HISTOGRAM))
    yield Case("opencv-equalize-hist", steps, lambda: require_module("cv2").equalizeHist)


# --- whole pipelines ------------------------------------------------------------------------------


def _torchvision_tensors() -> Call:
    torch = require_module("torch")
    require_module("cxreval.export.torch_libraries")
    v2 = require_module("torchvision.transforms.v2")
    steps = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize(256, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.Normalize(**IMAGENET),
        ]
    )
    return lambda image: np.asarray(steps(torch.from_numpy(image).expand(3, -1, -1)))


def _torchvision_five_crops() -> Call:
    require_module("cxreval.export.torch_libraries")
    transforms, pil = require_module("torchvision.transforms"), require_module("PIL.Image")
    crops = transforms.Compose([transforms.Resize(256), transforms.FiveCrop((224, 200))])
    return lambda image: np.stack([np.asarray(crop) for crop in crops(pil.fromarray(image))])


def _timm(size: int, **options: Any) -> Call:
    require_module("cxreval.export.torch_libraries")
    pil = require_module("PIL.Image")
    steps = require_module("timm.data").create_transform((3, size, size), **options)
    return lambda image: np.asarray(steps(pil.fromarray(image).convert("RGB")))


def _monai(size_mode: str, mode: str) -> Call:
    transforms = require_module("monai.transforms")
    steps = transforms.Compose(
        [
            transforms.EnsureChannelFirst(channel_dim="no_channel"),
            transforms.ScaleIntensity(),
            transforms.Resize(
                (SIZE, SIZE) if size_mode == "all" else SIZE, size_mode=size_mode, mode=mode
            ),
        ]
    )
    return lambda image: np.asarray(steps(image.astype(np.float32)))


def _albumentations_pipeline() -> Call:
    library = _albumentations()
    further = [
        library.Resize(256, 256),
        library.CenterCrop(224, 224),
        library.Normalize(**IMAGENET),
    ]

    def call(image: np.ndarray) -> np.ndarray:
        side = max(image.shape)
        pad = library.PadIfNeeded(side, side, position="center", fill=0)
        return np.asarray(library.Compose([pad, *further])(image=np.dstack([image] * 3))["image"])

    return call


def _pipelines() -> Iterator[Case]:
    bicubic, center = Interpolation.BICUBIC, Crop(CropKind.CENTER, (224,))
    resize = Resize(ResizeTo.SHORT_SIDE, (256,), bicubic, library=Library.TORCH)
    yield Case(
        "torchvision-v2-tensors",
        Preprocessing(resize=resize, crop=center, **IMAGENET),
        _torchvision_tensors,
    )
    yield Case(
        "torchvision-five-crops",
        gray(
            Resize(ResizeTo.SHORT_SIDE, (256,)),
            crop=Crop(CropKind.FIVE, (224, 200)),
            dtype=TensorType.UINT8,
            layout=Layout.NHWC,
        ),
        _torchvision_five_crops,
    )
    yield Case(
        "timm",
        Preprocessing(resize=Resize(ResizeTo.SHORT_SIDE, (256,), bicubic), crop=center, **IMAGENET),
        partial(_timm, 224, interpolation="bicubic", crop_pct=0.875, **IMAGENET),
    )
    yield Case(
        "timm-squash",
        Preprocessing(resize=Resize(ResizeTo.EXACT, (300,), Interpolation.LANCZOS), **HALF),
        partial(_timm, 300, interpolation="lanczos", crop_mode="squash", crop_pct=1.0, **HALF),
    )
    for size_mode, to, interpolation, antialias in (
        ("all", ResizeTo.EXACT, Interpolation.BILINEAR, False),
        ("all", ResizeTo.EXACT, Interpolation.AREA, True),
        ("longest", ResizeTo.LONG_SIDE, Interpolation.BILINEAR, False),
    ):
        yield Case(
            f"monai-{size_mode}-{interpolation}",
            Preprocessing(
                channels=1,
                equalize=Equalize(EqualizeKind.MINMAX),
                resize=Resize(to, (SIZE,), interpolation, antialias, Library.TORCH),
            ),
            partial(_monai, size_mode, str(interpolation)),
        )
    yield Case(
        "albumentations",
        Preprocessing(
            square=Square.PAD,
            resize=Resize(ResizeTo.EXACT, (256,), library=Library.OPENCV),
            crop=center,
            layout=Layout.NHWC,
            **IMAGENET,
        ),
        _albumentations_pipeline,
    )


CASES = [*_resizes(), *_levels(), *_pipelines()]
"""Every resize of every library, equalizations, and whole pipelines as people write them."""
