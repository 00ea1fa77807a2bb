"""Preprocessing of a radiograph beside the libraries that it equals, on one thread.

    .venv/bin/python -m bench.preprocess

Each contestant makes the same tensor (1, 3, 224, 224) of the same gray image of 1024x1024: resize,
scaling to [0, 1], ImageNet's mean and standard deviation. The figures are processor time. The
contestants alternate, and a ratio is the median of the ratios of the rounds. The others resize one
channel and repeat it, which is faster than what their users usually write.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import skimage.transform
import torch
from threadpoolctl import threadpool_limits

import cxreval.export.torch_libraries  # noqa: F401 -- makes torchvision importable
from cxreval.datasets import phantom
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import (
    Equalize,
    EqualizeKind,
    Interpolation,
    Library,
    Preprocessing,
    Resize,
    ResizeTo,
)

from torchvision.transforms import v2  # isort: skip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (224, 224)
ROUNDS, SECONDS = 9, 0.1
Contestant = Callable[[], object]


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threadpool_limits(1)
    image = np.ascontiguousarray(phantom.render(phantom.draw_studies(0, 0)[0], 0))
    assert image.shape == (1024, 1024)
    print(f"load average {os.getloadavg()[0]:.2f}")
    print(f"{'case':34} {'ours, ms':>9}  times the time of others (above 1: ours is slower)")
    for name, (steps, others) in cases(image).items():
        profile = profile_of(steps)
        compare(name, lambda profile=profile: profile.apply(image), others)


def compare(name: str, ours: Contestant, others: dict[str, Contestant]) -> None:
    expected = np.asarray(ours(), np.float32).ravel()
    for other in others.values():
        difference = np.abs(np.asarray(other(), np.float32).ravel() - expected).max()
        assert difference < 0.04, f"{name}: {difference}"  # two 8-bit levels
    times: dict[str, list[float]] = {"ours": []} | {other: [] for other in others}
    for _ in range(ROUNDS):
        for contestant, run in {"ours": ours, **others}.items():
            times[contestant].append(per_call(run))
    ratios = []
    for other in others:
        ratio = statistics.median(np.divide(times["ours"], times[other]))
        ratios.append(f"{other} {ratio:.2f}")
    print(
        f"{name:34} {statistics.median(times['ours']) * 1e3:9.2f}  {', '.join(ratios)}", flush=True
    )


def per_call(run: Contestant) -> float:
    start, calls = time.process_time(), 0
    while (passed := time.process_time() - start) < SECONDS:
        run()
        calls += 1
    return passed / calls


def declared(interpolation: Interpolation, library: Library, **further: object) -> Preprocessing:
    antialias = further.pop("antialias", None)
    resize = Resize(ResizeTo.EXACT, SIZE, interpolation, antialias, library)  # type: ignore[arg-type]
    return Preprocessing(resize=resize, mean=MEAN, std=STD, **further)  # type: ignore[arg-type]


def cases(image: np.ndarray) -> dict[str, tuple[Preprocessing, dict[str, Contestant]]]:
    found: dict[str, tuple[Preprocessing, dict[str, Contestant]]] = {}
    picture = PIL.Image.fromarray(image)
    tensor = torch.from_numpy(image)[None]
    to_float = v2.ToDtype(torch.float32, scale=True)
    normalize = v2.Normalize(MEAN, STD)
    mean, std = (np.float32(values)[:, None, None] for values in (MEAN, STD))

    def finished(levels: np.ndarray) -> np.ndarray:
        values = levels.astype(np.float32)
        values /= 255
        return np.asarray((values - mean) / std)

    def pillow(interpolation: Interpolation) -> Contestant:
        method = PIL.Image.Resampling[interpolation.upper()]
        return lambda: finished(np.asarray(picture.resize(SIZE, method)))

    def torchvision(interpolation: Interpolation, *, antialias: bool, eight: bool) -> Contestant:
        resize = v2.Resize(SIZE, v2.InterpolationMode[interpolation.upper()], antialias=antialias)
        if eight:
            return lambda: normalize(to_float(resize(tensor)).expand(3, -1, -1))
        return lambda: normalize(resize(to_float(tensor)).expand(3, -1, -1))

    def opencv(method: int) -> Contestant:
        return lambda: finished(cv2.resize(image, SIZE, interpolation=method))

    for kind in (Interpolation.BILINEAR, Interpolation.BICUBIC):
        found[f"Pillow, {kind}, antialias"] = (
            declared(kind, Library.PILLOW),
            {
                "Pillow": pillow(kind),
                "torchvision.v2 uint8": torchvision(kind, antialias=True, eight=True),
            },
        )
        for antialias in (True, False):
            found[f"PyTorch, {kind}{', antialias' * antialias}"] = (
                declared(kind, Library.TORCH, antialias=antialias),
                {"torchvision.v2": torchvision(kind, antialias=antialias, eight=False)},
            )
    found["Pillow, lanczos, antialias"] = (
        declared(Interpolation.LANCZOS, Library.PILLOW),
        {"Pillow": pillow(Interpolation.LANCZOS)},
    )
    for kind, method in (
        (Interpolation.BILINEAR, cv2.INTER_LINEAR),
        (Interpolation.BICUBIC, cv2.INTER_CUBIC),
        (Interpolation.AREA, cv2.INTER_AREA),
        (Interpolation.LANCZOS, cv2.INTER_LANCZOS4),
    ):
        found[f"OpenCV, {kind}"] = (declared(kind, Library.OPENCV), {"OpenCV": opencv(method)})
    for kind, order in ((Interpolation.BILINEAR, 1), (Interpolation.BICUBIC, 3)):
        found[f"scikit-image, {kind}, antialias"] = (
            declared(kind, Library.SCIKIT_IMAGE),
            {
                "scikit-image": lambda order=order: finished(
                    skimage.transform.resize(image, SIZE, order, preserve_range=True)
                )
            },
        )
    clahe = cv2.createCLAHE(2.0, (8, 8))
    found["CLAHE, then Pillow, bilinear"] = (
        declared(
            Interpolation.BILINEAR, Library.PILLOW, equalize=Equalize(EqualizeKind.CLAHE, 2.0, 8)
        ),
        {
            "OpenCV and Pillow": lambda: finished(
                np.asarray(PIL.Image.fromarray(clahe.apply(image)).resize(SIZE, 2))
            )
        },
    )
    return found


if __name__ == "__main__":
    main()
