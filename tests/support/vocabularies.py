"""Label tables in the formats of public collections, with tiny images and the labels they mean.

CheXpert, VinDr-CXR and PadChest are drawn at random in the columns, names and spellings of the
real tables. The expert labels of NIH's images are the real ones.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from tests.conftest import missing
from tests.support.inference import png

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
VINDR = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture",
    "Consolidation", "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity",
    "Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass", "Pleural effusion",
    "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion",
    "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
)  # fmt: skip
PADCHEST = ("cardiomegaly", "pleural effusion", "nodule", "infiltrates")
NIH_EXPERTS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")


OPTIONS = {
    "chexpert": ("--uncertain", "ignore", "--blank", "negative"),
    "vindr": ("--patient", "image_id"),
    "padchest": ("--blank", "ignore", "--findings", ",".join(PADCHEST)),
    "nih-experts": ("--subset", "--findings", ",".join(NIH_EXPERTS)),
}
"""The options of `cxreval dataset describe` for each collection."""


@dataclass(frozen=True)
class Hosted:
    """A data set as a host has it, the options that describe it, and the labels that it means.

    `labels`: shape (images, findings): 1, 0, or NaN where no label is meant.
    """

    directory: Path
    options: tuple[str, ...]
    findings: tuple[str, ...]
    images: list[str]
    labels: NDArray[np.float64] = field(repr=False)


def _write(directory: Path, rows: list[list[object]], images: dict[str, bytes]) -> None:
    for image, content in images.items():
        file = directory / "images" / image
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (directory / "labels.csv").write_text(text.getvalue())


def chexpert(directory: Path, policy: str) -> Hosted:
    """80 JPEG images in folders of patients; 14 columns with 1.0, 0.0, -1.0 and blanks."""
    draw = np.random.default_rng(1)
    picture = bytes(imagecodecs.jpeg8_encode(np.full((32, 32), 90, np.uint8)))
    images = [
        f"train/patient{10000 + n // 2}/study1/view{n % 2 + 1}_frontal.jpg" for n in range(80)
    ]
    cells = draw.choice(["1.0", "0.0", "-1.0", ""], (80, 14), p=(0.3, 0.3, 0.1, 0.3))
    rows = [
        [f"CheXpert-v1.0-small/{image}", draw.choice(["Female", "Male"]), 40 + n % 50, "Frontal",
         draw.choice(["AP", "PA"]), *cells[n]]
        for n, image in enumerate(images)
    ]  # fmt: skip
    _write(directory, [["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT], *rows],
           dict.fromkeys(images, picture))  # fmt: skip
    uncertain = {"ignore": np.nan, "positive": 1.0, "negative": 0.0}[policy]
    meaning = {"1.0": 1.0, "0.0": 0.0, "-1.0": uncertain, "": 0.0}
    labels = np.vectorize(meaning.__getitem__, [float])(cells)
    options = tuple(policy if word == "ignore" else word for word in OPTIONS["chexpert"])
    return Hosted(directory, options, CHEXPERT, images, labels)


def vindr(directory: Path, dicom: bytes) -> Hosted:
    """60 DICOM images; 28 columns, a row for each of an image's three readers."""
    draw = np.random.default_rng(2)
    images = [bytes(draw.integers(0, 256, 16, np.uint8)).hex() for _ in range(60)]
    votes = (draw.random((60, 1, 28)) < 0.4) ^ (draw.random((60, 3, 28)) < 0.2)
    rows = [
        [image, f"R{1 + (n + reader) % 17}", *votes[n, reader].astype(int)]
        for n, image in enumerate(images)
        for reader in range(3)
    ]
    draw.shuffle(rows)
    _write(directory, [["image_id", "rad_id", *VINDR], *rows],
           {f"{image}.dicom": dicom for image in images})  # fmt: skip
    labels = (votes.sum(axis=1) >= 2).astype(float)
    names = [f"{image}.dicom" for image in images]
    return Hosted(directory, OPTIONS["vindr"], VINDR, names, labels)


def padchest(directory: Path) -> Hosted:
    """70 PNG images in numbered folders; names like Python's lists, identifiers of 39 digits."""
    draw = np.random.default_rng(3)
    patients = [f"8398604886942923316379886357{draw.integers(10**10, 10**11)}" for _ in range(30)]
    names = [*PADCHEST, "scoliosis", "unchanged", "NSG tube"]
    header = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
              "PatientSex_DICOM", "ViewPosition_DICOM", "Projection", "Report", "Labels",
              "Localizations"]  # fmt: skip
    images, rows, labels = [], [], []
    for n in range(72):
        image = f"{n % 3}/2053668664013634823614867{n:04d}_{n % 7:02d}-{n:03d}.png"
        present = [name for name in names if draw.random() < 0.3]
        text = repr([f" {name}" if draw.random() < 0.1 else name for name in present or ["normal"]])
        unread = n >= 70
        rows.append(
            [n, image[2:], image[0], 20140915, n, draw.choice(patients), 1930.0,
             draw.choice(["M", "F"]), "POSTEROANTERIOR", draw.choice(["PA", "L"]),
             'Cambi, "pulmonar"\ncronic .', "nan" if unread else text, "[]"]
        )  # fmt: skip
        images.append(image)
        labels.append([np.nan if unread else float(name in present) for name in PADCHEST])
    _write(directory, [header, *rows], {image: png(16, 16) for image in images})
    return Hosted(directory, OPTIONS["padchest"], PADCHEST, images, np.array(labels))


def nih_experts(directory: Path) -> Hosted:
    """NIH's 1,962 official test images with expert labels, YES or NO, of four findings."""
    package = find_spec("torchxrayvision")
    if package is None or package.origin is None:
        missing("torchxrayvision is not installed (an optional extra)")
    name = "data/google2019_nih-chest-xray-labels.csv.gz"
    with gzip.open(Path(package.origin).parent / name, "rt", newline="") as text:
        rows = list(csv.reader(text))
    column = {name: rows[0].index(name) for name in ("Image Index", "Set Id", *NIH_EXPERTS)}
    tested = [row for row in rows[1:] if row[column["Set Id"]] == "test"]
    images = [row[column["Image Index"]] for row in tested]
    _write(directory, [list(row) for row in rows], dict.fromkeys(images, b""))
    labels = np.array([[row[column[name]] == "YES" for name in NIH_EXPERTS] for row in tested])
    return Hosted(directory, OPTIONS["nih-experts"], NIH_EXPERTS, images, labels.astype(float))
