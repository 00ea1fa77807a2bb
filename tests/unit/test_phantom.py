"""The phantom data set is deterministic, split by patient, and drawn as it is labelled."""

from __future__ import annotations

import csv
import hashlib
import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest

from cxreval.datasets.benchmark import image_list, read_list
from cxreval.datasets.benchmark_file import load_spec
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.phantom import (
    TEST_FRACTION,
    Study,
    draw_studies,
    encode_png,
    generate,
    render,
    split_studies,
)
from cxreval.datasets.phantom.anatomy import Chest, expose, measure
from cxreval.datasets.phantom.dataset import HEADER
from cxreval.datasets.phantom.findings import DENSITY_OF, SHAPES_OF, look
from cxreval.errors import MalformedField

SEED = 2017
DEMO_PATIENTS = 1500

Picture = npt.NDArray[np.int32]


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("phantom")
    generate(directory, patients=8, test_fraction=0.3, processes=1)
    return directory


@cache
def demo_studies() -> tuple[list[Study], list[Study]]:
    return split_studies(SEED, DEMO_PATIENTS, TEST_FRACTION)


# --- determinism ----------------------------------------------------------------------------------


def test_same_seed_gives_same_bytes_with_any_number_of_processes(
    small: Path, tmp_path: Path
) -> None:
    assert len(list((small / "images").iterdir())) > 8, "too few images for the pool to be used"
    generate(tmp_path, patients=8, test_fraction=0.3, processes=2)
    assert files(tmp_path) == files(small)


def test_another_seed_gives_other_patients_and_pictures() -> None:
    study = draw_studies(SEED, 1)[0]
    assert not np.array_equal(render(study, SEED), render(study, SEED + 1))
    assert [draw_studies(SEED, n) for n in range(1, 20)] != [
        draw_studies(SEED + 1, n) for n in range(1, 20)
    ]


def test_an_image_does_not_depend_on_which_others_are_drawn(small: Path, tmp_path: Path) -> None:
    generate(tmp_path, patients=8, test_fraction=0.3, processes=1, only="test")
    drawn, complete = files(tmp_path), files(small)
    assert {name for name in drawn if name.endswith(".png")} == {
        f"images/{n}" for n in read_list(small / "test_list.txt")
    }
    assert drawn == {name: complete[name] for name in drawn}
    assert set(complete) - set(drawn) == {
        f"images/{n}" for n in read_list(small / "train_val_list.txt")
    }


def test_patients_keep_their_images_and_split_when_there_are_more_of_them() -> None:
    test, train_val = demo_studies()
    more_test, more_train_val = split_studies(SEED, DEMO_PATIENTS + 100, TEST_FRACTION)
    assert [study for study in more_test if study.patient <= DEMO_PATIENTS] == test
    assert [study for study in more_train_val if study.patient <= DEMO_PATIENTS] == train_val


@pytest.mark.parametrize(
    ("findings", "sha256"),
    [
        ((), "4766d0df4c06b20f2e7fa42c052606a6358c778582ffb7c9e0ad101b340f5081"),
        (FINDINGS[:7], "f15e4f49e3b4cc80a56ba1271cd975ec4c7df031463af8bf6e49d613e0e6eda8"),
        (FINDINGS[7:], "deb33dcac1b7f1fe295f647a0bec4d03315b27121392b430527ee7e87033686a"),
    ],
)
def test_pixels_are_the_same_on_every_machine(findings: tuple[str, ...], sha256: str) -> None:
    study = Study(
        patient=7, follow_up=1, findings=frozenset(findings), age=50, gender="F", view="AP"
    )
    assert hashlib.sha256(render(study, SEED).tobytes()).hexdigest() == sha256


def test_everything_is_drawn_in_single_precision() -> None:
    study = draw_studies(SEED, 1)[0]
    chest = Chest(measure(SEED, study), expose(SEED, study))
    fields = [chest.soft_tissue(), chest.bones(), chest.markings(SEED, 1)]
    fields += [draw(chest, look(SEED, study, finding)) for finding, draw in DENSITY_OF.items()]
    assert {field.dtype for field in fields} == {np.dtype(np.float32)}


# --- layout ---------------------------------------------------------------------------------------


def test_pngs_are_1024_by_1024_8_bit_grayscale(small: Path) -> None:
    study = draw_studies(SEED, 1)[0]
    data = (small / "images" / study.image).read_bytes()
    picture = imagecodecs.png_decode(data)
    assert picture.shape == (1024, 1024)
    assert picture.dtype == np.uint8
    assert data[24:26] == b"\x08\x00", "bit depth 8, color type grayscale"
    assert np.array_equal(picture, render(study, SEED))


def test_png_encoder_keeps_any_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 9), dtype=np.uint8)
    assert np.array_equal(imagecodecs.png_decode(encode_png(picture)), picture)


