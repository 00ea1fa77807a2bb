"""Renders studies and writes them as a data set in NIH's layout."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxreval.cores import cores
from cxreval.datasets.benchmark import (
    DEFAULT_REPLICATES,
    SLICES,
    BenchmarkSpec,
    list_sha256,
    ranked_by,
)
from cxreval.datasets.benchmark_file import SPEC_FILE
from cxreval.datasets.image_names import IMAGES_DIRECTORY
from cxreval.datasets.nih import FINDINGS, NO_FINDING
from cxreval.datasets.phantom.anatomy import FIELD_MM, Chest, Exposure, expose, measure
from cxreval.datasets.phantom.canvas import SIDE, Field, develop, enlarge, smoothstep
from cxreval.datasets.phantom.cohort import Study, split_studies
from cxreval.datasets.phantom.findings import DENSITY_OF, SHAPES_OF, look
from cxreval.fields import field_error

BENCHMARK = "phantom-cxr"
TITLE = "Synthetic chest phantoms: generated pictures, not patients"
LABELS_FILE = "Data_Entry.csv"
TEST_LIST, TRAIN_VAL_LIST = "test_list.txt", "train_val_list.txt"

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""NIH's header as in `Data_Entry_2017_v2020.csv`, including the commas inside brackets."""

TEST_FRACTION = 0.075
"""Share of the patients in the test split."""

