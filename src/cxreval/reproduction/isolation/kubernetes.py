"""Runs a script in a pod of Kubernetes, with a runtime that has a kernel of its own."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxreval.errors import SandboxUnavailable
from cxreval.reproduction.isolation import inside
from cxreval.reproduction.isolation.cluster import Cluster
from cxreval.reproduction.isolation.contract import Ended, Outcome, Progress, Run, Usage
from cxreval.reproduction.isolation.ending import outcome
from cxreval.reproduction.isolation.frames import Frames

NETWORK_POLICY = "cxreval-run-no-network"
_LABEL = {"app.kubernetes.io/name": "cxreval-run"}
_USERS = range(100_000, 1 << 31)
_START_SECONDS = 600.0  # for a node, and for the image to be pulled
_POLL_SECONDS = 0.5
_PROGRESS_SECONDS = 1.0
_KEPT_SECONDS = 60  # of a job whose worker was killed
_VOLUME = "runs"


@dataclass(frozen=True)
class PodSettings:
    """What the pods of an operator's cluster have in common."""

    image: str
    """With its digest; it has the Python that scripts are run with."""
    runtime_class: str
    """With a kernel of its own, such as gVisor's or Kata's."""
    claim: str
    """The claim of the volume that has what scripts read."""
    claim_directory: Path
    """Where the worker has that volume; each path of a run must lie in it."""
    python: str = "/usr/local/bin/python3"


class KubernetesJob:
    """Runs scripts as jobs of Kubernetes, each in a pod without network.

    What a script reads is on a volume that the worker and the pods share; a pod mounts it to read.
    What the supervisor writes, the table of predictions included, comes back as the log of the pod:
    a pod without network can reach no other place, and needs no volume to write to. The table is
    packed, because a node keeps 10 MiB of a log by default.

    Processor time is limited by the number of processors: a run can take no more than
    `cpu_seconds` within `wall_seconds`. A job whose worker was killed ends at its deadline, and is
    removed by the cluster.
    """

    def __init__(self, cluster: Cluster, settings: PodSettings) -> None:
        self._cluster, self._settings = cluster, settings

    @property
    def name(self) -> str:
        """What isolates, with the runtime class that decides how well."""
        return f"kubernetes with runtime class {self._settings.runtime_class}"

    def run(self, run: Run, progress: Progress | None = None) -> Outcome:
        """Runs a script, as `Isolation.run` describes."""
        run.check()
        name = f"cxreval-run-{secrets.token_hex(8)}"
        job = render_job(run, name, self._settings)
        self._cluster.create("networking.k8s.io/v1", "networkpolicies", render_network_policy())
        self._cluster.create("batch/v1", "jobs", job)
        try:
            started = time.monotonic()
            frames, limit = self._follow(name, run, progress)
            limit = limit or _limit(self._pod(name))
            usage = Usage(time.monotonic() - started, None, None, 0)
            return outcome(frames, limit, run.limits, usage)
        finally:
            self._cluster.delete_job(name)

    def _follow(
        self, name: str, run: Run, progress: Progress | None
    ) -> tuple[Frames, Ended | None]:
        """Reads the log of a job's pod to its end; returns what it says and the exceeded limit.

        A log that breaks off while the pod runs is read again from its beginning.
        """
        pod = self._started_pod(name)
        until = time.monotonic() + run.limits.wall_seconds
        while True:
            frames = Frames(run.limits)
            pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            reader = threading.Thread(
                target=self._cluster.read_log, args=(pod, pieces.put), daemon=True
            )
            reader.start()
            limit = _drain(pieces, frames, until, progress)
            if limit or frames.end or _terminated(self._pod(name)):
                return frames, limit
            time.sleep(_POLL_SECONDS)

    def _started_pod(self, name: str) -> str:
        """Returns the name of a job's pod, once it has a log.

        Raises:
            SandboxUnavailable: it does not start.
        """
        until = time.monotonic() + _START_SECONDS
        problem = "no pod"
        while time.monotonic() < until:
            pod = self._pod(name)
            for status in pod.get("status", {}).get("containerStatuses", []):
                state = status.get("state", {})
                if "running" in state or "terminated" in state:
                    return str(pod["metadata"]["name"])
                problem = state.get("waiting", {}).get("reason") or problem
            time.sleep(_POLL_SECONDS)
        expected = f"a pod that starts within {_START_SECONDS:g} s"
        message = f"the sandbox did not start: {problem}; expected {expected}"
        raise SandboxUnavailable(message, expected=expected, found=problem)

    def _pod(self, name: str) -> dict[str, Any]:
        pods = self._cluster.pods(f"job-name={name}")
        return pods[0] if pods else {}


