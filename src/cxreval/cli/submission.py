"""`cxreval submit`, `cxreval submission upload` and `cxreval status`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cxreval.cli import options, output
from cxreval.client import RegistryClient, Submission, SubmissionStatus, UploadProgress
from cxreval.client._upload import TRANSIENT_UPLOAD_ERRORS, with_files
from cxreval.datasets.benchmark import BenchmarkSpec
from cxreval.errors import CxrevalError, ExtraMissing, MalformedField
from cxreval.fields import required
from cxreval.files import file_sha256
from cxreval.manifest.document import read_document
from cxreval.manifest.model import UPLOADED, Kind, Manifest
from cxreval.manifest.rules import refusal
from cxreval.metrics.report import MetricValue, macro
from cxreval.records import Part
from cxreval.resource_names import BenchmarkName

TOKEN_VARIABLE = "CXREVAL_CLIENT_ENDPOINT_TOKEN"  # noqa: S105 -- its name, no token
"""Environment variable with the bearer token of an endpoint."""

_DIGESTS = {Part.SOURCE_BUNDLE: "bundle_sha256", Part.WHEELHOUSE: "wheelhouse_sha256"}

Watch = Annotated[
    bool,
    typer.Option("--watch", help="show progress until a final state; exit status 2 if it failed"),
]


def submit(
    context: typer.Context,
    manifest: Annotated[Path, typer.Argument(help="manifest, a YAML file")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="checkpoint, its files, or table of predictions; none for an endpoint or a claim",
            exists=True,
        ),
    ] = None,
    registry: options.Registry = options.REGISTRY,
    benchmark: options.Benchmark = "",
    token_file: Annotated[
        Path | None,
        typer.Option(help="file with the token of an endpoint", exists=True, dir_okay=False),
    ] = None,
    ask_token: Annotated[
        bool, typer.Option("--ask-token", help="prompt for the token of an endpoint")
    ] = False,
    training_list: Annotated[
        Path | None,
        typer.Option(
            help="file with the images or patients that training_data declares, one a line",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="upload files without looking into them first")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="source bundle of the script", exists=True, dir_okay=False),
    ] = None,
    wheelhouse: Annotated[
        Path | None,
        typer.Option(help="zip file with the script's wheels", exists=True, dir_okay=False),
    ] = None,
    watch: Watch = False,
    json: options.Json = False,
) -> None:
    """Submit a manifest to a benchmark: a checkpoint, an endpoint, predictions, or a claim.

    Manifest and files are checked first, as `cxreval submission check` does.
    """
    with options.registry_client(context, registry) as client:
        try:
            spec = client.get_benchmark(options.benchmark_name(client, benchmark))
        except CxrevalError:
            _checked(manifest, files or [], None, look=False)
            raise
        declared, complete = _checked(manifest, files or [], spec, look=not no_check)
        further = {Part.SOURCE_BUNDLE: bundle, Part.WHEELHOUSE: wheelhouse}
        declared = _with_parts(declared, further)
        if bundle and not no_check:
            _check_source(bundle, declared)
        token = _endpoint_token(token_file, ask_token) if declared.kind is Kind.ENDPOINT else ""
        created = client.create_submission(
            spec.name, declared, endpoint_token=token, training_list=training_list
        )
        # Printed now, so that the name is known even if the upload fails.
        output.errors.print(f"submission {created.name}", soft_wrap=True)
        for part, file in further.items():
            if file:
                client.upload_part(created.name, part, file)
        if complete:
            created = _upload(client, created.name, complete, declared.artifact_sha256)
        _finish(client, created, watch, json)


def _with_parts(manifest: Manifest, files: Mapping[Part, Path | None]) -> Manifest:
    """Returns the manifest with the digests of the files of its script."""
    digests: dict[str, Any] = {
        _DIGESTS[part]: file_sha256(file) for part, file in files.items() if file
    }
    if not digests:
        return manifest
    if not manifest.reproduction or not manifest.reproduction.entry_point:
        raise required("manifest.reproduction.entry_point", "the path of the script")
    return replace(manifest, reproduction=replace(manifest.reproduction, **digests))


def _check_source(bundle: Path, manifest: Manifest) -> None:
    """Looks into a source bundle. Raises the first problem."""
    from cxreval.cli import artifact  # noqa: PLC0415 -- slow to import

    examined = artifact.Examined()
    artifact.examine_source(bundle, manifest, examined)
    if examined.problems:
        raise refusal(examined.problems)
    for note in examined.notes:
        output.errors.print(f"note: {note}", soft_wrap=True)


def _checked(
    manifest: Path, files: list[Path], benchmark: BenchmarkSpec | None, *, look: bool
) -> tuple[Manifest, list[Path]]:
    """Returns a manifest and its files, which together have no mistakes.

    The manifest has the digests of the files. They are computed once: the registry computes that
    of what it receives, and refuses files that were changed meanwhile.

    Without a benchmark, only the mistakes are found that the manifest alone shows. With `look`, the
    content of the files is checked. Files in which an ONNX file has weights are added if they are
    beside it.

    Raises:
        CxrevalError: the first mistake in the manifest, with all the others attached; then those in
            the files.
    """
    document = read_document(manifest, datetime.now(UTC).date(), benchmark)
    if document.problems:
        raise refusal(document.problems)
    return _checked_files(document.manifest, files, benchmark, look=look)


def _endpoint_token(file: Path | None, ask: bool) -> str:
    """Reads the token from a file, a prompt or the environment.

    There is no option for it, because other users of a machine can read the arguments of a process.
    """
    if file:
        return file.read_text(encoding="utf-8").strip()
    if ask:
        return str(typer.prompt("token of the endpoint", hide_input=True)).strip()
    return os.environ.get(TOKEN_VARIABLE, "").strip()


def _checked_files(
    manifest: Manifest, files: list[Path], benchmark: BenchmarkSpec | None, *, look: bool
) -> tuple[Manifest, list[Path]]:
    """Returns the manifest with the digests of its complete files, and these files, checked.

    Raises:
        MalformedField: a file is empty, or files are missing or given for a kind that has none.
        ArtifactTooLarge: the files have too many bytes.
        SubmissionFault: they are a checkpoint that could not be evaluated.
        PredictionsInvalid: they are a table that could not be scored.
    """
    kind = manifest.kind
    if (kind in UPLOADED) != bool(files):
        expected = "its file as the second argument" if kind in UPLOADED else "no file"
        raise MalformedField(
            f"the manifest is of kind {kind}; expected {expected}", field="file", expected=expected
        )
    if not files:
        return manifest, files
    from cxreval.cli import artifact  # noqa: PLC0415 -- slow to import

    complete = artifact.completed(files, manifest, check=look)
    for file in (file for file in complete if file not in files):
        output.errors.print(f"{file} is submitted too: it has weights", soft_wrap=True)
    artifact.check_sizes(complete, manifest)
    if look:
        examined = artifact.examine(complete, manifest, benchmark)
        # The registry or the inference service checks what cannot be checked here.
        missing = [one for one in examined.problems if isinstance(one, ExtraMissing)]
        for problem in missing:
            output.errors.print(f"{files[0]} is not checked here: {problem.message}")
        if problems := [one for one in examined.problems if one not in missing]:
            raise refusal(problems)
        for note in examined.notes:
            output.errors.print(f"note: {note}")
        if examined.manifest:
            return examined.manifest, complete
    return with_files(manifest, complete), complete


def upload(
    context: typer.Context,
    submission: options.Submission,
    files: Annotated[
        list[Path], typer.Argument(help="files of the submission", exists=True, dir_okay=False)
    ],
    registry: options.Registry = options.REGISTRY,
    watch: Watch = False,
    json: options.Json = False,
) -> None:
    """Upload the files of a submission; resumes an interrupted upload."""
    with options.registry_client(context, registry) as client:
        _finish(client, _upload(client, submission, files), watch, json)


def status(
    context: typer.Context,
    submission: options.Submission,
    registry: options.Registry = options.REGISTRY,
    watch: Watch = False,
    json: options.Json = False,
) -> None:
    """Show the state of a submission."""
    with options.registry_client(context, registry) as client:
        _finish(client, client.get_submission(submission), watch, json)


def reproduce(
    context: typer.Context,
    submission: options.Submission,
    full: Annotated[
        bool, typer.Option("--full", help="run it over all images instead of a sample")
    ] = False,
    registry: options.Registry = options.REGISTRY,
    json: options.Json = False,
) -> None:
    """Queue a run of the submitter's script, which is compared with the row.

    It counts towards your organisation's daily quota.
    """
    with options.registry_client(context, registry) as client:
        queued = client.reproduce_submission(submission, full=full)
    if json:
        output.print_json(queued)
    else:
        output.console.print(f"{queued.name} {queued.status}", soft_wrap=True)


def script_output(
    context: typer.Context,
    submission: options.Submission,
    registry: options.Registry = options.REGISTRY,
) -> None:
    """Print what the script printed in its last run; for the owner of the submission."""
    with options.registry_client(context, registry) as client:
        for evaluation in reversed(list(client.list_evaluations(submission))):
            if printed := client.script_output(evaluation.name):
                output.console.print(printed.decode(errors="replace"), soft_wrap=True)
                return


def _upload(
    client: RegistryClient, submission: str, files: list[Path], sha256: str = ""
) -> Submission:
    with output.progress_bars() as bars:
        names = ", ".join(file.name for file in files)
        task = bars.add_task(f"uploading {names}", total=sum(file.stat().st_size for file in files))

        def on_progress(sent: int, total: int) -> None:
            bars.update(task, completed=sent, total=total)

        def on_failure(error: CxrevalError) -> None:
            bars.console.print(f"{error.reason}: resuming the upload", soft_wrap=True)

        try:
            progress = UploadProgress(on_progress, on_failure)
            return client.upload_artifact(submission, files, progress, sha256=sha256)
        except (*TRANSIENT_UPLOAD_ERRORS, KeyboardInterrupt):
            later = f"cxreval submission upload {submission} {' '.join(map(str, files))}"
            bars.console.print(f"to resume the upload: {later}", soft_wrap=True)
            raise


def _finish(client: RegistryClient, submission: Submission, watch: bool, json: bool) -> None:
    if watch:
        submission = _watch(client, submission)
    score = _score(client, submission)
    if json:
        output.print_json(output.fields(submission) | {"score": score})
    else:
        output.print_submission(submission, score)
    if watch and submission.status is SubmissionStatus.FAILED:
        raise typer.Exit(2)


def _score(client: RegistryClient, submission: Submission) -> MetricValue | None:
    """Returns the macro mean of the ranking metric over all images.

    None before publication and for a claim.
    """
    if submission.status is not SubmissionStatus.PUBLISHED or not submission.evaluation:
        return None
    report = client.get_evaluation(submission.evaluation).report
    if report is None:
        return None
    metric = client.get_benchmark(BenchmarkName.parse(report.benchmark).benchmark).ranking_metric
    return macro(report.metrics, metric)


def _watch(client: RegistryClient, submission: Submission) -> Submission:
    """Shows the progress of a submission until it reaches a final state, and returns it."""
    with output.progress_bars() as bars:
        task = bars.add_task(submission.status, total=submission.images_total)

        def on_failure(error: CxrevalError) -> None:
            bars.console.print(f"{error.reason}: waiting for the registry", soft_wrap=True)

        for latest in client.watch(submission.name, on_failure):
            submission = latest
            bars.update(task, description=latest.status, completed=latest.images_done)
    return submission
