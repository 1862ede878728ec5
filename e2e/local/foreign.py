#!/usr/bin/env python3
"""Workloads of another platform: where the kernel does not start their programs, the workload says what would help;
where it does, by QEMU, an image of linux/arm64 is placed, pulled, run and ended like any other. Needs root, runc, and
the shell that `make cross` has fetched."""

import json
import os
import platform
import subprocess
import sys

from containers import Containers, push_image
from rig import ROOT, Judge, Server
from workloads import Cluster, last_exit, wait_for

FOREIGN = "linux/arm64"
BUSYBOX = os.path.join(ROOT, "build", "cross", "sysroot-arm64", "bin", "busybox")
MISC = "/proc/sys/fs/binfmt_misc/qemu-aarch64"
LONG_S = 120  # emulated, on a machine that others use
HERE = "--here"  # of the second part


def condition(cluster, name, kind):
    conditions = cluster.get(name).get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind), {})


def placed_nowhere(judge, server):
    """On a machine that has its own platform only."""
    cluster, machine = Cluster(server), Containers(f"127.0.0.1:{server.port}")
    push_image(server, "arm", "arm64", as_index=True, busybox=BUSYBOX)
    cluster.create(machine.container("placed", "true", image="arm:1", placement={"platforms": [FOREIGN]}))
    cluster.create(machine.container("pulled", "true", image="arm:1", restart={"limit": 0}))
    for name in ("placed", "pulled"):
        judge.check(f"{name}: the condition says what would help", wait_for(
            lambda name=name: "qemu-user-static" in condition(cluster, name, "Ready").get("message", "")),
            cluster.get(name).get("status"))


def runs(judge, server):
    cluster, machine = Cluster(server), Containers(f"127.0.0.1:{server.port}")

    def nodes():
        return server.call("GET", "/apis/flops.dev/v1alpha1/edgenodes")[1]["items"]

    judge.check("the node runs both platforms", wait_for(
        lambda: any(FOREIGN in json.dumps(node.get("status", {})) for node in nodes())), nodes())
    push_image(server, "arm", "arm64", as_index=True, busybox=BUSYBOX)
    probe = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "period": "200ms", "timeout": "60s"}
    cluster.create(machine.container("emulated", "uname -m; touch /tmp/up; while :; do sleep 1; done", image="arm:1",
                                     placement={"platforms": [FOREIGN]}, probes={"readiness": probe}))
    judge.check("an image of the other platform becomes ready, by a probe that runs in it", wait_for(
        lambda: condition(cluster, "emulated", "Ready").get("status") == "True", LONG_S), cluster.get("emulated").get("status"))
    judge.check("it sees a machine of its platform", wait_for(
        lambda: "aarch64" in cluster.flops("logs", "emulated"), LONG_S), cluster.flops("logs", "emulated"))
    judge.check("it ends when told", cluster.delete("emulated") == 200 and cluster.wait_gone("emulated"),
                cluster.get("emulated"))
    cluster.create(machine.container("plain", "uname -m; exit 3", image="arm:1", restart={"limit": 0}))
    judge.check("what its program ends with is told", wait_for(
        lambda: last_exit(cluster, "plain").get("code") == 3, LONG_S), last_exit(cluster, "plain"))


def with_server(what, judge):
    server = Server()
    try:
        server.start()
        what(judge, server)
    finally:
        server.remove()


def is_registered():
    return os.path.exists(MISC) and "F" in open(MISC, encoding="utf-8").read().partition("flags:")[2].split("\n")[0]


def where_it_is_registered():
    """The second part."""
    return subprocess.run([os.path.join(ROOT, "hack", "emulated"), "--as-root", sys.executable,
                           os.path.abspath(__file__), HERE], check=False).returncode


def main():
    judge = Judge()
    if HERE in sys.argv:
        with_server(runs, judge)
        judge.end()
    judge.check("make cross has a shell for the other platform", os.path.exists(BUSYBOX), BUSYBOX)
    judge.check("this test is for amd64", platform.machine() == "x86_64", platform.machine())
    if not is_registered():
        with_server(placed_nowhere, judge)
    judge.check("images of the other platform run where QEMU is registered", where_it_is_registered() == 0)
    judge.end()


if __name__ == "__main__":
    main()
