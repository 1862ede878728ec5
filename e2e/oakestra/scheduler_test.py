"""Placement by the rules of old and of current roots."""

import unittest
from typing import Any

from e2e.oakestra.scheduler import choose

OLD, NEW = "0.4.402", "0.4.411"


def cluster(name: str, active: bool = True, vcpus: int = 4, **more: Any) -> dict[str, Any]:
    return {"candidate_name": name, "active": active, "vcpus": vcpus, "memory": 1000, "cpu_percent": 0,
            "virtualization": ["docker"], "supported_addons": [], "csi_drivers": [], **more}


def job(*constraints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"virtualization": "docker", "constraints": list(constraints), **more}


def direct(name: str) -> dict[str, Any]:
    return {"type": "direct", "cluster": name}


def needs(*addons: str) -> dict[str, Any]:
    return {"type": "addons", "needs": list(addons)}


def allowed(*names: str) -> dict[str, Any]:
    return {"type": "clusters", "allowed": list(names)}


TWO = [cluster("a", vcpus=4), cluster("b", vcpus=8, supported_addons=["FL"])]
GONE = [cluster("a", active=False), cluster("b")]
NONE = "NoActiveClusterWithCapacity"

ROWS: list[tuple[str, dict[str, Any], list[dict[str, Any]], str]] = [
    (NEW, job(), TWO, "b"),
    (NEW, job(direct("a")), TWO, "a"),
    (NEW, job(direct("c")), TWO, "TargetClusterNotActive"),
    (NEW, job(direct("a")), GONE, "TargetClusterNotActive"),
    (NEW, job(direct("a"), vcpus=5), TWO, NONE),
    (NEW, job(memory=1001), TWO, NONE),
    (NEW, job(virtualization="wasm"), TWO, NONE),
    (NEW, job(needs("nobody has it")), TWO, "b"),
    (NEW, job(allowed("a")), TWO, "b"),
    (NEW, job(volumes=[{"volume_id": "v", "csi_driver": "d"}]), TWO, NONE),
    (NEW, job(), [], "TargetClusterNotActive"),
    (OLD, job(), TWO, "b"),
    (OLD, job(direct("a")), TWO, "a"),
    (OLD, job(direct("c")), TWO, "TargetClusterNotFound"),
    (OLD, job(direct("a")), GONE, "TargetClusterNotActive"),
    (OLD, job(direct("a"), memory=1001), TWO, "TargetClusterNoCapacity"),
    (OLD, job(vcpus=100), TWO, "b"),
    (OLD, job(needs("FL")), TWO, NONE),
    (OLD, job(needs("FL")), TWO[1:], "b"),
    (OLD, job(allowed("b")), TWO, NONE),
    (OLD, job(allowed("a", "b")), TWO, "b"),
    (OLD, job(allowed("b")), GONE, "b"),
    (OLD, job(), [cluster("a", active=False)], NONE),
]


class SchedulerTest(unittest.TestCase):
    def test_rows(self) -> None:
        for version, wanted, clusters, name in ROWS:
            with self.subTest(version=version, job=wanted, name=name):
                found = choose(version, wanted, clusters)
                self.assertEqual(found if isinstance(found, str) else found["candidate_name"], name)