def test_label_table_has_nihs_header_and_a_row_an_image(small: Path) -> None:
    text = (small / "Data_Entry.csv").read_text()
    assert text.splitlines()[0] == HEADER
    rows = list(csv.DictReader(text.splitlines()))
    assert sorted(row["Image Index"] for row in rows) == sorted(
        file.name for file in (small / "images").iterdir()
    )
    for row in rows:
        assert (
            row["Image Index"] == f"{int(row['Patient ID']):08d}_{int(row['Follow-up #']):03d}.png"
        )
        labels = row["Finding Labels"].split("|")
        assert labels == ["No Finding"] or set(labels) <= set(FINDINGS)


def test_header_is_the_real_tables(shared: Path) -> None:
    with (shared / "nih-chestxray14" / "Data_Entry_2017_v2020.csv").open() as table:
        assert table.readline().rstrip("\n") == HEADER


def test_benchmark_is_synthetic_and_its_list_has_the_right_digest(small: Path) -> None:
    spec = load_spec("phantom-cxr", small)
    assert spec.synthetic
    assert "not patients" in spec.title
    assert len(image_list(spec, small)) == spec.image_count
    assert hashlib.sha256((small / spec.labels_file).read_bytes()).hexdigest() == spec.labels_sha256


def test_an_interrupted_run_leaves_no_benchmark(tmp_path: Path) -> None:
    generate(tmp_path, patients=4, only="test", processes=1)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, patients=4, only="test", processes=1, progress=interrupt)
    assert not (tmp_path / "benchmark.toml").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("patients", 1), ("patients", 30_806), ("seed", -1), ("test_fraction", 1.0), ("processes", 0)],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(
    field: str, value: float, tmp_path: Path
) -> None:
    with pytest.raises(MalformedField, match=field):
        generate(tmp_path / "data", **{"patients": 4, field: value})  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()


# --- cohort ---------------------------------------------------------------------------------------


def test_no_patient_is_in_both_splits() -> None:
    test, train_val = demo_studies()
    assert {study.patient for study in test}.isdisjoint(study.patient for study in train_val)
    assert {study.patient for study in test + train_val} == set(range(1, DEMO_PATIENTS + 1))


def test_each_split_has_a_patient_however_few_there_are() -> None:
    for seed in range(20):
        assert all(split_studies(seed, 2, 0.01))
        assert all(split_studies(seed, 2, 0.99))


def test_every_finding_has_positives_in_the_demos_test_split() -> None:
    test, _ = demo_studies()
    counts = {finding: sum(finding in study.findings for study in test) for finding in FINDINGS}
    assert 380 <= len(test) <= 470
    assert min(counts.values()) >= 8, counts


NIH_FREQUENCIES = (
    0.103,
    0.025,
    0.119,
    0.177,
    0.052,
    0.056,
    0.013,
    0.047,
    0.042,
    0.021,
    0.022,
    0.015,
    0.030,
    0.002,
)


def test_frequencies_are_like_nihs_with_rare_findings_raised() -> None:
    test, train_val = demo_studies()
    labels = np.array(
        [[finding in study.findings for finding in FINDINGS] for study in test + train_val]
    )
    for finding, frequency, real in zip(
        FINDINGS, labels.mean(axis=0), NIH_FREQUENCIES, strict=True
    ):
        assert frequency == pytest.approx(max(real, 0.033), rel=0.35), finding
    assert (~labels.any(axis=1)).mean() == pytest.approx(0.54, abs=0.08), "images without a finding"


def test_findings_that_go_together_in_nihs_table_do_so_here() -> None:
    test, train_val = demo_studies()
    present = {f: np.array([f in study.findings for study in test + train_val]) for f in FINDINGS}
    for one, other, real_lift in [
        ("Edema", "Pneumonia", 11.6),
        ("Emphysema", "Pneumothorax", 6.3),
        ("Effusion", "Cardiomegaly", 3.2),
        ("Effusion", "Atelectasis", 2.4),
    ]:
        lift = (present[one] & present[other]).mean() / (
            present[one].mean() * present[other].mean()
        )
        assert lift == pytest.approx(real_lift, rel=0.45), (one, other)


def test_a_finding_is_likelier_when_the_previous_image_had_it() -> None:
    _, studies = demo_studies()
    pairs = [(a, b) for a, b in itertools.pairwise(studies) if a.patient == b.patient]
    for finding in FINDINGS:
        kept = np.mean([finding in b.findings for a, b in pairs if finding in a.findings])
        new = np.mean([finding in b.findings for a, b in pairs if finding not in a.findings])
        assert kept > 1.8 * new, finding


# --- pictures -------------------------------------------------------------------------------------


class Scene:
    """The same study with and without a finding: the change, and its location in the body."""

    def __init__(self, patient: int, finding: str) -> None:
        study = Study(patient, 0, frozenset(), age=50, gender="M", view="PA")
        with_it = replace(study, findings=frozenset({finding}))
        self.change: Picture = render(with_it, SEED).astype(np.int32) - render(study, SEED).astype(
            np.int32
        )
        self.look = look(SEED, with_it, finding)
        self.chest = Chest(measure(SEED, study), expose(SEED, study))

    def mean(self, region: npt.NDArray[np.bool_]) -> float:
        """Returns the mean change of gray levels in `region` of the chest's 256 x 256 grid."""
        return float(self.change[np.repeat(np.repeat(region, 4, axis=0), 4, axis=1)].mean())


