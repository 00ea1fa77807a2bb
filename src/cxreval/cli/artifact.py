"""What can be known of the files of a submission without a server: their digest, and whether they
fit their manifest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxreval.bundle import (
    arranged,
    artifact_sha256,
    described,
    is_file_name,
    model_names,
    opened,
    whole,
)
from cxreval.cli import trial
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.datasets.prediction_file import read_predictions
from cxreval.errors import (
    ArtifactTooLarge,
    CheckpointUnreadable,
    CxrevalError,
    DigestMismatch,
    ExtraMissing,
    MalformedField,
    ModelNotOnnx,
    SandboxUnavailable,
)
from cxreval.export.pytorch_file import FORMATS, check_file, kind_of
from cxreval.extras import require_extra
from cxreval.fields import required
from cxreval.files import MAX_ARTIFACT_BYTES, MAX_FILE_BYTES, file_sha256
from cxreval.foreign_files import foreign_kind
from cxreval.imaging.preprocess import profile_of
from cxreval.manifest.model import UPLOADED, CheckpointFormat, Kind, Manifest
from cxreval.model_interface import check as check_interface
from cxreval.reproduction.declared import DeclaredFiles, examine_bundle

if TYPE_CHECKING:  # needs the extra
    from cxreval.onnx_file.signature import Signature


@dataclass(slots=True)
class Examined:
    """What is known of the files of a submission, what is wrong with them, and what looks wrong.

    `manifest`: that of the submission with the names and digests of its files; None if these are
    wrong.
    """

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[CxrevalError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    manifest: Manifest | None = None


def is_bundle(files: Sequence[Path], manifest: Manifest) -> bool:
    """Returns whether files are submitted as one archive."""
    return len(files) > 1 or bool(manifest.files)


def examine(
    files: Sequence[Path],
    manifest: Manifest,
    benchmark: BenchmarkSpec | None,
    images: Sequence[Path] = (),
) -> Examined:
    """Examines the complete files of a submission, as `completed` returns them.

    A checkpoint without mistakes is run on two images, `images` or phantoms. Without a benchmark, a
    table of predictions is not read.
    """
    bundled = is_bundle(files, manifest)
    sha256 = artifact_sha256(files, bundled=bundled)
    facts = {"sha256": sha256, "size_bytes": str(_nbytes(files, bundled=bundled))}
    examined = Examined(facts)
    models: list[tuple[Path, Signature]] = []
    for step in (partial(_digest, examined), partial(_content, benchmark, models)):
        try:
            step(files, facts, manifest)
        except CxrevalError as error:
            examined.problems.append(error)
    if manifest.kind is Kind.SCRIPT and not examined.problems:
        examine_source(files[0], manifest, examined)
    if manifest.kind is Kind.CHECKPOINT and not examined.problems:
        findings = benchmark.findings if benchmark else ()
        try:
            tried = trial.pictures(images)
            more, notes = trial.try_model(models, files, sha256, manifest, findings, tried)
            examined.facts |= more
            examined.notes += notes
        except (ExtraMissing, SandboxUnavailable) as error:
            examined.notes.append(f"the model was not run here: {error.message}")
        except CxrevalError as error:
            examined.problems.append(error)
    return examined


def examine_source(bundle: Path, manifest: Manifest, examined: Examined) -> None:
    """Adds what is known of a source bundle: the commit, the entry point and the lock are in it."""
    given = manifest.reproduction
    if given is None or not given.entry_point:
        if manifest.kind is not Kind.SCRIPT:  # of that kind, the manifest's rules say so
            field = "manifest.reproduction.entry_point"
            examined.problems.append(required(field, "the path of the script"))
        return
    dependencies = manifest.environment.dependencies if manifest.environment else ()
    files = DeclaredFiles(given.entry_point, given.lock, dependencies)
    try:
        if given.bundle_sha256 and given.bundle_sha256 != (sha256 := file_sha256(bundle)):
            field = "manifest.reproduction.bundle_sha256"
            raise DigestMismatch(
                f"{bundle} has sha256 {sha256}; {field} is {given.bundle_sha256}",
                field=field,
                expected=given.bundle_sha256,
            )
        tree = examine_bundle(bundle, given.commit, files)
    except (ExtraMissing, SandboxUnavailable) as error:
        examined.notes.append(f"{bundle} was not looked into here: {error.message}")
    except CxrevalError as error:
        examined.problems.append(error)
    else:
        lock = f", lock {given.lock}" if given.lock else ""
        examined.facts["source"] = (
            f"commit {tree.commit} with {len(tree.files)} files of {tree.nbytes} bytes, "
            f"sha256 of all {tree.digest}; entry point {given.entry_point}{lock}"
        )


def completed(files: Sequence[Path], manifest: Manifest, *, check: bool = True) -> list[Path]:
    """Returns the files in the manifest's order, with those in which an ONNX file has weights.

    Raises:
        MalformedField: a path is a folder, or the manifest has other files.
        ModelNotOnnx, CheckpointUnreadable: with `check`, a checkpoint is of a foreign kind.
    """
    names = model_names([file.name for file in files])
    for file in files:
        is_model = len(files) == 1 or file.name in names
        if file.is_dir() or (check and is_model and manifest.kind is Kind.CHECKPOINT):
            _refuse_foreign(file, manifest)
    if manifest.format is CheckpointFormat.ONNX:
        files = with_data(files)
    return arranged(files, manifest.files)


def _refuse_foreign(file: Path, manifest: Manifest) -> None:
    """Raises the error of a file that is of another framework, or no model; it names the cure."""
    onnx = manifest.format is CheckpointFormat.ONNX
    expected = f"a file of format {manifest.format or 'onnx'}"
    if kind := foreign_kind(file):
        message, cure = f"{file} is {kind.what}", kind.cure
    elif onnx and (right := next((f for f, k in FORMATS.items() if kind_of(file) in k), None)):
        message, cure = f"{file} is {kind_of(file)}", f"set format: {right}"
    else:
        return
    error = MalformedField if file.is_dir() else ModelNotOnnx if onnx else CheckpointUnreadable
    raise error(
        f"{message}; expected {expected}: {cure}",
        field="model" if onnx else "artifact",
        expected=expected,
    )


def _nbytes(files: Sequence[Path], *, bundled: bool) -> int:
    with opened(files, bundled=bundled) as content:
        return content.seek(0, os.SEEK_END)


def with_data(files: Sequence[Path]) -> list[Path]:
    """Returns the files, and those beside an ONNX file in which it has weights.

    Files that cannot be read here, which a later check reports, are taken to have none elsewhere.
    """
    complete = {file.name: file for file in files}
    for model in [complete[name] for name in model_names(list(complete))]:
        with contextlib.suppress(ModelNotOnnx, ExtraMissing):
            require_extra("onnx", f"reading the ONNX file {model}", "onnx")
            from cxreval.onnx_file.reading import data_names  # noqa: PLC0415 -- needs the extra

            for name in data_names(model):
                if is_file_name(name) and (beside := model.parent / name).is_file():
                    complete.setdefault(name, beside)
    return [*files, *(file for file in complete.values() if file not in files)]


def _digest(
    examined: Examined, files: Sequence[Path], facts: dict[str, str], manifest: Manifest
) -> None:
    declared, found = manifest.artifact_sha256, facts["sha256"]
    named = f"the archive of {', '.join(map(str, files))}" if len(files) > 1 else str(files[0])
    if declared and declared != found:
        field = "manifest.artifact_sha256"
        raise DigestMismatch(
            f"{named} has sha256 {found}; {field} is {declared}", field=field, expected=declared
        )
    listed = described(files, manifest.files) if is_bundle(files, manifest) else ()
    check_sizes(files, manifest)
    examined.manifest = replace(manifest, artifact_sha256=found, files=listed)


def check_sizes(files: Sequence[Path], manifest: Manifest) -> None:
    """Raises `MalformedField` for an empty file, `ArtifactTooLarge` for too many bytes."""
    bundled = is_bundle(files, manifest)
    most, expected = (MAX_ARTIFACT_BYTES if bundled else MAX_FILE_BYTES), "at least one byte"
    for file in files:
        if not file.stat().st_size:
            raise MalformedField(
                f"{file} is empty; expected {expected}", field="file", expected=expected
            )
    if (size := _nbytes(files, bundled=bundled)) > most:
        expected = f"at most {most} bytes"
        raise ArtifactTooLarge(
            f"{', '.join(map(str, files))} have {size} bytes; expected {expected}",
            field="artifact",
            expected=expected,
        )


def _content(
    benchmark: BenchmarkSpec | None,
    models: list[tuple[Path, Signature]],
    files: Sequence[Path],
    facts: dict[str, str],
    manifest: Manifest,
) -> None:
    """Checks the content of files; adds facts, and the models of an ONNX checkpoint."""
    if manifest.kind is Kind.PREDICTIONS:
        table = _only(files, manifest)
        if benchmark:
            images, _, covered = read_predictions(table, benchmark.findings)
            facts |= {"images": str(len(set(images))), "columns": ", ".join(covered)}
    elif manifest.kind is Kind.CHECKPOINT and manifest.format is CheckpointFormat.ONNX:
        models += _onnx(files, facts, manifest)
    elif manifest.kind is Kind.CHECKPOINT:
        file = _only(files, manifest)
        if manifest.format:
            facts["content"] = check_file(file, manifest.format)
    elif manifest.kind is Kind.SCRIPT:
        _only(files, manifest)
    elif manifest.kind and manifest.kind not in UPLOADED:
        message = f"kind {manifest.kind} comes without a file"
        raise MalformedField(message, field="artifact", expected="no file")


def _only(files: Sequence[Path], manifest: Manifest) -> Path:
    """Returns the only file. Raises `MalformedField` if there are several."""
    if is_bundle(files, manifest):
        what, expected = manifest.format or manifest.kind, "one file; only ONNX may have several"
        message = f"{what} has {len(files)} files; expected {expected}"
        raise MalformedField(message, field="files", expected=expected)
    return files[0]


def _onnx(
    files: Sequence[Path], facts: dict[str, str], manifest: Manifest
) -> list[tuple[Path, Signature]]:
    """Returns each ONNX file with its signature, after a check against the manifest."""
    require_extra("onnx", f"checking the ONNX file {files[0]}", "onnx")
    from cxreval.onnx_file.bundled import inspect_bundle  # noqa: PLC0415 -- needs the extra
    from cxreval.onnx_file.randomness import random_operators  # noqa: PLC0415
    from cxreval.onnx_file.reading import read  # noqa: PLC0415
    from cxreval.onnx_file.signature import check, described, inputs  # noqa: PLC0415

    interface = manifest.interface
    if interface:
        check_interface(interface, "manifest")
    fitting = partial(
        check,
        interface=interface,
        image_shape=profile_of(interface.preprocessing).shape if interface else None,
        columns=len(manifest.output_names) or None,
    )
    if is_bundle(files, manifest):
        paths, models = {file.name: file for file in files}, []
        sections = {name: whole(file) for name, file in paths.items()}
        for bundled in inspect_bundle(sections, manifest.ensemble, fitting):
            facts[f"{bundled.name} inputs"] = described(inputs(bundled.graph))
            facts[f"{bundled.name} outputs"] = described(bundled.graph.output)
            if operators := random_operators(bundled.graph):
                facts[f"{bundled.name} random operators"] = ", ".join(operators)
            models.append((paths[bundled.name], bundled.signature))
        return models
    model = read(files[0])
    facts |= {
        "inputs": described(inputs(model.graph)) or "none",
        "outputs": described(model.graph.output) or "none",
    }
    if operators := random_operators(model):
        facts["random operators"] = ", ".join(operators)
    return [(files[0], fitting(model))]
