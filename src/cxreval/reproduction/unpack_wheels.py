"""Unpacks wheels; run in the sandbox as `python -m cxreval.reproduction.unpack_wheels`.

A wheel is a zip file. Its files go below the directory of packages, those of `NAME.data/purelib`,
`platlib` and `data` too; scripts and headers are left out, because only `import` is offered. No
code of a wheel runs. `.pth` files are copied and have no effect: an interpreter reads them only in
its own directories of packages, not on `PYTHONPATH`.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import py_compile
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cxreval.child_limits import limit_this_process

MAX_FILES = 300_000
_MEMORY_BYTES = 4 << 30
_COMPILE_SECONDS = 600
_PIECE_BYTES = 1 << 20
_DATA = re.compile(r"[^/]+\.data")
_LINK = 0xA  # S_IFLNK, in the four highest bits of external_attr


class _Refused(Exception):
    """A wheel breaks a rule; the arguments are the problem and what was expected."""


def unpack(wheels: Path, packages: Path, most_bytes: int) -> int:
    """Unpacks each wheel of a directory, in the order of names; returns the number of files.

    A file that two wheels have is that of the later one.

    Raises:
        _Refused: a wheel is damaged, or breaks a rule.
    """
    left, count = most_bytes, 0
    for wheel in sorted(wheels.iterdir()):
        try:
            with zipfile.ZipFile(wheel) as archive:
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
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError,
                ValueError) as error:  # fmt: skip
            raise _Refused(f"{wheel.name} cannot be unpacked: {error}", "a wheel") from error
    return count


def _target(wheel: str, entry: zipfile.ZipInfo) -> PurePosixPath | None:
    """Returns where an entry of a wheel goes; None for folders and for what is left out."""
    name = entry.filename
    parts = name.removesuffix("/").split("/")
    bad = {"", ".", ".."} & set(parts) or "\\" in name or len(name.encode(errors="replace")) > 1000
    if bad or not name.isprintable() or max(len(part.encode()) for part in parts) > 255:
        raise _Refused(f"{wheel} has a file {name[:80]!r}", "names that stay in the directory")
    if entry.external_attr >> 28 == _LINK or entry.flag_bits & 1:
        raise _Refused(f"{wheel} has a link or an encrypted file {name[:80]!r}", "plain files")
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
    """Unpacks the wheels and prints the number of files, or why they are refused, as JSON."""
    wheels, packages, most_bytes, compiled = arguments
    limit_this_process(memory_bytes=_MEMORY_BYTES, file_bytes=int(most_bytes))
    try:
        answer: dict[str, object] = {"files": unpack(Path(wheels), Path(packages), int(most_bytes))}
        if compiled:
            _compile(Path(packages))
    except _Refused as error:
        problem, expected = error.args
        answer = {"refused": f"{problem}; expected {expected}", "expected": expected}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
