"""A script runs as a restricted job of Kubernetes, whose log brings back what came of it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cxreval.errors import SandboxUnavailable, ScriptFailed
from cxreval.reproduction.isolation import kubernetes
from cxreval.reproduction.isolation.cluster import Cluster
from cxreval.reproduction.isolation.contract import Ended, Limits, Run
from cxreval.reproduction.isolation.kubernetes import (
    KubernetesJob,
    PodSettings,
    render_job,
    render_network_policy,
)
from tests.support.cluster import FakeCluster

SECONDS = 60.0
TABLE = b"Image Index,Edema\n000001.png,0.5\n"
LIMITS = Limits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=10, output_bytes=1 << 20)


def line(key: str, value: object) -> bytes:
    return json.dumps({key: value}).encode() + b"\n"


STARTED = line("started", True)
WHOLE = [
    STARTED,
    line("log", base64.b64encode(b"a log").decode()),
    line("rows", 1),
    line("output", base64.b64encode(zlib.compress(TABLE)).decode()),
    line("end", {"status": 0, "size": len(TABLE), "full": [], "killed": 0}),
]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster().serving() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> PodSettings:
    return PodSettings(f"images.example/python@sha256:{'0' * 64}", "gvisor", "runs", tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    directory = tmp_path / "one"
    for name in ("source", "images", "packages"):
        (directory / name).mkdir(parents=True)
    (directory / "source/main.py").write_text("")
    (directory / "list.txt").write_text("000001.png\n")
    (directory / "model.pt").write_bytes(b"model")
    return Run(
        source=directory / "source",
        entry_point="main.py",
        environment=directory / "packages",
        interpreter=Path("/usr/bin/python3"),
        images=directory / "images",
        list_file=directory / "list.txt",
        seed=3,
        checkpoint=directory / "model.pt",
        limits=LIMITS,
    )


@pytest.fixture
def job(cluster: FakeCluster, settings: PodSettings) -> KubernetesJob:
    return KubernetesJob(Cluster(cluster.address, "runs", None), settings)


def test_the_table_and_the_log_come_back_by_the_log_of_the_pod(
    cluster: FakeCluster, job: KubernetesJob, run: Run
) -> None:
    for _ in range(2):  # the second finds the policy of the first
        cluster.log = [WHOLE]
        cluster.state = {"running": {}}
        outcome = job.run(run)
        assert (outcome.ended, outcome.output, outcome.log) == (Ended.FINISHED, TABLE, "a log")
        assert outcome.usage.cpu_seconds is None
        assert cluster.objects["jobs"] == {}
        assert list(cluster.objects["networkpolicies"]) == [kubernetes.NETWORK_POLICY]


def test_a_log_that_breaks_off_is_read_again(
    cluster: FakeCluster, job: KubernetesJob, run: Run
) -> None:
    cluster.log = [WHOLE[:2], WHOLE]
    outcome = job.run(run)
    assert (outcome.output, outcome.log) == (TABLE, "a log")


@pytest.mark.parametrize(
    ("ended", "status", "expected"),
    [
        ({"terminated": {"reason": "OOMKilled"}}, {}, Ended.MEMORY),
        ({"terminated": {"reason": "Error"}}, {"reason": "DeadlineExceeded"}, Ended.WALL_TIME),
    ],
)
def test_a_limit_at_which_the_cluster_ends_a_pod_has_its_name(
    cluster: FakeCluster,
    job: KubernetesJob,
    run: Run,
    ended: dict[str, Any],
    status: dict[str, Any],
    expected: Ended,
) -> None:
    cluster.log, cluster.ended, cluster.status = [[STARTED]], ended, status
    outcome = job.run(run)
    assert (outcome.ended, outcome.status, outcome.output) == (expected, None, b"")
    assert cluster.objects["jobs"] == {}


def test_a_child_that_was_killed_for_memory_is_seen_by_the_supervisor(
    cluster: FakeCluster, job: KubernetesJob, run: Run
) -> None:
    end = {"status": 0, "size": len(TABLE), "full": [], "killed": 1}
    cluster.log = [[*WHOLE[:-1], line("end", end)]]
    assert job.run(run).ended is Ended.MEMORY


def test_a_run_longer_than_its_limit_is_ended_and_removed(
    cluster: FakeCluster, settings: PodSettings, run: Run
) -> None:
    cluster.log = [[STARTED, line("rows", 5), b"hold"]]
    job = KubernetesJob(Cluster(cluster.address, "runs", None), settings)
    seen: list[int] = []
    short = Run(**{**vars(run), "limits": Limits(wall_seconds=1.2, cpu_seconds=1)})
    outcome = job.run(short, seen.append)
    assert (outcome.ended, outcome.rows) == (Ended.WALL_TIME, 5)
    assert seen == [5]
    assert cluster.objects["jobs"] == {}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, {"message": "jobs is forbidden"}), "403 jobs is forbidden"),
        ((500, {}), "500"),
        ((201, ["no", "object"]), "expected the API of Kubernetes"),
    ],
)
def test_a_cluster_that_refuses_is_the_platforms_fault(
    cluster: FakeCluster, job: KubernetesJob, run: Run, answer: Any, message: str
) -> None:
    cluster.answers["POST", "jobs"] = answer
    with pytest.raises(SandboxUnavailable, match=message):
        job.run(run)
    assert cluster.objects["jobs"] == {}


def test_a_cluster_that_is_not_there_is_the_platforms_fault(
    settings: PodSettings, run: Run
) -> None:
    job = KubernetesJob(Cluster("http://127.0.0.1:9", "runs", None), settings)
    with pytest.raises(SandboxUnavailable, match="no sandbox: "):
        job.run(run)


def test_a_pod_that_does_not_start_is_named_and_removed(
    cluster: FakeCluster, job: KubernetesJob, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "_START_SECONDS", 0.3)
    cluster.state = {"waiting": {"reason": "ImagePullBackOff"}}
    with pytest.raises(SandboxUnavailable, match="did not start: ImagePullBackOff"):
        job.run(run)
    assert cluster.objects["jobs"] == {}


def test_a_path_that_is_not_on_the_volume_is_refused(
    cluster: FakeCluster, job: KubernetesJob, run: Run
) -> None:
    outside = Run(**{**vars(run), "environment": Path("/usr")})
    with pytest.raises(SandboxUnavailable, match="/usr is not on the volume"):
        job.run(outside)
    assert cluster.asked == []


def test_an_entry_point_that_is_not_there_asks_the_cluster_for_nothing(
    cluster: FakeCluster, job: KubernetesJob, run: Run
) -> None:
    with pytest.raises(ScriptFailed):
        job.run(Run(**{**vars(run), "entry_point": "absent.py"}))
    assert cluster.asked == []


def test_the_pod_is_restricted_and_has_no_network_and_nothing_to_write(
    run: Run, settings: PodSettings
) -> None:
    job = render_job(run, "cxreval-run-1", settings)["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert job["activeDeadlineSeconds"] >= LIMITS.wall_seconds
    assert pod["runtimeClassName"] == "gvisor"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    security = pod["securityContext"] | container["securityContext"]
    assert security["runAsUser"] > 0
    assert {key: security[key] for key in security if "runAs" not in key or "Non" in key} == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    limits = container["resources"]["limits"]
    assert (limits["memory"], limits["cpu"]) == (str(1 << 30), "2000m")
    writable = {
        mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")
    }
    assert writable == {"/tmp", "/dev/shm", "/out"}
    for volume in pod["volumes"]:
        if volume["name"] != "runs":
            assert volume["emptyDir"]["medium"] == "Memory"
            assert int(volume["emptyDir"]["sizeLimit"]) > 0
    selector = render_network_policy()["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= job["template"]["metadata"]["labels"].items()
    assert set(render_network_policy()["spec"]) == {"podSelector", "policyTypes"}
    for word in container["command"]:
        assert "$(" not in word.replace("$$(", "")


def test_each_run_has_a_user_of_its_own(run: Run, settings: PodSettings) -> None:
    users = {
        render_job(run, "a", settings)["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        for _ in range(3)
    }
    assert len(users) == 3


def test_kubernetes_takes_the_job_and_the_policy(
    run: Run, settings: PodSettings, tmp_path: Path
) -> None:
    objects = [render_job(run, "cxreval-run-1", settings), render_network_policy()]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    ended = subprocess.run(
        [Path(sys.executable).parent / "kubernetes-validate", "--strict", str(file)],
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
