"""`cxreval submission bundle`: a repository at a frozen commit as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxreval.cli import options, output
from cxreval.errors import ExtraMissing
from cxreval.files import file_sha256
from cxreval.reproduction.declared import DeclaredFiles
from cxreval.reproduction.git_objects import Objects
from cxreval.reproduction.source_bundle import pack
from cxreval.reproduction.source_tree import SourceTree


def bundle(
    repository: Annotated[Path, typer.Argument(help="git repository", exists=True)],
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
    and its lock are checked as the platform does when it unpacks them.
    """
    notes: list[str] = []

    def look(tree: SourceTree, objects: Objects) -> None:
        try:
            DeclaredFiles(entry_point, lock).check(tree, objects)
        except ExtraMissing as error:
            notes.append(f"{lock} is not checked here: {error.message}")

    tree = pack(repository, commit, file, look)
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
