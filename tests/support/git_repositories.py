"""Real git repositories, and git objects, packs and bundles that git would never write."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
KINDS = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}
FILE, PROGRAM, LINK, FOLDER, SUBMODULE = "100644", "100755", "120000", "40000", "160000"

Object = tuple[int, bytes]
Entry = tuple[str, bytes, str]

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Returns what git says in a directory."""
    return subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "-C", str(directory), *arguments],
        input=stdin,
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, **_ENVIRONMENT},
    ).stdout


def repository(directory: Path, files: dict[str, bytes]) -> str:
    """Makes a repository with one commit of these files, and returns the commit's hash."""
    git(directory.parent, "init", "--quiet", "--initial-branch=main", str(directory))
    return commit_files(directory, files)


def commit_files(directory: Path, files: dict[str, bytes]) -> str:
    """Adds files to a repository in one commit, and returns its hash."""
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", "x")
    return git(directory, "rev-parse", "HEAD").decode().strip()


# --- objects --------------------------------------------------------------------------------------


def name_of(thing: Object) -> str:
    """Returns the hash that git names an object by."""
    kind, content = thing
    return hashlib.sha1(f"{KINDS[kind]} {len(content)}\0".encode() + content).hexdigest()


def tree(entries: Iterable[Entry]) -> Object:
    """Returns a tree with these entries as they are, in this order."""
    lines = (
        f"{mode} ".encode() + name + b"\0" + bytes.fromhex(sha1) for mode, name, sha1 in entries
    )
    return TREE, b"".join(lines)


def commit(of: Object | str, parents: Sequence[str] = ()) -> Object:
    """Returns a commit of a tree."""
    lines = [f"tree {of if isinstance(of, str) else name_of(of)}"]
    lines += [f"parent {parent}" for parent in parents]
    lines += ["author A <a@example.org> 1700000000 +0000"]
    lines += ["committer A <a@example.org> 1700000000 +0000", "", "x", ""]
    return COMMIT, "\n".join(lines).encode()


def store(repository: Path, objects: Iterable[Object]) -> None:
    """Writes objects into a repository, whatever they are."""
    for thing in objects:
        name = name_of(thing)
        file = repository / "objects" / name[:2] / name[2:]
        file.parent.mkdir(exist_ok=True)
        content = f"{KINDS[thing[0]]} {len(thing[1])}\0".encode() + thing[1]
        file.write_bytes(zlib.compress(content, 1))


# --- packs and bundles ----------------------------------------------------------------------------


def record(kind: int, content: bytes, base: bytes = b"", size: int | None = None) -> bytes:
    """Returns an object as a pack has it; `base` follows the header of a difference."""
    left = len(content) if size is None else size
    first, left = left & 15, left >> 4
    header = [kind << 4 | first]
    while left:
        header[-1] |= 128
        header.append(left & 127)
        left >>= 7
    return bytes(header) + base + zlib.compress(content)


def size_bytes(size: int) -> bytes:
    """Returns a size as a difference states it."""
    encoded = bytearray()
    while size > 127:
        encoded.append(size & 127 | 128)
        size >>= 7
    return bytes([*encoded, size])


def pack(records: Sequence[bytes], count: int | None = None) -> bytes:
    """Returns a pack; `count` is what it states, by default the truth."""
    stated = len(records) if count is None else count
    body = b"PACK" + (2).to_bytes(4, "big") + stated.to_bytes(4, "big") + b"".join(records)
    return body + hashlib.sha1(body).digest()


def bundle(name: str, content: bytes, header: bytes = b"# v2 git bundle\n") -> bytes:
    """Returns a bundle of a pack with one reference."""
    return header + f"{name} refs/heads/main\n\n".encode() + content


def bundle_of(objects: Sequence[Object], name: str = "") -> bytes:
    """Returns a bundle of objects, without differences; the first one is its commit."""
    return bundle(name or name_of(objects[0]), pack([record(*thing) for thing in objects]))