def _drain(
    pieces: queue.SimpleQueue[bytes], frames: Frames, until: float, progress: Progress | None
) -> Ended | None:
    """Reads a log until it breaks off; returns the limit that the run exceeded before."""
    next_progress = time.monotonic() + _PROGRESS_SECONDS
    while True:
        with contextlib.suppress(queue.Empty):
            data = pieces.get(timeout=_POLL_SECONDS)
            if not data:
                return None
            frames.feed(data)
        now = time.monotonic()
        if now > until and not frames.end:
            return Ended.WALL_TIME
        if progress and now >= next_progress:
            next_progress = now + _PROGRESS_SECONDS
            progress(frames.rows)


def _terminated(pod: dict[str, Any]) -> dict[str, Any] | None:
    """Returns how a pod's container ended; None if it runs."""
    if not pod:
        return {"reason": "the pod was removed"}
    for status in pod.get("status", {}).get("containerStatuses", []):
        if ended := status.get("state", {}).get("terminated"):
            return dict(ended)
    return None


def _limit(pod: dict[str, Any]) -> Ended | None:
    """Returns the limit at which the cluster ended a pod."""
    if (_terminated(pod) or {}).get("reason") == "OOMKilled":
        return Ended.MEMORY
    return Ended.WALL_TIME if pod.get("status", {}).get("reason") == "DeadlineExceeded" else None


def render_network_policy() -> dict[str, Any]:
    """Returns the policy by which no pod of a run may send or receive anything."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NETWORK_POLICY, "labels": _LABEL},
        "spec": {"podSelector": {"matchLabels": _LABEL}, "policyTypes": ["Ingress", "Egress"]},
    }


def render_job(run: Run, name: str, settings: PodSettings) -> dict[str, Any]:
    """Returns the job that runs a script.

    Raises:
        SandboxUnavailable: a path of the run is not on the volume.
    """
    limits = run.limits
    user = secrets.choice(_USERS)
    resources = {
        "memory": str(limits.memory_bytes),
        "cpu": f"{max(1, round(1000 * limits.cpu_seconds / limits.wall_seconds))}m",
        "ephemeral-storage": "64Mi",  # of the log
    }
    memory = [
        ("scratch", inside.SCRATCH, limits.scratch_bytes),
        ("shared-memory", inside.SHARED_MEMORY, limits.scratch_bytes),
        ("output", inside.OUTPUT, limits.output_bytes),
    ]
    container = {
        "name": "script",
        "image": settings.image,
        # Kubernetes replaces $(NAME) by a variable.
        "command": [word.replace("$(", "$$(") for word in inside.supervised(run, settings.python)],
        "workingDir": "/",
        "resources": {"limits": resources, "requests": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            *({"name": volume, "mountPath": path} for volume, path, _ in memory),
            *(
                {
                    "name": _VOLUME,
                    "mountPath": path,
                    "subPath": _sub_path(source, settings.claim_directory),
                    "readOnly": True,
                }
                for source, path in inside.mounts(run)
            ),
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "runtimeClassName": settings.runtime_class,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "hostname": "sandbox",
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            *(
                {"name": volume, "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}
                for volume, _, size in memory
            ),
            {
                "name": _VOLUME,
                "persistentVolumeClaim": {"claimName": settings.claim, "readOnly": True},
            },
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": _LABEL},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(limits.wall_seconds + _START_SECONDS),
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": _LABEL}, "spec": pod},
        },
    }


def _sub_path(path: Path, directory: Path) -> str:
    """Returns a path as the volume names it."""
    top = directory.resolve()
    if not path.is_relative_to(top) or path == top:
        expected = f"a path in {top}, the volume of the runs"
        message = f"no sandbox: {path} is not on the volume; expected {expected}"
        raise SandboxUnavailable(message, expected=expected, found=str(path))
    return str(path.relative_to(top))