def plain(finding: str, patient_from: int = 1) -> Scene:
    """Returns a patient in whom the finding is clearly visible."""
    candidates = (Study(n, 0, frozenset(), 50, "M", "PA") for n in range(patient_from, 200))
    return Scene(
        next(s.patient for s in candidates if look(SEED, s, finding).severity > 0.75), finding
    )


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_changes_the_picture_and_only_the_chest(finding: str) -> None:
    scene = plain(finding)
    assert np.abs(scene.change).max() >= 10
    assert scene.mean(scene.chest.v < 0.05) == 0


def test_faint_findings_change_less_than_plain_ones() -> None:
    studies = [Study(n, 0, frozenset(), 50, "M", "PA") for n in range(1, 200)]
    faint = next(s.patient for s in studies if look(SEED, s, "Effusion").severity < 0.15)
    assert (
        np.abs(Scene(faint, "Effusion").change).sum() < 0.5 * np.abs(plain("Effusion").change).sum()
    )


def test_cardiomegaly_brightens_beside_the_heart() -> None:
    scene = plain("Cardiomegaly")
    heart, width = scene.chest.heart > 0.5, scene.chest.thorax.heart_width
    beside = (
        ~heart
        & (scene.chest.across < 1.5 * width)
        & (np.abs(scene.chest.v - scene.chest.thorax.heart_base) < 0.05)
    )
    assert scene.mean(beside & (scene.chest.both_lungs > 0.9)) > 10


def test_pneumothorax_darkens_the_apex_of_its_side_only() -> None:
    scene = plain("Pneumothorax")
    for side in (-1, 1):
        apex = (scene.chest.lungs[side] > 0.9) & (scene.chest.v < scene.chest.thorax.apex + 0.06)
        assert (scene.mean(apex) < -5) == (side == scene.look.side)


def test_effusion_brightens_the_base_of_its_side() -> None:
    scene = plain("Effusion")
    lung = scene.chest.lungs[scene.look.side] > 0.9
    assert scene.mean(lung & (scene.chest.v > 0.68)) > 15
    assert abs(scene.mean(lung & (scene.chest.v < 0.3))) < 2


def test_emphysema_darkens_both_lungs_and_lowers_the_diaphragm() -> None:
    scene = plain("Emphysema")
    dome = np.abs(scene.chest.across - 0.15) < 0.05
    below = (scene.chest.v > scene.chest.diaphragm(-1)) & (
        scene.chest.v < scene.chest.diaphragm(-1) + 0.02
    )
    assert scene.mean((scene.chest.both_lungs > 0.9) & (scene.chest.v < 0.6)) < -2
    assert scene.mean(dome & below & (scene.chest.u < 0)) < -15


def test_edema_brightens_around_both_hila() -> None:
    scene = plain("Edema")
    for side in (-1, 1):
        near = (np.abs(scene.chest.across - 0.14) < 0.03) & (np.abs(scene.chest.v - 0.46) < 0.04)
        assert scene.mean(near & (scene.chest.lungs[side] > 0.9)) > 5


@pytest.mark.parametrize(
    "finding", ["Mass", "Nodule", "Infiltration", "Pneumonia", "Consolidation", "Fibrosis"]
)
def test_opacities_brighten_lung_and_nothing_else(finding: str) -> None:
    scene = plain(finding)
    assert scene.mean(scene.chest.both_lungs > 0.9) > 0.2
    assert abs(scene.mean(scene.chest.across > scene.chest.wall + 0.03)) < 0.05


def test_pleural_thickening_brightens_along_the_wall() -> None:
    scene = plain("Pleural_Thickening")
    lung = scene.chest.lungs[scene.look.side] > 0.9
    rim = scene.chest.across > scene.chest.wall - 0.03
    middle = (scene.chest.v > 0.5) & (scene.chest.v < 0.65)
    assert scene.mean(lung & rim & middle) > 10
    assert abs(scene.mean(lung & ~rim & (scene.chest.across < 0.2))) < 0.5


def test_hernia_shows_behind_the_heart_only() -> None:
    scene = plain("Hernia")
    changed = np.abs(scene.change[::4, ::4]) > 5
    assert changed.any()
    assert np.abs(scene.chest.u[changed]).max() < 0.2


def test_atelectasis_raises_the_diaphragm_of_its_side() -> None:
    scene = plain("Atelectasis")
    study = Study(1, 0, frozenset(), 50, "M", "PA")
    before = measure(SEED, study)
    after = SHAPES_OF["Atelectasis"](before, scene.look)
    side = scene.look.side > 0
    assert after.domes[side] < before.domes[side] - 0.02
    assert after.domes[not side] == before.domes[not side]
