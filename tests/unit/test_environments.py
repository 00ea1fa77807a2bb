"""Environments are built once from wheels alone, shared, verified, and removed when unused."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxreval.errors import EnvironmentUnavailable, EnvironmentUnsupported, LockRefused
from cxreval.reproduction import unpack_wheels, wheels
from cxreval.reproduction.environments import Environments, this_interpreter
from cxreval.reproduction.lock import Lock, Package, lock_of, pinned_lock
from tests.support.wheel_index import Index, make_wheel, serving, sha256

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    files = tmp_path_factory.mktemp("index")
    make_wheel(files, "tiny", files={"tiny_pth.pth": "import os; os.abort()\n"})
    make_wheel(files, "needing", requires=("tiny>=1",))
    runs = files / "setup.py"
    runs.write_text("raise SystemExit('code of a source distribution ran')")
    with tarfile.open(files / "sourced-1.0.tar.gz", "w:gz") as archive:
        archive.add(runs, "sourced-1.0/setup.py")
    runs.unlink()
    with serving(files) as running:
        yield running


def locked(index: Index, *names: str) -> Lock:
    return lock_of(
        "",
        (
            Package(name, "1.0", (sha256(index.files / f"{name}-1.0-py3-none-any.whl"),))
            for name in names
        ),
    )


def environments(directory: Path, index: Index, **options: object) -> Environments:
    return Environments(directory, index_url=index.url, build_seconds=60, **options)  # type: ignore[arg-type]


def left_behind(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.suffix != ".lock"]


def test_an_environment_is_built_once_for_all_and_then_found(tmp_path: Path, index: Index) -> None:
    store, lock = environments(tmp_path, index), locked(index, "tiny")
    index.asked.clear()
    barrier = threading.Barrier(3)

    def get(_: int) -> Path:
        barrier.wait(10)
        with environments(tmp_path, index).get(lock, PYTHON) as environment:
            return environment.path

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(get, range(3), timeout=60))) == 1
    assert len([path for path in index.asked if path.startswith("/files/")]) == 1

    index.asked.clear()
    with store.get(lock, PYTHON) as environment:
        assert not index.asked
        assert environment.packages == lock.packages
        assert environment.lock_sha256 == lock.digest
        assert environment.interpreter.version == this_interpreter().version
        imported = subprocess.run(
            [environment.interpreter.executable, "-s", "-c", "import tiny; print(tiny.__cached__)"],
            env={"PYTHONPATH": str(environment.path)},
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert Path(imported.stdout.strip()).is_file()  # compiled; and the .pth file did not run
        for path in (environment.path, *environment.path.rglob("*")):
            mode = path.stat().st_mode
            assert not mode & 0o222
            assert mode & stat.S_IROTH
    assert left_behind(tmp_path) == [environment.digest]

    # A changed file is found, and the environment is built again with the same content.
    module = environment.path / "tiny.py"
    module.chmod(0o644)
    module.write_text("VERSION = '1.1'\n")
    module.chmod(0o444)
    os.utime(module, (0, 0))
    with store.get(lock, PYTHON) as again:
        assert again.digest == environment.digest
        assert again.content_sha256 == environment.content_sha256
        assert module.read_text() == "VERSION = '1.0'\n"


def test_versions_without_hashes_are_completed_by_the_index_and_recorded(
    tmp_path: Path, index: Index
) -> None:
    store = environments(tmp_path, index)
    with store.get(pinned_lock(["needing==1.0"]), PYTHON) as environment:
        assert environment.packages == locked(index, "needing", "tiny").packages
    index.asked.clear()
    with store.get(pinned_lock(["Needing==1.0"]), PYTHON) as again:
        assert (again.digest, again.lock_sha256) == (environment.digest, environment.lock_sha256)
    assert not index.asked


@pytest.mark.parametrize(
    ("name", "problem"),
    [("tiny", "has another sha256"), ("sourced", "no wheel of sourced"), ("absent", "no wheel of")],
)
def test_a_wrong_hash_and_a_missing_wheel_are_refused_by_name(
    tmp_path: Path, index: Index, name: str, problem: str
) -> None:
    with pytest.raises(LockRefused, match=problem) as caught:
        environments(tmp_path, index).get(Lock((Package(name, "1.0", ("0" * 64,)),)), PYTHON)
    assert caught.value.metadata["package"] == name
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("broken", ["unreachable", "failing"])
def test_an_index_that_fails_is_not_the_submitters_fault(
    tmp_path: Path, index: Index, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:9/simple" if broken == "unreachable" else index.url
    monkeypatch.setattr(index, "status", 500)
    monkeypatch.setattr(wheels, "_RETRIES", "0")
    store = Environments(tmp_path, index_url=url, build_seconds=60)
    with pytest.raises(EnvironmentUnavailable):
        store.get(locked(index, "tiny"), PYTHON)
    assert left_behind(tmp_path) == []


def test_an_unused_environment_makes_room_and_a_used_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(lock: Lock, destination: Path, **_: object) -> None:  # as pip does, but faster
        make_wheel(destination, lock.packages[0].name)

    monkeypatch.setattr(wheels, "download", write)
    store = Environments(tmp_path, max_bytes=1, build_seconds=60)
    first = store.get(pinned_lock(["one==1.0"]), PYTHON)
    second = store.get(pinned_lock(["two==1.0"]), PYTHON)
    second.close()
    with store.get(pinned_lock(["three==1.0"]), PYTHON) as third:
        assert sorted(left_behind(tmp_path)) == sorted((first.digest, third.digest))
    first.close()


def test_a_wheelhouse_takes_the_place_of_the_index(tmp_path: Path, index: Index) -> None:
    (tmp_path / "wheels").mkdir()
    own = make_wheel(tmp_path / "wheels", "tiny", "2.0")
    house = zipped(tmp_path / "wheels", tmp_path / "house.zip")
    store = environments(tmp_path / "cache", index)
    lock = Lock((Package("tiny", "2.0", (sha256(own),)),))
    index.asked.clear()
    with store.get(lock, PYTHON, house) as environment:
        assert environment.packages == lock.packages
    assert not index.asked


def test_a_wheelhouse_decides_only_for_its_own_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without hashes another submission with the same versions must not get its wheels."""

    def write(lock: Lock, destination: Path, *, wheelhouse: Path | None, **_: object) -> None:
        make_wheel(destination, "tiny", files={"origin.py": f"{bool(wheelhouse)}"})

    monkeypatch.setattr(wheels, "download", write)
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "tiny")
    house = zipped(tmp_path / "wheels", tmp_path / "house.zip")
    store, lock = Environments(tmp_path / "cache"), pinned_lock(["tiny==1.0"])
    with store.get(lock, PYTHON, house) as first, store.get(lock, PYTHON) as second:
        assert first.digest != second.digest
        assert (second.path / "origin.py").read_text() == "False"
        assert lock.digest not in (first.lock_sha256, second.lock_sha256)


