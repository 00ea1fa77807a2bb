"""`cxreval predict`: runs a submitted checkpoint on one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cxreval.cli import options, output
from cxreval.client import CheckpointFormat, InferenceClient
from cxreval.errors import MalformedField


def predict(
    context: typer.Context,
    submission: options.Submission,
    image: Annotated[
        Path, typer.Argument(help="radiograph, a PNG or JPEG file", exists=True, dir_okay=False)
    ],
    registry: options.Registry = options.REGISTRY,
    inference: options.Inference = options.INFERENCE,
    json: options.Json = False,
) -> None:
    """Run a submitted ONNX checkpoint on one image."""
    with options.registry_client(context, registry) as client:
        found = client.get_submission(submission)
    manifest, interface = found.manifest, found.manifest.interface
    if manifest.format is not CheckpointFormat.ONNX or interface is None:
        expected = "an ONNX checkpoint"
        raise MalformedField(
            f"{found.name} is of kind {manifest.format or manifest.kind}; expected {expected}",
            field="submission",
            expected=expected,
        )
    service = InferenceClient(inference, context.obj.tls)
    with options.opened(context, service, "inference") as model:
        sha256 = manifest.artifact_sha256
        model.load(
            sha256,
            interface,
            len(manifest.output_names),
            files=manifest.files,
            ensemble=manifest.ensemble,
        )
        output_row = model.predict(sha256, interface, image.read_bytes())
    probabilities = {
        finding: float(value)
        for finding, value in zip(manifest.output_names, output_row, strict=True)
        if finding
    }
    if json:
        output.print_json(
            {"submission": found.name, "image": str(image), "probabilities": probabilities}
        )
        return
    table = Table(title=f"{manifest.model} on {image.name}", title_justify="left")
    table.add_column("finding")
    table.add_column("probability", justify="right")
    for finding, value in sorted(probabilities.items(), key=lambda item: -item[1]):
        table.add_row(finding, f"{value:.4f}")
    output.console.print(table)
