"""Brings the wheels of a lock to this machine, and unpacks them in the sandbox.

pip downloads them, from a file that is written here, without a source distribution among them; no
code of a package runs. What pip brings is compared with the lock once more. `unpack_wheels` unpacks
them in a child that has no network and can write to one directory only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from cxreval import sandbox
from cxreval.errors import EnvironmentUnavailable, LockRefused
from cxreval.fields import printable, shown
from cxreval.files import file_sha256
from cxreval.reproduction.lock import Lock, Package

MAX_WHEELS = 500
_PIP = """
import ctypes, runpy
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: it ends with this process
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_UNPACKER = "cxreval.reproduction.unpack_wheels"
_PIECE_BYTES = 1 << 20
_POLL_SECONDS = 0.2
_LOG_BYTES = 64 << 20
_RETRIES = "2"
_MISMATCH = re.compile(
    r"DO NOT MATCH THE HASHES.*?^\s+([A-Za-z0-9._-]+)==", re.DOTALL | re.MULTILINE
)
_NOT_THERE = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)")
_UNREACHABLE = re.compile(
    r"connection broken by|Could not fetch URL (?!.*404 Client Error)|HTTP error 5|ReadTimeoutError"
    r"|ConnectionError|No space left|SSLError"
)


def download(
    lock: Lock,
    destination: Path,
    *,
    interpreter: Path,
    index_url: str,
    wheelhouse: Path | None,
    most_bytes: int,
    seconds: float,
) -> None:
    """Brings the wheels of a lock into `destination`, an empty directory below a work directory.

    The wheels are those that fit `interpreter` best among those with a digest of the lock. Of a
    lock without digests they are those of its versions, and of what these need.

    Args:
        lock: the packages.
        destination: an empty directory; the files that pip needs lie beside it.
        interpreter: the Python that will run them.
        index_url: the operator's index; empty for the one that pip is configured for here.
        wheelhouse: a directory of wheels, which are then the only ones; None for the index.
        most_bytes: most bytes on the disk, with temporary files.
        seconds: the longest time that it may take.

    Raises:
        LockRefused: a package has no wheel there that fits, or one with another digest.
        EnvironmentUnavailable: the index cannot be reached, or takes too long.
    """
    work = destination.parent
    requirements = work / "requirements.txt"
    requirements.write_text(lock.requirements())
    temporary = work / "pip"
    temporary.mkdir()
    command = [sys.executable, "-s", "-P", "-c", _PIP]
    if interpreter.resolve() != Path(sys.executable).resolve():
        command += ["--python", str(interpreter)]
    command += ["download", "-vv", "--no-input", "--disable-pip-version-check",
                "--no-cache-dir", "--progress-bar", "off", "--only-binary", ":all:",
                "--dest", str(destination), "--requirement", str(requirements)]  # fmt: skip
    if lock.hashed:
        command += ["--require-hashes", "--no-deps"]
    if wheelhouse:
        command += ["--no-index", "--find-links", str(wheelhouse)]
    elif index_url:
        command += ["--index-url", index_url]
    log = work / "pip.log"
    variables = _variables(temporary, configured=not (wheelhouse or index_url))
    status = _run(command, variables, log, work, most_bytes, seconds)
    if status:
        text = log.read_text(errors="replace")
        raise _pip_error(text, status)


