"""Builds the environments of scripts from locks, once each, and keeps them to be shared read-only.

An environment is a directory of packages for `PYTHONPATH`. Its digest is that of the lock, the
interpreter and the way it is built; the same digest is built once, also when several processes ask
for it at once. Each has a file to lock: exclusively while it is built or removed, shared while it
is in use. A process that is killed gives its locks back, and what it left behind is removed by the
next one.

A run must not see packages of the worker: it starts the interpreter itself, which is not that of a
virtual environment, with the packages on `PYTHONPATH` and without user packages (`-s`). `.pth`
files of packages have no effect then. A module `sitecustomize` is imported when the interpreter
starts; it is the submitter's code like the script, and runs in the same isolation.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from packaging.version import Version

from cxreval.errors import EnvironmentUnavailable, EnvironmentUnsupported
from cxreval.fields import printable, shown
from cxreval.files import delete_tree, durable_file, file_sha256
from cxreval.reproduction import wheels
from cxreval.reproduction.lock import Lock, Package, lock_of

MAX_BYTES = 40 * 2**30
"""Default limit for the bytes of all environments of a directory."""

MAX_ENVIRONMENT_BYTES = 12 * 2**30
"""Default limit for the bytes of one environment, and of its wheels."""

_FORMAT = 1  # of the way an environment is built; another one has another digest
_RECORD = "environment.json"
_PROBE_SECONDS = 30.0
_POLL_SECONDS = 0.05
_TRIES = 3
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
_PROBE = """
import json, os, platform, sys, sysconfig
version = "{0.major}.{0.minor}.{0.micro}".format(sys.implementation.version)
kind = sys.implementation.version.releaselevel
if kind != "final":
    version += kind[0] + str(sys.implementation.version.serial)
