"""Preprocessing profiles: named, versioned transforms from a decoded image to a model's input.

A profile has a digest, which is recorded with every result. It changes with anything that affects a
pixel. On the same decoded image, each profile agrees with the pipeline of the library it is named
after, within its `tolerance`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxreval.errors import InvalidTensor
from cxreval.imaging.image import Image
from cxreval.imaging.resample import (
    GAUSSIAN_TRUNCATE,
    PILLOW_PRECISION_BITS,
    Resampling,
    from_fixed_point,
    gaussian_bilinear,
    pillow_bilinear,
)
from cxreval.preprocessing import Preprocessing

Tensor = npt.NDArray[np.float32]

XRV_RANGE = 1024.0
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Profile:
    """A versioned transform from a decoded image to float32 tensors of `shape` (C, H, W).

    An image gives `crops` tensors; with several crops, the answer is the mean over the crops.
    `steps` names every operation and parameter that affects the result, `revision` increases when
    the code gives other values for the same steps, and `tolerance` is the largest absolute
    difference to the original library's pipeline.
    """

    name: str
    description: str
    shape: tuple[int, int, int]
    revision: int
    steps: tuple[str, ...]
    tolerance: float
    transform: Callable[[Image], Tensor]
    crops: int = 1

    @property
    def tensor_shape(self) -> tuple[int, int, int, int]:
        """Shape of all tensors of an image: (crops, C, H, W)."""
        return self.crops, *self.shape

    @property
    def digest(self) -> str:
        """The sha256 of name, shape, revision and steps as canonical JSON; 64 hex characters."""
        definition = {
            "name": self.name,
            "shape": self.shape,
            "revision": self.revision,
            "steps": self.steps,
        }
        canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def apply(self, image: Image) -> Tensor:
        """Transforms an image as `decode` returns it.

        Returns:
            contiguous float32 of shape (C, H, W), or (crops, C, H, W) if there are several crops.

        Raises:
            InvalidTensor: the image is not uint8 or uint16, is empty, or has another shape than
                (H, W) or (H, W, 1 to 4).
        """
        well_formed = image.ndim == 2 or (image.ndim == 3 and image.shape[2] <= 4)
        if image.dtype not in (np.uint8, np.uint16) or not well_formed or image.size == 0:
            expected = "uint8 or uint16 of shape (H, W) or (H, W, 1 to 4)"
            message = f"image is {image.dtype} of shape {image.shape}; expected {expected}"
            raise InvalidTensor(message, field="image", expected=expected)
        return self.transform(image)


def _xrv(size: int) -> Profile:
    """Returns TorchXRayVision's `normalize`, `XRayCenterCrop` and `XRayResizer(size)`."""
    return Profile(
        name=f"xrv-{size}",
        description=f"TorchXRayVision: one channel in [-1024, 1024], center crop, {size}x{size}",
        shape=(1, size, size),
        revision=1,
        steps=(
            "channel: first",
            (
                "scale: [0, 255] for 8 bits, [0, 65535] for 16 bits, "
                f"to [-{XRV_RANGE:g}, {XRV_RANGE:g}]"
            ),
            "crop: center square of the short side, offset side // 2 - short // 2",
            (
                f"blur when shrinking: Gaussian, sigma (side / {size} - 1) / 2, "
                f"cut off at {GAUSSIAN_TRUNCATE:g} sigma"
            ),
            "outside: zero, for the blur and for the interpolation",
            f"resize: bilinear at pixel centers to {size}x{size}",
            "clip: to the range of the cropped image, widened to 0 if the result spans 0",
        ),
        tolerance=1e-3,
        transform=lambda image: _xrv_tensor(image, size),
    )


def _xrv_tensor(image: Image, size: int) -> Tensor:
    gray = image if image.ndim == 2 else image[:, :, 0]
    height, width = gray.shape
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    square = _xrv_scale(gray[top : top + side, left : left + side])
    resampling = gaussian_bilinear(side, size)
    out = resampling.across(resampling.down(square))
    low, high = square.min(), square.max()
    # Zero padding darkens or brightens the border; scikit-image clips this unless 0 is in range.
    if not low <= 0 <= high and out.min() <= 0 <= out.max():
        low, high = min(low, np.float32(0)), max(high, np.float32(0))
    return np.asarray(np.clip(out, low, high)[np.newaxis])


def _xrv_scale(gray: Image) -> Tensor:
    """Scales to [-1024, 1024] with the operations and the precision of TorchXRayVision."""
    scaled = gray.astype(np.float32)
    scaled /= np.iinfo(gray.dtype).max
    scaled *= 2
    scaled -= 1
    scaled *= XRV_RANGE
    return scaled


def _imagenet(size: int) -> Profile:
    """Returns torchvision's `Resize(size)`, `CenterCrop(size)`, `ToTensor` and `Normalize`.

    Pillow resizes across, then down. Since version 13 it resizes down first if an image is more
    than about twice as tall as wide; then one 8-bit level may differ. This profile always resizes
    across first, because a score must not depend on a Pillow version.
    """
    return Profile(
        name=f"imagenet-{size}",
        description=(
            f"torchvision: RGB, short side to {size}, center crop, ImageNet mean and standard "
            "deviation"
        ),
        shape=(3, size, size),
        revision=1,
        steps=(
            "channels: RGB, gray repeated, alpha dropped",
            "depth: 16 bits to 8 by round(x / 257)",
            f"size: short side to {size}, long side to floor({size} * long / short)",
            "resize: across then down, triangle filter, widened when shrinking",
            (
                f"rounding: weights to {PILLOW_PRECISION_BITS} fractional bits, "
                "samples to 8 bits after each pass"
            ),
            f"crop: center {size}x{size}, offset round half even of (side - {size}) / 2",
            f"scale: [0, 255] to [0, 1], minus {IMAGENET_MEAN}, divided by {IMAGENET_STD}",
        ),
        tolerance=1e-6,
        transform=lambda image: _imagenet_tensor(image, size),
    )