def extract_wheelhouse(file: Path, directory: Path, most_bytes: int) -> None:
    """Writes the wheels of an uploaded wheelhouse, a zip file, into an empty directory.

    Raises:
        LockRefused: the file is not a zip of wheels beside each other, a name is not a wheel's, or
            it has too many or too large ones. The message names the entry.
    """
    left = most_bytes
    seen: set[str] = set()
    try:
        with zipfile.ZipFile(file) as archive:
            if len(archive.infolist()) > MAX_WHEELS:
                raise _wheelhouse(f"has {len(archive.infolist())} files", f"at most {MAX_WHEELS}")
            for entry in archive.infolist():
                name = entry.filename
                if entry.is_dir() or not _is_wheel_name(name) or entry.external_attr >> 28 == 0xA:
                    raise _wheelhouse(f"has {shown(name)!r}", "wheels only, without folders")
                if entry.flag_bits & 1 or name in seen:
                    problem = "twice" if name in seen else "encrypted"
                    raise _wheelhouse(f"has {shown(name)!r} {problem}", "each wheel once, readable")
                seen.add(name)
                with archive.open(entry) as content, (directory / name).open("xb") as target:
                    while piece := content.read(_PIECE_BYTES):
                        left -= len(piece)
                        if left < 0:
                            raise _wheelhouse("is too large", f"wheels of {most_bytes} bytes")
                        target.write(piece)
    # What zipfile and its codecs raise for damaged files; OSError is also the disk's.
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise _wheelhouse(f"cannot be read: {error}", "a zip file of wheels") from None
    except Exception as error:
        if isinstance(error, OSError | LockRefused | MemoryError):
            raise
        raise _wheelhouse(f"cannot be read: {error}", "a zip file of wheels") from None


def installed(directory: Path, lock: Lock) -> tuple[Package, ...]:
    """Returns the packages of the wheels in a directory, each with the digest of its file.

    Raises:
        LockRefused: the wheels are not those of the lock; for a lock without digests, further
            packages may be there.
    """
    locked = {item.name: item for item in lock.packages}
    found = {}
    for file in sorted(directory.iterdir()):
        name, version = _parts(file.name)
        digest = file_sha256(file)
        wanted = locked.get(name)
        # `==1.0` takes a wheel of 1.0+cpu, too.
        fits = wanted and wanted.version in (version, version.partition("+")[0])
        if wanted and not (fits and (not wanted.sha256 or digest in wanted.sha256)):
            expected = f"a wheel of {name}=={wanted.version} with a digest of the lock"
            message = f"a wheel of {name} {version} has sha256 {digest}; expected {expected}"
            raise LockRefused(message, package=name, expected=expected)
        if name in found or (lock.hashed and not wanted):
            message = f"{shown(file.name)} is not a wheel of the lock, or the second one"
            raise LockRefused(message, package=name, expected="one wheel for each package")
        found[name] = Package(name, version, (digest,))
    if missing := [name for name in locked if name not in found]:
        message = f"there is no wheel of {missing[0]}"
        raise LockRefused(message, package=missing[0], expected="a wheel for each package")
    return tuple(sorted(found.values()))


