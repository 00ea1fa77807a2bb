"""Source trees on disk, and commits that git would never make."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cxreval.reproduction.git_objects import Objects
from cxreval.reproduction.source_bundle import unpack
from cxreval.reproduction.source_tree import SourceTree, read_tree
from tests.support import git_repositories as git
from tests.support.git_repositories import LINK

Written = dict[str, tuple[str, bytes]]


def target_of(link: Path) -> bytes:
    """Returns the target of a link as it is."""
    return os.readlink(os.fsencode(link))  # noqa: PTH115 -- Path.readlink changes `./x`


def on_disk(folder: Path) -> Written:
    """Returns mode and content of every file and link below a folder."""
    found: Written = {}
    for file in folder.rglob("*"):
        path = file.relative_to(folder).as_posix()
        if file.is_symlink():
            found[path] = (LINK, target_of(file))
        elif file.is_file():
            found[path] = (
                f"{stat.S_IFREG | stat.S_IMODE(file.stat().st_mode):o}",
                file.read_bytes(),
            )
    return found


def unpacked(bundle: bytes, commit: str, directory: Path) -> SourceTree:
    """Unpacks the bytes of a bundle into `directory / "tree"`; leaves nothing else."""
    file = directory / "source.bundle"
    file.write_bytes(bundle)
    try:
        return unpack(file, commit, directory / "tree")
    finally:
        file.unlink()


X: git.Object = (git.BLOB, b"x")
SHA1 = git.name_of(X)


def at_the_top(*entries: git.Entry, more: tuple[git.Object, ...] = ()) -> list[git.Object]:
    """Returns the objects of a commit whose tree has these entries."""
    tree = git.tree(entries)
    return [git.commit(tree), tree, X, *more]


def read_stored(directory: Path, objects: list[git.Object]) -> SourceTree:
    """Writes objects into a repository, and then the files of the first one, a commit.

    The files are in a folder that is named by the beginning of the commit's hash.
    """
    if not (directory / "stored").exists():
        git.git(directory, "init", "--bare", "--quiet", "stored")
    git.store(directory / "stored", objects)
    command = ["git", "-C", str(directory / "stored"), "cat-file", "--batch"]
    with Objects(command, 60, os.environ) as source:
        destination = directory / git.name_of(objects[0])[:8]
        return read_tree(source, git.name_of(objects[0]), destination)
