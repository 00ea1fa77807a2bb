"""Writes the images that a script is shown: opaque names, a secret order, one canonical form.

Names, order, times, inodes and sizes of the files tell nothing about which image is which, and
neither does a digest of a file, because each is encoded anew. Its pixels are those that
`cxreval.imaging` decodes, so what a script can still see is the image: its pixels, with them its
width and height, whether it has 8 or 16 bits, and whether it is gray, has color or alpha. A script
that compares pixels can recognise an image that it has. The canaries, images that are shown again
with one gray level of noise, show a script that looks images up exactly; one that compares them
approximately passes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxreval.imaging.decode import decode
from cxreval.imaging.image import Image
from cxreval.imaging.png import encode_png
from cxreval.reproduction.sample import draw, shuffled

CANARIES = 32
"""Default number of canaries."""

_CANARY = "\0canary"  # no name of an image has a NUL


@dataclass(frozen=True, slots=True)
class Shown:
    """What a script was shown.

    `images`: the image of each file name, canaries included, in the order shown. `canaries`: for
    each file name of a canary, the file name under which the same image is shown without noise.
    """

    images: Mapping[str, str]
    canaries: Mapping[str, str]

    def list_text(self) -> str:
        """Returns the content of the list file: one file name a line, in the order shown."""
        return "".join(f"{name}\n" for name in self.images)


def prepare(
    images: Iterable[tuple[str, Path]],
    directory: Path,
    seed: bytes,
    canaries: int = CANARIES,
    decoder: Callable[[bytes], Image] = decode,
) -> Shown:
    """Writes images into an empty directory as `000001.png` and so on, and returns which is which.

    A file is a PNG without compression, of the decoded image's own depth and channels: 8 bits of
    gray for a usual radiograph, 16 for DICOM and PNG files of more than 8. Files of one width,
    height, depth and number of channels have one size. All files can be read by all users, and
    have the time 0.

    Args:
        images: name and file of each image; the order does not matter.
        directory: an empty directory, which is made read-only.
        seed: a secret; the same seed and names give the same files.
        canaries: how many images are shown again with noise, if there are as many.
        decoder: decodes an image; pass one that is isolated if the images are a stranger's.

    Raises:
        ImageUnreadable, ImageTooLarge: see `cxreval.imaging.decode.decode`.
        OSError: a file cannot be read or written.
    """
    files = dict(images)
    again = draw(sorted(files), canaries, _key(seed, "canaries"))
    entries = shuffled([*files, *(image + _CANARY for image in again)], _key(seed, "order"))
    width = max(6, len(str(len(entries))))
    names = {entry: f"{number:0{width}}.png" for number, entry in enumerate(entries, start=1)}

    def write(entry: str) -> None:
        image = entry.removesuffix(_CANARY)
        pixels = decoder(files[image].read_bytes())
        if image != entry:
            pixels = with_noise(pixels, _key(seed, entry))
        file = directory / names[entry]
        file.write_bytes(encode_png(pixels))
        file.chmod(0o444)
        os.utime(file, (0, 0))

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, entries):
            pass
    directory.chmod(0o555)
    os.utime(directory, (0, 0))
    return Shown(
        images={names[entry]: entry.removesuffix(_CANARY) for entry in entries},
        canaries={names[image + _CANARY]: names[image] for image in again},
    )


def with_noise(pixels: Image, key: bytes) -> Image:
    """Returns the image with each pixel one gray level of 8 bits brighter or darker, by a key.

    A level is 1 of 8 bits and 257 of 16. Values stay in their range, and alpha stays as it is. The
    channels of a color image change alike.
    """
    height, width = pixels.shape[:2]
    words = np.random.PCG64(int.from_bytes(key)).random_raw(-(-height * width // 64))
    bits = np.unpackbits(words.view(np.uint8), count=height * width).reshape(height, width)
    level = 1 if pixels.dtype == np.uint8 else 257
    noise = (2 * bits.astype(np.int32) - 1) * level
    if pixels.ndim == 3:
        channels = pixels.shape[2]
        noise = np.repeat(noise[:, :, np.newaxis], channels, axis=2)
        if channels in (2, 4):
            noise[:, :, -1] = 0
    most = np.iinfo(pixels.dtype).max
    noisy: Image = np.clip(pixels.astype(np.int32) + noise, 0, most).astype(pixels.dtype)
    return noisy


def _key(seed: bytes, purpose: str) -> bytes:
    """Returns a key of a seed for one purpose."""
    return hmac.digest(seed, purpose.encode(), hashlib.sha256)
