"""`submission bundle`, `check` and `submit` look into a source bundle before it is uploaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from cxreval.cli import submission
from cxreval.cli.app import app
from cxreval.errors import CxrevalError, LockRefused, SourceTreeRefused
from cxreval.manifest.document import read_manifest
from cxreval.reproduction.source_bundle import pack
from tests.support import git_repositories as git

LOCK = b"numpy==2.4.6 --hash=sha256:" + b"a" * 64
FILES = {"reproduce.py": b"print()", "requirements.lock": LOCK}


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["submission", *map(str, arguments)])


class Work:
    """A repository with one commit, its source bundle, and a manifest of a kind."""

    def __init__(self, directory: Path, kind: str, files: dict[str, bytes]) -> None:
        self.repository = directory / "repository"
        self.commit = git.repository(self.repository, files)
        self.bundle = directory / "source.bundle"
        pack(self.repository, self.commit, self.bundle)
        self.manifest = directory / "mine.yaml"
        assert command("init", self.manifest, "--kind", kind).exit_code == 0
        self.change("reproduction", commit=self.commit, entry_point="reproduce.py")

    def change(self, record: str, **values: object) -> None:
        manifest = yaml.safe_load(self.manifest.read_text())
        manifest[record] |= values
        self.manifest.write_text(yaml.safe_dump(manifest))

    def check(self, *arguments: object) -> dict[str, object]:
        said = command("check", self.manifest, *arguments, "--json")
        found = json.loads(said.output)
        assert said.exit_code == bool(found["problems"])
        return found


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"requirements.lock": LOCK}, "reproduction.entry_point"),
        ({**FILES, "requirements.lock": b"numpy"}, "without a version"),
        ({"reproduce.py": b""}, "reproduction.lock"),
    ],
)
def test_bundle_of_a_commit_that_could_not_run_is_not_written(
    tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    commit = git.repository(tmp_path / "r", files)
    said = command("bundle", tmp_path / "r", "--commit", commit, "--output", tmp_path / "out")
    assert isinstance(said.exception, SourceTreeRefused | LockRefused)
    assert words in said.exception.message
    assert not (tmp_path / "out").exists()


def test_check_looks_into_the_source_bundle_of_a_script(tmp_path: Path) -> None:
    work = Work(tmp_path, "script", FILES)
    work.change("reproduction", lock="requirements.lock")
    found = work.check(work.bundle)
    assert found["problems"] == []
    assert f"commit {work.commit} with 2 files" in found["artifact"]["source"]


@pytest.mark.parametrize(
    ("record", "values", "reason"),
    [
        ("reproduction", {"commit": "1" * 40}, "COMMIT_NOT_IN_BUNDLE"),
        ("reproduction", {"entry_point": "other.py"}, "SOURCE_TREE_REFUSED"),
        ("reproduction", {"lock": "no.lock"}, "SOURCE_TREE_REFUSED"),
        ("reproduction", {"lock": "reproduce.py"}, "LOCK_REFUSED"),
        ("environment", {"dependencies": ["a==1", "A==2"]}, "LOCK_REFUSED"),
        ("environment", {"python_version": "three"}, "MALFORMED_FIELD"),
    ],
)
def test_check_names_what_would_fail_after_the_upload(
    tmp_path: Path, record: str, values: dict[str, object], reason: str
) -> None:
    work = Work(tmp_path, "script", FILES)
    work.change(record, **values)
    (problem,) = work.check(work.bundle)["problems"]
    assert problem["reason"] == reason


def test_file_that_is_no_bundle_and_a_second_file_are_named(tmp_path: Path) -> None:
    work = Work(tmp_path, "script", FILES)
    other = tmp_path / "other"
    other.write_bytes(b"PK\3\4")
    (problem,) = work.check(other)["problems"]
    assert problem["reason"] == "SOURCE_BUNDLE_UNREADABLE"
    (problem,) = work.check(work.bundle, other)["problems"]
    assert problem["reason"] == "MALFORMED_FIELD"


def test_check_and_submit_look_into_the_bundle_beside_a_table(tmp_path: Path) -> None:
    work = Work(tmp_path, "predictions", FILES)
    assert "source" in work.check("--bundle", work.bundle)["artifact"]
    work.change("reproduction", entry_point="other.py", bundle_sha256="0" * 64)
    (problem,) = work.check("--bundle", work.bundle)["problems"]
    assert problem["reason"] == "DIGEST_MISMATCH"
    work.change("reproduction", bundle_sha256="")
    (problem,) = work.check("--bundle", work.bundle)["problems"]
    assert problem["field"] == "reproduction.entry_point"
    with pytest.raises(CxrevalError, match=r"other\.py"):
        submission._check_source(work.bundle, read_manifest(work.manifest))
