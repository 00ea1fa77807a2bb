"""Hostile source bundles are refused by name, leave nothing, and cannot write outside.

Trees are read from real git (`git cat-file`), which serves any object; bundles from the reader in
the sandbox.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxreval.errors import (
    CommitNotInBundle,
    CxrevalError,
    ServiceUnavailable,
    SourceBundleUnreadable,
    SourceTreeRefused,
)
from cxreval.reproduction import source_tree
from cxreval.reproduction.git_objects import Objects, Wanted
from tests.support import git_repositories as git
from tests.support.git_repositories import FILE, FOLDER, LINK, SUBMODULE
from tests.support.source_trees import (
    SHA1,
    X,
    at_the_top,
    on_disk,
    read_stored,
    target_of,
    unpacked,
)

# --- hostile trees --------------------------------------------------------------------------------


def named(name: bytes) -> list[git.Object]:
    return at_the_top((FILE, name, SHA1))


def linked(target: bytes, folder: bytes = b"") -> list[git.Object]:
    blob: git.Object = (git.BLOB, target)
    entry = (LINK, b"link", git.name_of(blob))
    if not folder:
        return at_the_top(entry, more=(blob,))
    inner = git.tree([entry])
    return at_the_top((FOLDER, folder, git.name_of(inner)), more=(inner, blob))


def nested(depth: int, width: int = 1) -> list[git.Object]:
    """Returns a commit with folders in folders, `width` of each that are the same one."""
    folders = [git.tree([(FILE, b"f", SHA1)])]
    for _ in range(depth):
        names = [(FOLDER, b"d%03d" % number, git.name_of(folders[-1])) for number in range(width)]
        folders.append(git.tree(names))
    return [git.commit(folders[-1]), *folders, X]


def copies(nbytes: int, number_of_files: int) -> list[git.Object]:
    blob: git.Object = (git.BLOB, bytes(nbytes))
    names = [(FILE, b"f%d" % number, git.name_of(blob)) for number in range(number_of_files)]
    return at_the_top(*names, more=(blob,))


def lfs(text: bytes) -> list[git.Object]:
    blob: git.Object = (git.BLOB, text)
    return at_the_top((FILE, b"weights.pt", git.name_of(blob)), more=(blob,))


def long_path() -> list[git.Object]:
    folders = [git.tree([(FILE, b"f" * 200, SHA1)])]
    for _ in range(5):
        folders.append(git.tree([(FOLDER, b"d" * 200, git.name_of(folders[-1]))]))
    return [git.commit(folders[-1]), *folders, X]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9\n" % (b"0" * 64)
EMPTY = git.tree([])
BARE_NAMES = {
    "two dots": b"..",
    "one dot": b".",
    "the folder of git": b".git",
    "the folder of git in capitals": b".GiT",
    "the folder of git for Windows": b".git ",
    "the folder of git with a dot": b".git.",
    "the folder of git as a stream": b".git::$INDEX_ALLOCATION",
    "the folder of git by its short name": b"GIT~1",
    "the folder of git for macOS": ".g\u200cit".encode(),
    "a backslash": b"a\\b",
    "a drive": b"C:x",
    "a line break": b"a\nb",
    "an escape": b"\x1b[31mred",
    "a deletion": b"a\x7f",
    "another reading order": "\u202egnp.exe".encode(),
    "no text": b"\xff\xfe",
    "an overlong form of a slash": b"a\xc0\xafb",
    "too long": b"n" * 256,
}
TREES: dict[str, tuple[Callable[[], list[git.Object]], type[CxrevalError], str]] = {
    **{
        f"name: {what}": (lambda name=name: named(name), SourceTreeRefused, "is not allowed")
        for what, name in BARE_NAMES.items()
    },
    "name: a slash": (lambda: named(b"a/b"), SourceTreeRefused, "malformed"),
    "name: absolute": (lambda: named(b"/etc"), SourceTreeRefused, "malformed"),
    "name: empty": (lambda: named(b""), SourceTreeRefused, "malformed"),
    "names that differ in case": (
        lambda: at_the_top((FILE, b"Model.py", SHA1), (FILE, b"model.py", SHA1)),
        SourceTreeRefused, "is 'Model.py' in another",
    ),
    "names that differ in form": (
        lambda: at_the_top((FILE, "e\u0301".encode(), SHA1), (FILE, "é".encode(), SHA1)),
        SourceTreeRefused, "in another case or form",
    ),
    "a file and a folder of one name": (
        lambda: at_the_top(
            (FILE, b"a", SHA1), (FILE, b"a.b", SHA1), (FOLDER, b"a", git.name_of(EMPTY)),
            more=(EMPTY,),
        ),
        SourceTreeRefused, "is 'a' in another",
    ),
    "a link and a folder behind it": (
        lambda: at_the_top(
            (LINK, b"a", SHA1), (FOLDER, b"a", git.name_of(EMPTY)), more=(EMPTY,)
        ),
        SourceTreeRefused, "is 'a' in another",
    ),
    "a name twice": (
        lambda: at_the_top((FILE, b"a", SHA1), (FILE, b"a", SHA1)), SourceTreeRefused, "order",
    ),
    "names out of order": (
        lambda: at_the_top((FILE, b"b", SHA1), (FILE, b"a", SHA1)), SourceTreeRefused, "order",
    ),
    "a folder whose mode has a zero": (
        lambda: at_the_top(("040000", b"a", git.name_of(EMPTY)), more=(EMPTY,)),
        SourceTreeRefused, "malformed",
    ),
    "a device": (lambda: at_the_top(("20666", b"a", SHA1)), SourceTreeRefused, "has mode 20666"),
    "a set-user-id file": (
        lambda: at_the_top(("104755", b"a", SHA1)), SourceTreeRefused, "has mode 104755",
    ),
    "half an entry": (
        lambda: [git.commit(cut := (git.TREE, b"100644 a\0" + b"x" * 19)), cut],
        SourceTreeRefused, "malformed",
    ),
    "a link to the root": (lambda: linked(b"/etc/passwd"), SourceTreeRefused, "is a link to"),
    "a link above": (lambda: linked(b"../x"), SourceTreeRefused, "is a link to"),
    "a link far above": (lambda: linked(b"../../x", b"d"), SourceTreeRefused, "is a link to"),
    "a link down and above": (lambda: linked(b"a/../../x"), SourceTreeRefused, "is a link to"),
    "a link up in its middle": (lambda: linked(b"../a/../x", b"d"), SourceTreeRefused, "a link to"),
    "a link to nothing": (lambda: linked(b""), SourceTreeRefused, "is a link to"),
    "a link with NUL": (lambda: linked(b"a\0b"), SourceTreeRefused, "is not allowed"),
    "a link to git's folder": (lambda: linked(b".git/config"), SourceTreeRefused, "not allowed"),
    "a link of many bytes": (lambda: linked(b"a" * 1001), SourceTreeRefused, "at most 1000 b"),
    "a path of many bytes": (
        long_path, SourceTreeRefused, "paths of at most 1000 bytes",
    ),
    "too many files": (
        lambda: at_the_top(*((FILE, b"f%05d" % number, SHA1) for number in range(10_001))),
        SourceTreeRefused, "more than 10,000 files",
    ),
    "folders that multiply": (lambda: nested(11, 999), SourceTreeRefused, "more than 10,000 files"),
    "folders too deep": (lambda: nested(33), SourceTreeRefused, "in more than 32 folders"),
    "a pointer of Git LFS": (lambda: lfs(POINTER), SourceTreeRefused, "weights.pt"),
    "an old pointer of Git LFS": (
        lambda: lfs(POINTER.replace(b"git-lfs.github", b"hawser.github")),
        SourceTreeRefused, "pointers of Git LFS",
    ),
    "a missing file": (
        lambda: at_the_top((FILE, b"a", "1" * 40)), CommitNotInBundle, r"1{40} \(a\) is missing",
    ),
    "a missing folder": (
        lambda: at_the_top((FOLDER, b"a", "1" * 40)), CommitNotInBundle, "tree 1{40}",
    ),
    "a folder that is a file": (
        lambda: at_the_top((FOLDER, b"a", SHA1)), CommitNotInBundle, "is a blob, no tree",
    ),
    "a file that is a folder": (
        lambda: at_the_top((FILE, b"a", git.name_of(EMPTY)), more=(EMPTY,)),
        CommitNotInBundle, "is a tree, no blob",
    ),
    "a missing submodule": (
        lambda: at_the_top((SUBMODULE, b"sub", "1" * 40)), CommitNotInBundle,
        "of the submodule sub is missing",
    ),
    "a submodule that is a file": (
        lambda: at_the_top((SUBMODULE, b"sub", SHA1)), CommitNotInBundle, "is a blob, no commit",
    ),
    "a commit without a tree": (
        lambda: [(git.COMMIT, b"author A\n\nx\n")], SourceTreeRefused, "states no tree",
    ),
    "a commit whose tree is a file": (
        lambda: [git.commit(X), X], CommitNotInBundle, "is a blob, no tree",
    ),
    "a huge commit": (
        lambda: [(git.COMMIT, git.commit(EMPTY)[1] + b"x" * (1 << 22)), EMPTY],
        SourceTreeRefused, "at most 4194304 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_a_hostile_tree_is_refused_by_name_and_nothing_leaves_its_folder(
    tmp_path: Path, case: str
) -> None:
    objects, kind, words = TREES[case]
    stored = objects()
    with pytest.raises(kind, match=words) as caught:
        read_stored(tmp_path, stored)
    assert caught.value.metadata["field"] == "reproduction.commit"
    assert len(caught.value.message) < 600
    assert caught.value.message.isprintable()
    assert {file.name for file in tmp_path.iterdir()} <= {"stored", git.name_of(stored[0])[:8]}


def test_one_large_file_and_a_small_one_under_many_names_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_tree, "MAX_FILE_BYTES", 5000)
    monkeypatch.setattr(source_tree, "MAX_TREE_BYTES", 10_000)
    with pytest.raises(SourceTreeRefused, match="f0 has 5001 bytes; expected at most 5000"):
        read_stored(tmp_path, copies(5001, 1))
    objects = copies(4000, 3)
    with pytest.raises(SourceTreeRefused, match="f2 has 4000 bytes; expected at most 2000"):
        read_stored(tmp_path, objects)
    written = on_disk(tmp_path / git.name_of(objects[0])[:8])
    assert sum(len(content) for _, content in written.values()) <= 10_000


@pytest.mark.parametrize("target", [b"x", b"./x", b"d/e/x", b"../../x", b"../y/x", b"../../d"])
def test_a_link_that_stays_in_the_tree_is_kept(tmp_path: Path, target: bytes) -> None:
    blob: git.Object = (git.BLOB, target)
    inner = git.tree([(LINK, b"link", git.name_of(blob))])
    middle = git.tree([(FOLDER, b"e", git.name_of(inner))])
    objects = at_the_top((FOLDER, b"d", git.name_of(middle)), more=(middle, inner, blob))
    read_stored(tmp_path, objects)
    link = tmp_path / git.name_of(objects[0])[:8] / "d/e/link"
    assert target_of(link) == target
    assert link.resolve().is_relative_to(tmp_path)


# --- hostile bundles ------------------------------------------------------------------------------

TEXT: git.Object = (git.BLOB, b"print(1)\n" * 200)
GOOD_TREE = git.tree([(FILE, b"a.py", git.name_of(TEXT))])
GOOD = git.commit(GOOD_TREE, ["2" * 40])
NAME = git.name_of(GOOD)
RECORDS = [git.record(*GOOD), git.record(*GOOD_TREE), git.record(*TEXT)]


def whole(*records: bytes, count: int | None = None) -> bytes:
    """Returns a bundle of the good commit with further records."""
    return git.bundle(NAME, git.pack([*RECORDS, *records], count))


def growing() -> bytes:
    """Returns a bundle whose few bytes copy a block again and again, to 2 GB."""
    base: git.Object = (git.BLOB, bytes(0xFFFFFF))
    copy = b"\xf0\xff\xff\xff"  # 0xffffff bytes from offset 0
    body = git.size_bytes(len(base[1])) + git.size_bytes(128 * len(base[1])) + copy * 128
    return whole(
        git.record(*base), git.record(git.REF_DELTA, body, bytes.fromhex(git.name_of(base)))
    )


def difference(body: bytes, base: str = "") -> bytes:
    """Returns a bundle with a difference to the script, or to another object."""
    name = bytes.fromhex(base or git.name_of(TEXT))
    return whole(git.record(git.REF_DELTA, body, name))


def tar_file() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.py"))
    return content.getvalue()


SIZE = git.size_bytes(len(TEXT[1]))
BUNDLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "does not begin as a git bundle"),
    "a tar file": (tar_file, "does not begin as a git bundle"),
    "a pack": (lambda: git.pack(RECORDS), "does not begin as a git bundle"),
    "another version": (
        lambda: git.bundle(NAME, git.pack(RECORDS), b"# v4 git bundle\n"), "does not begin",
    ),
    "a header alone": (lambda: b"# v2 git bundle\n\n", "malformed or cut off"),
    "half a header": (lambda: b"# v2 git bundle\n" + NAME.encode(), "malformed or cut off"),
    "a header without end": (
        lambda: b"# v2 git bundle\n" + b"x" * 1_000_000, "malformed or cut off",
    ),
    "SHA-256 names": (
        lambda: git.bundle(
            NAME, git.pack(RECORDS), b"# v3 git bundle\n@object-format=sha256\n"
        ),
        "SHA-256 names",
    ),
    "filtered": (
        lambda: git.bundle(NAME, git.pack(RECORDS), b"# v3 git bundle\n@filter=blob:none\n"),
        "filtered",
    ),
    "of an unknown kind": (
        lambda: git.bundle(NAME, git.pack(RECORDS), b"# v3 git bundle\n@new\n"), "newer git",
    ),
    "with commits to fetch": (
        lambda: git.bundle(
            NAME, git.pack(RECORDS), b"# v2 git bundle\n-" + b"2" * 40 + b" x\n"
        ),
        "needs 1 commits that are not in it",
    ),
    "cut off": (lambda: whole()[:-30], "malformed"),
    "cut off in its checksum": (lambda: whole()[:-1], "malformed"),
    "bytes behind it": (lambda: whole() + b"x", "malformed"),
    "bytes behind its objects": (
        lambda: git.bundle(NAME, git.pack([*RECORDS, b"hidden"], 3)), "bytes follow its last obj",
    ),
    "fewer objects than stated": (lambda: whole(count=4), "malformed"),
    "more objects than stated": (lambda: whole(count=2), "bytes follow its last object"),
    "no object": (lambda: git.bundle(NAME, git.pack([])), "no objects"),
    "too many objects": (lambda: whole(count=2**32 - 1), "more than 500000"),
    "an object twice": (lambda: whole(RECORDS[2]), "an object twice"),
    "a changed byte": (
        lambda: (content := whole())[:200] + bytes([content[200] ^ 1]) + content[201:], "malformed",
    ),
    "an object of no kind": (lambda: whole(git.record(5, b"x")), "malformed"),
    "an object longer than stated": (
        lambda: whole(git.record(git.BLOB, b"xxx", size=2)), "malformed",
    ),
    "an object shorter than stated": (
        lambda: whole(git.record(git.BLOB, b"xxx", size=4)), "malformed",
    ),
    "a difference to another file": (
        lambda: difference(SIZE + b"\x01\x01x", "3" * 40), "malformed",
    ),
    "a difference to itself": (
        lambda: whole(git.record(git.OFS_DELTA, SIZE + b"\x01\x01x", b"\0")), "malformed",
    ),
    "a difference to what is before the bundle": (
        lambda: whole(git.record(git.OFS_DELTA, SIZE + b"\x01\x01x", b"\xff\x7f")), "malformed",
    ),
    "a difference to the middle of an object": (
        lambda: whole(git.record(git.OFS_DELTA, SIZE + b"\x01\x01x", b"\x03")), "malformed",
    ),
    "a copy from behind the base": (
        lambda: difference(SIZE + b"\x10\x93\xff\xff\x10"), "malformed",
    ),
    "a difference of another size": (lambda: difference(SIZE + b"\x05\x01x"), "malformed"),
    "a difference to another size": (lambda: difference(b"\x05\x01\x01x"), "malformed"),
    "a file of 1.2 GB": (
        lambda: whole(git.record(git.BLOB, bytes(1_000_000), size=1_200_000_000)),
        "an object of 1200000000 bytes",
    ),
    "a file of more bytes than a number has": (
        lambda: whole(git.record(git.BLOB, b"", size=1 << 200)), "an object of 16069380442589902",
    ),
    "50 MB that are stated as 10 bytes": (
        lambda: whole(git.record(git.BLOB, bytes(50_000_000), size=10)), "malformed",
    ),
    "2 GB in few bytes": (growing, "an object of 2147483520 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BUNDLES)
def test_a_hostile_bundle_is_refused_by_name_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    content, words = BUNDLES[case]
    with pytest.raises(SourceBundleUnreadable, match=words) as caught:
        unpacked(content(), NAME, tmp_path)
    assert caught.value.metadata["field"] == "reproduction.bundle_sha256"
    assert list(tmp_path.iterdir()) == []


def test_the_good_bundle_that_the_hostile_ones_are_made_of_is_read(tmp_path: Path) -> None:
    tree = unpacked(whole(), NAME, tmp_path)
    assert on_disk(tmp_path / "tree") == {"a.py": (FILE, TEXT[1])}
    assert tree.tree == git.name_of(GOOD_TREE)
    assert (tmp_path / "tree").stat().st_mode & 0o777 == 0o755


def test_a_chain_of_thousands_of_differences_is_read(tmp_path: Path) -> None:
    content, records, base = TEXT[1], [], TEXT
    for number in range(3000):
        line = b"%04d" % number
        body = git.size_bytes(len(base[1])) + git.size_bytes(len(content) + 4)
        body += b"\xb0" + len(content).to_bytes(2, "little") + b"\x04" + line
        records.append(git.record(git.REF_DELTA, body, bytes.fromhex(git.name_of(base))))
        base = (git.BLOB, content + line)
    tree = git.tree([(FILE, b"a.py", git.name_of(base))])
    commit = git.commit(tree)
    pack = git.pack([*records, git.record(*TEXT), git.record(*tree), git.record(*commit)])
    unpacked(git.bundle(git.name_of(commit), pack), git.name_of(commit), tmp_path)
    assert (tmp_path / "tree/a.py").read_bytes() == base[1]


def test_another_commit_than_the_declared_one_is_not_in_the_bundle(tmp_path: Path) -> None:
    for name, words in (
        (NAME[:-1] + ("0" if NAME[-1] != "0" else "1"), "is missing"),
        (git.name_of(GOOD_TREE), "is a tree, no commit"),
    ):
        # The header may call any commit by any name.
        with pytest.raises(CommitNotInBundle, match=words):
            unpacked(git.bundle(name, git.pack(RECORDS)), name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_tree_in_a_bundle_leaves_nothing(tmp_path: Path) -> None:
    objects = at_the_top((FILE, b"a", SHA1), (LINK, b"b", SHA1), (FILE, b"c", "1" * 40))
    with pytest.raises(CommitNotInBundle, match=r"\(c\) is missing"):
        unpacked(git.bundle_of(objects), git.name_of(objects[0]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mine").write_text("mine")
    with pytest.raises(ServiceUnavailable):
        unpacked(whole(), NAME, tmp_path)
    assert on_disk(tmp_path / "tree") == {"mine": (FILE, b"mine")}
    assert [file.name for file in tmp_path.iterdir()] == ["tree"]


# --- a reader that a bundle has taken over --------------------------------------------------------

BLOB = git.name_of(TEXT)
GIVEN = f"{BLOB} blob 3\nabc\n"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (f"ready\n{GIVEN}", "does not hash to"),
        (f"ready\n{GIVEN[:-1]}x", "does not hash to"),
        (f"ready\n{'3' * 40} blob 3\nabc\n", "answered wrongly"),
        (f"ready\n{BLOB} blob -3\n", "answered wrongly"),
        (f"ready\n{BLOB} blob 03\nabc\n", "answered wrongly"),
        (f"ready\n{BLOB} blob 99999999999999999999\n", "answered wrongly"),
        (f"ready\n{'x' * 5000}", "answered wrongly"),
        ("refused \33[31mred\n", "cannot be read:  .31mred; expected"),
        (f"refused {'x' * 5000}", "cannot be read: x{992}; expected"),
        ("ready\n'; exit 137; '", "reading it ended with status 137, at a limit"),
    ],
)
def test_a_reader_can_give_the_right_bytes_or_none(says: str, words: str) -> None:
    with pytest.raises(SourceBundleUnreadable, match=words) as caught, reader(says) as objects:
        objects.read(Wanted("blob", BLOB, "a.py"))
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("act", "status"), [("exit 3", "3"), ("kill -9 $$", "-9")])
def test_a_reader_that_breaks_by_itself_is_our_failure(act: str, status: str) -> None:
    with pytest.raises(RuntimeError, match=f"ended with status {status}: broken"):
        reader(f"'; echo broken >&2; {act}; '").__enter__()


def test_a_reader_that_never_answers_is_ended() -> None:
    with (
        pytest.raises(SourceBundleUnreadable, match=r"more than 0\.2 s"),
        reader("ready\n'; exec sleep 60; '", seconds=0.2) as objects,
    ):
        objects.read(Wanted("blob", BLOB, "a.py"))


def reader(says: str, seconds: float = 20) -> Objects:
    return Objects(["/bin/sh", "-c", f"printf '{says}'; exec cat >/dev/null"], seconds)
