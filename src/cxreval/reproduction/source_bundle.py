"""Source bundles: a git bundle with one commit, its submodules' commits, and all their files.

The submitter packs one with git. The platform unpacks it without git: a child in the sandbox
undoes the compression, and this process checks every object's hash, name and size, and writes the
files ([ADR 35](docs/adr/0035-a-commit-is-proven-by-its-objects.md)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cxreval import sandbox
from cxreval.errors import (
    ArtifactTooLarge,
    CommitNotFrozen,
    CommitNotInBundle,
    ExtraMissing,
    MalformedField,
)
from cxreval.extras import require_extra
from cxreval.fields import field_error, printable
from cxreval.files import disk_error, durable_file
from cxreval.reproduction.git_objects import Objects
from cxreval.reproduction.source_tree import SourceTree, read_tree
from cxreval.system_calls import program_filter

MAX_BUNDLE_BYTES = 1 << 29
"""Maximum size of a source bundle: 512 MiB."""

SECONDS = 300.0
"""How long reading a source bundle may take."""

_READER = "cxreval.reproduction.pack_reader"  # imports dulwich, which only the sandbox needs
_GIT_SECONDS = 600.0
_MESSAGE_CHARACTERS = 300
_NO_DELTAS = ("-c", "pack.window=0", "-c", "pack.threads=1")


# --- packing --------------------------------------------------------------------------------------


def pack(
    repository: Path,
    commit: str,
    destination: Path,
    look: Callable[[SourceTree, Objects], None] = lambda *_: None,
) -> SourceTree:
    """Writes the source bundle of a commit, and returns the files of the commit.

    It has what the commit's hash covers, and no history: `git bundle unbundle` reads it, and with
    the commit's name in `.git/shallow` it can be checked out.

    Args:
        repository: a git repository, its working tree, or a folder in it.
        commit: full hash of the commit, 40 lower-case hex characters.
        destination: file to write; replaced if it exists.
        look: gets the files and their content before anything is written; what it raises is
            raised.

    Raises:
        CommitNotFrozen: `commit` is not a full hash.
        MalformedField: there is no repository, or no file can be written.
        CommitNotInBundle: the repository lacks the commit, or files or submodules of it.
        SourceTreeRefused: the commit breaks a rule for source trees.
        ArtifactTooLarge: the bundle has more than `MAX_BUNDLE_BYTES`; nothing is written.
        ExtraMissing: git is not installed.
    """
    check_commit(commit)
    with tempfile.TemporaryDirectory(prefix="cxreval-") as directory:
        copy = Path(directory)
        _git(copy, "init", "--bare", "--quiet")
        alternates = [str(found) for found in _object_folders(repository)]
        (copy / "objects/info/alternates").write_text("\n".join(alternates) + "\n")
        try:
            command = _command(copy, "cat-file", "--batch")
            with Objects(command, _GIT_SECONDS, _environment()) as objects:
                tree = read_tree(objects, commit)
                look(tree, objects)
        except CommitNotInBundle as error:
            raise _not_here(repository, error) from None
        commits = {commit, *tree.submodules.values()}
        # A shallow repository: git asks for no parents of these commits.
        (copy / "shallow").write_text("".join(f"{name}\n" for name in sorted(commits)))
        for name in sorted(commits):
            _git(copy, "update-ref", f"refs/commits/{name}", name)
        # Without a search for differences between files, which takes long and gains little here.
        _git(copy, *_NO_DELTAS, "bundle", "create", "--quiet", "source.bundle", "--all")
        _move(copy / "source.bundle", destination)
    return tree


def check_commit(commit: str) -> None:
    """Raises `CommitNotFrozen` unless the text is the full hash of a commit."""
    if len(commit) != 40 or not set(commit) <= set("0123456789abcdef"):
        expected = (
            "the full hash of a commit, 40 lower-case hex characters (`git rev-parse HEAD`): a "
            "branch, a tag or an abbreviation can come to mean another commit"
        )
        raise field_error("reproduction.commit", commit, expected, CommitNotFrozen)


def _object_folders(repository: Path) -> Iterator[Path]:
    """Yields where git keeps the objects of a repository and of its submodules."""
    if not repository.is_dir():
        raise field_error("repository", repository, "a folder with a git repository")
    said = _git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
    common = Path(said.removesuffix("\n"))
    yield common / "objects"
    for head in sorted((common / "modules").rglob("HEAD")):
        if (head.parent / "objects").is_dir():
            yield head.parent / "objects"


def _move(bundle: Path, destination: Path) -> None:
    nbytes = bundle.stat().st_size
    if nbytes > MAX_BUNDLE_BYTES:
        raise _too_large(nbytes)
    try:
        with durable_file(destination) as file, bundle.open("rb") as content:
            shutil.copyfileobj(content, file)
    except OSError as error:
        expected = "a file in an existing directory"
        message = f"cannot write {destination}: {error.strerror}; expected {expected}"
        raise MalformedField(message, field="output", expected=expected) from None


def _git(directory: Path, *arguments: str) -> str:
    """Returns what git says. Raises `MalformedField` with its message if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 -- git
            _command(directory, *arguments),
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        message = f"git took more than {_GIT_SECONDS:g} s in {directory}"
        raise MalformedField(message, field="repository") from None
    if done.returncode:
        said = printable(done.stderr.strip())[:_MESSAGE_CHARACTERS]
        raise MalformedField(f"git in {directory}: {said}", field="repository")
    return done.stdout


