"""The commands of docs/hosting.md, run as they are written, end with a row on the board."""

import re
import shlex
import sys
from contextlib import ExitStack

import numpy as np
import pytest

from cxreval.cli import app
from tests.conftest import REPOSITORY
from tests.support.processes import free_port
from tests.support.registry import registry_service
from tests.support.scoring import scoring_service
from tests.support.vocabularies import OPTIONS

PAGE = (REPOSITORY / "docs" / "hosting.md").read_text(encoding="utf-8")
FINDINGS = ("Mass", "Pleural effusion")


def commands(block):
    """Returns the commands of one of the page's `sh` blocks, as lists of arguments."""
    text = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[block].replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines()]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `cxreval` in this process through its entry point; returns what it prints."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cxreval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    return run


def write_data(home):
    """Writes images and a table as the page shows them, and a table of predictions."""
    (header,) = re.findall(r"```csv\n(.*)\n", PAGE)
    draw = np.random.default_rng(4)
    names = [f"202{n % 3}/a{n}.jpg" for n in range(60)]
    labels = draw.random((60, 2)) < 0.4
    rows = [f"{name},MRN-{n // 2},{','.join('Y' if label else 'N' for label in labels[n])}"
            for n, name in enumerate(names)]  # fmt: skip
    for name in names:
        (home / "mine" / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "mine" / "images" / name).write_bytes(b"\xff\xd8\xff\xd9")
    (home / "mine" / "labels.csv").write_text("\n".join([header, *rows, ""]))
    values = 0.3 * labels + 0.7 * draw.random((60, 2))
    rows = [f"{name},{row[0]},{row[1]}" for name, row in zip(names, values, strict=True)]
    text = "\n".join([",".join(["image", *FINDINGS]), *rows, ""])
    (home / "predictions.csv").write_text(text)


def test_six_commands_lead_from_images_and_a_table_to_a_row(tmp_path, monkeypatch, run):
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    run("submission", "init", "model.yaml", "--kind", "predictions")
    steps = [[part.replace("/data/", f"{tmp_path}/") for part in step] for step in commands(0)]
    assert len(steps) == 6
    with ExitStack() as started:
        registry = started.enter_context(registry_service(tmp_path, "--lease-seconds=10"))
        monkeypatch.setenv("CXREVAL_CLIENT_REGISTRY", registry.address)
        monkeypatch.setenv("CXREVAL_CLIENT_INFERENCE", f"127.0.0.1:{free_port()}")
        for step in steps:
            if step[:3] == ["python", "-m", "services.scoring"]:
                assert step[3:] == ["--data", f"mine={tmp_path / 'mine'}", "&"]
                scoring = scoring_service(tmp_path / "scoring.log", mine=tmp_path / "mine")
                started.enter_context(scoring)
                monkeypatch.setenv("CXREVAL_CLIENT_SCORING", scoring.address)
            else:
                assert step[0] == "cxreval"
                printed = run(*step[1:])
        assert re.search(r"^ +1 +\w+ +My ", printed, re.MULTILINE), printed
        (card,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
        (tmp_path / "card.yaml").write_text(card)
        (describe,) = commands(2)
        assert "licence: CC BY 4.0" in run(*describe[1:])


def test_the_page_has_the_commands_that_are_tested_on_the_four_collections():
    described = {step[3].removeprefix("/data/"): tuple(step[4:]) for step in commands(1)}
    assert described == OPTIONS
