"""What an operator states of scripts is what they are run with, or a named error."""

from __future__ import annotations

import platform
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cxreval.cli.app import app
from cxreval.cli.script_options import IsolationKind, ScriptOptions
from cxreval.client import Usage
from cxreval.datasets.nih import FINDINGS
from cxreval.errors import (
    CxrevalError,
    EnvironmentUnavailable,
    MalformedField,
    MissingField,
    SandboxUnavailable,
    ScriptTimeout,
)
from cxreval.evaluation.scripts import Script, ScriptResult
from cxreval.reproduction.isolation import cluster
from cxreval.reproduction.source_bundle import pack
from tests.conftest import missing
from tests.support.certificates import make_certificates
from tests.support.git_repositories import repository
from tests.support.inference import png

OWN = Path(sys.executable).resolve()
TABLE = f"""
import sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(given["--out"], "w") as out:
    print("Image Index", *{list(FINDINGS)!r}, sep=",", file=out)
    for name in open(given["--list"]).read().split():
        print(name, *[0.5] * {len(FINDINGS)}, sep=",", file=out)
"""


def run_script(options: ScriptOptions, text: str, directory: Path) -> ScriptResult:
    """Returns the result of a script, which the worker with these options runs over one image."""
    runner = options.runner()
    if runner is None:
        missing("scripts cannot be isolated here")
    folder = directory / "repository"
    folder.mkdir()
    commit = repository(folder, {"run.py": text.encode()})
    pack(folder, commit, directory / "source.bundle")
    (directory / "one.png").write_bytes(png())
    version = platform.python_version()
    given = Script(directory / "source.bundle", commit, "run.py", 1, "", version, (), None, None)
    return runner(given, {"one.png": directory / "one.png"}, FINDINGS, lambda _: None)


# --- options --------------------------------------------------------------------------------------


def test_each_option_has_a_variable_and_reaches_the_runner(tmp_path, monkeypatch):
    (tmp_path / "other").symlink_to(OWN)
    given = ScriptOptions(
        directory=tmp_path / "environments",
        kind=IsolationKind.KUBERNETES,
        image="images.example/python@sha256:0",
        runtime_class="gvisor",
        claim=f"runs={tmp_path}",
        index="https://wheels.example/simple",
        pythons=(OWN, tmp_path / "other"),
        memory_mib=1000,
        cpu_seconds=1001,
        wall_seconds=1002,
        scratch_mib=1003,
        cache_gib=1004,
    )
    names = {field.name: f"script_{field.name}" for field in fields(ScriptOptions)}
    names |= {"directory": "scripts", "kind": "script_isolation", "pythons": "script_python"}
    variables = {
        f"CXREVAL_WORKER_{option.upper()}": str(getattr(given, name))
        for name, option in names.items()
    }
    variables["CXREVAL_WORKER_SCRIPT_PYTHON"] = ":".join(map(str, given.pythons))
    built = []

    def runner(options: ScriptOptions) -> None:
        built.append(options)
        raise typer.Exit

    monkeypatch.setattr(ScriptOptions, "runner", runner)
    done = CliRunner().invoke(app, ["worker", f"--data=x={tmp_path}"], env=variables)
    assert (done.exit_code, built) == (0, [given]), done.output


def test_without_a_directory_no_script_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptOptions, "runner", lambda _: pytest.fail("built"))
    done = CliRunner().invoke(app, ["worker", f"--data=x={tmp_path}", "--once"])
    assert done.exit_code != 0  # x is no data set


# --- what a run gets ------------------------------------------------------------------------------


def test_row_states_isolation_interpreter_and_limits_of_the_operator(tmp_path):
    options = ScriptOptions(
        tmp_path / "environments",
        pythons=(OWN,),
        memory_mib=300,
        cpu_seconds=40,
        wall_seconds=50,
        scratch_mib=20,
    )
    result = run_script(options, TABLE, tmp_path)
    assert result.error is None
    assert result.record
    assert result.record.limits == Usage(50.0, 40.0, 300 << 20, 64 << 20)
    stated = {name: result.provenance[name] for name in ("interpreter", "isolation")}
    assert stated == {"interpreter": platform.python_version(), "isolation": "bubblewrap"}
    assert result.provenance["limit_scratch_bytes"] == str(20 << 20)


