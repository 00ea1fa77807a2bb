"""Writes predictions as a table that `read_predictions` reads back to the same float32 values."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from cxreval.client import Predictions
from cxreval.datasets.columns import IMAGE
from cxreval.errors import MalformedField
from cxreval.extras import require_extra
from cxreval.fields import field_error
from cxreval.files import durable_file


def write_predictions(file: Path, read: Callable[[], Predictions]) -> None:
    """Writes a CSV or a Parquet file, by its suffix, of the predictions that `read` returns.

    The file is complete, or is as it was before.

    Raises:
        MalformedField: the file has another suffix, or its directory does not exist.
        ExtraMissing: it is a Parquet file, and the extra `parquet` is not installed.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    write = writers.get(file.suffix.lower())
    if write is None:
        raise field_error("output", file, f"a name that ends with {' or '.join(writers)}")
    if not file.parent.is_dir():
        raise MalformedField(f"{file.parent} is no directory; create it first", field="output")
    if write is _write_parquet:
        require_extra("parquet", f"writing {file.name}", "pyarrow")
    predictions = read()
    with durable_file(file) as content:
        write(content, predictions)


def _write_csv(content: BinaryIO, predictions: Predictions) -> None:
    text = TextIOWrapper(content, encoding="utf-8", newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([IMAGE, *predictions.findings])
    for image, values in zip(predictions.images, predictions.probabilities.tolist(), strict=True):
        # Nine digits give the same float32 again.
        rows.writerow([image, *(f"{value:.9g}" for value in values)])
    text.flush()
    text.detach()


def _write_parquet(content: BinaryIO, predictions: Predictions) -> None:
    import pyarrow  # noqa: PLC0415 -- needs the extra
    from pyarrow import parquet  # noqa: PLC0415

    columns = {IMAGE: list(predictions.images)}
    table = pyarrow.table(
        columns | dict(zip(predictions.findings, predictions.probabilities.T, strict=True))
    )
    parquet.write_table(table, content)
