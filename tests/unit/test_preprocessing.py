"""Declarations of preprocessing: canonical form, digest, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cxreval.errors import CxrevalError, FieldsContradict, ImageTooLarge
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import (
    PRESETS,
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
    preprocessing_problems,
)

SIDES = st.integers(16, 64)
SIZES = st.lists(SIDES, max_size=2).map(tuple)
NUMBERS = st.sampled_from([-1024.0, -1.0, -0.0, 0.0, 0.5, 1.0, 255.0, 1024.0])
DECLARATIONS = st.builds(
    Preprocessing,
    channels=st.sampled_from([1, 3]),
    value_range=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-1024.0, 1024.0), (0.0, 255.0), (1, 0)]),
    square=st.sampled_from(Square),
    resize=st.builds(
        Resize,
        to=st.sampled_from(ResizeTo),
        size=SIZES,
        interpolation=st.sampled_from(Interpolation),
        antialias=st.sampled_from([None, None, True, False]),
        library=st.sampled_from(Library),
    ),
    crop=st.builds(Crop, kind=st.sampled_from(CropKind), size=SIZES),
    equalize=st.builds(
        Equalize,
        kind=st.sampled_from(EqualizeKind),
        clip=st.sampled_from([None, 0.1, 2, 2.0, 100.0]),
        tiles=st.sampled_from([None, 1, 8, 64]),
    ),
    mean=st.lists(NUMBERS, max_size=3).map(tuple),
    std=st.lists(st.sampled_from([1.0, 0.25, 2.0, 1]), max_size=3).map(tuple),
    layout=st.sampled_from(Layout),
    dtype=st.sampled_from(TensorType),
)


def valid(declaration: Preprocessing) -> Preprocessing:
    """Returns the declaration without the fields that contradict others."""
    for _ in range(20):
        problems = preprocessing_problems(declaration, "p")
        if not problems:
            return declaration
        name = problems[0].metadata["field"].removeprefix("p.").partition(".")[0]
        fallback = PRESETS["raw"] if name in ("dtype", "value_range") else Preprocessing()
        declaration = dataclasses.replace(
            declaration, **{name: getattr(fallback, name), "dtype": TensorType.FLOAT32}
        )
    assume(False)
    raise AssertionError


VALID = DECLARATIONS.map(valid)


@given(declaration=VALID, height=st.integers(1, 90), width=st.integers(1, 90), color=st.booleans())
def test_every_valid_declaration_gives_what_its_profile_says(
    declaration: Preprocessing, height: int, width: int, color: bool
) -> None:
    profile = profile_of(declaration)
    shape = (height, width, 3) if color else (height, width)
    dtype = np.uint16 if height % 2 else np.uint8
    image = np.random.default_rng(width).integers(0, np.iinfo(dtype).max, shape, dtype)
    tensor = profile.apply(image)
    assert tensor.shape[0] == profile.crops
    assert all(
        side in (None, got) for side, got in zip(profile.shape, tensor.shape[1:], strict=True)
    )
    assert tensor.dtype == profile.dtype
    assert tensor.flags.c_contiguous
    assert np.isfinite(tensor).all()
    assert profile.description.endswith(".")


@given(declaration=DECLARATIONS)
def test_a_declaration_is_refused_by_name_or_compiled(declaration: Preprocessing) -> None:
    problems = preprocessing_problems(declaration, "manifest.preprocessing")
    for problem in problems:
        assert problem.metadata["field"].startswith("manifest.preprocessing.")
        if isinstance(problem, FieldsContradict):
            assert problem.metadata["other"].startswith("manifest.preprocessing.")
            assert problem.metadata["other"] in problem.message
        assert problem.metadata["field"] in problem.message
    if problems:
        with pytest.raises(CxrevalError):
            profile_of(declaration)
    else:
        assert profile_of(declaration).digest == declaration.digest


@given(declaration=VALID)
def test_the_normalised_declaration_is_valid_has_the_digest_and_normalises_to_itself(
    declaration: Preprocessing,
) -> None:
    normalised = declaration.normalised
    assert preprocessing_problems(normalised, "p") == []
    assert normalised.normalised == normalised
    assert (normalised.digest, normalised.canonical) == (declaration.digest, declaration.canonical)


@settings(max_examples=40)
@given(declaration=VALID, seed=st.integers(0, 2**32 - 1))
def test_the_normalised_declaration_gives_the_same_values(
    declaration: Preprocessing, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (40, 50), np.uint8)
    first, second = profile_of(declaration), profile_of(declaration.normalised)
    np.testing.assert_array_equal(first.apply(image), second.apply(image))


def base(**changes: Any) -> Preprocessing:
    return dataclasses.replace(
        Preprocessing(resize=Resize(ResizeTo.EXACT, (224,)), mean=(0.5,) * 3, std=(0.5,) * 3),
        **changes,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (base(), base(resize=Resize(ResizeTo.EXACT, (224, 224)))),
        (base(), base(resize=Resize(ResizeTo.EXACT, (224,), antialias=True))),
        (base(), base(crop=Crop(CropKind.CENTER, (224,)))),
        (base(), base(tensor="image")),
        (base(mean=()), base(mean=(0.0, -0.0, 0))),
        (base(std=()), base(std=(1, 1, 1.0))),
        (base(value_range=(0, 1)), base(value_range=(-0.0, 1.0))),
        (
            base(square=Square.PAD),
            base(square=Square.PAD, resize=Resize(ResizeTo.SHORT_SIDE, (224,))),
        ),
        (
            Preprocessing(),
            Preprocessing(resize=Resize(interpolation=Interpolation.AREA, library=Library.TORCH)),
        ),
        (
            base(equalize=Equalize(EqualizeKind.CLAHE, 2, 8)),
            base(equalize=Equalize(EqualizeKind.CLAHE, 2.0, 8)),
        ),
    ],
)
def test_two_ways_to_say_the_same_have_one_digest(one: Preprocessing, other: Preprocessing) -> None:
    assert one.digest == other.digest
    assert one.name == other.name


CHANGES: list[dict[str, Any]] = [
    {"channels": 1, "mean": (), "std": ()},
    {"value_range": (0, 255)},
    {"square": Square.CROP},
    {"resize": Resize(ResizeTo.EXACT, (225,))},
    {"resize": Resize(ResizeTo.EXACT, (224, 225))},
    {"resize": Resize(ResizeTo.SHORT_SIDE, (224,))},
    {"resize": Resize(ResizeTo.EXACT, (224,), Interpolation.BICUBIC)},
    {"resize": Resize(ResizeTo.EXACT, (224,), library=Library.TORCH)},
    {"resize": Resize(ResizeTo.EXACT, (224,), antialias=False, library=Library.TORCH)},
    {"crop": Crop(CropKind.CENTER, (223,))},
    {"crop": Crop(CropKind.FIVE, (224,))},
    {"equalize": Equalize(EqualizeKind.CLAHE, 2, 8)},
    {"equalize": Equalize(EqualizeKind.CLAHE, 2, 7)},
    {"equalize": Equalize(EqualizeKind.MINMAX)},
    {"mean": (0.5, 0.5, 0.25)},
    {"std": (0.5, 0.5, 0.25)},
    {"layout": Layout.NHWC},
    {"dtype": TensorType.FLOAT16},
]


def test_each_step_changes_the_digest() -> None:
    declarations = [base(), *(base(**changes) for changes in CHANGES)]
    assert len({declaration.digest for declaration in declarations}) == len(CHANGES) + 1


def test_digests_of_declarations_are_those_that_results_were_recorded_with() -> None:
    """A change requires a new revision and a line in the changelog."""
    assert PRESETS["raw"].digest == RAW_DIGEST
    assert base().digest == BASE_DIGEST


RAW_DIGEST = "4a33ffb743d76f77e34d33f7d73cec2c925d30c6f456af8d593dc48760526ca7"
BASE_DIGEST = "c35e448e8c3230445de652d3c6bf65020dc3cf1d7bc25fa9e6a7d6ab261732f8"


def test_a_preset_spelled_out_is_the_preset() -> None:
    spelled = Preprocessing(
        channels=3,
        resize=Resize(ResizeTo.SHORT_SIDE, (224,), Interpolation.BILINEAR, True),
        crop=Crop(CropKind.CENTER, (224, 224)),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    assert (spelled.name, spelled.digest) == ("imagenet-224", PRESETS["imagenet-224"].digest)
    assert base().name == f"declared-{base().digest[:12]}"


SHORT = Resize(ResizeTo.SHORT_SIDE, (256,))
UINT8: dict[str, Any] = {"dtype": TensorType.UINT8, "value_range": (0.0, 255.0)}


@pytest.mark.parametrize(
    ("declaration", "field", "other"),
    [
        (Preprocessing(channels=2), "channels", ""),
        (Preprocessing(value_range=(1.0, 1.0)), "value_range", ""),
        (Preprocessing(value_range=(1.0,)), "value_range", ""),
        (Preprocessing(channels=1, mean=(0.1, 0.2, 0.3)), "mean", "channels"),
        (Preprocessing(std=(0.5,)), "std", "channels"),
        (Preprocessing(resize=Resize(size=(224,))), "resize.size", "resize.to"),
        (Preprocessing(resize=Resize(antialias=True)), "resize.antialias", "resize.to"),
        (Preprocessing(resize=Resize(ResizeTo.EXACT)), "resize.size", ""),
        (
            Preprocessing(resize=Resize(ResizeTo.SHORT_SIDE, (256, 256))),
            "resize.size",
            "resize.to",
        ),
        (
            Preprocessing(
                resize=dataclasses.replace(SHORT, interpolation="area", library="scikit-image")  # type: ignore[arg-type]
            ),
            "resize.interpolation",
            "resize.library",
        ),
        (
            Preprocessing(resize=dataclasses.replace(SHORT, antialias=False)),
            "resize.antialias",
            "resize.library",
        ),
        (
            Preprocessing(
                resize=dataclasses.replace(SHORT, antialias=True, library=Library.OPENCV)
            ),
            "resize.antialias",
            "resize.library",
        ),
        (
            Preprocessing(
                resize=dataclasses.replace(
                    SHORT, antialias=True, interpolation=Interpolation.NEAREST
                )
            ),
            "resize.antialias",
            "resize.interpolation",
        ),
        (
            Preprocessing(
                value_range=(-1024.0, 1024.0),
                resize=dataclasses.replace(SHORT, library=Library.TORCHXRAYVISION),
            ),
            "resize.library",
            "channels",
        ),
        (
            Preprocessing(
                channels=1, resize=dataclasses.replace(SHORT, library=Library.TORCHXRAYVISION)
            ),
            "resize.library",
            "value_range",
        ),
        (Preprocessing(crop=Crop(CropKind.CENTER, (224,))), "crop.kind", "resize.to"),
        (Preprocessing(resize=SHORT, crop=Crop(CropKind.TEN)), "crop.size", ""),
        (Preprocessing(resize=SHORT, crop=Crop(size=(224,))), "crop.size", "crop.kind"),
        (
            Preprocessing(resize=SHORT, crop=Crop(CropKind.CENTER, (256, 257))),
            "crop.size",
            "resize.size",
        ),
        (
            Preprocessing(
                resize=Resize(ResizeTo.EXACT, (224, 512)), crop=Crop(CropKind.FIVE, (300,))
            ),
            "crop.size",
            "resize.size",
        ),
        (
            Preprocessing(
                resize=Resize(ResizeTo.LONG_SIDE, (256,)), crop=Crop(CropKind.CENTER, (224,))
            ),
            "crop.kind",
            "resize.to",
        ),
        (Preprocessing(equalize=Equalize(EqualizeKind.CLAHE, tiles=8)), "equalize.clip", ""),
        (Preprocessing(equalize=Equalize(EqualizeKind.CLAHE, clip=2.0)), "equalize.tiles", ""),
        (Preprocessing(equalize=Equalize(clip=2.0)), "equalize.clip", "equalize.kind"),
        (
            Preprocessing(equalize=Equalize(EqualizeKind.HISTOGRAM, tiles=8)),
            "equalize.tiles",
            "equalize.kind",
        ),
        (Preprocessing(dtype=TensorType.UINT8), "value_range", "dtype"),
        (Preprocessing(mean=(1.0, 1.0, 1.0), **UINT8), "mean", "dtype"),
        (Preprocessing(std=(2.0, 2.0, 2.0), **UINT8), "std", "dtype"),
        (
            Preprocessing(value_range=(0.0, 65535.0), dtype=TensorType.FLOAT16),
            "value_range",
            "dtype",
        ),
        (
            Preprocessing(channels=1, std=(1e-6,), dtype=TensorType.FLOAT16),
            "value_range",
            "dtype",
        ),
    ],
)
def test_a_contradiction_names_both_fields(
    declaration: Preprocessing, field: str, other: str
) -> None:
    (problem,) = preprocessing_problems(declaration, "p")
    assert problem.metadata["field"] == f"p.{field}"
    assert problem.metadata.get("other", "") == (f"p.{other}" if other else "")
    assert isinstance(problem, FieldsContradict) == bool(other)


def test_all_problems_are_named_at_once() -> None:
    declaration = Preprocessing(channels=2, mean=(0.0,), crop=Crop(CropKind.FIVE), **UINT8)
    assert len(preprocessing_problems(declaration, "p")) == 4


def test_the_message_says_what_to_do() -> None:
    (problem,) = preprocessing_problems(Preprocessing(channels=1, mean=(0.1, 0.2, 0.3)), "p")
    assert problem.message == (
        "p.mean is [0.1, 0.2, 0.3], but p.channels is 1; give 1 value, one a channel"
    )


@pytest.mark.parametrize(
    ("declaration", "shape"),
    [
        (Preprocessing(square=Square.PAD), (1, 9000)),
        (Preprocessing(resize=SHORT), (1, 9000)),
        (Preprocessing(resize=SHORT, crop=Crop(CropKind.TEN, (224,))), (1, 900_000)),
        (
            Preprocessing(
                resize=dataclasses.replace(SHORT, interpolation=Interpolation.NEAREST),
                crop=Crop(CropKind.CENTER, (224,)),
            ),
            (900_000, 1),
        ),
        (
            Preprocessing(resize=Resize(ResizeTo.EXACT, (2048,), Interpolation.BICUBIC)),
            (1, 9_000_000),
        ),
    ],
)
def test_an_image_of_extreme_proportions_is_refused_before_memory_is_taken(
    declaration: Preprocessing, shape: tuple[int, int]
) -> None:
    with pytest.raises(ImageTooLarge):
        profile_of(declaration).apply(np.zeros(shape, np.uint8))


def test_gray_of_a_color_image_is_that_of_pillow() -> None:
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(profile_of(PRESETS["raw"]).apply(image)[0, 0], expected)
    deep = profile_of(PRESETS["raw"]).apply(image.astype(np.uint16) * 257)[0, 0]
    np.testing.assert_array_equal(deep, expected)
