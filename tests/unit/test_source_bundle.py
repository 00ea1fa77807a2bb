"""A source bundle gives back exactly the files of its commit, or a named error and no file."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cxreval.cli.app import app
from cxreval.errors import (
    ArtifactTooLarge,
    CommitNotFrozen,
    CommitNotInBundle,
    MalformedField,
    SourceTreeRefused,
)
from cxreval.reproduction import source_bundle
from cxreval.reproduction.source_bundle import pack, unpack
from tests.support import git_repositories as git
from tests.support.git_repositories import FILE, LINK, PROGRAM
from tests.support.source_trees import SHA1, Written, at_the_top, on_disk, read_stored


def archived(repository: Path, commit: str) -> Written:
    """Returns mode and content of every file and link that git itself takes from a commit."""
    found: Written = {}
    content = git.git(repository, "archive", "--format=tar", commit)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if member.issym():
                found[member.name] = (LINK, member.linkname.encode())
            elif member.isfile():
                stream = archive.extractfile(member)
                assert stream
                found[member.name] = (PROGRAM if member.mode & 0o100 else FILE, stream.read())
    return found


# --- what goes in comes out -----------------------------------------------------------------------


ADD = ("submodule", "--quiet", "add")


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


NAMES = st.text("abAB.é日ß_- 1", min_size=1, max_size=12).filter(
    lambda name: not name.endswith((" ", ".")) and folded(name) != ".git"
)
CONTENT = st.tuples(st.sampled_from([FILE, PROGRAM, LINK]), st.binary(max_size=300))
FOLDERS: st.SearchStrategy[Any] = st.recursive(
    CONTENT,
    lambda inner: st.lists(
        st.tuples(NAMES, inner), min_size=1, max_size=4, unique_by=lambda pair: folded(pair[0])
    ),
    max_leaves=12,
).filter(lambda node: isinstance(node, list))


def files_of(folder: list[Any], path: str = "") -> Written:
    found: Written = {}
    for name, node in folder:
        if isinstance(node, list):
            found |= files_of(node, f"{path}{name}/")
        else:
            mode, content = node
            found[path + name] = (
                mode,
                b"../" * path.count("/") + b"a b" if mode == LINK else content,
            )
    return found


@given(FOLDERS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow], database=None)
def test_files_of_any_commit_come_back_byte_by_byte_with_their_modes(
    tmp_path_factory: pytest.TempPathFactory, folder: list[Any]
) -> None:
    files = files_of(folder)
    directory = tmp_path_factory.mktemp("any")
    git.git(directory, "init", "--bare", "--quiet", "repository")
    lines = [b"commit refs/heads/main\ncommitter A <a@example.org> 1 +0000\ndata 1\nx\n"]
    for path, (mode, content) in files.items():
        quoted = path.encode("unicode_escape") if path.isascii() else path.encode()
        lines.append(b'M %s inline "%s"\n' % (mode.encode(), quoted))
        lines.append(b"data %d\n%s\n" % (len(content), content))
    repository = directory / "repository"
    git.git(repository, "fast-import", "--quiet", stdin=b"".join(lines))
    commit = git.git(repository, "rev-parse", "main").decode().strip()
    packed = pack(repository, commit, directory / "source.bundle")
    tree = unpack(directory / "source.bundle", commit, directory / "tree")
    assert tree == packed
    assert on_disk(directory / "tree") == files == archived(repository, commit)
    assert {file.path: file.nbytes for file in tree.files} == {
        path: len(content) for path, (_, content) in files.items()
    }
    assert tree.tree == git.git(repository, "rev-parse", "main^{tree}").decode().strip()


def test_a_bundle_has_one_commit_without_its_history_and_git_reads_it(tmp_path: Path) -> None:
    first = git.repository(tmp_path / "r", {"secret": b"once", "a.py": b"1"})
    (tmp_path / "r/secret").unlink()
    second = git.commit_files(tmp_path / "r", {"a.py": b"2"})
    pack(tmp_path / "r", second, tmp_path / "source.bundle")
    other = tmp_path / "other"
    git.git(tmp_path, "init", "--quiet", "other")
    git.git(other, "bundle", "verify", "--quiet", "../source.bundle")
    git.git(other, "bundle", "unbundle", "../source.bundle")
    (other / ".git/shallow").write_text(second + "\n")
    assert archived(other, second) == {"a.py": (FILE, b"2")}
    with pytest.raises(Exception, match="non-zero exit status"):
        git.git(other, "cat-file", "-e", first)


def test_a_bundle_with_all_of_its_history_is_read_too(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(500))
    git.repository(tmp_path / "r", {"a.py": text})
    commit = git.commit_files(tmp_path / "r", {"a.py": text + b"more\n"})
    git.git(tmp_path / "r", "repack", "-adfq")  # with differences between objects
    git.git(tmp_path / "r", "bundle", "create", "--quiet", "../source.bundle", "main")
    tree = unpack(tmp_path / "source.bundle", commit, tmp_path / "tree")
    assert [file.path for file in tree.files] == ["a.py"]
    assert (tmp_path / "tree/a.py").read_bytes() == text + b"more\n"


def test_submodules_are_packed_at_the_commit_that_the_repository_names(tmp_path: Path) -> None:
    inner = git.repository(tmp_path / "inner", {"deep.txt": b"deep"})
    middle = git.repository(tmp_path / "middle", {"m.py": b"m"})
    git.git(
        tmp_path / "middle", "submodule", "--quiet", "add", str(tmp_path / "inner"), "sub dir/i"
    )
    middle = git.commit_files(tmp_path / "middle", {})
    git.repository(tmp_path / "r", {"a.py": b"a"})
    git.git(tmp_path / "r", *ADD, str(tmp_path / "middle"), "vendor/m")
    commit = git.commit_files(tmp_path / "r", {})
    with pytest.raises(CommitNotInBundle, match=r"submodule vendor/m/sub dir/i.*--recursive"):
        pack(tmp_path / "r", commit, tmp_path / "source.bundle")
    git.git(tmp_path / "r", "submodule", "--quiet", "update", "--init", "--recursive")
    git.git(tmp_path / "r/vendor/m", "checkout", "--quiet", "HEAD~")  # the bundle has the named one
    pack(tmp_path / "r", commit, tmp_path / "source.bundle")
    tree = unpack(tmp_path / "source.bundle", commit, tmp_path / "tree")
    assert tree.submodules == {"vendor/m": middle, "vendor/m/sub dir/i": inner}
    assert (tmp_path / "tree/vendor/m/sub dir/i/deep.txt").read_bytes() == b"deep"
    assert (tmp_path / "tree/vendor/m/m.py").read_bytes() == b"m"


def test_attributes_of_git_change_no_byte(tmp_path: Path) -> None:
    files = {
        ".gitattributes": b"* text eol=crlf ident export-subst\nhidden export-ignore\n",
        "a.py": b"$Id$ $Format:%H$\n",
        "hidden": b"here\n",
    }
    commit = git.repository(tmp_path / "r", files)
    pack(tmp_path / "r", commit, tmp_path / "source.bundle")
    unpack(tmp_path / "source.bundle", commit, tmp_path / "tree")
    assert on_disk(tmp_path / "tree") == {name: (FILE, text) for name, text in files.items()}


def test_the_digest_of_a_tree_covers_paths_modes_and_content(tmp_path: Path) -> None:
    def digest(name: bytes, mode: str, content: bytes) -> str:
        blob = (git.BLOB, content)
        tree = git.tree([(mode, name, git.name_of(blob))])
        objects = [git.commit(tree), tree, blob]
        return read_stored(tmp_path, objects).digest

    digests = [
        digest(b"a", FILE, b"x"), digest(b"b", FILE, b"x"), digest(b"a", PROGRAM, b"x"),
        digest(b"a", FILE, b"y"), digest(b"a", LINK, b"x"),
    ]  # fmt: skip
    assert len(set(digests)) == 5
    assert digests[0] == digest(b"a", "100664", b"x")


# --- what a submitter asks for wrongly ------------------------------------------------------------


@pytest.mark.parametrize(
    "commit", ["main", "v1", "HEAD", "0123456789ab", "A" * 40, "", "0" * 64, "-" * 40, "é" * 40]
)
def test_anything_but_a_full_hash_is_no_frozen_commit(tmp_path: Path, commit: str) -> None:
    git.repository(tmp_path / "r", {"a.py": b"a"})
    for attempt in (
        lambda: pack(tmp_path / "r", commit, tmp_path / "out"),
        lambda: unpack(tmp_path / "out", commit, tmp_path / "tree"),
    ):
        with pytest.raises(CommitNotFrozen):
            attempt()
    assert not (tmp_path / "out").exists()


def test_packing_says_what_is_not_there(tmp_path: Path) -> None:
    commit = git.repository(tmp_path / "r", {"a.py": b"a"})
    git.git(tmp_path / "r", "tag", "--annotate", "--message", "x", "v1")
    tag = git.git(tmp_path / "r", "rev-parse", "v1").decode().strip()
    for name, problem in (("1" * 40, "is missing"), (tag, "is a tag, no commit")):
        with pytest.raises(CommitNotInBundle, match=problem):
            pack(tmp_path / "r", name, tmp_path / "out")
    with pytest.raises(MalformedField, match="not a git repository"):
        pack(tmp_path, commit, tmp_path / "out")
    with pytest.raises(MalformedField, match="expected a folder"):
        pack(tmp_path / "nowhere", commit, tmp_path / "out")
    with pytest.raises(MalformedField, match="cannot write"):
        pack(tmp_path / "r", commit, tmp_path / "no/out")
    assert not (tmp_path / "out").exists()


def test_a_bundle_over_the_limit_is_not_written_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git.repository(tmp_path / "r", {"a.py": b"a"})
    pack(tmp_path / "r", commit, tmp_path / "source.bundle")
    monkeypatch.setattr(source_bundle, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(ArtifactTooLarge, match="at most 100 bytes"):
        pack(tmp_path / "r", commit, tmp_path / "out")
    with pytest.raises(ArtifactTooLarge, match="at most 100 bytes"):
        unpack(tmp_path / "source.bundle", commit, tmp_path / "tree")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "tree").exists()


def test_the_paths_of_a_tree_are_looked_up_with_a_hint(tmp_path: Path) -> None:
    tree = read_stored(tmp_path, at_the_top((FILE, b"a.py", SHA1), (LINK, b"b.py", SHA1)))
    assert tree.file("a.py", "reproduction.entry_point").nbytes == 1
    for path, words in (
        ("src/a.py", "did you mean a.py"),
        ("b.py", "is a link"),
        ("../a.py", "not a f"),
    ):
        with pytest.raises(SourceTreeRefused, match=words) as caught:
            tree.file(path, "reproduction.entry_point")
        assert caught.value.metadata["field"] == "reproduction.entry_point"


# --- the command ----------------------------------------------------------------------------------


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["submission", "bundle", *arguments])


def test_the_command_says_what_it_wrote_and_what_the_manifest_states(tmp_path: Path) -> None:
    lock = b"numpy==2.4.6 --hash=sha256:" + b"a" * 64
    commit = git.repository(tmp_path / "r", {"tools/run.py": b"1", "requirements.lock": lock})
    out = tmp_path / "out"
    arguments = (str(tmp_path / "r"), "--commit", commit, "--output", str(out))
    said = command(*arguments, "--entry-point", "tools/run.py", "--json").output
    facts = json.loads(said)
    tree = unpack(out, commit, tmp_path / "tree")
    assert facts == {
        "file": str(out),
        "bytes": out.stat().st_size,
        "tree": tree.tree,
        "tree_sha256": tree.digest,
        "files": 2,
        "files_bytes": 1 + len(lock),
        "submodules": {},
        "reproduction": {
            "commit": commit,
            "bundle_sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
            "entry_point": "tools/run.py",
            "lock": "requirements.lock",
        },
    }


@pytest.mark.parametrize(
    ("options", "field"),
    [(("--entry-point", "run.py"), "entry_point"), (("--entry-point", "a.py"), "lock")],
)
def test_the_command_writes_nothing_if_the_script_or_the_lock_is_not_in_the_commit(
    tmp_path: Path, options: tuple[str, ...], field: str
) -> None:
    commit = git.repository(tmp_path / "r", {"a.py": b"1"})
    (tmp_path / "r/run.py").write_text("not committed")
    out = tmp_path / "out"
    arguments = (str(tmp_path / "r"), "--commit", commit, "--output", str(out))
    done = command(*arguments, *options)
    assert isinstance(done.exception, SourceTreeRefused)
    assert done.exception.metadata["field"] == f"reproduction.{field}"
    assert not out.exists()
    assert command(*arguments, "--entry-point", "a.py", "--lock", "").exit_code == 0