print(json.dumps({"markers": {
    "implementation_name": sys.implementation.name,
    "implementation_version": version,
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": platform.release(),
    "platform_system": platform.system(),
    "platform_version": platform.version(),
    "python_full_version": platform.python_version(),
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
}, "platform": "-".join((sysconfig.get_platform(), *platform.libc_ver()))}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that the operator offers, outside of any virtual environment."""

    executable: Path

    @cached_property
    def _facts(self) -> Mapping[str, Any]:
        command = [str(self.executable), "-I", "-S", "-c", _PROBE]
        try:
            done = subprocess.run(  # noqa: S603 -- the operator's interpreter
                command, capture_output=True, timeout=_PROBE_SECONDS, check=True, text=True
            )
            facts = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            message = f"the interpreter {self.executable} does not run: {error}"
            raise EnvironmentUnavailable(printable(message), field="python") from None
        return dict(facts)

    @property
    def version(self) -> str:
        """Its full version, such as 3.11.7."""
        return str(self.markers["python_full_version"])

    @property
    def markers(self) -> Mapping[str, str]:
        """The values that markers of requirements are evaluated with."""
        values: Mapping[str, str] = self._facts["markers"]
        return values

    @property
    def identity(self) -> str:
        """What decides which wheels fit: implementation, full version, platform, C library."""
        return f"{self.markers['implementation_name']} {self.version} {self._facts['platform']}"


def this_interpreter() -> Interpreter:
    """Returns the interpreter of this process, outside of its virtual environment."""
    return Interpreter(Path(sys.executable).resolve())


@dataclass(frozen=True, slots=True)
class Environment:
    """The installed packages of a lock; they are not removed before `close`.

    `path`: directory for `PYTHONPATH`. `interpreter`: the Python that it was built for. `digest`:
    names it, and `lock_sha256` the lock that it was built from, with all digests. `packages`: each
    with the digest of its wheel. `content_sha256`: over paths and content of all files, compiled
    modules left out.
    """

    path: Path
    interpreter: Interpreter
    digest: str
    lock_sha256: str
    packages: tuple[Package, ...]
    content_sha256: str
    use: int

    def close(self) -> None:
        """Ends the use of the environment; it may be removed afterwards."""
        os.close(self.use)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Environments:
    """The environments of a directory, shared by all processes of a machine that name it."""

    def __init__(
        self,
        directory: Path,
        *,
        interpreters: Sequence[Path] = (),
        index_url: str = "",
        max_bytes: int = MAX_BYTES,
        max_environment_bytes: int = MAX_ENVIRONMENT_BYTES,
        build_seconds: float = 1800.0,
    ) -> None:
        """Opens the directory, and creates it where it is missing.

        Args:
            directory: where environments are kept; scripts read it, so all users may.
            interpreters: the Pythons that are offered; none for that of this process.
            index_url: the index that wheels come from; empty for the one that pip is configured
                for on this machine.
            max_bytes: most bytes of all environments; those used least recently are removed.
            max_environment_bytes: most bytes of one, and of its wheels.
            build_seconds: longest time that a build may take, and be waited for.
        """
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o755)  # whatever the umask is
        self._directory = directory.resolve()
        offered = [Interpreter(path.resolve()) for path in interpreters] or [this_interpreter()]
        self._interpreters = offered
        self._index_url = index_url
        self._max_bytes = max_bytes
        self._max_environment_bytes = max_environment_bytes
        self._build_seconds = build_seconds

    @property
    def interpreters(self) -> tuple[Interpreter, ...]:
        """The interpreters that are offered."""
        return tuple(self._interpreters)

    @property
    def offered(self) -> tuple[str, ...]:
        """The versions of the interpreters that are offered."""
        return tuple(interpreter.version for interpreter in self._interpreters)

    def interpreter(self, python: str) -> Interpreter:
        """Returns the interpreter for a declared version such as `3.11` or `3.11.7`.

        It has exactly this version, or else the latest patch of the same minor version: these run
        the same wheels. Which one ran is stated by `Environment.interpreter`.

        Raises:
            EnvironmentUnsupported: there is none.
        """
        exact = [item for item in self._interpreters if item.version == python]
        minor = ".".join(python.split(".")[:2])
        alike = [item for item in self._interpreters if item.markers["python_version"] == minor]
        if not exact and not alike:
            expected = f"one of {', '.join(self.offered)}"
            message = f"environment.python_version is {shown(python)!r}; expected {expected}"
            raise EnvironmentUnsupported(
                message, field="environment.python_version", expected=expected
            )
        return max(exact or alike, key=lambda item: Version(item.version))

    def get(self, lock: Lock, python: str, wheelhouse: Path | None = None) -> Environment:
        """Returns the environment of a lock, after it has been built if it is missing.

        Args:
            lock: the packages. Without digests, the index decides at the first time what its
                versions need and which wheels they are; that stays.
            python: the declared version of Python.
            wheelhouse: an uploaded zip of wheels; then wheels come only from there.

        Raises:
            EnvironmentUnsupported: no interpreter of the version is offered.
            LockRefused: a wheel is missing, damaged, too large, or has another digest.
            EnvironmentUnavailable: the index cannot be reached, or a build takes too long.
            SandboxUnavailable: this machine has no sandbox.
        """
        interpreter = self.interpreter(python)
        # Digests decide which wheels are taken. Without them the place where they come from does.
        source = file_sha256(wheelhouse) if wheelhouse and not lock.hashed else ""
        digest = _digest([_FORMAT, lock.digest, source, interpreter.identity])
        try:
            for _ in range(_TRIES):
                if environment := self._opened(digest, interpreter):
                    return environment
                built = self._lock(digest, fcntl.LOCK_EX)
                try:
                    if not self._verified(digest):
                        self._build(digest, lock, interpreter, wheelhouse)
                        self._make_room()
                finally:
                    os.close(built)
        except OSError as error:
            message = f"the environment could not be written: {error.strerror}"
            raise EnvironmentUnavailable(message) from error
        raise EnvironmentUnavailable("the environment was removed while it was built; retry later")

    def _opened(self, digest: str, interpreter: Interpreter) -> Environment | None:
        """Returns an environment that is there and as it was built; None if it must be built."""
        use = self._lock(digest, fcntl.LOCK_SH)
        try:
            if record := self._verified(digest):
                os.utime(use)
                return _environment(self._directory / digest, interpreter, record, use)
        except BaseException:
            os.close(use)
            raise
        os.close(use)
        return None

    # --- locks ------------------------------------------------------------------------------------

    def _lock(self, digest: str, kind: int) -> int:
        """Returns a descriptor that holds a lock on an environment. It waits for a build."""
        deadline = time.monotonic() + self._build_seconds
        file = os.open(self._directory / f"{digest}.lock", _LOCK_FLAGS, 0o600)
        while not _try_lock(file, kind):
            if time.monotonic() > deadline:
                os.close(file)
                message = f"another process has built the environment for {self._build_seconds:g} s"
                raise EnvironmentUnavailable(f"{message}; retry later")
            time.sleep(_POLL_SECONDS)
        return file

    def _make_room(self) -> None:
        """Removes what killed processes left, and the environments used least recently.

        An environment that is in use stays.
        """
        for place in self._directory.glob(".removed-*"):
            delete_tree(place)
        for place in self._directory.glob(f".{'?' * 64}"):
            with self._unused(place.name[1:]) as unused:
                if unused:
                    _remove_tree(place)
        used = {}
        for file in self._directory.glob("*.lock"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                record = json.loads((self._directory / file.stem / _RECORD).read_bytes())
                used[file] = (file.stat().st_mtime_ns, int(record["bytes"]))
        total = sum(size for _, size in used.values())
        for file in sorted(used, key=lambda file: used[file][0]):
            if total <= self._max_bytes:
                return
            with self._unused(file.stem) as unused:
                if unused:
                    _remove_tree(self._directory / file.stem)
                    total -= used[file][1]

    @contextlib.contextmanager
    def _unused(self, digest: str) -> Iterator[bool]:
        """Yields whether no process builds or uses an environment, which then is locked."""
        file = os.open(self._directory / f"{digest}.lock", _LOCK_FLAGS, 0o600)
        try:
            yield _try_lock(file, fcntl.LOCK_EX)
        finally:
            os.close(file)

    # --- records ----------------------------------------------------------------------------------

    def _verified(self, digest: str) -> Mapping[str, Any] | None:
        """Returns the record of an environment, if its files are as they were when it was built."""
        place = self._directory / digest
        try:
            record = json.loads((place / _RECORD).read_bytes())
            if record["files_sha256"] == _files_sha256(place / "packages"):
                return dict(record)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _build(
        self, digest: str, lock: Lock, interpreter: Interpreter, wheelhouse: Path | None
    ) -> None:
        """Builds an environment in a directory beside it, which is renamed when it is complete.

        The caller has the exclusive lock, so that whatever has the name of that directory is left
        over from a process that was killed.
        """
        work = self._directory / f".{digest}"
        _remove_tree(work)
        packages = work / "built" / "packages"
        packages.mkdir(parents=True)
        try:
            packages.parent.chmod(0o755)
            found = self._fetched(work, lock, interpreter, wheelhouse)
            wheels.unpack(
                work / "wheels",
                packages,
                self._max_environment_bytes,
                compiled=interpreter.version.rpartition(".")[0] == _minor(),
                seconds=self._build_seconds,
            )
            content, nbytes = _protected(packages)
            os.sync()  # so that a record is never on disk before its files
            record = {
                "packages": [[item.name, item.version, *item.sha256] for item in found],
                "lock_sha256": lock_of("", found).digest,
                "content_sha256": content,
                "bytes": nbytes,
                "files_sha256": _files_sha256(packages),
            }
            with durable_file(work / "built" / _RECORD) as file:
                file.write(json.dumps(record).encode())
            place = self._directory / digest
            _remove_tree(place)
            (work / "built").rename(place)
        finally:
            _remove_tree(work)

    def _fetched(
        self, work: Path, lock: Lock, interpreter: Interpreter, wheelhouse: Path | None
    ) -> tuple[Package, ...]:
        """Brings the wheels of a lock into `work/wheels`, and returns what they are."""
        fetched = work / "wheels"
        fetched.mkdir()
        links = None
        if wheelhouse:
            links = work / "wheelhouse"
            links.mkdir()
            wheels.extract_wheelhouse(
                wheelhouse, links, self._max_environment_bytes, self._build_seconds
            )
        if lock.packages:
            wheels.download(
                lock,
                fetched,
                interpreter=interpreter.executable,
                index_url=self._index_url,
                wheelhouse=links,
                most_bytes=3 * self._max_environment_bytes,
                seconds=self._build_seconds,
            )
        return wheels.installed(fetched, lock)


def _environment(
    place: Path, interpreter: Interpreter, record: Mapping[str, Any], use: int
) -> Environment:
    packages = tuple(
        Package(name, version, (digest,)) for name, version, digest in record["packages"]
    )
    return Environment(
        path=place / "packages",
        interpreter=interpreter,
        digest=place.name,
        lock_sha256=record["lock_sha256"],
        packages=packages,
        content_sha256=record["content_sha256"],
        use=use,
    )


def _try_lock(file: int, kind: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _minor() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    """Yields everything below a directory, each folder before what is in it."""
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)


def _files_sha256(directory: Path) -> str:
    """Returns a digest over name, mode, size, inode and times of everything below a directory.

    The kernel sets the time of a file's last change, so whatever changes a file changes that.
    """
    digest, folders = hashlib.sha256(), [str(directory)]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        lines = [folder[len(str(directory)) :]]
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            size = status.st_size
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry.path)
                size = 0  # depends on the file system
            times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
            lines.append(f"{status.st_mode} {size} {status.st_ino} {times} {entry.name}")
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n\n")
    return digest.hexdigest()


def _protected(directory: Path) -> tuple[str, int]:
    """Makes everything below a directory read-only for all users, with equal times.

    Returns a digest over paths and content, without compiled modules, and the number of bytes.
    """
    digest, nbytes = hashlib.sha256(), 0
    start = len(str(directory))
    for entry in [*_entries(str(directory))]:
        folder = entry.is_dir(follow_symlinks=False)
        if not folder:
            nbytes += entry.stat(follow_symlinks=False).st_size
            if not entry.name.endswith(".pyc"):
                with open(entry.path, "rb") as content:  # noqa: PTH123 -- many files
                    found = hashlib.file_digest(content, "sha256").hexdigest()
                digest.update(f"{entry.path[start:]}\0{found}\n".encode("utf-8", "surrogateescape"))
        Path(entry.path).chmod(0o555 if folder else 0o444)
        os.utime(entry.path, (0, 0))
    directory.chmod(0o555)
    return digest.hexdigest(), nbytes


def _remove_tree(directory: Path) -> None:
    """Removes a directory with read-only folders below it, if it is there.

    It is renamed first, so that a process that is killed leaves no part of it under its name.
    """
    if not directory.exists():
        return
    place = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".removed-"))
    directory.rename(place / "tree")
    delete_tree(place)
