"""Profiles: names, digests and shapes, and agreement with the original libraries."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import InvalidTensor
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import PROFILES, Profile, profile_of
from cxreval.preprocessing import PRESETS
from tests.conftest import require_module
from tests.unit.test_resampling import scipy_resize

XRV = PROFILES["xrv-224"]
XRV_512 = PROFILES["xrv-512"]
IMAGENET = PROFILES["imagenet-224"]
TENCROP = PROFILES["imagenet-224-tencrop"]
Pipeline = Callable[[np.ndarray], np.ndarray]

SHAPES = [
    (1, 1),
    (3, 500),
    (223, 224),
    (224, 224),
    (226, 228),
    (100, 150),
    (449, 701),
    (301, 1000),
    (301, 200, 3),
]


@pytest.fixture(scope="module")
def torchxrayvision_pipelines() -> dict[int, Pipeline]:
    """Returns TorchXRayVision's transforms by the size of the resized image."""
    require_module("torch")
    require_module("cxreval.export.torch_libraries")
    xrv = require_module("torchxrayvision")
    crop = xrv.datasets.XRayCenterCrop()

    def pipeline(size: int) -> Pipeline:
        resize = xrv.datasets.XRayResizer(size)

        def run(image: np.ndarray) -> np.ndarray:
            scaled = xrv.datasets.normalize(image, np.iinfo(image.dtype).max)
            return np.asarray(
                resize(crop((scaled if scaled.ndim == 2 else scaled[:, :, 0])[np.newaxis]))
            )

        return run

    return {size: pipeline(size) for size in (224, 512)}


@pytest.fixture(scope="module")
def torchxrayvision_pipeline(torchxrayvision_pipelines: dict[int, Pipeline]) -> Pipeline:
    return torchxrayvision_pipelines[224]


@pytest.fixture(scope="module")
def torchvision_pipelines() -> dict[str, Pipeline]:
    """Returns torchvision's transforms by profile; ten crops as in CheXNet's own test."""
    torch = require_module("torch")
    require_module("cxreval.export.torch_libraries")
    transforms = require_module("torchvision.transforms")
    pillow = require_module("PIL.Image")
    finish = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    )
    one = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), finish])
    stack = transforms.Lambda(lambda crops: torch.stack([finish(crop) for crop in crops]))
    ten = transforms.Compose([transforms.Resize(256), transforms.TenCrop(224), stack])

    def pipeline(steps: Pipeline) -> Pipeline:
        return lambda image: np.asarray(steps(pillow.fromarray(image).convert("RGB")))

    return {"imagenet-224": pipeline(one), "imagenet-224-tencrop": pipeline(ten)}


@pytest.fixture(scope="module")
def torchvision_pipeline(torchvision_pipelines: dict[str, Pipeline]) -> Pipeline:
    return torchvision_pipelines["imagenet-224"]


def test_profiles_are_the_presets() -> None:
    assert set(PROFILES) == set(PRESETS)
    assert all(name == profile.name for name, profile in PROFILES.items())
    assert all(PROFILES[name] is profile_of(preset) for name, preset in PRESETS.items())


