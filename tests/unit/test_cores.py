"""Cores are counted by the affinity mask and the CPU quota of control groups, versions 1 and 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cxreval.cores import cores

V2, V1 = "0::{}", "4:cpu,cpuacct:{}\n0::/"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2.format("/"), {"cpu.max": "200000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "150000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "1000 100000"}, 1),
        (V2.format("/"), {"cpu.max": "max 100000"}, 64),
        (V2.format("/"), {}, 64),
        (V2.format("/"), {"cpu.max": "9900000 100000"}, 64),
        (V2.format("/pod/box"), {"pod/box/cpu.max": "300000 100000"}, 3),
        (
            V2.format("/pod/box"),
            {"pod/cpu.max": "200000 100000", "pod/box/cpu.max": "max 100000"},
            2,
        ),
        (V2.format("/not/in/this/mount"), {"cpu.max": "200000 100000"}, 2),
        (V2.format("/../../above"), {"cpu.max": "200000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "what is this"}, 64),
        (V2.format("/"), {"cpu.max": "100000 0"}, 64),
        (
            V1.format("/docker/x"),
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        (
            V1.format("/docker/x"),
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            V1.format("/"),
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            64,
        ),
        ("1:cpuset:/", {"cpu.max": "200000 100000"}, 64),
    ],
)
def test_cores_follow_the_quota_of_the_control_group(
    membership: str,
    files: dict[str, str],
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(membership)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    assert cores(tmp_path) == expected


def test_cores_are_at_most_the_affinity_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})

    assert cores() == 1


def test_a_machine_without_control_groups_has_the_cores_of_its_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))

    assert cores(tmp_path) == 5
