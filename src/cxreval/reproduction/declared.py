"""Checks what a manifest declares of a source tree: the entry point and the locked packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxreval.extras import require_extra
from cxreval.reproduction.git_objects import Objects, Wanted
from cxreval.reproduction.source_bundle import bundle_objects, check_commit
from cxreval.reproduction.source_tree import SourceTree, read_tree

ENTRY_POINT = "reproduction.entry_point"
LOCK = "reproduction.lock"


@dataclass(frozen=True, slots=True)
class DeclaredFiles:
    """Paths in a source tree. `lock`: empty if there is none; then `dependencies` are installed."""

    entry_point: str
    lock: str
    dependencies: tuple[str, ...] = ()

    def check(self, tree: SourceTree, objects: Objects) -> None:
        """Checks that the files are in a tree, and reads the lock or the dependencies.

        Args:
            tree: the files of a commit.
            objects: have the content of its files.

        Raises:
            SourceTreeRefused: one of them is no regular file of the tree.
            LockRefused: the lock cannot be read, or the dependencies contradict each other.
            ExtraMissing: the extra `reproduction`, which reads locks, is not installed.
        """
        tree.file(self.entry_point, ENTRY_POINT)
        if self.lock:
            tree.file(self.lock, LOCK)
        if not self.lock and not self.dependencies:
            return
        source = self.lock or "environment.dependencies"
        require_extra("reproduction", f"reading {source}", "packaging")
        from cxreval.reproduction.lock import pinned_lock, read_lock  # noqa: PLC0415 -- the extra

        if self.lock:
            found = tree.file(self.lock, LOCK)
            wanted = Wanted("blob", found.sha1, found.path, found.nbytes)
            read_lock(self.lock, objects.read(wanted))
        else:
            pinned_lock(self.dependencies)


def examine_bundle(bundle: Path, commit: str, files: DeclaredFiles) -> SourceTree:
    """Returns the files of a commit in a source bundle, which a child in the sandbox reads.

    Raises:
        CommitNotFrozen, ArtifactTooLarge, SourceBundleUnreadable, CommitNotInBundle,
        SourceTreeRefused, SandboxUnavailable, ExtraMissing: as `source_bundle.unpack` does.
        LockRefused: the lock cannot be read, or the dependencies contradict each other.
    """
    check_commit(commit)
    with bundle_objects(bundle) as objects:
        tree = read_tree(objects, commit)
        files.check(tree, objects)
        return tree
