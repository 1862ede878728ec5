#!/usr/bin/env python3
"""The data folder's disk is full for longer than the lease lasts: what runs goes on, what is read is
served, nothing ends; and when there is room again, what was declared meanwhile takes place. Needs
the right to mount."""

import os
import shutil
import signal
import subprocess
import time

from rig import Judge, Server
from workloads import MERGE, WORKLOADS, Cluster, Machine, wait_for

FULL_S = 14  # the lease is renewed within 10


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


def main():
    judge, machine, server = Judge(), Machine(), Server("--no-audit")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=24m", "flops-e2e", server.dir])
    filler = os.path.join(server.dir, "filler")
    try:
        cluster = Cluster(server.start())
        cluster.create(machine.workload("runs", "while :; do echo tick; sleep 0.2; done"))
        cluster.create(machine.workload("dies", "exec sleep 1000", 2))
        judge.check("both run", cluster.wait_ready("runs") and cluster.wait_ready("dies"), cluster.get("dies"))
        fill(filler)
        victim, survivor = machine.processes("dies")
        os.kill(victim, signal.SIGKILL)
        end = time.monotonic() + FULL_S
        served, answered = True, set()
        while time.monotonic() < end:
            served = served and server.call("GET", f"{WORKLOADS}/runs")[0] == 200
            answered.add(server.call("PATCH", f"{WORKLOADS}/runs", {"metadata": {"annotations": {
                "note": os.urandom(2000).hex()}}}, MERGE)[0])
            time.sleep(0.5)
        judge.check("reads are served", served, server.errors()[-1000:])
        judge.check("writes are taken or refused, not lost", 503 in answered and answered <= {200, 503}, answered)
        judge.check("it did not end", server.process.poll() is None, server.errors()[-1000:])
        judge.check("what ran runs", machine.processes("runs") and survivor in machine.processes("dies"), "")
        os.unlink(filler)
        judge.check("with room again it writes", wait_for(lambda: server.call(
            "PATCH", f"{WORKLOADS}/runs", {"spec": {"instances": 2}}, MERGE)[0] == 200), "")
        judge.check("and all is as declared", cluster.wait_ready("runs") and cluster.wait_ready("dies"),
                    (cluster.get("runs"), cluster.get("dies")))
        for name in ("runs", "dies"):
            cluster.delete(name)
            judge.check(f"{name} is removed", cluster.wait_gone(name) and not machine.processes(name), "")
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        for pid in machine.processes():
            os.kill(pid, signal.SIGKILL)
        subprocess.call(["umount", "-l", server.dir])
        shutil.rmtree(server.dir, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