MAX_PATIENTS = 30_805
"""Number of patients of NIH ChestX-ray14."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = 8
"""Number of images that a process draws per task."""


def render(study: Study, seed: int) -> npt.NDArray[np.uint8]:
    """Returns the radiograph of a study as a (1024, 1024) array.

    The pixels depend only on the arguments and are the same on every machine.
    """
    looks = {
        finding: look(seed, study, finding) for finding in FINDINGS if finding in study.findings
    }
    thorax = measure(seed, study)
    for finding, drawn in looks.items():
        if finding in SHAPES_OF:
            thorax = SHAPES_OF[finding](thorax, drawn)
    exposure = expose(seed, study)
    chest = Chest(thorax, exposure)
    soft = chest.soft_tissue()
    for finding, drawn in looks.items():
        if finding in DENSITY_OF:
            soft += DENSITY_OF[finding](chest, drawn)
    body = enlarge(chest.body)
    density = (
        enlarge(soft) + (chest.bones() + chest.markings(seed, study.patient) + chest.lines) * body
    )
    return develop(_tone(density, exposure), exposure.noise, *exposure.grain)


def _tone(density: Field, exposure: Exposure) -> Field:
    """Maps density to gray levels, 0 to 1: denser is brighter, with falling contrast."""
    dense: Field = np.clip(density * exposure.penetration, 0, 1)
    curved = dense * (1.0 + exposure.gamma * (1.0 - dense))
    gray: Field = curved * exposure.contrast + exposure.brightness * smoothstep(0.02, 0.2, dense)
    _mark_left(gray)
    return gray


def _mark_left(gray: Field) -> None:
    """Draws the letter L, a lead marker, beside the patient's left shoulder."""
    gray[24:56, 474:480] = 0.97
    gray[50:56, 474:494] = 0.97


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encodes a (height, width) picture as an 8-bit grayscale PNG.

    Rows are stored as differences from the row above. The pixels are the same everywhere; the
    compressed bytes are the same wherever Python is linked with the same zlib.
    """
    height, width = picture.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = 2  # filter "Up"
    rows[0, 1:] = picture[0]
    rows[1:, 1:] = picture[1:] - picture[:-1]
    # Grain has no repeats, so Huffman coding alone compresses as well as deflate and is faster.
    packer = zlib.compressobj(level=1, strategy=zlib.Z_HUFFMAN_ONLY)
    data = packer.compress(rows.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return _PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def generate(
    directory: Path,
    *,
    patients: int,
    seed: int = 2017,
    test_fraction: float = TEST_FRACTION,
    only: Literal["all", "test", "train_val"] = "all",
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BenchmarkSpec:
    """Writes a phantom data set to `directory` and returns its specification.

    The files are `images/`, `Data_Entry.csv`, `test_list.txt`, `train_val_list.txt` and
    `benchmark.toml`. The table and both lists are always complete. `benchmark.toml` is removed
    first and written last, so a directory that has one is complete.

    Args:
        directory: created if missing; files of an earlier run are overwritten.
        patients: 2 to `MAX_PATIENTS`; about 2.9 images each. Patient n is the same, and in the same
            split, for any number of patients.
        seed: 0 or more.
        test_fraction: share of the patients in the test split, between 0 and 1.
        only: the split whose images are drawn.
        processes: number of processes; default: one for each CPU core that this process may use.
        progress: called with the number of images drawn and their total.

    Returns:
        The specification of the benchmark of the test split.

    Raises:
        MalformedField: an argument is out of its range.
    """
    _check(patients, seed, test_fraction, processes)
    test, train_val = split_studies(seed, patients, test_fraction)
    studies = sorted(test + train_val, key=lambda study: study.image)

    (directory / IMAGES_DIRECTORY).mkdir(parents=True, exist_ok=True)
    (directory / SPEC_FILE).unlink(missing_ok=True)
    labels = label_table(studies)
    (directory / LABELS_FILE).write_bytes(labels)
    for name, split in ((TEST_LIST, test), (TRAIN_VAL_LIST, train_val)):
        (directory / name).write_text(
            "".join(f"{study.image}\n" for study in split), encoding="utf-8", newline="\n"
        )
    drawn = {"all": studies, "test": test, "train_val": train_val}[only]
    for done, _ in enumerate(
        _draw_all(drawn, directory / IMAGES_DIRECTORY, seed, processes or cores()), start=1
    ):
        if progress:
            progress(done, len(drawn))

    spec = BenchmarkSpec(
        name=BENCHMARK,
        title=TITLE,
        synthetic=True,
        list_file=TEST_LIST,
        list_sha256=list_sha256([study.image for study in test]),
        labels_file=LABELS_FILE,
        labels_sha256=hashlib.sha256(labels).hexdigest(),
        image_count=len(test),
        patient_count=len({study.patient for study in test}),
        findings=FINDINGS,
        metrics=ranked_by("auroc"),
        ranking_metric="auroc",
        scorer_version="2",  # fixed, so that the same seed makes the same benchmark
        replicates=DEFAULT_REPLICATES,
        slices=SLICES,
    )
    unfinished = directory / f"{SPEC_FILE}.unfinished"
    unfinished.write_text(spec.to_toml(), encoding="utf-8", newline="\n")
    unfinished.replace(directory / SPEC_FILE)
    return spec


def _check(patients: int, seed: int, test_fraction: float, processes: int | None) -> None:
    checks = (
        ("patients", patients, 2 <= patients <= MAX_PATIENTS, f"2 to {MAX_PATIENTS}"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("test_fraction", test_fraction, 0 < test_fraction < 1, "between 0 and 1"),
        ("processes", processes, processes is None or 1 <= processes <= 256, "1 to 256"),
    )
    for field, value, good, expected in checks:
        if not good:
            raise field_error(field, value, expected)


def label_table(studies: Iterable[Study]) -> bytes:
    """Returns the label table with NIH's columns, as UTF-8 CSV."""
    lines = [HEADER]
    for study in studies:
        labels = (
            "|".join(finding for finding in FINDINGS if finding in study.findings) or NO_FINDING
        )
        lines.append(
            f"{study.image},{labels},{study.follow_up},{study.patient},{study.age},{study.gender},{study.view},"
            f"{SIDE},{SIDE},{FIELD_MM / SIDE},{FIELD_MM / SIDE}"
        )
    return "".join(f"{line}\n" for line in lines).encode()


def _draw_all(studies: list[Study], images: Path, seed: int, processes: int) -> Iterator[None]:
    """Draws and writes every study; yields once after each."""
    draw = partial(_draw, images=images, seed=seed)
    if processes == 1 or len(studies) <= _CHUNK:
        yield from map(draw, studies)
        return
    # Spawned, not forked: the caller may run threads (gRPC does), and a fork copies held locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, studies, chunksize=_CHUNK)


def _draw(study: Study, images: Path, seed: int) -> None:
    (images / study.image).write_bytes(encode_png(render(study, seed)))
