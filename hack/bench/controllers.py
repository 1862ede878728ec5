#!/usr/bin/env python3
"""Measures what the control loops cost, on `bin/flops` (FLOPS=...): from a Workload's creation to its
process, reconciles a second and how long a key waits, memory with many suspended Workloads, and the
processor time of a control plane that has nothing to do. Beside each stands what the machine itself
needs for the like, measured in the same run. WORKLOADS=10000 RUNNING=50 STARTS=30 IDLE_SECONDS=30"""

import json
import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "e2e", "local"))
from rig import Server  # noqa: E402
from workloads import MERGE, WORKLOADS, Cluster, Machine, wait_for  # noqa: E402

COUNT = int(os.environ.get("WORKLOADS", "10000"))
RUNNING = int(os.environ.get("RUNNING", "50"))
STARTS = int(os.environ.get("STARTS", "30"))
IDLE_SECONDS = int(os.environ.get("IDLE_SECONDS", "30"))


def pss_mb(pid):
    text = open(f"/proc/{pid}/smaps_rollup").read()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) / 1024


def cpu_ms(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def metrics(server):
    session = server.session()
    session.request("GET", "/metrics")
    text = session.getresponse().read().decode()
    session.close()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
            if line and not line.startswith("#")}


def quantile(before, after, name, which):
    """Of a histogram, what came between: the bucket's upper bound, linear within it; ms."""
    buckets = []
    for series, value in after.items():
        found = re.match(name + r"_bucket\{(.*?),?le=\"([^\"]+)\"\}", series)
        if found and 'name="workload"' in series:
            buckets.append((float(found.group(2).replace("+Inf", "inf")), value - before.get(series, 0)))
    buckets.sort()
    total = buckets[-1][1] if buckets else 0
    low = seen = 0
    for bound, count in buckets:
        if total and count >= which * total:
            if bound == float("inf"):
                return float("inf")
            return 1000 * (low + (bound - low) * (which * total - seen) / max(count - seen, 1))
        low, seen = bound, count
    return 0


def machine_start_ms():
    """What the machine needs to start the same program and hear from it."""
    took = []
    for _ in range(STARTS):
        begin = time.time_ns()
        said = int(subprocess.run(["/bin/date", "+%s%N"], capture_output=True, check=True).stdout)
        took.append((said - begin) / 1e6)
    return took


def start_ms(cluster, machine):
    """From the request to the program's own clock, and to the status that says so."""
    running, shown = [], []
    session = cluster.server.session()
    for i in range(STARTS):
        name = f"start-{i}"
        workload = machine.workload(name, "/bin/date +%s%N; exec sleep 1000")
        begin = time.time_ns()
        status, answer = cluster.server.call("POST", WORKLOADS, workload, session=session)
        assert status == 201, answer
        while True:
            _, found = cluster.server.call("GET", f"{WORKLOADS}/{name}", session=session)
            if any(c["type"] == "Ready" and c["status"] == "True" for c in
                   found.get("status", {}).get("conditions", [])):
                break
            time.sleep(0.001)
        shown.append((time.time_ns() - begin) / 1e6)
        log = cluster.flops("logs", name)
        running.append((int(log.split()[0]) - begin) / 1e6)
        cluster.delete(name)
    wait_for(lambda: not machine.processes())
    return running, shown


def show(name, value, unit, aim=""):
    print(f"{name:<58} {value:>10.2f} {unit:<6} {aim}")
    sys.stdout.flush()


def show_times(name, took, aim=""):
    took = sorted(took)
    show(f"{name}, median", statistics.median(took), "ms", aim)
    show(f"{name}, 95 %", took[int(len(took) * 0.95)], "ms")


def idle_percent(server):
    before, begin = cpu_ms(server.process.pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (cpu_ms(server.process.pid) - before) / (time.monotonic() - begin) / 10


def create_many(cluster, machine):
    session = cluster.server.session()
    begin = time.monotonic()
    for i in range(COUNT):
        workload = machine.workload(f"many-{i}", "exec sleep 1000", suspend=True)
        status, answer = cluster.server.call("POST", WORKLOADS, workload, session=session)
        assert status == 201, answer
    return time.monotonic() - begin


def all_observed(server, generation):
    _, answer = server.call("GET", WORKLOADS)
    return all(item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"] >= generation
               for item in answer["items"] if item["metadata"]["name"].startswith("many-"))


def passes(before, after):
    return sum(value - before.get(name, 0) for name, value in after.items()
               if name.startswith("controller_runtime_reconcile_total") and 'controller="workload"' in name)


def edit_many(cluster):
    """Every Workload changes; all are reconciled and their status written."""
    before, session, begin = metrics(cluster.server), cluster.server.session(), time.monotonic()
    for i in range(COUNT):
        cluster.server.call("PATCH", f"{WORKLOADS}/many-{i}", {"spec": {"instances": 2}}, MERGE, session=session)
    written = time.monotonic() - begin
    wait_for(lambda: all_observed(cluster.server, 2), 300)
    took = time.monotonic() - begin
    return before, metrics(cluster.server), written, took


def restart_all(server):
    """A restart looks at everything at once: that is the loops' own speed."""
    server.kill()
    begin = time.monotonic()
    server.start()
    wait_for(lambda: passes({}, metrics(server)) >= COUNT, 300)
    return time.monotonic() - begin, metrics(server)


def main():
    machine, server = Machine(), Server("--no-audit").start()
    cluster = Cluster(server)
    try:
        show_times("machine: start a program and hear from it", machine_start_ms())
        running, shown = start_ms(cluster, machine)
        show_times("apply to running", running, "(aim: 50)")
        show_times("apply to Ready in status", shown)
        show("memory, nothing declared", pss_mb(server.process.pid), "MB")
        took = create_many(cluster, machine)
        wait_for(lambda: all_observed(server, 1), 300)
        show(f"creates a second, one client, {COUNT} suspended", COUNT / took, "/s")
        show(f"memory with {COUNT} suspended Workloads", pss_mb(server.process.pid), "MB", "(aim: 100)")
        before, after, written, took = edit_many(cluster)
        show("edits a second, one client", COUNT / written, "/s")
        show("reconciles a second while edited, status written", passes(before, after) / took, "/s")
        show("a key waits in the queue, 99 %", quantile(before, after, "workqueue_queue_duration_seconds", 0.99), "ms")
        show("memory after it", pss_mb(server.process.pid), "MB")
        show("idle, of a core", idle_percent(server), "%", "(aim: 0.5)")
        took, after = restart_all(server)
        show("restart until all were reconciled", took, "s")
        show("reconciles a second then", passes({}, after) / took, "/s")
        for i in range(RUNNING):
            cluster.create(machine.workload(f"runs-{i}", "exec sleep 1000"))
        wait_for(lambda: len(machine.processes()) == RUNNING)
        show(f"idle with {RUNNING} processes running, of a core", idle_percent(server), "%", "(aim: 0.5)")
        print(json.dumps({"log": server.errors()[-300:]}) if "error" in server.errors() else "", end="")
    finally:
        for i in range(RUNNING):
            cluster.delete(f"runs-{i}")
        wait_for(lambda: not machine.processes(), 30)
        server.remove()


if __name__ == "__main__":
    main()
