"""An archive follows from its files, and every other one is refused, with the file that differs."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.bundle import (
    MAX_FILES,
    SubmittedFile,
    arranged,
    artifact_sha256,
    described,
    files_of,
    files_text,
    opened,
    sections,
)
from cxreval.errors import BundleInvalid, CxrevalError, DigestMismatch, MalformedField

CONTENTS = {"model.onnx": b"graph" * 200, "weights.bin": bytes(range(256)) * 4, "b": b"x"}
LISTED = tuple(
    SubmittedFile(name, hashlib.sha256(content).hexdigest()) for name, content in CONTENTS.items()
)


def written(directory: Path, contents: dict[str, bytes] = CONTENTS) -> list[Path]:
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [directory / name for name in contents]


def archive(files: list[Path]) -> bytes:
    with opened(files, bundled=True) as content:
        return content.read()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return archive(written(tmp_path_factory.mktemp("plain")))


def refused(directory: Path, content: bytes, files: tuple[SubmittedFile, ...] = LISTED) -> str:
    (directory / "archive").write_bytes(content)
    with pytest.raises(BundleInvalid) as caught:
        sections(directory / "archive", files)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
    return caught.value.metadata.get("file", "")


# --- what is made ---------------------------------------------------------------------------------


def test_each_section_is_its_file(tmp_path: Path, plain: bytes) -> None:
    (tmp_path / "archive").write_bytes(plain)

    found = sections(tmp_path / "archive", LISTED)

    assert {name: place.read(0, place.nbytes) for name, place in found.items()} == CONTENTS
    assert list(found) == list(CONTENTS)
    assert found["weights.bin"].read(3, 5) == CONTENTS["weights.bin"][3:8]


def test_other_programs_read_the_archive(tmp_path: Path, plain: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        read = {item.name: tar.extractfile(item).read() for item in tar}  # type: ignore[union-attr]
        assert {(item.mode, item.uid, item.mtime, item.isreg()) for item in tar} == {
            (0o644, 0, 0, True)
        }
    (tmp_path / "archive.tar").write_bytes(plain)
    listed = subprocess.run(
        ["tar", "-tf", tmp_path / "archive.tar"],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert read == CONTENTS
    assert (listed.stdout.split(), listed.stderr) == (list(CONTENTS), "")


def test_the_archive_does_not_depend_on_times_and_modes_of_the_files(
    tmp_path: Path, plain: bytes
) -> None:
    files = written(tmp_path)
    for file in files:
        file.chmod(0o700)
    assert archive(files) == plain
    assert artifact_sha256(files, bundled=True) == hashlib.sha256(plain).hexdigest()


@given(st.integers(0, 6000), st.integers(1, 3000))
def test_an_upload_can_resume_at_every_byte(
    tmp_path_factory: pytest.TempPathFactory, plain: bytes, start: int, count: int
) -> None:
    directory = tmp_path_factory.getbasetemp() / "resumed"
    directory.mkdir(exist_ok=True)
    with opened(written(directory), bundled=True) as content:
        content.seek(start)
        assert content.read(count) == plain[start : start + count]


def test_a_file_that_shrinks_while_it_is_read_ends_the_archive(tmp_path: Path) -> None:
    files = written(tmp_path)
    with opened(files, bundled=True) as content:
        files[0].write_bytes(b"short")
        assert content.read() == archive(written(tmp_path))[:512] + b"short"


# --- files and manifests --------------------------------------------------------------------------


def test_files_are_arranged_as_the_manifest_names_them(tmp_path: Path) -> None:
    files = written(tmp_path)
    assert arranged(files[::-1], LISTED) == files
    assert arranged(files[::-1], ()) == files[::-1]
    assert described(files, LISTED) == LISTED
    for wrong, problem in ((files[1:], "lack model.onnx"), ([*files, tmp_path / "c"], "also c")):
        with pytest.raises(MalformedField, match=problem):
            arranged(wrong, LISTED)


@pytest.mark.parametrize("names", [("a.onnx", "a.onnx"), ("a.onnx", "A.onnx")])
def test_names_must_differ_in_more_than_case(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(MalformedField, match="each name once"):
        arranged([tmp_path / name for name in names], ())
    digest = hashlib.sha256(b"x").hexdigest()
    assert refused(tmp_path, b"", tuple(SubmittedFile(name, digest) for name in names)) == ""


@pytest.mark.parametrize("name", ["my model.onnx", ".onnx", "modèle.onnx", "-rf", "CON", "a."])
def test_a_name_that_some_system_cannot_store_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MalformedField, match="file name of letters"):
        described([tmp_path / name], ())


def test_a_digest_in_the_manifest_must_be_that_of_the_file(tmp_path: Path) -> None:
    stated = [SubmittedFile("model.onnx", "0" * 64)]
    with pytest.raises(DigestMismatch, match=r"manifest.files\[0\].sha256"):
        described(written(tmp_path)[:1], stated)


def test_a_text_of_files_is_read_back_and_others_are_refused() -> None:
    assert files_of(files_text(LISTED), "files") == LISTED
    assert files_of("", "files") == ()
    word = files_text(LISTED[:1])
    for text in ("x", " ", f"{word} ", f"../{word}", word.upper(), " ".join([word] * 65)):
        with pytest.raises(MalformedField, match="files is"):
            files_of(text, "files")


# --- hostile archives -----------------------------------------------------------------------------


def tar(*items: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as made:
        for item, content in items:
            made.addfile(item, io.BytesIO(content))
    return stream.getvalue()


def item(name: str, content: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size, made.mode = len(content), 0o644
    for attribute, value in changes.items():
        setattr(made, attribute, value)
    return made, content


GRAPH = CONTENTS["model.onnx"]
REST = [item(name, content) for name, content in list(CONTENTS.items())[1:]]
LINKS = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE,
         "fifo": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE, "sparse": tarfile.GNUTYPE_SPARSE,
         "contiguous": tarfile.CONTTYPE, "old": tarfile.AREGTYPE, "unknown": b"Z"}  # fmt: skip

FIRST: dict[str, Callable[[bytes], bytes]] = {
    **{
        f"path {name}": lambda _, name=name: tar(item(name, GRAPH), *REST)  # type: ignore[misc]
        for name in ("../model.onnx", "/model.onnx", "./model.onnx", "a/model.onnx", "MODEL.ONNX")
    },
    **{
        kind: lambda _, type_=type_: tar(  # type: ignore[misc]
            item("model.onnx", type=type_, linkname="/etc/passwd"), *REST
        )
        for kind, type_ in LINKS.items()
    },
    "another owner": lambda _: tar(item("model.onnx", GRAPH, uid=1000), *REST),
    "a time": lambda _: tar(item("model.onnx", GRAPH, mtime=1), *REST),
    "set-user-id": lambda _: tar(item("model.onnx", GRAPH, mode=0o4755), *REST),
    "pax headers": lambda _: tar(
        item("model.onnx", GRAPH, pax_headers={"path": "../x"}), *REST, form=tarfile.PAX_FORMAT
    ),
    "pax size": lambda _: tar(
        item("model.onnx", GRAPH, pax_headers={"GNU.sparse.realsize": str(2**50)}),
        *REST, form=tarfile.PAX_FORMAT,
    ),
    "GNU long name": lambda _: tar(item("n" * 200, GRAPH), *REST, form=tarfile.GNU_FORMAT),
    "100,000 files": lambda _: tar(item("n"))[:512] * 100_000,
    "gzip": gzip.compress,
    "nothing": lambda _: b"",
    "zeros": lambda plain: bytes(len(plain)),
    "no tar": lambda _: b"\x08\x07\x12\x07pytorch" * 500,
    "a tar in a tar": lambda plain: tar(item("archive.tar", plain)),
    "cut in the header": lambda plain: plain[:511],
    "cut in the content": lambda plain: plain[:1000],
    "another order": lambda _: tar(*REST, item("model.onnx", GRAPH)),
    "the first file twice": lambda plain: plain[:1536] + plain,
    "other bytes": lambda plain: plain.replace(b"graph", b"GRAPH"),
    "data in the padding": lambda plain: plain[:1535] + b"x" + plain[1536:],
    "a size of 1 PiB": lambda plain: sized(plain, b"\x80" + (2**50).to_bytes(11, "big")),
    "a size of 8 GiB": lambda plain: sized(plain, b"77777777777\0"),
    "a negative size": lambda plain: sized(plain, b"\xff" * 12),
    "a size in spaces": lambda plain: sized(plain, b"       1750\0"),
    "a smaller size": lambda plain: sized(plain, b"00000001000\0"),
}  # fmt: skip
"""Archives whose first file is wrong."""


def sized(plain: bytes, size: bytes) -> bytes:
    """Returns the archive with another size of the first file, and the checksum that fits."""
    header = bytearray(plain[:512])
    header[124:136], header[148:156] = size, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + plain[512:]


@pytest.mark.parametrize("kind", FIRST)
def test_an_archive_whose_first_file_differs_is_refused_with_its_name(
    tmp_path: Path, plain: bytes, kind: str
) -> None:
    content = FIRST[kind](plain)
    assert content != plain
    assert refused(tmp_path, content) == ("weights.bin" if "twice" in kind else "model.onnx")


LATER: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "the last file missing": (lambda plain: plain[:-2048] + bytes(1024), "b"),
    "a further file": (lambda plain: plain[:-1024] + plain, "b"),
    "no end": (lambda plain: plain[:-1024], "b"),
    "half an end": (lambda plain: plain[:-512], "b"),
    "a longer end": (lambda plain: plain + bytes(512), "b"),
    "another archive after the end": (lambda plain: plain + plain, "b"),
    "a letter after the end": (lambda plain: plain + b"x", "b"),
}


@pytest.mark.parametrize("kind", LATER)
def test_an_archive_that_ends_otherwise_is_refused(tmp_path: Path, plain: bytes, kind: str) -> None:
    change, name = LATER[kind]
    assert refused(tmp_path, change(plain)) == name


@given(st.data())
def test_no_changed_byte_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, plain: bytes, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(plain) - 1))
    changed = bytearray(plain)
    changed[place] ^= data.draw(st.integers(1, 255))
    refused(tmp_path_factory.getbasetemp(), bytes(changed))


def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path, {f"{n}.onnx": b"x" for n in range(MAX_FILES + 1)})
    with pytest.raises(CxrevalError, match=f"at most {MAX_FILES}"):
        described(files, ())