def test_a_wheel_of_a_local_version_is_one_of_its_public_version(tmp_path: Path) -> None:
    file = make_wheel(tmp_path, "tiny", "1.0+cpu")
    for version, known in (("1.0", True), ("1.0+cpu", True), ("1.0+cu1", False), ("1.1", False)):
        lock = Lock((Package("tiny", version, (sha256(file),)),))
        if known:
            assert wheels.installed(tmp_path, lock)[0].version == "1.0+cpu"
        else:
            with pytest.raises(
                LockRefused, match=f"expected a wheel of tiny=={re.escape(version)}"
            ):
                wheels.installed(tmp_path, lock)


def test_a_build_that_was_killed_leaves_nothing_for_the_next_one(
    tmp_path: Path, index: Index
) -> None:
    lock = locked(index, "tiny")
    program = (
        "import sys, time; from pathlib import Path; from cxreval.reproduction import wheels\n"
        "from cxreval.reproduction.environments import Environments\n"
        "from cxreval.reproduction.lock import read_lock\n"
        "wheels.download = lambda *a, **k: (print('building', flush=True), time.sleep(60))\n"
        "lock = read_lock('a.txt', sys.argv[2].encode())\n"
        "Environments(Path(sys.argv[1])).get(lock, sys.argv[3])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), lock.requirements(), PYTHON]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"building\n"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert left_behind(tmp_path)
    removed = tmp_path / ".removed-by-a-killed-process" / "tree"
    removed.mkdir(parents=True)
    (tmp_path / f".{'0' * 64}").mkdir()  # of another environment
    with environments(tmp_path, index).get(lock, PYTHON) as environment:
        assert left_behind(tmp_path) == [environment.digest]


def test_waiting_for_another_build_ends(tmp_path: Path) -> None:
    import fcntl

    store = Environments(tmp_path, build_seconds=0.1)
    held = store._lock("0" * 64, fcntl.LOCK_EX)
    with pytest.raises(EnvironmentUnavailable, match="another process"):
        store._lock("0" * 64, fcntl.LOCK_SH)
    os.close(held)


def test_a_download_over_its_limits_is_ended(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import time; open('x', 'wb').write(bytes(9000)); time.sleep(60)",
    ]
    started = time.monotonic()
    with pytest.raises(LockRefused, match="more than 8000 bytes"):
        wheels._run(command, dict(os.environ), tmp_path / "log", tmp_path, 8000, 30)
    with pytest.raises(EnvironmentUnavailable, match=r"not there after 0\.1 s"):
        wheels._run(command, dict(os.environ), tmp_path / "log", tmp_path, 80_000, 0.1)
    assert time.monotonic() - started < 50  # neither waited for the end


def test_an_interpreter_that_is_not_offered_is_refused_with_those_that_are() -> None:
    store = Environments(Path("/tmp"))  # nothing is written
    version = this_interpreter().version
    for declared in (version, PYTHON, f"{PYTHON}.99"):
        assert store.interpreter(declared).version == version
    for declared in ("2.7", "3", "3.1", "", f"{PYTHON}9"):
        with pytest.raises(EnvironmentUnsupported, match=f"one of {version}"):
            store.interpreter(declared)


def test_markers_are_those_of_packaging() -> None:
    from packaging.markers import default_environment

    assert this_interpreter().markers == default_environment()


# --- wheelhouses and wheels of strangers ----------------------------------------------------------


def zipped(directory: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(directory.iterdir()):
            archive.write(path, path.name)
    return file


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


WHEEL = "a-1.0-py3-none-any.whl"
HOUSES = {
    "no wheel": ([entry("evil.tar.gz")], "has 'evil.tar.gz'"),
    "folder": ([entry("wheels/")], "has 'wheels/'"),
    "in a folder": ([entry(f"wheels/{WHEEL}")], "wheels only"),
    "outside": ([entry(f"../{WHEEL}")], "wheels only"),
    "absolute": ([entry(f"/tmp/{WHEEL}")], "wheels only"),
    "backslash": ([entry(f"..\\{WHEEL}")], "wheels only"),
    "link": ([entry(WHEEL, 0o120777)], "wheels only"),
    "option": ([entry("--index-url-1.0-py3-none-any.whl")], "wheels only"),
    "line break": ([entry("a-1.0-py3-none-\nany.whl")], "wheels only"),
    "long name": ([entry(f"{'a' * 300}-1.0-py3-none-any.whl")], "wheels only"),
    "other letters": ([entry("\u0430-1.0-py3-none-any.whl")], "wheels only"),
    "twice": ([entry(WHEEL), entry(WHEEL)], "twice"),
    "many": ([entry(f"a{number}-1.0-py3-none-any.whl") for number in range(501)], "501 files"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOUSES)
def test_a_wheelhouse_of_anything_but_wheels_is_refused_by_name(case: str, tmp_path: Path) -> None:
    entries, problem = HOUSES[case]
    with zipfile.ZipFile(tmp_path / "house.zip", "w") as archive:
        for info in entries:
            archive.writestr(info, b"x")
    (tmp_path / "out").mkdir()
    with pytest.raises(LockRefused, match="wheelhouse") as caught:
        wheels.extract_wheelhouse(tmp_path / "house.zip", tmp_path / "out", 10_000)
    assert problem in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"house.zip", "out"}


@pytest.mark.parametrize("case", ["bomb", "no zip", "cut", "encrypted", "changed", "empty"])
def test_a_damaged_or_oversized_wheelhouse_is_refused(case: str, tmp_path: Path) -> None:
    file = tmp_path / "house.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(WHEEL, bytes(20_000_000) if case == "bomb" else os.urandom(1000))
    data = bytearray(file.read_bytes())
    if case == "encrypted":
        data[6] |= 1
        data[data.index(b"PK\1\2") + 8] |= 1
    elif case == "changed":
        data[100] ^= 1
    data = {"no zip": b"PK nothing", "cut": data[:500], "empty": b""}.get(case, data)
    file.write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(LockRefused, match="wheelhouse"):
        wheels.extract_wheelhouse(file, tmp_path / "out", 1_000_000)
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 1_000_000


HOSTILE = {
    "parent": entry("../../escaped.py"),
    "parent inside": entry("a/../../../escaped.py"),
    "absolute": entry("/tmp/escaped-by-a-wheel.py"),
    "backslash": entry("..\\escaped.py"),
    "data outside": entry("a-1.0.data/purelib/../../escaped.py"),
    "empty part": entry("a//b.py"),
    "control character": entry("a\x1b[2J.py"),
    "link": entry("link", 0o120777),
    "long part": entry("a" * 300),
    "deep": entry("/".join("a" * 600)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_wheel_that_leaves_its_directory_is_refused(case: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    with zipfile.ZipFile(source / WHEEL, "w") as archive:
        archive.writestr(HOSTILE[case], b"/etc/passwd")
    with pytest.raises(unpack_wheels._Refused):
        unpack_wheels.unpack(source, target, 10_000)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert not Path("/tmp/escaped-by-a-wheel.py").exists()


def test_wheels_are_unpacked_in_the_sandbox_and_too_large_ones_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    files = {
        "a-1.0.data/purelib/pure.py": "",
        "a-1.0.data/platlib/sub/plat.py": "",
        "a-1.0.data/data/share/table.csv": "1",
        "a-1.0.data/scripts/pip": "#!python",
        "a-1.0.data/headers/a.h": "",
        "broken.py": "def :",
    }
    make_wheel(source, "a", files=files)
    wheels.unpack(source, target, 100_000, compiled=False, seconds=60)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {"a.py", "pure.py", "sub/plat.py", "share/table.csv", "broken.py"} <= found
    assert not {"pip", "a.h"} & {path.rpartition("/")[2] for path in found}
    (tmp_path / "other").mkdir()
    with pytest.raises(LockRefused, match="too large"):
        wheels.unpack(source, tmp_path / "other", 10, compiled=False, seconds=60)


def test_a_wheel_that_states_a_smaller_size_than_it_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    wheel = tmp_path / "in" / WHEEL
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1_000_000))
    data = bytearray(wheel.read_bytes())
    where = data.index(b"PK\1\2") + 24
    data[where : where + 4] = (10).to_bytes(4, "little")
    wheel.write_bytes(data)
    with pytest.raises(unpack_wheels._Refused):
        unpack_wheels.unpack(tmp_path / "in", tmp_path / "out", 10_000_000)
    assert (tmp_path / "out" / "zeros").stat().st_size <= 10