def test_digests_are_those_that_earlier_results_were_recorded_with() -> None:
    """A change of a digest requires a new revision and a line in the changelog."""
    assert XRV.digest == "73e7f26805a9011e327e0c4b2d7ae9d9e935943ae05578d6bcdb5f4d5697a352"
    assert XRV_512.digest == "ddc678d511d554d51219617462fffb31af46748b415068706f13cbadd487ace6"
    assert IMAGENET.digest == "6cd42fb05223c3948bcfedb455a5eedf606c442eef2ed5900d17e07a22a1a55d"
    assert TENCROP.digest == "359336468b2eef820b2e8e25689a49e71a4cdd52efb3d441fac1d94b62d8cc92"


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    channels=st.sampled_from([None, 1, 2, 3, 4]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    name=st.sampled_from(sorted(PROFILES)),
)
def test_every_image_gives_a_finite_tensor_of_the_profiles_shape_and_type(
    height: int, width: int, channels: int | None, dtype: type[np.uint8 | np.uint16], name: str
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    image = np.random.default_rng(height).integers(
        0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True
    )
    profile = PROFILES[name]
    tensor = profile.apply(image)
    expected = (1, 1, height, width) if name == "raw" else (profile.crops, *profile.shape)
    assert tensor.shape == expected
    assert tensor.dtype == profile.dtype
    assert tensor.flags.c_contiguous
    assert np.isfinite(tensor).all()


def test_raw_is_the_decoded_image_in_8_bits() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
    assert PROFILES["raw"].shape == (1, None, None)
    np.testing.assert_array_equal(PROFILES["raw"].apply(image)[0, 0], image)
    np.testing.assert_array_equal(PROFILES["raw"].apply(image.astype(np.uint16) * 257)[0, 0], image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4), np.int32),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
    ],
)
def test_what_decode_never_gives_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InvalidTensor, match="expected uint8 or uint16"):
        XRV.apply(image)


@given(
    side=st.integers(2, 400),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_xrv_equals_scipys_blur_and_zoom_where_nothing_is_clipped(
    side: int, dtype: type[np.uint8 | np.uint16], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(
        0, np.iinfo(dtype).max, (side, side), dtype=dtype, endpoint=True
    )
    image[0, 0], image[-1, -1] = 0, np.iinfo(dtype).max
    scaled = (2.0 * image / np.iinfo(dtype).max - 1) * 1024
    expected = np.clip(scipy_resize(scaled, 224), scaled.min(), scaled.max())
    np.testing.assert_allclose(XRV.apply(image)[0, 0], expected, atol=XRV.tolerance)


def test_xrv_of_a_flat_bright_image_is_flat_despite_zero_padding() -> None:
    np.testing.assert_array_equal(
        XRV.apply(np.full((1024, 1024), 255, np.uint8)), np.full((1, 1, 224, 224), 1024)
    )


def test_xrv_crops_the_center_of_the_long_side() -> None:
    image = np.zeros((300, 500), np.uint8)
    image[:, 100:400] = np.random.default_rng(0).integers(0, 256, (300, 300))
    np.testing.assert_array_equal(XRV.apply(image), XRV.apply(image[:, 100:400]))


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_alpha_and_repeated_channels_change_nothing(name: str) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (300, 260), dtype=np.uint8)
    alpha = np.random.default_rng(1).integers(0, 256, (300, 260), dtype=np.uint8)
    expected = PROFILES[name].apply(gray)
    for channels in ([gray, alpha], [gray, gray, gray], [gray, gray, gray, alpha]):
        np.testing.assert_array_equal(PROFILES[name].apply(np.dstack(channels)), expected)


def test_imagenet_16_bits_equal_the_8_bits_they_repeat() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (300, 260), dtype=np.uint8)
    np.testing.assert_array_equal(
        IMAGENET.apply(gray.astype(np.uint16) * 257), IMAGENET.apply(gray)
    )


@pytest.mark.parametrize(("low", "high"), [(0, 255), (200, 255), (0, 90), (127, 129)])
@pytest.mark.parametrize("shape", SHAPES)
def test_odd_shapes_agree_with_the_original_libraries(
    shape: tuple[int, ...],
    low: int,
    high: int,
    torchxrayvision_pipeline: Pipeline,
    torchvision_pipeline: Pipeline,
) -> None:
    image = np.random.default_rng(0).integers(low, high + 1, shape, dtype=np.uint8)
    np.testing.assert_allclose(
        XRV.apply(image)[0], torchxrayvision_pipeline(image), rtol=0, atol=XRV.tolerance
    )
    np.testing.assert_allclose(
        IMAGENET.apply(image)[0], torchvision_pipeline(image), rtol=0, atol=IMAGENET.tolerance
    )


