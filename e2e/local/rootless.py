#!/usr/bin/env python3
"""Containers of a control plane that is not root: each in a user namespace with a copy of its image. Root
becomes somebody else first."""

import contextlib
import encodings.idna  # noqa: F401 — before the user changes, who may not read where Python is
import os
import re
import shutil
import signal
import tempfile

from containers import Containers, groups_now, logs_have, push_image
from rig import Judge, Server
from workloads import Cluster, last_exit, wait_for

NOBODY = 65534


def become_somebody(folder):
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.environ["HOME"] = tempfile.tempdir = folder
    os.chdir(folder)


def runs(judge, cluster, machine):
    probe = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "period": "100ms", "timeout": "20s"}
    cluster.create(machine.container("plain", "id; cat /proc/self/uid_map /proc/self/status; touch /x; "
                   "ls -l / >/tmp/up; cat /in/file; unshare -m true; echo end; exec sleep 1000",
                   probes={"readiness": probe}, files=[{"path": "/in/file", "content": "of a file\n"}]))
    judge.check("a container runs and is ready by its probe", cluster.wait_ready("plain"), cluster.get("plain"))
    judge.check("its output is kept", logs_have(cluster, "plain", "of a file", "end"), cluster.flops("logs", "plain"))
    said = cluster.flops("logs", "plain")
    judge.check("it is in a user namespace with nobody else", re.search(rf"(?m)^ +0 +{os.geteuid()} +1$", said), said)
    judge.check("its root is read-only", "/x: Read-only file system" in said, said)
    judge.check("no new privileges, no capabilities, seccomp", "NoNewPrivs:\t1" in said and "Seccomp:\t2" in said and
                re.search(r"CapEff:\t0+\n", said), said)
    judge.check("it makes no namespaces", "unshare(0x20000): Operation not permitted" in said, said)


def cannot_be(judge, cluster, machine):
    before = groups_now()
    cluster.create(machine.container("privileged", "true", security={"privileged": True}))
    judge.check("what needs root is refused, and it is said", wait_for(
        lambda: "needs a control plane that runs as root" in str(cluster.get("privileged").get("status"))),
        cluster.get("privileged"))
    cluster.create(machine.container("limited", "exec sleep 1000", resources={"memory": "48Mi", "pids": 30}))
    judge.check("limits hold, or it is said that they do not", wait_for(
        lambda: "not enforced here: memory limit, pids limit" in str(cluster.get("limited").get("status"))
        or groups_now() - before), cluster.get("limited"))
    cluster.create(machine.container("ends", "exit 7", restartPolicy="Never"))
    judge.check("an exit is told", wait_for(lambda: last_exit(cluster, "ends").get("code") == 7), cluster.get("ends"))


def survives(judge, server, cluster, machine):
    before = machine.processes("plain")
    server.kill()
    judge.check("containers outlive the control plane", machine.processes("plain") == before and before, before)
    server.start()
    judge.check("the next one adopts them", cluster.wait_ready("plain") and machine.processes("plain") == before,
                (before, machine.processes("plain")))
    for pid in before:
        with contextlib.suppress(ProcessLookupError):  # the end of a container's first process is that of the others
            os.kill(pid, signal.SIGKILL)
    judge.check("and begins anew what was killed", wait_for(lambda: machine.processes("plain") and not
                set(machine.processes("plain")) & set(before)) and cluster.wait_ready("plain"), cluster.get("plain"))


def main():
    judge = Judge()
    folder = tempfile.mkdtemp(prefix="flops-rootless-")
    become_somebody(folder)
    server = Server()
    try:
        server.start()
        cluster = Cluster(server)
        machine = Containers(f"127.0.0.1:{server.port}")
        push_image(server, "app")
        runs(judge, cluster, machine)
        cannot_be(judge, cluster, machine)
        survives(judge, server, cluster, machine)
        for name in ("plain", "privileged", "limited", "ends"):
            cluster.delete(name)
            judge.check(f"{name} is deleted", cluster.wait_gone(name), cluster.get(name))
        judge.check("no process is left", wait_for(lambda: not machine.processes()), machine.processes())
        judge.check("no mount", server.dir not in open("/proc/self/mountinfo", encoding="utf-8").read())
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
