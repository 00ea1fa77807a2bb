"""Runs a script in a container of podman, for a machine that has it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation import inside
from cxreval.reproduction.isolation.contract import Ended, Outcome, Progress, Run, Usage
from cxreval.reproduction.isolation.ending import outcome
from cxreval.reproduction.isolation.frames import Frames
from cxreval.reproduction.isolation.local import LocalSandbox

_USERS = range(10_000, 60_000)  # that a container of an ordinary user may have
_END_SECONDS = 60.0
_KILLED = b"137"
_VARIABLES = ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR")


class Podman:
    """Runs scripts in containers of podman, each made for one run and removed after it.

    Processor time is limited by the number of processors: a run can take no more than
    `cpu_seconds` within `wall_seconds`.

    Args:
        image: of the containers, which has the Python that scripts are run with; it is not
            pulled.
        python: that Python, as the image names it.

    Raises:
        SandboxUnavailable: podman is not installed.
    """

    name = "podman"

    def __init__(self, image: str, python: str = "/usr/local/bin/python3") -> None:
        self._image, self._python = image, python
        binary = shutil.which("podman")
        if not binary:
            message = "no sandbox: podman is not installed; expected podman"
            raise SandboxUnavailable(message, expected="podman", found="no podman")
        self._binary = binary

    def run(self, run: Run, progress: Progress | None = None) -> Outcome:
        """Runs a script, as `Isolation.run` describes."""
        run.check()
        frames, started = Frames(run.limits), time.monotonic()
        name = f"cxreval-run-{secrets.token_hex(8)}"
        try:
            command = [self._binary, *self.arguments(run, name)]
            running = LocalSandbox(command, frames, environment=_environment())
            try:
                limit = running.follow(run.limits, lambda: None, progress)
            finally:
                running.end()
            # At the limit of memory the kernel may kill the supervisor. With control groups of
            # version 1, podman does not say why, and nothing else inside can kill it.
            status = self._podman("inspect", "--format", "{{.State.ExitCode}}", name)
            if not limit and not frames.end and status == _KILLED:
                limit = Ended.MEMORY
        finally:
            self._podman("rm", "--force", "--time", "0", "--ignore", name)
        usage = Usage(time.monotonic() - started, None, None, 0)
        return outcome(frames, limit, run.limits, usage)

    def _podman(self, *words: str) -> bytes:
        """Returns what a command of podman prints; nothing if it fails."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            return subprocess.run(  # noqa: S603 -- podman and the name of its container
                [self._binary, *words],
                env=_environment(),
                capture_output=True,
                check=False,
                timeout=_END_SECONDS,
            ).stdout.strip()
        return b""

    def arguments(self, run: Run, name: str) -> list[str]:
        """Returns the arguments of podman that run a script in a container of that name."""
        limits = run.limits
        user = secrets.choice(_USERS)
        words = ["run", "--name", name, "--pull", "never", "--log-driver", "none"]
        words += ["--network", "none", "--hostname", "sandbox", "--no-hosts", "--read-only"]
        words += ["--read-only-tmpfs=false", "--env-host=false", "--http-proxy=false"]
        words += ["--unsetenv-all", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
        words += ["--user", f"{user}:{user}", "--pids-limit", str(limits.processes + 1)]
        words += ["--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)]
        words += ["--cpus", f"{limits.cpu_seconds / limits.wall_seconds:.3f}"]
        # Podman's own defaults are above what a worker that is no service of root may set.
        words += ["--ulimit", f"nofile={limits.open_files}:{limits.open_files}"]
        words += ["--ulimit", f"nproc={limits.processes + 8}:{limits.processes + 8}"]
        words += ["--timeout", str(int(limits.wall_seconds) + 60)]  # without its worker
        words += ["--shm-size", str(limits.scratch_bytes), "--workdir", "/"]
        for size, directory in (
            (limits.scratch_bytes, inside.SCRATCH),
            (limits.output_bytes, inside.OUTPUT),
        ):
            words += ["--tmpfs", f"{directory}:rw,nosuid,nodev,notmpcopyup,size={size},mode=1777"]
        for path, directory in inside.mounts(run):
            mount = f"type=bind,source={path},target={directory},readonly=true"
            words += ["--mount", mount]
        entry, *rest = inside.supervised(run, self._python)
        return [*words, "--entrypoint", entry, self._image, *rest]


def _environment() -> dict[str, str]:
    """Returns the variables by which podman finds its files; the container gets none of them."""
    return {key: os.environ[key] for key in _VARIABLES if key in os.environ}
