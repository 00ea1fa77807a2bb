"""Exports a seed system to an ONNX file with its parity report; writes both or neither."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from cxreval.datasets.nih import FINDINGS
from cxreval.export.checkpoint import Checkpoint
from cxreval.export.onnx_export import export_onnx
from cxreval.export.parity import ParityReport, Progress, check_parity
from cxreval.export.systems import SeedSystem
from cxreval.fields import field_error
from cxreval.onnx_file.reading import PROFILE_KEY


def export_seed(
    system: SeedSystem,
    checkpoint: Checkpoint,
    path: Path,
    images: Sequence[Path] = (),
    progress: Progress = lambda _done, _total: None,
) -> ParityReport | None:
    """Exports a system to `path`; with `images`, compares it with PyTorch and returns the report.

    The ONNX file and the report appear only after every check has passed.

    Raises:
        MalformedField: the directory of `path` does not exist.
        ParityFailed: the file's probabilities differ from the original's.
        InvalidProbability: the original returns a value that is not finite.
    """
    if not path.parent.is_dir():
        raise field_error("output", path, "a file in a directory that exists")
    report = None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as directory:
        onnx_file, report_file = Path(directory) / path.name, Path(directory) / "parity.json"
        shape = cast("tuple[int, int, int]", system.profile.shape)  # a preset's, which is fixed
        export_onnx(system.exported, shape, onnx_file, metadata(system, checkpoint))
        if images:
            report = check_parity(system, checkpoint, onnx_file, images, progress)
            report_file.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
        parity_file(path).unlink(missing_ok=True)  # the report of the file that is replaced
        onnx_file.replace(path)
        if report:
            report_file.replace(parity_file(path))
    return report


def parity_file(path: Path) -> Path:
    """Returns the path of the parity report of the ONNX file at `path`."""
    return path.with_name(f"{path.stem}.parity.json")


def metadata(system: SeedSystem, checkpoint: Checkpoint) -> dict[str, str]:
    """Returns the `metadata_props` of the ONNX file.

    `cxreval.output_names` is a JSON list with one name per column.
    """
    return {
        "cxreval.system": system.name,
        "cxreval.version": system.version,
        PROFILE_KEY: system.profile.name,
        "cxreval.profile_digest": system.profile.digest,
        "cxreval.output_names": json.dumps(FINDINGS),
        "cxreval.checkpoint_sha256": checkpoint.sha256,
    }
