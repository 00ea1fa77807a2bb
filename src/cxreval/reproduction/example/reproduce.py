"""Predicts 14 findings of chest radiographs with an ONNX model: the script of a submission.

    python reproduce.py --images DIR --list FILE --out FILE --seed N

README.md states what is given and what is expected. Change FINDINGS, `prepare` and `open_model` to
your model's.
"""

import argparse
import csv
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
)  # fmt: skip
SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def prepare(image: Image.Image) -> np.ndarray:
    """Returns the model's input, of shape (1, 3, 224, 224), for a radiograph."""
    width, height = image.size
    shorter = min(width, height)
    size = (int(SIDE * width / shorter), int(SIDE * height / shorter))
    small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - SIDE) / 2) for side in size)
    pixels = np.asarray(small, np.float32)[top : top + SIDE, left : left + SIDE] / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)[np.newaxis]


def open_model(checkpoint: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from an input to the probabilities of the findings."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the order of sums must not depend on the machine
    session = onnxruntime.InferenceSession(checkpoint, options)
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0][0]


def main() -> None:
    """Writes a row of probabilities for each image of the list, in its order."""
    given = argparse.ArgumentParser()
    given.add_argument("--images", type=Path, required=True, help="folder of the images")
    given.add_argument("--list", type=Path, required=True, help="names of the images, one a line")
    given.add_argument("--out", type=Path, required=True, help="CSV file to write")
    given.add_argument("--seed", type=int, required=True)
    arguments = given.parse_args()

    random.seed(arguments.seed)
    np.random.seed(arguments.seed)  # noqa: NPY002 -- for libraries that use it
    # Without a submitted checkpoint, the weights are a file of this repository.
    model = open_model(os.environ.get("CXREVAL_CHECKPOINT", "model.onnx"))
    with arguments.out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("Image Index", *FINDINGS))
        for name in arguments.list.read_text().splitlines():
            with Image.open(arguments.images / name) as image:
                table.writerow((name, *map(float, model(prepare(image)))))
            file.flush()  # the rows that are written are the progress that is shown


if __name__ == "__main__":
    main()
