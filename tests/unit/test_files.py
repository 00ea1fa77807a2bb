"""Durable files: they appear whole or not at all, and leave no temporary file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cxreval.files import durable_file, file_sha256


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
