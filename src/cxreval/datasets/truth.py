"""The ground truth of a benchmark: the findings and the patient of each image.

Only the scoring service and `cxreval score` may import this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxreval.datasets.benchmark import BenchmarkSpec, image_list, list_sha256
from cxreval.datasets.labels import load_cohort, read_cohort
from cxreval.datasets.training_overlap import TrainingOverlap
from cxreval.metrics.cohort import Cohort
from cxreval.metrics.contamination import (
    Exposure,
    PublicList,
    Scored,
    contamination,
    membership_signal,
)
from cxreval.metrics.predictions import PredictionTable, image_rows
from cxreval.metrics.report import Report
from cxreval.metrics.scorers import SCORERS
from cxreval.resource_names import BenchmarkName


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The labels of a benchmark's images.

    `rows`: row number by image name, in the order of the names. `cohort`: arrays with these rows.
    `training`: finds declared training data among them; None without a data set. `public_lists`:
    the public training lists of the data set.
    """

    spec: BenchmarkSpec
    rows: Mapping[str, int]
    cohort: Cohort
    training: TrainingOverlap | None = None
    public_lists: tuple[PublicList, ...] = ()

    def table(self, covered: Sequence[str] = ()) -> PredictionTable:
        """Returns an empty table of predictions for these images.

        It has a column for each finding in `covered`, or for all findings if there are none.
        """
        return PredictionTable(self.rows, self.spec.findings, covered)

    def report(self, table: PredictionTable, exposure: Exposure | None = None) -> Report:
        """Returns the report of a complete table, with its evidence. Raises `MissingImages`.

        `exposure`: the images that the model was trained on; None if nothing is declared.
        """
        table.check_complete()
        spec, scorer = self.spec, SCORERS[self.spec.scorer_version]
        scored = Scored(
            scorer, self.cohort, table.probabilities, spec.seed, spec.replicates, table.findings
        )
        metrics, evidence = scorer.score(
            self.cohort,
            table.probabilities,
            spec.seed,
            spec.replicates,
            spec.metric_names,
            table.findings,
        )
        return Report(
            benchmark=str(BenchmarkName(spec.name)),
            benchmark_digest=spec.digest,
            scorer_version=spec.scorer_version,
            image_count=spec.image_count,
            patient_count=spec.patient_count,
            metrics=metrics,
            predictions_sha256=table.sha256(),
            replicate_count=spec.replicates,
            seed=spec.seed,
            evidence=evidence,
            contamination=contamination(scored, exposure, spec.metric_names) if exposure else None,
            membership=tuple(membership_signal(scored, public) for public in self.public_lists),
        )


def load_truth(spec: BenchmarkSpec, directory: Path) -> Truth:
    """Reads the image list and the label table of a data set. Raises `DatasetInvalid`."""
    images = image_list(spec, directory)
    rows, cohort = image_rows(images), load_cohort(spec, directory, images)
    training = TrainingOverlap(spec, directory, rows, cohort)
    return Truth(spec, rows, cohort, training, training.public_lists())


def truth_of(spec: BenchmarkSpec, directory: Path, images: Sequence[str]) -> Truth:
    """Reads the labels of some images, sorted, from the label table of a benchmark.

    The truth's specification has the list and the counts of these images: if they are not those
    of the benchmark, its digest is another one.

    Raises:
        DatasetInvalid: the label table is missing or has another digest, or it has mistakes.
    """
    cohort = read_cohort(spec, directory, images)
    own = replace(
        spec,
        list_sha256=list_sha256(list(images)),
        image_count=len(images),
        patient_count=cohort.patient_count,
    )
    return Truth(own, image_rows(images), cohort)
