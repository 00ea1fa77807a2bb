"""The blocks of docs/your-own-model.md, and a registry, a worker and phantoms to run them on."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from cxreval.client import Submission, SubmissionStatus, read_manifest
from cxreval.datasets import phantom
from cxreval.evaluation.driver import local_benchmarks
from cxreval.imaging.decode import decode
from cxreval.imaging.preprocess import profile_of
from tests.conftest import REPOSITORY
from tests.support.system import System

Array = npt.NDArray[np.float32]

PAGE = REPOSITORY / "docs" / "your-own-model.md"
BENCHMARK = "phantom-cxr"
FINDINGS = 14
COMMAND_SECONDS = 180.0


def blocks(mark: str) -> list[str]:
    """Returns the page's blocks of code with a mark, such as `python timm`."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{mark}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def block(mark: str) -> str:
    """Returns the only block with a mark."""
    (text,) = blocks(mark)
    return text


def commands() -> list[list[str]]:
    """Returns the page's `cxreval` commands in order, as lists of arguments."""
    lines = [line for text in blocks("sh") for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("cxreval ")]


def own_name(name: str) -> str:
    """Returns the name of the model of a block, so that each test has a row of its own."""
    return f"Our {name}"


class Newcomer:
    """A person in an empty folder, with the platform running on a few phantoms."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.folder = folder

    def python(self, name: str, **given: Any) -> dict[str, Any]:
        """Runs a Python block of the page in the folder and returns its names."""
        names = dict(given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own
            exec(compile(block(f"python {name}"), name, "exec"), names)
        return names

    def edit(self, file: str, *names: str) -> None:
        """Enters the page's YAML blocks of these names into a manifest, and a model's name."""
        manifest = yaml.safe_load((self.folder / file).read_text(encoding="utf-8"))
        for name in names:
            manifest |= yaml.safe_load(block(f"yaml {name}"))
        manifest["model"] = own_name(names[-1])
        (self.folder / file).write_text(yaml.safe_dump(manifest), encoding="utf-8")

    def command(self, arguments: list[str]) -> str:
        """Runs a `cxreval` command of the page in the folder; returns what it prints."""
        assert arguments[0] == "cxreval"
        ended = subprocess.run(
            [sys.executable, "-m", "cxreval.cli.app", *arguments[1:]],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
            env=os.environ | {"CXREVAL_CLIENT_REGISTRY": self.system.registry_service.address},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def published(self, model: str) -> Submission:
        """Returns the published submission of a model that is on the board."""
        (row,) = [r for r in self.system.registry.leaderboard(BENCHMARK) if r.model == model]
        submission = self.system.registry.get_submission(row.submission)
        assert submission.status is SubmissionStatus.PUBLISHED
        return submission


@contextmanager
def platform(directory: Path) -> Iterator[System]:
    """A running platform with a worker and a benchmark of about ten phantoms."""
    data = directory / "data"
    phantom.generate(data, patients=12, seed=2017, only="test", processes=1)
    with System(directory, {BENCHMARK: data}, lease_seconds=20.0) as system:
        system.registry.create_benchmark(local_benchmarks(system.data)[BENCHMARK])
        system.start_worker()
        yield system


def answers(
    newcomer: Newcomer, network: Callable[[Array], Array], images: Sequence[str]
) -> list[Array]:
    """Returns the network's answer for each image, preprocessed as mine.yaml declares."""
    steps = read_manifest(newcomer.folder / "mine.yaml").declared_preprocessing
    assert steps
    profile = profile_of(steps)
    folder = newcomer.system.data[BENCHMARK] / "images"
    return [network(profile.apply(decode((folder / image).read_bytes())))[0] for image in images]


def follow(
    newcomer: Newcomer, network: Callable[[Array], Array], *names: str, file: str = "model.onnx"
) -> None:
    """Submits a file as the page says; its row has the probabilities of the network.

    `names` are the blocks of YAML that are entered into the manifest.
    """
    init, *others = commands()[:4]
    check, submit, board = (
        [file if part == "model.onnx" else part for part in command] for command in others
    )
    newcomer.command(init)
    newcomer.edit("mine.yaml", *names)
    assert "no mistake found" in newcomer.command(check)
    newcomer.command(submit)
    assert names[-1] in newcomer.command(board)
    recorded = newcomer.system.registry.predictions(newcomer.published(own_name(names[-1])).name)
    assert recorded.probabilities.shape[1] == FINDINGS
    assert np.ptp(recorded.probabilities, axis=0).min() > 0, "the images do not matter"
    wanted = answers(newcomer, network, recorded.images[:4])
    np.testing.assert_allclose(recorded.probabilities[:4], wanted, rtol=0, atol=1e-4)