def _command(directory: Path, *arguments: str) -> list[str]:
    git = shutil.which("git")
    if git is None:
        raise ExtraMissing("packing a repository needs git; install it", module="git")
    return [git, "-C", str(directory), *arguments]


def _environment() -> dict[str, str]:
    """Returns the environment without variables that would lead git to another repository."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return others | {"GIT_DEFAULT_HASH": "sha1", "LC_ALL": "C"}


def _not_here(repository: Path, error: CommitNotInBundle) -> CommitNotInBundle:
    cure = (
        "fetch what is missing: `git fetch --unshallow`, `git fetch --refetch --no-filter` for a "
        "partial clone, `git submodule update --init --recursive` and `git submodule "
        "absorbgitdirs` for submodules"
    )
    return CommitNotInBundle(f"{repository}: {error.message}; {cure}", **error.metadata)


# --- unpacking ------------------------------------------------------------------------------------


def unpack(bundle: Path, commit: str, destination: Path) -> SourceTree:
    """Writes the files of a commit in a source bundle into a new folder, and returns them.

    The folder appears at once, when everything is checked.

    Args:
        bundle: the file, from anyone.
        commit: full hash of the commit, 40 lower-case hex characters.
        destination: folder to create, beside which there is space for its content.

    Raises:
        CommitNotFrozen: `commit` is not a full hash.
        ArtifactTooLarge: the bundle has more than `MAX_BUNDLE_BYTES`.
        SourceBundleUnreadable: it is no bundle, is cut off, needs other commits, or reading it
            exceeds a limit; or an object does not hash to its name.
        CommitNotInBundle: it lacks the commit, or files or submodules of it.
        SourceTreeRefused: a name, a link or a size is not allowed, or a file is a pointer of Git
            LFS.
        SandboxUnavailable: this machine has no sandbox.
        ServiceUnavailable: the folder cannot be written.
        ExtraMissing: the extra `reproduction` is not installed.
    """
    check_commit(commit)
    with bundle_objects(bundle) as objects, _appearing(destination) as part:
        return read_tree(objects, commit, part)


@contextmanager
def bundle_objects(bundle: Path) -> Iterator[Objects]:
    """Yields the objects of a source bundle, which a child in the sandbox reads.

    Raises:
        ArtifactTooLarge, SourceBundleUnreadable, SandboxUnavailable, ExtraMissing: see `unpack`.
    """
    require_extra("reproduction", "reading a source bundle", "dulwich")
    nbytes = bundle.stat().st_size
    if nbytes > MAX_BUNDLE_BYTES:
        raise _too_large(nbytes)
    with tempfile.TemporaryFile() as filter_:
        filter_.write(program_filter())
        filter_.seek(0)
        descriptor = filter_.fileno()
        arguments = [sandbox.INPUT]
        command = sandbox.command(_READER, arguments, bundle.resolve(), filter_fd=descriptor)
        with Objects(command, SECONDS, pass_fds=[descriptor]) as objects:
            yield objects


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """Yields the path of a folder to create, which becomes `directory` when the block ends."""
    try:
        with tempfile.TemporaryDirectory(
            dir=directory.parent, prefix=f".{directory.name[:12]}-", suffix=".part"
        ) as part:
            yield Path(part) / "tree"
            (Path(part) / "tree").rename(directory)
    except OSError as error:
        raise disk_error(error, "source trees") from error


def _too_large(nbytes: int) -> ArtifactTooLarge:
    expected = f"at most {MAX_BUNDLE_BYTES} bytes"
    return ArtifactTooLarge(
        f"the source bundle has {nbytes} bytes; expected {expected}; large weights are submitted "
        "as the checkpoint",
        field="reproduction.bundle_sha256",
        expected=expected,
    )
