#!/usr/bin/env python3
"""Measures what the control loops cost, on `bin/flops` (FLOPS=...): from a Workload's creation to its
process, reconciles a second and how long a key waits, memory with many suspended Workloads, and the
processor time of a control plane that has nothing to do. Beside it, in the same run and with the same
requests, the same work on a real kube-apiserver with etcd and a controller-runtime manager (when
`hack/yardstick.sh build` has made them), and what the machine itself needs to start a program. A ratio
above 1 is better for us. WORKLOADS=10000 RUNNING=50 STARTS=30 IDLE_SECONDS=30 PORT=16530
controllers.py [flops] [kube]   one of them, or both"""

import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "e2e", "local"))
from kube import Flops, Kube, is_built  # noqa: E402
from workloads import MERGE, WORKLOADS, Cluster, Machine, wait_for  # noqa: E402

COUNT = int(os.environ.get("WORKLOADS", "10000"))
RUNNING = int(os.environ.get("RUNNING", "50"))
STARTS = int(os.environ.get("STARTS", "30"))
IDLE_SECONDS = int(os.environ.get("IDLE_SECONDS", "30"))
PORT = int(os.environ.get("PORT", "16530"))  # and the two after it, for the yardstick
DEADLINE_S = 600
PACED, PACE_S = min(COUNT, 500), 0.04  # what both stand, so that the waiting can be compared


def pss_mb(pid):
    text = open(f"/proc/{pid}/smaps_rollup").read()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) / 1024


def cpu_ms(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def metrics(server, session=None):
    own = session or server.metrics_session()
    own.request("GET", "/metrics")
    text = own.getresponse().read().decode()
    if not session:
        own.close()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
            if line and not line.startswith("#")}


def waited_ms(before, after):
    """How long keys waited in the queue in between: the mean, and the bucket that has 99 %. The buckets are
    powers of ten on both sides: within one, nothing is known."""
    def between(series):
        return after[series] - before.get(series, 0)

    name, buckets, total = "workqueue_queue_duration_seconds", [], {}
    for series in after:
        if 'name="workload"' in series and series.startswith(name):
            bound = re.search(r'le="([^"]+)"', series)
            if bound:
                buckets.append((float(bound.group(1)), between(series)))
            else:
                kind = series[len(name):].split("{")[0]
                total[kind] = total.get(kind, 0) + between(series)
    count = total["_count"]
    p99 = next(bound for bound, below in sorted(buckets) if below >= 0.99 * count)
    return 1000 * total["_sum"] / max(count, 1), 1000 * p99


def must(value, what):
    if not value:
        raise RuntimeError(f"not in time: {what}")
    return value


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
    session = cluster.server.session(DEADLINE_S)
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
        # Ready may be shown before the program has said anything.
        said = must(wait_for(lambda: re.match(r"\d+\n", cluster.flops("logs", name))), f"{name} says the time")
        running.append((int(said.group()) - begin) / 1e6)
        cluster.delete(name)
    wait_for(lambda: not machine.processes())
    return running, shown


class Table:
    """One row a figure, one column a side; each figure is said as soon as it is known."""

    def __init__(self):
        self.rows = {}

    def show(self, side, name, value, unit, aim=""):
        more_is_better = unit.endswith("/s")
        self.rows.setdefault(name, {"unit": unit, "aim": "", "up": more_is_better})[side] = value
        self.rows[name]["aim"] = self.rows[name]["aim"] or aim
        print(f"bench: {side}: {name}: {value:.2f} {unit}", file=sys.stderr, flush=True)

    def show_times(self, side, name, took, aim=""):
        took = sorted(took)
        self.show(side, f"{name}, median", statistics.median(took), "ms", aim)
        self.show(side, f"{name}, 95 %", took[int(len(took) * 0.95)], "ms")

    def write(self):
        print(f"{'':<58} {'flops':>10} {'kube':>10} {'':<5} {'ratio':>7}")
        for name, row in self.rows.items():
            ours, theirs = row.get("flops"), row.get("kube")
            cells = [f"{value:.2f}" if value is not None else "-" for value in (ours, theirs)]
            ratio = "-"
            if ours and theirs:
                ratio = f"{ours / theirs if row['up'] else theirs / ours:.1f}"
            print(f"{name:<58} {cells[0]:>10} {cells[1]:>10} {row['unit']:<5} {ratio:>7} {row['aim']}".rstrip())


