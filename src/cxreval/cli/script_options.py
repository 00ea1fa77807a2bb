"""Options of `cxreval worker` for submitters' scripts, and the runner that they describe."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxreval import sandbox
from cxreval.errors import SandboxUnavailable
from cxreval.extras import require_extra
from cxreval.fields import field_error, required
from cxreval.reproduction.isolation.contract import Limits

if TYPE_CHECKING:  # needs the extra
    from cxreval.evaluation.scripts import ScriptRunner
    from cxreval.reproduction.environments import Interpreter
    from cxreval.reproduction.isolation.contract import Isolation

_log = logging.getLogger(__name__)
_MIB, _GIB = 1 << 20, 1 << 30
_LIMITS = Limits()
MEMORY_MIB = _LIMITS.memory_bytes // _MIB
CPU_SECONDS = int(_LIMITS.cpu_seconds)
WALL_SECONDS = int(_LIMITS.wall_seconds)
SCRATCH_MIB = _LIMITS.scratch_bytes // _MIB
CACHE_GIB = 40


class IsolationKind(StrEnum):
    """How scripts are isolated."""

    BUBBLEWRAP = "bubblewrap"
    KUBERNETES = "kubernetes"
    PODMAN = "podman"


def _option(name: str, about: str, **more: Any) -> Any:
    variable = f"CXREVAL_WORKER_{name.removeprefix('--').replace('-', '_').upper()}"
    return typer.Option(name, envvar=variable, help=about, **more)


Directory = Annotated[
    Path | None,
    _option(
        "--scripts",
        "directory for the environments of submitters' scripts, which are then run here in "
        "isolation; without it, none is run, and the other options of scripts have no effect",
    ),
]
Kind = Annotated[
    IsolationKind,
    _option(
        "--script-isolation",
        "how scripts are isolated: in a sandbox on this machine, in jobs of the cluster that this "
        "worker is a pod of, or in containers of podman",
    ),
]
Image = Annotated[
    str,
    _option(
        "--script-image",
        "with kubernetes and podman: image of the containers, with its digest; it has the "
        "interpreter under the same path as this machine",
    ),
]
RuntimeClass = Annotated[
    str,
    _option(
        "--script-runtime-class",
        "with kubernetes: runtime class with a kernel of its own, such as gVisor's or Kata's",
    ),
]
Claim = Annotated[
    str,
    _option(
        "--script-claim",
        "with kubernetes: volume claim that jobs read, and where this worker has it, "
        "NAME=DIRECTORY; TMPDIR and --scripts must lie in it",
    ),
]
Index = Annotated[
    str, _option("--script-index", "index of wheels; default: the one that pip is configured for")
]
Pythons = Annotated[
    list[Path],
    _option(
        "--script-python",
        "a Python that scripts may declare, repeatable; default: the worker's own",
        exists=True,
        dir_okay=False,
    ),
]
Memory = Annotated[
    int, _option("--script-memory-mib", "memory of a run, its files in memory included", min=64)
]
Cpu = Annotated[
    int, _option("--script-cpu-seconds", "processor time of a run, of all processes", min=1)
]
Wall = Annotated[int, _option("--script-wall-seconds", "time of a run", min=1)]
Scratch = Annotated[
    int, _option("--script-scratch-mib", "size of /tmp in a run, and of /dev/shm", min=1)
]
Cache = Annotated[
    int,
    _option(
        "--script-cache-gib",
        "size of all environments; those used least recently are removed",
        min=1,
    ),
]


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """The options of a worker that runs scripts, as above."""

    directory: Path
    kind: IsolationKind = IsolationKind.BUBBLEWRAP
    image: str = ""
    runtime_class: str = ""
    claim: str = ""
    index: str = ""
    pythons: tuple[Path, ...] = ()
    memory_mib: int = MEMORY_MIB
    cpu_seconds: int = CPU_SECONDS
    wall_seconds: int = WALL_SECONDS
    scratch_mib: int = SCRATCH_MIB
    cache_gib: int = CACHE_GIB

    @property
    def limits(self) -> Limits:
        """What each run may take."""
        return Limits(
            memory_bytes=self.memory_mib * _MIB,
            cpu_seconds=float(self.cpu_seconds),
            wall_seconds=float(self.wall_seconds),
            scratch_bytes=self.scratch_mib * _MIB,
        )

    def runner(self) -> ScriptRunner | None:
        """Returns the runner of scripts; None, with a line in the log, if this machine cannot
        isolate one.

        Raises:
            MissingField, MalformedField: the isolation needs another option.
            EnvironmentUnavailable: an interpreter does not run.
            ExtraMissing: the extra `reproduction` is not installed.
        """
        modules = ("dulwich", "packaging", "pyseccomp")
        require_extra("reproduction", "cxreval worker --scripts", *modules)
        from cxreval.evaluation.script_runner import IsolatedRunner  # noqa: PLC0415 -- the extra
        from cxreval.reproduction.environments import Environments  # noqa: PLC0415

        if self.index and not self.index.startswith(("https://", "http://")):
            # The value is not shown: it may hold a password.
            raise field_error("script_index", "no such address", "https://... or http://...")
        environments = Environments(
            self.directory,
            interpreters=self.pythons,
            index_url=self.index,
            max_bytes=self.cache_gib * _GIB,
        )
        versions = ", ".join(environments.offered)
        try:
            isolation = self._isolation(environments.interpreters)
        except SandboxUnavailable as error:
            _log.warning("no script is run here: %s", error)
            return None
        _log.info("scripts are run with %s, Python %s", isolation.name, versions)
        return IsolatedRunner(isolation, environments, self.limits)

    def _isolation(self, interpreters: tuple[Interpreter, ...]) -> Isolation:
        from cxreval.reproduction.isolation.bubblewrap import Bubblewrap  # noqa: PLC0415
        from cxreval.reproduction.isolation.podman import Podman  # noqa: PLC0415

        sandbox.check()  # in which source bundles and wheels are unpacked
        if self.kind is IsolationKind.BUBBLEWRAP:
            bubblewrap = Bubblewrap()
            for interpreter in interpreters:
                bubblewrap.check(interpreter.executable)
            return bubblewrap
        if not self.image:
            raise required("script_image", "an image with its digest", self.kind)
        if len(interpreters) > 1:
            expected = "one Python, which the image has under the same path"
            raise field_error("script_python", "several", expected)
        python = str(interpreters[0].executable)
        if self.kind is IsolationKind.PODMAN:
            return Podman(self.image, python)
        return self._kubernetes(python)

    def _kubernetes(self, python: str) -> Isolation:
        from cxreval.reproduction.isolation.cluster import of_this_pod  # noqa: PLC0415
        from cxreval.reproduction.isolation.kubernetes import (  # noqa: PLC0415
            KubernetesJob,
            PodSettings,
        )

        if not self.runtime_class:
            raise required("script_runtime_class", "a runtime class", self.kind)
        claim, _, place = self.claim.partition("=")
        if not (claim and place and Path(place).is_dir()):
            expected = "NAME=DIRECTORY with a directory that exists"
            raise field_error("script_claim", self.claim, expected)
        volume = Path(place).resolve()
        for field, path in (("scripts", self.directory), ("TMPDIR", Path(tempfile.gettempdir()))):
            if volume not in path.resolve().parents:
                raise field_error(field, path, f"a directory in {volume}, which jobs can read")
        settings = PodSettings(self.image, self.runtime_class, claim, volume, python)
        return KubernetesJob(of_this_pod(), settings)
