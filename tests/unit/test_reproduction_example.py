"""The example that submitters copy keeps its own contract, and agrees with the platform."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import onnxruntime
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.datasets.nih import FINDINGS
from cxreval.datasets.prediction_file import read_predictions
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import profile_of
from cxreval.preprocessing import PRESETS
from tests.conftest import REPOSITORY
from tests.support import git_repositories as git

EXAMPLE = REPOSITORY / "docs/examples/reproduction"
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


def test_the_example_can_be_packed_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    commit = git.repository(tmp_path / "mine", {})
    arguments = ["submission", "bundle", str(tmp_path / "mine"), "--commit", commit]
    packed = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "source.bundle")])
    assert packed.exit_code == 0
    assert "  entry_point: reproduce.py\n  lock: requirements.lock\n" in packed.output


def test_every_package_of_the_example_has_a_version_and_digests() -> None:
    lines = (EXAMPLE / "requirements.lock").read_text().replace("\\\n", "").splitlines()
    entry = re.compile(r"[a-z0-9-]+==[0-9.]+ (?: *--hash=sha256:[0-9a-f]{64}){1,99} *")
    assert all(entry.fullmatch(line) for line in lines)
    imported = {"numpy", "onnxruntime", "pillow"}
    assert imported < {line.partition("==")[0] for line in lines}