def memory_mb(server):
    return sum(pss_mb(pid) for pid in server.pids())


def idle_percent(server):
    """Of one core, all its processes together."""
    before, begin = sum(map(cpu_ms, server.pids())), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (sum(map(cpu_ms, server.pids())) - before) / (time.monotonic() - begin) / 10


def create_many(cluster, machine):
    session = cluster.server.session(DEADLINE_S)
    begin = time.monotonic()
    for i in range(COUNT):
        workload = machine.workload(f"many-{i}", "exec sleep 1000", suspend=True)
        status, answer = cluster.server.call("POST", WORKLOADS, workload, session=session)
        assert status == 201, answer
    return time.monotonic() - begin


def observed(item, generation):
    return item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"] >= generation


def when_all_observed(server, last, generation):
    """The moment from which on every status is current. Listing all is costly, so the last one is asked first."""
    session = server.session(DEADLINE_S)

    def look():
        if not observed(server.call("GET", f"{WORKLOADS}/{last}", session=session)[1], generation):
            return None
        asked = time.monotonic()
        items = server.call("GET", WORKLOADS, session=session)[1]["items"]
        many = [item for item in items if item["metadata"]["name"].startswith("many-")]
        return asked if len(many) == COUNT and all(observed(item, 1) for item in many) else None

    return must(wait_for(look, DEADLINE_S), "every status is current")


def passes(before, after):
    return sum(value - before.get(name, 0) for name, value in after.items()
               if name.startswith("controller_runtime_reconcile_total") and 'controller="workload"' in name)


def edit(cluster, name, instances, session):
    status, answer = cluster.server.call("PATCH", f"{WORKLOADS}/{name}", {"spec": {"instances": instances}}, MERGE,
                                         session=session)
    assert status == 200, answer
    return answer["metadata"]["generation"]


def edit_many(cluster, count, instances, pace_s=0):
    """Many Workloads change, one every `pace_s` at most; all are reconciled and their status written."""
    before, session, begin = metrics(cluster.server), cluster.server.session(DEADLINE_S), time.monotonic()
    for i in range(count):
        time.sleep(max(0, begin + i * pace_s - time.monotonic()))
        generation = edit(cluster, f"many-{i}", instances, session)
    written = time.monotonic() - begin
    took = when_all_observed(cluster.server, f"many-{count - 1}", generation) - begin
    return before, metrics(cluster.server), written, took


def edit_ms(cluster):
    """From one edit to the status that speaks of it, when there is nothing else to do."""
    session, took = cluster.server.session(DEADLINE_S), []
    for i in range(STARTS):
        begin = time.monotonic()
        generation = edit(cluster, f"many-{i}", 4, session)
        while not observed(cluster.server.call("GET", f"{WORKLOADS}/many-{i}", session=session)[1], generation):
            must(time.monotonic() < begin + DEADLINE_S, "the status is current")
            time.sleep(0.001)
        took.append((time.monotonic() - begin) * 1000)
    return took


def restart_all(server):
    """A restart looks at everything at once: that is the loops' own speed."""
    server.kill()
    begin = time.monotonic()
    server.start()
    session = server.metrics_session()  # one: a handshake a look would be felt
    must(wait_for(lambda: passes({}, metrics(server, session)) >= COUNT, DEADLINE_S), "all were reconciled")
    return time.monotonic() - begin, metrics(server)


