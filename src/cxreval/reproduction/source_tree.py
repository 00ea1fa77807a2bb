"""The files of a commit: which are allowed, and how they are written.

Names, links and sizes are checked before anything of a file is written. A name that is harmless
on Linux but not on other systems is refused too: the tree is what other people will check out.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from cxreval.errors import SourceTreeRefused
from cxreval.fields import shown
from cxreval.reproduction.git_objects import Objects, TreeEntry, Wanted, tree_entries, tree_of

MAX_ENTRIES = 10_000
"""Maximum number of files, links, folders and submodules of a source tree."""

MAX_TREE_BYTES = 1 << 29
"""Maximum size of all its files: 512 MiB."""

MAX_FILE_BYTES = 1 << 27
"""Maximum size of one file: 128 MiB. Larger weights are submitted as the checkpoint."""

MAX_PATH_BYTES = 1000
"""Maximum length of a path; one name has at most 255 bytes."""

MAX_DEPTH = 32
"""Maximum number of folders in one another."""

_FOLDER, _LINK, _SUBMODULE = "40000", "120000", "160000"
_FILES = {"100644": 0o644, "100664": 0o644, "100755": 0o755}
_LFS = re.compile(rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n")
_LFS_BYTES = 1024  # by its specification, a pointer is smaller
_GIT_FOLDER = re.compile(r"\.git|git~[0-9]+")  # the second: its short name in NTFS
_LINK_TARGET = re.compile(rb"((?:\.\./)*)([^/]+(?:/[^/]+)*)/?")
_SHOWN_PATHS = 5


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file or link of a source tree.

    Attributes:
        path: names joined by `/`.
        mode: `100644`, `100755`, or `120000` for a link, whose content is its target.
        nbytes: size of its content in bytes.
        sha256: digest of its content.
        sha1: git's hash of its content.
    """

    path: str
    mode: str
    nbytes: int
    sha256: str
    sha1: str


