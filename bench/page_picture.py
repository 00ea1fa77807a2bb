"""Takes the README's two pictures of the public page, from real tables of predictions.

    CXREVAL_SHARED=../shared .venv/bin/python -m bench.page_picture

The two tables of `predictions/` and their mean are submitted to a registry and scored with 2,000
resamples; the pictures show what the page makes of that. Needs Chromium and the `test` extra.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

from cxreval.client import ClaimedMetric, Manifest, WorkerClient
from cxreval.datasets.truth import load_truth
from tests.support import real_board
from tests.support.browser import chromium
from tests.support.leaderboard import Page
from tests.support.registry import registry_service
from tests.support.scoring import describe
from tests.support.system import predictions

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, HEIGHT = 1280, 960
GITHUB = "https://github.com"
AUTHORS = {
    "densenet121": ("DenseNet-121", "jrzech", f"{GITHUB}/jrzech/reproduce-chexnet", 0.8383),
    "resnet50": (
        "ResNet-50",
        "derrick-daniel",
        f"{GITHUB}/derrick-daniel/Major-Project-CXR",
        0.8216,
    ),
}
"""Model, organisation, source and macro AUROC of each table, as its authors state them."""


def main() -> None:
    """Fills a registry, serves its page and takes the pictures."""
    shared = Path(os.environ["CXREVAL_SHARED"])
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        with registry_service(directory) as service, WorkerClient(service.address) as client:
            fill(client, directory, shared)
            with Page(directory, service.address) as page:
                while "Mean of both" not in page.get(f"/b/{real_board.NAME}").body:
                    time.sleep(0.5)
                take(f"http://{page.address}/b/{real_board.NAME}")


def fill(client: WorkerClient, directory: Path, shared: Path) -> None:
    """Submits both tables of predictions and their mean, and completes their evaluations."""
    tables = {name: real_board.table(shared, name) for name in AUTHORS}
    images = sorted(tables["densenet121"][1])
    labels = shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv"
    spec = describe(directory / "data", real_board.NAME, images, labels, 2000)
    spec = replace(spec, title="NIH ChestX-ray14, 22,433 images held out at random by patient")
    client.create_benchmark(spec)
    truth = load_truth(spec, directory / "data")
    client.record_image_list(spec.name, list(truth.rows))
    values = {name: real_board.probabilities(table, truth) for name, table in tables.items()}
    rows = [(described(*AUTHORS[name]), values[name]) for name in ("resnet50", "densenet121")]
    both = replace(predictions("Mean of both"), organisation="cxreval", open_source=True)
    rows.append((both, (values["densenet121"] + values["resnet50"]) / 2))
    for number, (declared, table) in enumerate(rows):
        file = directory / "table"
        file.write_text(str(number))
        client.submit(spec.name, declared, file)
        real_board.publish(client, truth, table, {})


def described(model: str, organisation: str, source: str, claimed: float) -> Manifest:
    """Returns the manifest of a table."""
    return replace(
        predictions(model),
        organisation=organisation,
        source_url=source,
        claimed_metrics=(ClaimedMetric("auroc", claimed),),
    )


def take(address: str) -> None:
    """Writes the pictures in the light and in the dark theme."""
    with chromium() as browser:
        for theme in ("light", "dark"):
            tab = browser.new_page(color_scheme=theme, viewport={"width": WIDTH, "height": HEIGHT})
            tab.goto(address)
            file = DOCS / f"page-{theme}.png"
            tab.screenshot(path=file)
            Image.open(file).quantize(64).save(file, optimize=True)


if __name__ == "__main__":
    main()