def _imagenet_tensor(image: Image, size: int) -> Tensor:
    height, width = image.shape[:2]
    across, down = (
        _positioned(*sides, size, size, _center) for sides in ((width, height), (height, width))
    )
    return _imagenet_scale([_resized(channel, across, down) for channel in _channels(image)])


def _channels(image: Image) -> list[npt.NDArray[np.uint8]]:
    """Returns red, green and blue, or gray, in 8 bits; without alpha."""
    if image.ndim == 2:
        return [_to_8_bits(image)]
    return [_to_8_bits(image[:, :, channel]) for channel in range(3 if image.shape[2] >= 3 else 1)]


def _imagenet_scale(planes: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Applies torchvision's `ToTensor` and `Normalize` to three planes, or to one three times.

    Returns:
        (3, H, W).
    """
    rgb = np.stack([*planes] * (3 // len(planes))).astype(np.float32)
    rgb /= 255
    rgb -= np.array(IMAGENET_MEAN, np.float32)[:, np.newaxis, np.newaxis]
    rgb /= np.array(IMAGENET_STD, np.float32)[:, np.newaxis, np.newaxis]
    return rgb


def _resized(
    channel: npt.NDArray[np.uint8], across: Resampling, down: Resampling
) -> npt.NDArray[np.uint8]:
    rows = np.zeros((channel.shape[0], across.size_out), np.uint8)
    # Only the rows that the crop needs: a million rows take gigabytes.
    rows[down.needed] = from_fixed_point(across.across(channel[down.needed]))
    return from_fixed_point(down.down(rows))


def _to_8_bits(channel: Image) -> npt.NDArray[np.uint8]:
    if channel.dtype == np.uint8:
        return channel.astype(np.uint8, copy=False)
    return ((channel.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _imagenet_tencrop(size: int, crop: int) -> Profile:
    """Returns torchvision's `Resize(size)`, `TenCrop(crop)`, `ToTensor` and `Normalize`.

    CheXNet is tested with it. As for `imagenet-224`, an image more than about twice as tall as wide
    may differ by one 8-bit level.
    """
    return Profile(
        name=f"imagenet-{crop}-tencrop",
        description=(
            f"torchvision: RGB, short side to {size}, 4 corners and center {crop}x{crop}, "
            "also mirrored"
        ),
        shape=(3, crop, crop),
        revision=1,
        steps=(
            "channels: RGB, gray repeated, alpha dropped",
            "depth: 16 bits to 8 by round(x / 257)",
            f"size: short side to {size}, long side to floor({size} * long / short)",
            "resize: across then down, triangle filter, widened when shrinking",
            (
                f"rounding: weights to {PILLOW_PRECISION_BITS} fractional bits, "
                "samples to 8 bits after each pass"
            ),
            (
                f"crops: {crop}x{crop} top left, top right, bottom left, bottom right, center; "
                "then of the mirrored image"
            ),
            f"center: offset round half even of (side - {crop}) / 2",
            f"scale: [0, 255] to [0, 1], minus {IMAGENET_MEAN}, divided by {IMAGENET_STD}",
            "answer: mean over the ten crops",
        ),
        tolerance=1e-6,
        transform=lambda image: _tencrop_tensor(image, size, crop),
        crops=10,
    )


def _tencrop_tensor(image: Image, size: int, crop: int) -> Tensor:
    """Returns the ten crops, (10, 3, crop, crop); only the corners and the center are resized."""
    height, width = image.shape[:2]
    top, middle, bottom = (
        _positioned(height, width, size, crop, at) for at in (_first, _center, _last)
    )
    left, center, right = (
        _positioned(width, height, size, crop, at) for at in (_first, _center, _last)
    )
    mirrored_center = _positioned(width, height, size, crop, lambda free: free - _center(free))
    channels = _channels(image)

    def crop_at(down: Resampling, across: Resampling) -> Tensor:
        return _imagenet_scale([_resized(channel, across, down) for channel in channels])

    upper, lower = (
        [crop_at(top, left), crop_at(top, right)],
        [crop_at(bottom, left), crop_at(bottom, right)],
    )
    inner = crop_at(middle, center)
    odd = mirrored_center is not center
    mirrored = [*upper[::-1], *lower[::-1], crop_at(middle, mirrored_center) if odd else inner]
    return np.stack([*upper, *lower, inner, *(tensor[:, :, ::-1] for tensor in mirrored)])


def _first(_free: int) -> int:
    return 0


def _center(free: int) -> int:
    return round(free / 2)


def _last(free: int) -> int:
    return free


def _positioned(
    side: int, other: int, size: int, crop: int, at: Callable[[int], int]
) -> Resampling:
    """Returns the map of `side` samples to a crop of `crop` samples.

    The image is resized so that the shorter of `side` and `other` has `size` samples. `at` returns
    the start of the crop, given the number of samples outside it.
    """
    resized = size if side <= other else size * side // other
    start = at(resized - crop)
    return pillow_bilinear(side, resized, start, start + crop)


PROFILES = {
    profile.name: profile
    for profile in (_imagenet(224), _imagenet_tencrop(256, 224), _xrv(224), _xrv(512))
}
"""The profiles by name."""


def profile_of(preprocessing: Preprocessing) -> Profile:
    """Returns the profile that carries out declared preprocessing."""
    return PROFILES[preprocessing.name]