@dataclass(frozen=True, slots=True)
class SourceTree:
    """The files of a commit, each proven by the commit's hash.

    Attributes:
        commit: hash of the commit, 40 hex characters.
        tree: hash of its tree.
        files: files and links in the order of their paths' bytes, those of submodules included.
        submodules: hash of each submodule's commit, by path.
    """

    commit: str
    tree: str
    files: tuple[SourceFile, ...]
    submodules: dict[str, str]

    @property
    def nbytes(self) -> int:
        """Size of all files in bytes."""
        return sum(file.nbytes for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 over a line `MODE SHA256 PATH` for each file, in their order.

        It does not depend on SHA-1, on git, or on how the files came here.
        """
        lines = (f"{file.mode} {file.sha256} {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def file(self, path: str, field: str) -> SourceFile:
        """Returns a regular file. Raises `SourceTreeRefused`, which names `field`, for others."""
        by_path = {file.path: file for file in self.files}
        found = by_path.get(path)
        if found and found.mode != _LINK:
            return found
        problem = f"{shown(path)!r} is {'a link' if found else 'not a file of the commit'}"
        near = get_close_matches(path, by_path, 1)
        hint = f"; did you mean {near[0]}?" if near and not found else ""
        expected = "the path of a file in the source tree, such as reproduce.py"
        raise SourceTreeRefused(
            f"{field}: {problem}; expected {expected}{hint}", field=field, expected=expected
        )


def read_tree(objects: Objects, commit: str, destination: Path | None = None) -> SourceTree:
    """Returns the files of a commit, each checked; writes them into a new folder.

    Args:
        objects: have the commit and all that it names.
        commit: its hash, 40 hex characters.
        destination: folder to create; None to check only. What is in it after an error is not to
            be used.

    Raises:
        CommitNotInBundle: the commit, or a file, folder or submodule of it, is not there.
        SourceTreeRefused: a name, a link or a size is not allowed, or a file is a pointer of Git
            LFS.
        SourceBundleUnreadable: the objects cannot be read, or have other hashes.
        OSError: a file cannot be written.
    """
    walk = _Walk(objects, destination)
    tree = walk.commit(commit, "")
    walk.finish()
    files = tuple(sorted(walk.files, key=lambda file: file.path.encode()))
    return SourceTree(commit, tree, files, walk.submodules)


@dataclass(slots=True)
class _Walk:
    """A walk over the folders of a commit, from the top."""

    objects: Objects
    destination: Path | None
    files: list[SourceFile] = field(default_factory=list)
    submodules: dict[str, str] = field(default_factory=dict)
    _links: list[tuple[str, bytes]] = field(default_factory=list)
    _pointers: list[str] = field(default_factory=list)
    _entries: int = 0
    _nbytes: int = 0

    def commit(self, sha1: str, path: str) -> str:
        """Reads the tree of a commit at a path, and returns the tree's hash."""
        tree = tree_of(self.objects.read(Wanted("commit", sha1, path)))
        self._folder(tree, path)
        return tree

    def finish(self) -> None:
        """Writes the links, when no file is written any more that could go through one."""
        if self._pointers:
            raise _refused_pointers(self._pointers)
        for path, target in self._links:
            if self.destination:
                (self.destination / path).symlink_to(os.fsdecode(target))

    def _folder(self, tree: str, path: str) -> None:
        if path.count("/") >= MAX_DEPTH:
            raise _refused(path, f"is in more than {MAX_DEPTH} folders", "flatter folders")
        entries = tree_entries(self.objects.read(Wanted("tree", tree, path or "/")), path)
        self._entries += len(entries)
        if self._entries > MAX_ENTRIES:
            raise _refused(
                "", f"the commit has more than {MAX_ENTRIES:,} files and folders", "fewer"
            )
        if self.destination:
            created = self.destination / path
            created.mkdir()
            created.chmod(0o755)
        for entry, inner in zip(entries, _paths(entries, path), strict=True):
            if entry.mode == _FOLDER:
                self._folder(entry.sha1, inner)
            elif entry.mode == _SUBMODULE:
                self.submodules[inner] = entry.sha1
                self.commit(entry.sha1, inner)
            elif entry.mode == _LINK:
                self._link(entry, inner)
            elif entry.mode in _FILES:
                self._file(entry, inner)
            else:
                raise _refused(inner, f"has mode {entry.mode}", "a file, link, folder or submodule")

    def _link(self, entry: TreeEntry, path: str) -> None:
        target = self.objects.read(Wanted("blob", entry.sha1, path, MAX_PATH_BYTES))
        _check_target(target, path)
        self._links.append((path, target))
        self._nbytes += len(target)
        digest = hashlib.sha256(target).hexdigest()
        self.files.append(SourceFile(path, _LINK, len(target), digest, entry.sha1))

    def _file(self, entry: TreeEntry, path: str) -> None:
        digest, head = hashlib.sha256(), bytearray()
        wanted = Wanted(
            "blob", entry.sha1, path, min(MAX_FILE_BYTES, MAX_TREE_BYTES - self._nbytes)
        )
        mode = _FILES[entry.mode]
        file = _create(self.destination / path, mode) if self.destination else None

        def write(piece: bytes) -> None:
            digest.update(piece)
            head.extend(piece[: _LFS_BYTES - len(head)])
            while file is not None and piece:
                piece = piece[os.write(file, piece) :]

        try:
            nbytes = self.objects.copy(wanted, write)
        finally:
            if file is not None:
                os.close(file)
        if nbytes < _LFS_BYTES and _LFS.match(head):
            self._pointers.append(path)
        self._nbytes += nbytes
        octal = f"{mode | 0o100000:o}"
        self.files.append(SourceFile(path, octal, nbytes, digest.hexdigest(), entry.sha1))


def _create(file: Path, mode: int) -> int:
    """Returns the descriptor of a new file with exactly this mode."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.fchmod(descriptor, mode)
    return descriptor


def _paths(entries: list[TreeEntry], folder: str) -> Iterator[str]:
    """Yields the path of each entry of a folder, after checking its name."""
    names: dict[str, str] = {}
    for entry in entries:
        name = _name(entry.name, folder)
        path = f"{folder}/{name}" if folder else name
        if len(path.encode()) > MAX_PATH_BYTES:
            raise _refused(path, "is too long", f"paths of at most {MAX_PATH_BYTES} bytes")
        folded = _folded(name)
        if folded in names:
            raise _refused(path, f"is {names[folded]!r} in another case or form", "different names")
        names[folded] = name
        yield path


def _name(raw: bytes, folder: str) -> str:
    """Returns the name of an entry, which no file system takes for another one."""
    name = raw.decode(errors="replace")
    expected = (
        r"names of printable UTF-8 characters without \ and :, of at most 255 bytes, without a "
        "space or dot at the end, none of them .git"
    )
    if (
        len(raw) > 255
        or not name.isprintable()
        or "\N{REPLACEMENT CHARACTER}" in name
        or "\\" in name
        or ":" in name
        or name.endswith((" ", "."))  # `.` and `..`, and what Windows drops
        or _GIT_FOLDER.fullmatch(_folded(name))
    ):
        where = f" in folder {folder}" if folder else ""
        raise _refused("", f"the name {shown(name)!r}{where} is not allowed", expected)
    return name


def _folded(name: str) -> str:
    """Returns a text that names share which a file system may take for one name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _check_target(target: bytes, path: str) -> None:
    """Raises `SourceTreeRefused` unless a link ends in the tree.

    `..` stands at the beginning only, at most as often as the link is in folders. Folders are
    never links, so these steps end in the tree, and so do the links that the remaining names
    may lead through.
    """
    found = _LINK_TARGET.fullmatch(target)
    names = found[2].split(b"/") if found else []
    if found and found[1].count(b"/") <= path.count("/") and b".." not in names:
        for name in names:
            if name != b".":
                _name(name, path)
        return
    text = shown(target.decode(errors="replace"))
    raise _refused(path, f"is a link to {text!r}", "links to files and folders of the commit")


def _refused_pointers(paths: list[str]) -> SourceTreeRefused:
    more = f" and {len(paths) - _SHOWN_PATHS} more" if len(paths) > _SHOWN_PATHS else ""
    return _refused(
        "",
        f"pointers of Git LFS, without the content: {', '.join(paths[:_SHOWN_PATHS])}{more}",
        "a commit that has the files themselves, with weights submitted as the checkpoint",
    )


def _refused(path: str, problem: str, expected: str) -> SourceTreeRefused:
    subject = f"{shown(path)} " if path else ""
    return SourceTreeRefused(
        f"the source tree is refused: {subject}{problem}; expected {expected}",
        field="reproduction.commit",
        expected=expected,
        **({"path": shown(path)} if path else {}),
    )