def measure_many(table, side, cluster, machine):
    """What both sides do: many suspended Workloads are created, edited, left alone, and found at a restart."""
    server = cluster.server

    def show(*figure):
        table.show(side, *figure)

    def show_waited(when, before, after):
        mean, p99 = waited_ms(before, after)
        show(f"a key waits in the queue {when}, mean", mean, "ms")
        show(f"a key waits in the queue {when}, 99 % below", p99, "ms")

    show("memory, nothing declared", memory_mb(server), "MB")
    took = create_many(cluster, machine)
    when_all_observed(server, f"many-{COUNT - 1}", 1)
    show(f"creates, one client, {COUNT} suspended", COUNT / took, "/s")
    show(f"memory with {COUNT} suspended Workloads", memory_mb(server), "MB", "(aim: 100)")
    show("memory of the control loops' process then", pss_mb(server.process.pid), "MB")
    before, after, written, took = edit_many(cluster, COUNT, 2)
    show("edits, one client", COUNT / written, "/s")
    show("edited and status written", COUNT / took, "/s")
    show("reconciles then", passes(before, after) / took, "/s")
    show_waited("then, as many as come", before, after)
    before, after, written, _ = edit_many(cluster, PACED, 3, PACE_S)
    show("edits, paced for both alike", PACED / written, "/s")
    show_waited("then, paced", before, after)
    table.show_times(side, "one edit to its status", edit_ms(cluster))
    show("idle, of a core", idle_percent(server), "%", "(aim: 0.5)")
    show("memory after it", memory_mb(server), "MB")
    took, after = restart_all(server)
    show("restart of the loops until all were reconciled", took, "s")
    show("reconciles then, from the start", passes({}, after) / took, "/s")


def measure_flops(table):
    machine, server = Machine(), Flops("--no-audit").start()
    cluster = Cluster(server)
    try:
        table.show_times("flops", "machine: start a program and hear from it", machine_start_ms())
        running, shown = start_ms(cluster, machine)
        table.show_times("flops", "apply to running", running, "(aim: 50)")
        table.show_times("flops", "apply to Ready in status", shown)
        measure_many(table, "flops", cluster, machine)
        for i in range(RUNNING):
            cluster.create(machine.workload(f"runs-{i}", "exec sleep 1000"))
        must(wait_for(lambda: len(machine.processes()) == RUNNING), "all run")
        table.show("flops", f"idle with {RUNNING} processes running", idle_percent(server), "%", "(aim: 0.5)")
        say_errors("flops", server)
    finally:
        for i in range(RUNNING):
            cluster.delete(f"runs-{i}")
        wait_for(lambda: not machine.processes(), 30)
        server.remove()


def measure_kube(table):
    server = Kube(PORT)
    try:
        server.start_servers()
        server.start()
        measure_many(table, "kube", Cluster(server), Machine())
        say_errors("kube", server)
    except Exception:
        print(server.last_words(), file=sys.stderr)
        raise
    finally:
        server.remove()


def say_errors(side, server):
    lines = [line for line in server.errors().splitlines() if '"level":"error"' in line or '"error"=' in line]
    for line in lines[-3:]:
        print(f"bench: {side} said: {line}", file=sys.stderr)


def main():
    table, loads, sides = Table(), [os.getloadavg()[0]], sys.argv[1:] or ["flops", "kube"]
    try:
        for side in sides:
            if side == "flops":
                measure_flops(table)
            elif is_built():
                measure_kube(table)
            else:
                print("bench: kube is left out: run hack/yardstick.sh build", file=sys.stderr)
            loads.append(os.getloadavg()[0])
    finally:
        print(f"{os.cpu_count()} processors, load average before, between, after: "
              f"{', '.join(f'{load:.1f}' for load in loads)}")
        print("kube: kube-apiserver, etcd and the manager; only the manager is started again")
        table.write()


if __name__ == "__main__":
    main()
