"""The rows of a new installation: four published figures for NIH ChestX-ray14, as claims.

None of the four states its split, so they are ranked as claims, apart from rows with evidence.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from cxreval.datasets.nih import FINDINGS
from cxreval.manifest.model import ClaimedMetric, Kind, Manifest, SourceKind
from cxreval.records import BenchmarkCard

BENCHMARK = "nih-chestxray14"
CARD = BenchmarkCard(
    description="Frontal chest radiographs of the NIH Clinical Center with 14 findings, which were "
    "text-mined from the radiological reports. The benchmark is on the official test split.",
    task="disease classification",
    modality="frontal chest radiographs",
    language="English",
    year=2017,
    paper="https://arxiv.org/abs/1705.02315",
    download="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    licence="No restriction on use; NIH asks to be named and the paper to be cited",
    licence_url="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    image_count=112120,
    patient_count=30805,
)

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/cxreval/cxreval/registry/seed")

# The CheXNet paper's table, in the order of FINDINGS.
_CHEXNET = (
    0.8094, 0.9248, 0.8638, 0.7345, 0.8676, 0.7802, 0.7680,
    0.8887, 0.7901, 0.8878, 0.9371, 0.8047, 0.8062, 0.9164,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """A published figure and a note on it. A claim has the same id in every installation."""

    manifest: Manifest
    note: str

    @property
    def id(self) -> str:
        """The submission's id, 32 hex characters."""
        return uuid.uuid5(_NAMESPACE, f"{BENCHMARK}/{self.manifest.model}").hex


def _claim(
    model: str,
    organisation: str,
    date: str,
    source: SourceKind,
    score: float,
    note: str,
    per_finding: tuple[float, ...] = (),
    url: str = "",
) -> Claim:
    values = zip((*FINDINGS[: len(per_finding)], ""), (*per_finding, score), strict=True)
    manifest = Manifest(
        kind=Kind.CLAIM,
        contact="",
        model=model,
        organisation=organisation,
        open_source=True,
        source_kind=source,
        source_url=url,
        submitted_date=date,
        claimed_metrics=tuple(ClaimedMetric("auroc", value, finding) for finding, value in values),
    )
    return Claim(manifest, note)


CLAIMS = (
    _claim(
        "TorchXRayVision",
        "Cohen Lab",
        "2025-12-19",
        SourceKind.GITHUB_README,
        0.8580,
        "Split not stated. 85.80 is in no version of the README, whose own table averages 81.07 "
        "(ResNet-50, 512 px) and 77.43 (DenseNet-121, 224 px) on a random 20 % of patients.",
        url="https://github.com/mlmed/torchxrayvision",
    ),
    _claim(
        "CheXNet",
        "Stanford ML Group",
        "2025-12",
        SourceKind.RESEARCH_PAPER,
        0.8410,
        "Split not stated. The paper's 84.14 and its values per finding are on a random 70/10/20 "
        "split that was never released.",
        _CHEXNET,
        "https://arxiv.org/abs/1711.05225",
    ),
    _claim(
        "DenseNet-121 (Chest X-ray)",
        "Research",
        "2025-12",
        SourceKind.RESEARCH_PAPER,
        0.8260,
        "Split not stated.",
    ),
    _claim(
        "ResNet-50 (Chest X-ray)",
        "Research",
        "2025-12",
        SourceKind.RESEARCH_PAPER,
        0.8040,
        "Split not stated.",
    ),
)
"""The four claims, best first."""