@pytest.mark.parametrize("shape", [*SHAPES, (512, 600), (1025, 769), (257, 256), (255, 300)])
def test_odd_shapes_agree_at_512_and_with_ten_crops(
    shape: tuple[int, ...],
    torchxrayvision_pipelines: dict[int, Pipeline],
    torchvision_pipelines: dict[str, Pipeline],
) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    original = torchxrayvision_pipelines[512](image)
    np.testing.assert_allclose(XRV_512.apply(image)[0], original, rtol=0, atol=XRV_512.tolerance)
    crops = torchvision_pipelines[TENCROP.name](image)
    np.testing.assert_allclose(TENCROP.apply(image), crops, rtol=0, atol=TENCROP.tolerance)


def test_fifth_crop_is_the_center_and_the_last_five_are_the_first_mirrored() -> None:
    crops = TENCROP.apply(np.random.default_rng(0).integers(0, 256, (256, 300), dtype=np.uint8))
    for plain, mirrored in zip((0, 1, 2, 3, 4), (6, 5, 8, 7, 9), strict=True):
        np.testing.assert_array_equal(crops[plain], crops[mirrored][:, :, ::-1])


def test_tall_images_agree_with_every_pillow_within_one_8_bit_level(
    torchvision_pipeline: Pipeline,
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1000, 301), dtype=np.uint8)
    one_level = 1 / 255 / 0.224
    np.testing.assert_allclose(
        IMAGENET.apply(image)[0], torchvision_pipeline(image), rtol=0, atol=one_level + 1e-6
    )


def test_xrv_16_bits_agree_with_torchxrayvision(torchxrayvision_pipeline: Pipeline) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (500, 401), dtype=np.uint16)
    np.testing.assert_allclose(
        XRV.apply(image)[0], torchxrayvision_pipeline(image), rtol=0, atol=XRV.tolerance
    )


@pytest.mark.parametrize("size", [224, 512])
def test_xrv_agrees_with_torchxrayvision_on_real_radiographs(
    shared: Path, torchxrayvision_pipelines: dict[int, Pipeline], size: int
) -> None:
    imread, profile = require_module("skimage.io").imread, PROFILES[f"xrv-{size}"]
    for file in _radiographs(shared):
        tensor, original = (
            profile.apply(decode(file.read_bytes()))[0],
            torchxrayvision_pipelines[size](imread(file)),
        )
        np.testing.assert_allclose(
            tensor, original, rtol=0, atol=profile.tolerance, err_msg=file.name
        )


@pytest.mark.parametrize("profile", [IMAGENET, TENCROP], ids=lambda profile: profile.name)
def test_imagenet_agrees_with_torchvision_on_real_radiographs(
    shared: Path, torchvision_pipelines: dict[str, Pipeline], profile: Profile
) -> None:
    pillow = require_module("PIL.Image")
    for file in _radiographs(shared):
        original = torchvision_pipelines[profile.name](np.asarray(pillow.open(file)))
        tensor = profile.apply(decode(file.read_bytes())).reshape(original.shape)
        np.testing.assert_allclose(
            tensor, original, rtol=0, atol=profile.tolerance, err_msg=file.name
        )


def _radiographs(shared: Path) -> list[Path]:
    """Returns some of the radiographs, evenly spaced; `make test-full` takes all."""
    files = sorted((shared / "nih-chestxray14/images").glob("*.png"))
    count = int(os.environ.get("CXREVAL_RADIOGRAPHS", "40"))
    return [files[index * len(files) // count] for index in range(count)]


def test_memory_for_a_very_tall_image_is_that_of_its_crop() -> None:
    image = np.random.default_rng(0).integers(0, 256, (400_000, 64), dtype=np.uint8)
    middle = image[200_000 - 64 : 200_000 + 64]  # with the same center

    tracemalloc.start()
    tensor = IMAGENET.apply(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    np.testing.assert_allclose(tensor, IMAGENET.apply(middle), atol=0.02)  # an 8-bit level
    assert peak < 150_000_000  # resizing every row would take 400,000 x 224 float64 several times
