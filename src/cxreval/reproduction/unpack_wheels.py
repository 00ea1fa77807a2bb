"""Unpacks wheels and wheelhouses, which are zip files of strangers, in the sandbox.

It is run as `python -m cxreval.reproduction.unpack_wheels`, with limits on memory and files.

A wheel is a zip file. Its files go below the directory of packages, those of `NAME.data/purelib`,
`platlib` and `data` too; scripts and headers are left out, because only `import` is offered. No
code of a wheel runs. `.pth` files are copied and have no effect: an interpreter reads them only in
its own directories of packages, not on `PYTHONPATH`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import py_compile
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from cxreval.child_limits import limit_this_process

MAX_FILES = 300_000
MAX_WHEELS = 500
_MEMORY_BYTES = 1 << 30
_LIST_BYTES = 128 << 20  # memory for a list of at most MAX_WHEELS
_CPU_SECONDS = 1200
_COMPILE_SECONDS = 600
_PIECE_BYTES = 1 << 20
_DATA = re.compile(r"[^/]+\.data")
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_LINK = 0xA  # S_IFLNK, in the four highest bits of external_attr


class _Refused(Exception):
    """A wheel breaks a rule; the arguments are the problem and what was expected."""


@contextlib.contextmanager
def _opened(file: Path, name: str) -> Iterator[zipfile.ZipFile]:
    """Opens a zip file; whatever is wrong with it raises `_Refused`, a full disk does not."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _Refused:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        problem = f"{type(error).__name__} {error}"[:200]
        raise _Refused(f"{name} cannot be unpacked: {problem}", "a complete zip file") from error


def extract(wheelhouse: Path, directory: Path, most_bytes: int) -> int:
    """Writes the wheels of a wheelhouse into a directory; returns their number.

    Raises:
        _Refused: the file is not a zip of wheels beside each other, or too large.
    """
    left = most_bytes
    seen: set[str] = set()
    with _opened(wheelhouse, "the wheelhouse") as archive:
        entries = archive.infolist()
        if len(entries) > MAX_WHEELS:
            raise _Refused(f"the wheelhouse has {len(entries)} files", f"at most {MAX_WHEELS}")
        for entry in entries:
            name = entry.filename
            _check_plain("the wheelhouse", entry)
            if entry.is_dir() or not _is_wheel_name(name):
                problem = f"the wheelhouse has {name[:80]!r}"
                raise _Refused(problem, "wheels only, without folders")
            left -= entry.file_size
            if name in seen or left < 0:
                problem = f"has {name!r} twice" if name in seen else "is too large"
                expected = f"each wheel once, at most {most_bytes} bytes"
                raise _Refused(f"the wheelhouse {problem}", expected)
            seen.add(name)
            _write(archive, entry, directory / name)
    return len(seen)


def unpack(wheels: Path, packages: Path, most_bytes: int) -> int:
    """Unpacks each wheel of a directory, in the order of names; returns the number of files.

    A file that two wheels have is that of the later one.

    Raises:
        _Refused: a wheel is damaged, or breaks a rule.
    """
    left, count = most_bytes, 0
    for wheel in sorted(wheels.iterdir()):
        with _opened(wheel, wheel.name) as archive:
            for entry in archive.infolist():
                target = _target(wheel.name, entry)
                if target is None:
                    continue
                count += 1
                left -= entry.file_size
                if left < 0 or count > MAX_FILES:
                    expected = f"at most {most_bytes} bytes in {MAX_FILES} files"
                    raise _Refused(f"the packages are too large at {wheel.name}", expected)
                _write(archive, entry, packages.joinpath(*target.parts))
    return count


def _is_wheel_name(name: str) -> bool:
    with contextlib.suppress(InvalidWheelFilename, ValueError):
        parse_wheel_filename(name)
        return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,249}", name))
    return False


def _check_plain(archive: str, entry: zipfile.ZipInfo) -> None:
    """Raises `_Refused` for a link, an encrypted file, and rare kinds of compression."""
    rare = entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if entry.external_attr >> 28 == _LINK or entry.flag_bits & 1 or rare:
        problem = f"{archive} has {entry.filename[:80]!r}, a link, encrypted or oddly compressed"
        raise _Refused(problem, "plain files, stored or deflated")


def _target(wheel: str, entry: zipfile.ZipInfo) -> PurePosixPath | None:
    """Returns where an entry of a wheel goes; None for folders and for what is left out."""
    name = entry.filename
    parts = name.removesuffix("/").split("/")
    bad = {"", ".", ".."} & set(parts) or "\\" in name or len(name.encode(errors="replace")) > 1000
    if bad or not name.isprintable() or max(len(part.encode()) for part in parts) > 255:
        raise _Refused(f"{wheel} has a file {name[:80]!r}", "names that stay in the directory")
    _check_plain(wheel, entry)
    if entry.is_dir():
        return None
    if _DATA.fullmatch(parts[0]):
        parts = parts[2:] if parts[1:2] in (["purelib"], ["platlib"], ["data"]) else []
    return PurePosixPath(*parts) if parts else None


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Writes an entry. `zipfile` reads at most its stated size and checks its checksum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with archive.open(entry) as content, target.open("xb") as file:
        while piece := content.read(_PIECE_BYTES):
            file.write(piece)


def _compile(packages: Path) -> None:
    """Compiles the modules, so that a run need not do it; those below `tests` are left out.

    The compiled modules do not depend on times of files. What takes too long stays uncompiled.
    """
    count = os.cpu_count() or 1
    modules = [file for file in sorted(packages.rglob("*.py")) if "tests" not in file.parts]
    fork = multiprocessing.get_context("fork")
    children = [
        fork.Process(target=_compile_each, args=(packages, modules[number::count]))
        for number in range(count)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()


def _compile_each(packages: Path, modules: Sequence[Path]) -> None:
    limit_this_process(
        memory_bytes=_MEMORY_BYTES, cpu_seconds=_COMPILE_SECONDS, file_bytes=_MEMORY_BYTES
    )
    for module in modules:
        # One that cannot be compiled fails where it is imported, if it is.
        with contextlib.suppress(py_compile.PyCompileError, OSError, ValueError, MemoryError):
            py_compile.compile(
                str(module),
                dfile=str(module.relative_to(packages)),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )


def main(arguments: list[str]) -> None:
    """Unpacks a wheelhouse or wheels; prints the number of files, or the refusal, as JSON."""
    task, *paths, most_bytes = arguments
    source, target = map(Path, paths)
    limit_this_process(
        memory_bytes=_LIST_BYTES if task == "extract" else _MEMORY_BYTES,
        cpu_seconds=_CPU_SECONDS,
        file_bytes=int(most_bytes),
    )
    try:
        run = extract if task == "extract" else unpack
        answer: dict[str, object] = {"files": run(source, target, int(most_bytes))}
        if task == "compile":
            _compile(target)
    except _Refused as error:
        problem, expected = error.args
        answer = {"refused": f"{problem}; expected {expected}", "expected": expected}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
