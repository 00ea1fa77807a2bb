"""Durable files: they appear whole or not at all, and leave no temporary file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cxreval.files import durable_file, file_sha256, work_directory


def test_a_file_appears_whole_when_the_block_ends_and_only_its_owner_can_read_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "model.onnx"
    with durable_file(file) as content:
        content.write(b"whole")
        assert not file.exists()
    assert file.read_bytes() == b"whole"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file_sha256(file) == hashlib.sha256(b"whole").hexdigest()
    assert list(tmp_path.iterdir()) == [file]


def test_after_an_error_the_old_file_stays_and_nothing_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"old")
    with pytest.raises(TypeError), durable_file(file) as content:
        content.write("not bytes")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_existing_file_is_replaced_only_on_request(tmp_path: Path, overwrite: bool) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"first")
    if overwrite:
        with durable_file(file) as content:
            content.write(b"second")
    else:
        with pytest.raises(FileExistsError), durable_file(file, overwrite=False) as content:
            content.write(b"second")
    assert file.read_bytes() == (b"second" if overwrite else b"first")
    assert list(tmp_path.iterdir()) == [file]


HOLDS = """
import sys
from cxreval.files import work_directory
with work_directory() as directory:
    (directory / "closed").mkdir()
    (directory / "closed" / "file").touch()
    (directory / "closed").chmod(0o555)
    print(directory, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_another_uses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDS],
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        killed, running = (Path(holder.stdout.readline().strip()) for holder in holders)
        holders[0].kill()
        holders[0].wait(timeout=30)
        assert (killed / "closed" / "file").exists()
        with work_directory() as own:
            assert {*tmp_path.iterdir()} == {running, own}
        assert (running / "closed" / "file").exists()
        holders[1].communicate(timeout=30)
        assert not list(tmp_path.iterdir())
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate(timeout=30)


def test_links_and_files_that_only_look_like_work_directories_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "cxreval-work-link").symlink_to(tmp_path / "mine")
    (tmp_path / "cxreval-work-file").touch()
    with work_directory():
        pass
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine", "cxreval-work-link", "cxreval-work-file"}
