"""`cxreval export`: converts the published weights of the four seed systems to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cxreval.cli import output
from cxreval.datasets.nih import FINDINGS
from cxreval.extras import require_extra
from cxreval.fields import check_sha256

if TYPE_CHECKING:  # the modules behind it need the extra
    from cxreval.export.checkpoint import Checkpoint
    from cxreval.export.parity import ParityReport
    from cxreval.export.systems import SeedSystem

app = typer.Typer(no_args_is_help=True, help="Export the seed systems to ONNX.")

Output = Annotated[Path, typer.Argument(help="ONNX file to write", dir_okay=False)]
Weights = Annotated[str, typer.Option(help="checkpoint, a file or a URL")]
Sha256 = Annotated[
    str, typer.Option("--sha256", help="expected digest of the checkpoint, 64 hex characters")
]
Parity = Annotated[
    Path | None,
    typer.Option(
        help="directory of radiographs to compare ONNX and PyTorch on; writes a .parity.json"
    ),
]
Downloads = Annotated[
    Path,
    typer.Option(
        envvar="CXREVAL_EXPORT_DOWNLOADS", help="directory of downloaded files", file_okay=False
    ),
]
Outputs = Annotated[
    str,
    typer.Option(help="the 14 findings in the order of the checkpoint's outputs, comma-separated"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]

DOWNLOADS = Path("~/.cache/cxreval/weights")
IN_ORDER = ",".join(FINDINGS)
PACKAGES = (
    "torch", "torchvision", "torchxrayvision", "timm", "monai", "onnxscript", "safetensors",
)  # fmt: skip


@app.callback()
def require_packages() -> None:
    """Ends the command with one sentence where the extra is not installed."""
    require_extra("export", "cxreval export", *PACKAGES)


@app.command("torchxrayvision")
def torchxrayvision(
    path: Output,
    model: Annotated[
        str, typer.Option(help="the library's name of the weights")
    ] = "densenet121-res224-all",
    weights: Annotated[
        str, typer.Option(help="weights, a file or a URL; default: the library's URL")
    ] = "",
    sha256: Sha256 = "",
    parity: Parity = None,
    downloads: Downloads = DOWNLOADS,
    json: Json = False,
) -> None:
    """Export TorchXRayVision's DenseNet-121 or ResNet-50, including its operating points."""
    from cxreval.export import systems  # noqa: PLC0415 -- needs the extra

    address = systems.torchxrayvision_file(model)
    checkpoint = _checkpoint(weights or address, sha256, downloads)
    _export(systems.build_torchxrayvision(checkpoint, model), checkpoint, path, parity, json)


@app.command("chexnet")
def chexnet(
    path: Output,
    weights: Weights,
    sha256: Sha256 = "",
    parity: Parity = None,
    downloads: Downloads = DOWNLOADS,
    json: Json = False,
) -> None:
    """Export the CheXNet re-implementation from its model.pth.tar."""
    from cxreval.export import systems  # noqa: PLC0415 -- needs the extra

    checkpoint = _checkpoint(weights, sha256, downloads)
    _export(systems.build_chexnet(checkpoint), checkpoint, path, parity, json)


@app.command("densenet121")
def densenet121(
    path: Output,
    weights: Weights,
    sha256: Sha256 = "",
    outputs: Outputs = IN_ORDER,
    parity: Parity = None,
    downloads: Downloads = DOWNLOADS,
    json: Json = False,
) -> None:
    """Export torchvision's DenseNet-121 with 14 outputs."""
    _torchvision(
        "densenet121", _checkpoint(weights, sha256, downloads), outputs, path, parity, json
    )


@app.command("resnet50")
def resnet50(
    path: Output,
    weights: Weights,
    sha256: Sha256 = "",
    outputs: Outputs = IN_ORDER,
    parity: Parity = None,
    downloads: Downloads = DOWNLOADS,
    json: Json = False,
) -> None:
    """Export torchvision's ResNet-50 with 14 outputs."""
    _torchvision("resnet50", _checkpoint(weights, sha256, downloads), outputs, path, parity, json)


def _torchvision(
    architecture: str,
    checkpoint: Checkpoint,
    outputs: str,
    path: Path,
    parity: Path | None,
    json: bool,
) -> None:
    from cxreval.export import systems  # noqa: PLC0415 -- needs the extra

    names = tuple(name.strip() for name in outputs.split(","))
    _export(
        systems.build_torchvision(architecture, checkpoint, names), checkpoint, path, parity, json
    )


def _checkpoint(weights: str, sha256: str, downloads: Path) -> Checkpoint:
    """Reads the checkpoint from a file or a URL and checks its digest, if one is given."""
    from cxreval.export.checkpoint import read_checkpoint  # noqa: PLC0415 -- needs the extra
    from cxreval.export.download import download  # noqa: PLC0415

    if sha256:
        check_sha256("sha256", sha256)
    if "://" not in weights:
        return read_checkpoint(Path(weights), sha256)
    with _download_bar() as bar:
        task = bar.add_task("downloading", total=None)
        file = download(
            weights,
            downloads.expanduser(),
            sha256,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    return read_checkpoint(file, sha256)


def _export(
    system: SeedSystem, checkpoint: Checkpoint, path: Path, parity: Path | None, json: bool
) -> None:
    from cxreval.export.parity import find_images  # noqa: PLC0415 -- needs the extra
    from cxreval.export.seed import export_seed, parity_file  # noqa: PLC0415

    images = find_images(parity) if parity else []
    with output.progress_bars() as bars:
        task = bars.add_task("comparing with PyTorch", total=len(images), visible=bool(images))
        report = export_seed(
            system,
            checkpoint,
            path,
            images,
            lambda done, total: bars.update(task, completed=done, total=total),
        )
    if json:
        output.print_json({"onnx": str(path), "parity": report})
    elif report:
        _print_report(report)
        output.console.print(f"wrote {path} and {parity_file(path)}", soft_wrap=True)
    else:
        output.console.print(f"wrote {path}; not compared with PyTorch", soft_wrap=True)


def _print_report(report: ParityReport) -> None:
    opened = "a pickle, loaded in the sandbox" if report.checkpoint_whole_pickle else "tensors only"
    lines = (
        f"{report.system}: {report.version}, profile {report.preprocessing_profile}",
        f"checkpoint sha256 {report.checkpoint_sha256} ({opened})",
        f"onnx file sha256  {report.onnx_sha256}",
        (
            f"{report.images} images, largest difference {report.largest_difference:.2e}, "
            f"at most {report.tolerance:g}"
        ),
        ", ".join(f"{package} {version}" for package, version in report.versions.items()),
    )
    for line in lines:
        output.console.print(line, soft_wrap=True)
    table = Table("finding", "largest difference")
    for finding, difference in report.differences.items():
        table.add_row(finding, f"{difference:.2e}")
    output.console.print(table)


def _download_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=output.errors,
    )