def test_script_ends_at_the_limits_of_the_operator(tmp_path):
    options = ScriptOptions(tmp_path / "environments", wall_seconds=1)
    result = run_script(options, "import time\ntime.sleep(60)\n", tmp_path)
    assert isinstance(result.error, ScriptTimeout)


# --- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "field"),
    [
        ({"kind": IsolationKind.PODMAN}, MissingField, "script_image"),
        ({"kind": IsolationKind.KUBERNETES}, MissingField, "script_image"),
        ({"kind": IsolationKind.KUBERNETES, "image": "i"}, MissingField, "script_runtime_class"),
        (
            {"kind": IsolationKind.PODMAN, "image": "i", "pythons": (OWN, OWN)},
            MalformedField,
            "script_python",
        ),
        ({"index": "wheels.example"}, MalformedField, "script_index"),
        ({"index": "file:///wheels"}, MalformedField, "script_index"),
    ],
)
def test_options_that_do_not_fit_together_are_named(tmp_path, given, error, field):
    with pytest.raises(error) as caught:
        ScriptOptions(tmp_path / "environments", **given).runner()
    assert caught.value.metadata["field"] == field


def test_jobs_must_be_able_to_read_what_the_worker_writes_for_them(tmp_path, monkeypatch):
    volume = tmp_path / "runs"
    volume.mkdir()
    options = ScriptOptions(
        volume / "environments", IsolationKind.KUBERNETES, "i", "gvisor", f"runs={volume}"
    )

    def field(options: ScriptOptions, temporary: Path) -> str:
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        with pytest.raises(MalformedField) as caught:
            options.runner()
        return str(caught.value.metadata["field"])

    (volume / "tmp").mkdir()
    assert field(options, tmp_path) == "TMPDIR"
    assert field(replace(options, directory=tmp_path / "other"), volume / "tmp") == "scripts"
    for claim in ("", "runs", "runs=", "=/", f"runs={volume}/none"):
        assert field(replace(options, claim=claim), volume / "tmp") == "script_claim"


def test_interpreter_that_is_no_python_ends_the_worker(tmp_path):
    with pytest.raises(EnvironmentUnavailable, match="/true"):
        ScriptOptions(tmp_path / "environments", pythons=(Path("/bin/true"),)).runner()


def test_worker_goes_on_without_scripts_where_they_cannot_be_isolated(
    tmp_path, monkeypatch, caplog
):
    volume = tmp_path / "runs"
    (volume / "tmp").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(volume / "tmp"))
    in_no_pod = ScriptOptions(
        volume / "environments", IsolationKind.KUBERNETES, "i", "gvisor", f"runs={volume}"
    )
    assert in_no_pod.runner() is None
    assert "service account" in caplog.text
    monkeypatch.setenv("PATH", str(tmp_path))
    no_podman = ScriptOptions(tmp_path / "environments", IsolationKind.PODMAN, "i")
    assert no_podman.runner() is None
    assert "podman is not installed" in caplog.text


# --- the cluster of a pod -------------------------------------------------------------------------


def test_jobs_are_created_in_the_namespace_of_the_worker(tmp_path, monkeypatch):
    files = make_certificates(tmp_path)
    (tmp_path / "ca.crt").write_bytes(Path(files.ca).read_bytes())
    (tmp_path / "token").write_text("secret-token")
    (tmp_path / "namespace").write_text("cxreval-scripts\n")
    monkeypatch.setattr(cluster, "_ADDRESS", "https://127.0.0.1:9")
    with pytest.raises(SandboxUnavailable) as caught:
        cluster.of_this_pod(tmp_path).create("batch/v1", "jobs", {})
    assert "/apis/batch/v1/namespaces/cxreval-scripts/jobs" in caught.value.message
    assert "secret-token" not in str(caught.value)


def test_pod_without_a_service_account_is_named(tmp_path):
    with pytest.raises(CxrevalError, match="service account") as caught:
        cluster.of_this_pod(tmp_path)
    assert isinstance(caught.value, SandboxUnavailable)