def unpack(
    wheels: Path, packages: Path, most_bytes: int, *, compiled: bool, seconds: float
) -> None:
    """Unpacks each wheel of a directory into `packages`, an empty one, in the sandbox.

    Args:
        wheels: the directory of the wheels.
        packages: where their files go, as an interpreter finds them on its path.
        most_bytes: most bytes of all files.
        compiled: whether modules are compiled for this interpreter's version; no module is run.
        seconds: the longest time that it may take.

    Raises:
        LockRefused: a wheel is damaged, leaves the directory or is too large.
        EnvironmentUnavailable: the child took too long or was ended.
        SandboxUnavailable: this machine has no sandbox.
    """
    arguments = [sandbox.INPUT, sandbox.OUTPUT, str(most_bytes), "compile" if compiled else ""]
    command = sandbox.command(_UNPACKER, arguments, wheels.resolve(), writable=packages.resolve())
    try:
        done = subprocess.run(  # noqa: S603 -- bubblewrap and this interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"unpacking the wheels took longer than {seconds:g} s"
        raise EnvironmentUnavailable(message) from None
    answer = _answer(done.stdout)
    if "refused" in answer:
        raise LockRefused(printable(str(answer["refused"]))[:500], expected=str(answer["expected"]))
    if done.returncode or "files" not in answer:
        raise EnvironmentUnavailable(f"unpacking the wheels ended with status {done.returncode}")


def _answer(stdout: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        answer = json.loads(stdout)
        if isinstance(answer, dict):
            return answer
    return {}


def _is_wheel_name(name: str) -> bool:
    with contextlib.suppress(InvalidWheelFilename, ValueError):
        parse_wheel_filename(name)
        return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,249}", name))
    return False


def _parts(name: str) -> tuple[str, str]:
    """Returns name and version in the name of a wheel. Raises `LockRefused`."""
    try:
        project, version, *_ = parse_wheel_filename(name)
    except (InvalidWheelFilename, ValueError):
        message = f"{shown(name)!r} is not the name of a wheel"
        raise LockRefused(message, expected="the name of a wheel") from None
    return canonicalize_name(project), str(version)


def _wheelhouse(problem: str, expected: str) -> LockRefused:
    message = printable(f"the wheelhouse {problem}; expected {expected}")
    return LockRefused(message, field="wheelhouse", expected=expected)


def _variables(temporary: Path, *, configured: bool) -> dict[str, str]:
    """Returns pip's environment; `configured`: whether this machine's configuration counts."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if not configured:
        # What says how to reach an index stays; which index is asked, and for what, does not.
        kept = ("PIP_CERT", "PIP_PROXY", "PIP_TRUSTED_HOST", "PIP_CLIENT_CERT")
        variables = {
            key: value
            for key, value in variables.items()
            if not key.startswith("PIP_") or key in kept
        }
        variables["PIP_CONFIG_FILE"] = os.devnull
    return variables | {"TMPDIR": str(temporary), "PIP_RETRIES": _RETRIES, "PIP_TIMEOUT": "20"}


def _run(
    command: Sequence[str],
    variables: Mapping[str, str],
    log: Path,
    work: Path,
    most_bytes: int,
    seconds: float,
) -> int:
    """Runs pip to its end, or kills it at a limit on time or disk; returns its status."""
    deadline = time.monotonic() + seconds
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 -- pip
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=dict(variables), cwd=work, start_new_session=True,
        )  # fmt: skip
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL_SECONDS)
                if time.monotonic() > deadline:
                    message = f"the wheels were not there after {seconds:g} s"
                    raise EnvironmentUnavailable(message)
                if log.stat().st_size > _LOG_BYTES or _used(work) > most_bytes:
                    message = f"the wheels of the lock take more than {most_bytes} bytes"
                    raise LockRefused(message, expected=f"at most {most_bytes} bytes")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _used(directory: Path) -> int:
    """Returns the bytes of the files in a directory, which others may be changing."""

    def sizes() -> Iterator[int]:
        for parent, _, names in os.walk(directory):
            for name in names:
                with contextlib.suppress(OSError):
                    yield (Path(parent) / name).lstat().st_size

    return sum(sizes())


def _pip_error(log: str, status: int) -> LockRefused | EnvironmentUnavailable:
    """Returns the error that pip's log shows."""
    if mismatch := _MISMATCH.search(log):
        name = canonicalize_name(mismatch[1])
        expected = "the sha256 of the wheel"
        message = f"the wheel of {name} has another sha256 than the lock; expected {expected}"
        return LockRefused(message, package=name, expected=expected)
    if not _UNREACHABLE.search(log):
        if absent := _NOT_THERE.search(log):
            name = canonicalize_name(absent[1])
            expected = "a wheel for this Python and platform; a source distribution runs code"
            message = f"there is no wheel of {name} in the version of the lock; expected {expected}"
            return LockRefused(message, package=name, expected=expected)
        if "ResolutionImpossible" in log or "conflicting dependencies" in log:
            expected = "versions that fit together; submit a lock with hashes"
            message = f"the versions of environment.dependencies conflict; expected {expected}"
            return LockRefused(message, field="environment.dependencies", expected=expected)
        if re.search(r"not a valid wheel filename|[Ii]nvalid wheel|is invalid\b", log):
            return LockRefused("a wheel of the lock is damaged", expected="complete wheels")
    return EnvironmentUnavailable(
        f"the wheels could not be downloaded: pip ended with status {status}; retry later"
    )
