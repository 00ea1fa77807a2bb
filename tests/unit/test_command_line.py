"""The command line without a server: imports, files that it reads, and its error messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cxreval.cli import submission
from cxreval.cli.app import app
from cxreval.client import read_manifest
from cxreval.errors import (
    CxrevalError,
    DatasetInvalid,
    DigestMismatch,
    KeyUnreadable,
    MalformedField,
    OwnerRequired,
    ServiceUnavailable,
    UploadBusy,
)
from tests.support import onnx_models
from tests.support.registry import small_spec
from tests.support.system import command

SLOW = ("scipy.special", "scipy.stats", "scipy.sparse", "pydicom", "onnx", "torch", "onnxruntime")
NAME = "benchmarks/small/submissions/" + "0" * 32


def run(*arguments: str, code: int = 0, **environment: str) -> Result:
    result = CliRunner().invoke(app, arguments, env=environment)
    if isinstance(result.exception, CxrevalError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_the_command_line_starts_without_the_libraries_that_only_some_commands_need() -> None:
    program = (
        f"import sys, cxreval.cli.app; print([name for name in {SLOW} if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == "[]\n"


def test_a_key_and_tls_files_are_read_only_by_commands_that_ask_a_service(tmp_path: Path) -> None:
    absent = {"CXREVAL_CLIENT_KEY_FILE": "/absent/key", "CXREVAL_CLIENT_TLS_CA": "/absent/ca.pem"}
    manifest = str(tmp_path / "mine.yaml")
    run("submission", "init", manifest, **absent)
    run("submission", "check", manifest, **absent)
    assert "history" in run("submission", "--help", **absent).output
    with pytest.raises(MalformedField, match=r"tls_ca is '/absent/ca\.pem'"):
        run("leaderboard", **absent)
    with pytest.raises(KeyUnreadable, match="/absent/key"):
        run("leaderboard", CXREVAL_CLIENT_KEY_FILE="/absent/key")


@pytest.mark.parametrize(
    "address", ["http://registry:50051", "registry", "registry:", ":50051", "no host:1", ""]
)
def test_a_malformed_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(MalformedField, match=r"--registry is .* expected host:port") as caught:
        run("leaderboard", "--registry", address)
    assert caught.value.metadata["field"] == "registry"
    with pytest.raises(MalformedField, match="--inference is"):
        run("predict", NAME, __file__, "--inference", address)


@pytest.mark.parametrize("address", ["[::1]:1", "dns:///127.0.0.1:1", "ipv4:127.0.0.1:1"])
def test_an_address_that_a_channel_opens_is_taken(address: str) -> None:
    with pytest.raises(ServiceUnavailable):
        run("leaderboard", "--registry", address)


def test_a_key_that_would_travel_in_plain_text_says_which_options_help(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("cxr_0_0")
    ended = command(
        "--key-file", str(tmp_path / "key"), "leaderboard", "--registry", "registry.example.org:1"
    )
    assert (ended.returncode, "error: KEY_NEEDS_TLS" in ended.stderr) == (1, True)
    assert "--tls-ca FILE, or --trust-network" in ended.stderr


def test_a_board_of_the_future_is_refused() -> None:
    with pytest.raises(
        MalformedField, match="--as-of is '2999-01-01'; expected a past time, in UTC"
    ):
        run("leaderboard", "--as-of", "2999-01-01")


def test_a_specification_is_read_from_a_file_with_any_case_of_the_suffix(tmp_path: Path) -> None:
    file = tmp_path / "MINE.TOML"
    file.write_text(small_spec("mine").to_toml())
    run("submission", "init", str(tmp_path / "mine.yaml"), "--benchmark", str(file))
    with pytest.raises(DatasetInvalid, match="cannot read the specification"):
        run("submission", "check", str(tmp_path / "mine.yaml"), "--benchmark", "Absent.Toml")


def test_check_names_an_empty_file_and_fields_that_are_still_the_templates(tmp_path: Path) -> None:
    manifest, empty = tmp_path / "mine.yaml", tmp_path / "model.onnx"
    run("submission", "init", str(manifest))
    empty.touch()
    said = run("submission", "check", str(manifest), str(empty), code=1).output
    assert f"MALFORMED_FIELD: {empty} is empty; expected at least one byte" in said
    assert "TOO_LARGE" not in said
    examples = "model, organisation, contact, reproduction.repository, reproduction.commit"
    assert (
        f"still the template's example values: {examples}\nno mistake found"
        in run("submission", "check", str(manifest)).output
    )
    text = (
        manifest.read_text()
        .replace("me@example.org", "ann@example.org")
        .replace("0123456789abcdef", "f" * 16)
    )
    manifest.write_text(text.replace("github.com/me", "github.com/ann").replace("My ", "Our "))
    last = run("submission", "check", str(manifest)).output
    assert last.startswith("preprocessing: The image is read as three channels")
    assert last.endswith("in the order NCHW.\nno mistake found\n")


class Upload:
    """A client whose uploads end in a given way."""

    def __init__(self, end: BaseException) -> None:
        self._end = end

    def upload_artifact(self, *_: Any, **__: Any) -> None:
        raise self._end


@pytest.mark.parametrize(
    ("end", "helps"),
    [
        (ServiceUnavailable("away"), True),
        (UploadBusy("busy"), True),
        (KeyboardInterrupt(), True),
        (OwnerRequired("another organisation's"), False),
        (DigestMismatch("another file"), False),
    ],
)
def test_resuming_is_suggested_only_where_it_helps(
    end: BaseException, helps: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(end)):
        submission._upload(Upload(end), NAME, [Path(__file__)])  # type: ignore[arg-type]
    later = f"to resume the upload: cxreval submission upload {NAME} {__file__}"
    assert (later in capsys.readouterr().err.replace("\n", "")) is helps


def test_submit_needs_no_onnx_and_says_that_the_file_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "mine.yaml"
    run("submission", "init", str(manifest))
    onnx_file = tmp_path / f"{onnx_models.classifier(tmp_path)}.onnx"
    monkeypatch.setattr("cxreval.extras.find_spec", lambda _: None)
    submission._checked_files(read_manifest(manifest), [onnx_file], None, look=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "is not checked here" in said
    assert "pip install 'cxreval[onnx]'" in said
