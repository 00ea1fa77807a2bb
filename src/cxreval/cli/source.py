"""`cxreval submission bundle`: a repository at a frozen commit as one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cxreval.cli import options, output
from cxreval.errors import ExtraMissing
from cxreval.extras import require_extra
from cxreval.fields import field_error
from cxreval.files import file_sha256
from cxreval.reproduction.declared import DeclaredFiles
from cxreval.reproduction.git_objects import Objects
from cxreval.reproduction.source_bundle import bundle_objects, pack
from cxreval.reproduction.source_tree import SourceTree, read_tree


def bundle(
    repository: Annotated[
        str,
        typer.Argument(
            help="git repository: a folder, or the address https://host/path of a public one"
        ),
    ],
    commit: Annotated[
        str, typer.Option(help="full hash of the commit: `git rev-parse HEAD`, 40 hex characters")
    ],
    file: Annotated[Path, typer.Option("--output", help="file to write", dir_okay=False)] = Path(
        "source.bundle"
    ),
    entry_point: Annotated[
        str, typer.Option(help="path of the script in the repository")
    ] = "reproduce.py",
    lock: Annotated[
        str, typer.Option(help="path of the locked packages in the repository; '' for none")
    ] = "requirements.lock",
    json: options.Json = False,
) -> None:
    """Write one commit of a repository, with its submodules, to a file for a submission.

    Only what the commit has is written: no history, no changes that are not committed. Its files
    and its lock are checked as the platform does when it unpacks them. Of a public repository only
    the commit is fetched; one with submodules must be cloned first.
    """
    notes: list[str] = []

    def look(tree: SourceTree, objects: Objects) -> None:
        try:
            DeclaredFiles(entry_point, lock).check(tree, objects)
        except ExtraMissing as error:
            notes.append(f"{lock} is not checked here: {error.message}")

    if repository.startswith("https://"):
        tree = _fetched(repository, commit, file, look)
    else:
        tree = pack(Path(repository), commit, file, look)
    for note in notes:
        output.errors.print(f"note: {note}", soft_wrap=True)
    manifest = {
        "commit": commit, "bundle_sha256": file_sha256(file), "entry_point": entry_point,
        "lock": lock,
    }  # fmt: skip
    facts = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "tree": tree.tree,
        "tree_sha256": tree.digest,
        "files": len(tree.files),
        "files_bytes": tree.nbytes,
        "submodules": tree.submodules,
    }
    if json:
        output.print_json(facts | {"reproduction": manifest})
        return
    for line in (
        f"{facts['file']}: {facts['bytes']} bytes",
        f"commit {commit} with tree {tree.tree}",
        f"{len(tree.files)} files of {tree.nbytes} bytes in sum; sha256 of all: {tree.digest}",
        *(f"submodule {path} at commit {name}" for path, name in tree.submodules.items()),
        "lines for the manifest:",
        "reproduction:",
        *(f"  {name}: {value}" for name, value in manifest.items() if value),
    ):
        output.console.print(line, soft_wrap=True)


def _fetched(
    repository: str, commit: str, file: Path, look: Callable[[SourceTree, Objects], None]
) -> SourceTree:
    """Writes the source bundle of a commit of a public repository; returns its files, checked."""
    require_extra("reproduction", "fetching a commit", "dulwich")
    from cxreval.reproduction.fetch import fetch  # noqa: PLC0415 -- needs the extra

    if not file.parent.is_dir():
        raise field_error("output", file, "a file in an existing directory")
    part = file.with_name(f".{file.name}.part")
    try:
        fetch(repository, commit, part)
        with bundle_objects(part) as objects:
            tree = read_tree(objects, commit)
            look(tree, objects)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return tree
