"""The example that submitters copy keeps its own contract, and agrees with the platform."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import onnxruntime
from typer.testing import CliRunner, Result

from cxreval.cli.app import app
from cxreval.cli.manifest import EXAMPLE_FILES
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.prediction_file import read_predictions
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import PRESETS
from tests.conftest import REPOSITORY
from tests.support import git_repositories as git

EXAMPLE = REPOSITORY / "src/cxreval/reproduction/example"
CHECKPOINT = REPOSITORY / "demo/checkpoints/thumbnail-linear.onnx"


def run(directory: Path, names: list[str], out: str) -> Path:
    (directory / "list.txt").write_text("".join(f"{name}\n" for name in names))
    arguments = ("--images", "images", "--list", "list.txt", "--out", out, "--seed", "7")
    subprocess.run(
        [sys.executable, str(EXAMPLE / "reproduce.py"), *arguments],
        cwd=directory,
        env={**os.environ, "CXREVAL_CHECKPOINT": str(CHECKPOINT)},
        check=True,
        timeout=100,
    )
    return directory / out


def test_the_example_gives_the_platforms_probabilities_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    (tmp_path / "images").mkdir()
    encoded = {}
    for number, shape in enumerate([(300, 401), (512, 512), (419, 260), (1024, 1024)]):
        smooth = imagecodecs.png_encode(random.integers(0, 256, shape, np.uint8))
        encoded[f"{number:06d}.png"] = smooth
        (tmp_path / "images" / f"{number:06d}.png").write_bytes(smooth)
    names = list(encoded)
    images, first, covered = read_predictions(run(tmp_path, names, "a.csv"), FINDINGS)
    assert images == names
    assert covered == FINDINGS
    backwards, second, _ = read_predictions(run(tmp_path, names[::-1], "b.csv"), FINDINGS)
    assert backwards == names[::-1]
    np.testing.assert_array_equal(first, second[::-1])
    profile = profile_of(PRESETS["imagenet-224"])
    session = onnxruntime.InferenceSession(CHECKPOINT)
    for image, probabilities in zip(images, first, strict=True):
        (ours,) = session.run(None, {"image": profile.apply(decode(encoded[image]))})
        np.testing.assert_allclose(probabilities, ours[0], atol=1e-6)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["submission", *map(str, arguments)])


def test_init_writes_the_example_beside_the_manifest_and_it_can_be_packed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("my own")
    written = command("init", mine / "mine.yaml", "--kind", "script")
    assert written.exit_code == 0, written.output
    assert (mine / "README.md").read_text() == "my own"
    assert f"kept {mine / 'README.md'}" in written.output
    for name in ("reproduce.py", "requirements.lock"):
        assert (mine / name).read_bytes() == (EXAMPLE / name).read_bytes()
    assert {*EXAMPLE_FILES} == {file.name for file in EXAMPLE.iterdir() if file.is_file()}
    commit = git.repository(mine, {})
    packed = command("bundle", mine, "--commit", commit, "--output", tmp_path / "source.bundle")
    assert packed.exit_code == 0
    assert "  entry_point: reproduce.py\n  lock: requirements.lock\n" in packed.output


def test_init_of_another_kind_writes_the_manifest_alone(tmp_path: Path) -> None:
    assert command("init", tmp_path / "mine.yaml", "--kind", "predictions").exit_code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["mine.yaml"]


def test_every_package_of_the_example_has_a_version_and_digests() -> None:
    lines = (EXAMPLE / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    entry = re.compile(r"[a-z0-9-]+==[0-9.]+ (?: *--hash=sha256:[0-9a-f]{64}){1,99} *")
    assert all(entry.fullmatch(line) for line in lines)
    imported = {"numpy", "onnxruntime", "pillow"}
    assert imported < {line.partition("==")[0] for line in lines}
