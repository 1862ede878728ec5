#!/usr/bin/env python3
"""Workloads as real processes of this machine: started, watched, probed, restarted, stopped; through
kills of the control plane. Every process is found by a mark in its environment, so nothing that was
left over goes unseen."""

import os
import re
import signal
import subprocess
import time
import uuid

from rig import FLOPS, Judge, Server

WORKLOADS = "/apis/flops.dev/v1alpha1/namespaces/default/workloads"
ORCHESTRATORS = "/apis/flops.dev/v1alpha1/orchestrators"
MERGE = {"Content-Type": "application/merge-patch+json"}
DEADLINE_S = 60


def wait_for(what, deadline_s=DEADLINE_S):
    """The first value of `what()` that is true, or the last one at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = what()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


class Machine:
    """Processes that carry this test's mark."""

    def __init__(self):
        self.mark = uuid.uuid4().hex

    def processes(self, workload=None):
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                environ = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
                state = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1][0]
            except OSError:
                continue
            if f"MARK={self.mark}".encode() not in environ or state in "ZX":
                continue
            name = next((e.split(b"=", 1)[1].decode() for e in environ if e.startswith(b"WORKLOAD=")), "")
            if workload in (None, name):
                found[int(pid)] = name
        return found

    def workload(self, name, script, instances=1, program="/bin/sh", **spec):
        """`script` runs in a shell; further fields of the spec as they are."""
        env = [{"name": "MARK", "value": self.mark}, {"name": "WORKLOAD", "value": name}]
        return {"apiVersion": "flops.dev/v1alpha1", "kind": "Workload", "metadata": {"name": name},
                "spec": {"process": {"program": program}, "args": ["-c", script], "instances": instances,
                         "env": env + spec.pop("env", []), "gracePeriod": "2s", **spec}}


class Cluster:
    """What a user does, against a server."""

    def __init__(self, server):
        self.server = server

    def create(self, workload):
        status, answer = self.server.call("POST", WORKLOADS, workload)
        assert status == 201, answer
        return answer

    def patch(self, name, spec):
        status, answer = self.server.call("PATCH", f"{WORKLOADS}/{name}", {"spec": spec}, MERGE)
        assert status == 200, answer
        return answer

    def get(self, name):
        status, answer = self.server.call("GET", f"{WORKLOADS}/{name}")
        return answer if status == 200 else None

    def delete(self, name):
        return self.server.call("DELETE", f"{WORKLOADS}/{name}")[0]

    def condition(self, name, kind="Ready"):
        status = (self.get(name) or {}).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == kind), {})

    def is_current(self, name):
        found = self.get(name)
        return found and found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]

    def wait_ready(self, name, reason="Running", deadline_s=DEADLINE_S):
        def look():
            condition = self.condition(name)
            return (condition.get("status") == "True" and condition.get("reason") == reason and self.is_current(name))
        return bool(wait_for(look, deadline_s))

    def wait_reason(self, name, reason, kind="Ready"):
        return wait_for(lambda: self.condition(name, kind).get("reason") == reason)

    def instances(self, name):
        return (self.get(name) or {}).get("status", {}).get("instances", [])

    def wait_gone(self, name):
        return wait_for(lambda: self.get(name) is None)

    def flops(self, *words, timeout=30):
        done = subprocess.run([FLOPS, words[0], "--data-dir", self.server.dir, *words[1:]], capture_output=True,
                              text=True, timeout=timeout)
        return done.stdout if done.returncode == 0 else f"exit {done.returncode}: {done.stderr}"


def last_exit(cluster, name, index=0):
    instances = cluster.instances(name)
    return instances[index].get("lastExit", {}) if len(instances) > index else {}


def runs_and_ends(judge, cluster, machine):
    cluster.create(machine.workload("plain", "echo hello; echo oops >&2; echo 'a b c d  e'; exec sleep 1000"))
    judge.check("a process is started and ready", cluster.wait_ready("plain"), cluster.get("plain"))
    judge.check("it really runs, once", len(machine.processes("plain")) == 1, machine.processes("plain"))
    status = cluster.get("plain")["status"]
    judge.check("status counts it", status["replicas"].get("summary") == "1/1", status)
    pid = next(iter(machine.processes("plain")))
    judge.check("status has its process id", str(pid) == status["instances"][0].get("id"), (pid, status))
    judge.check("flops logs shows both streams", wait_for(lambda: "hello" in cluster.flops("logs", "plain")
                and "oops" in cluster.flops("logs", "plain")), cluster.flops("logs", "plain"))
    judge.check("as it was written", "\na b c d  e\n" in "\n" + cluster.flops("logs", "plain"),
                cluster.flops("logs", "plain"))
    judge.check("and with its times", re.search(r"(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z a b c d  e$", cluster.flops(
        "logs", "--timestamps", "plain")), cluster.flops("logs", "--timestamps", "plain"))
    judge.check("it is deleted", cluster.delete("plain") == 200 and cluster.wait_gone("plain"), cluster.get("plain"))
    judge.check("and is gone", not machine.processes("plain"), machine.processes("plain"))


def exits_and_restarts(judge, cluster, machine):
    quick = {"limit": 2, "initialDelay": "50ms", "maxDelay": "100ms"}
    cluster.create(machine.workload("fails", "echo the last words; exit 7", restart=quick))
    judge.check("one that always fails is out of restarts", cluster.wait_reason("fails", "OutOfRestarts"),
                cluster.get("fails"))
    judge.check("and Stalled", cluster.condition("fails", "Stalled").get("status") == "True", cluster.get("fails"))
    end = last_exit(cluster, "fails")
    judge.check("exit code and last lines are in status", end.get("code") == 7 and "the last words" in
                end.get("logTail", ""), end)
    judge.check("restarts are counted", cluster.get("fails")["status"]["replicas"].get("restarts") == 2,
                cluster.get("fails")["status"])
    cluster.create(machine.workload("once", "exit 0", restartPolicy="OnFailure"))
    judge.check("one that ends well is Completed", cluster.wait_ready("once", "Completed"), cluster.get("once"))
    cluster.create(machine.workload("never", "kill -SEGV $$", restartPolicy="Never"))
    judge.check("the signal is in status", wait_for(lambda: last_exit(cluster, "never").get("signal") == "SIGSEGV"),
                cluster.get("never"))
    cluster.create(machine.workload("killed", "exec sleep 1000", restart={"initialDelay": "50ms"}))
    judge.check("killed: runs first", cluster.wait_ready("killed"), cluster.get("killed"))
    for pid in machine.processes("killed"):
        os.kill(pid, signal.SIGKILL)
    judge.check("one killed from outside is started again", wait_for(
        lambda: last_exit(cluster, "killed").get("signal") == "SIGKILL" and cluster.wait_ready("killed", deadline_s=1)
        and len(machine.processes("killed")) == 1), cluster.get("killed"))
    cluster.create(machine.workload("nothing", "", program="/no/such/program"))
    judge.check("a program that is not there says so", wait_for(
        lambda: "/no/such/program" in str(cluster.get("nothing").get("status"))), cluster.get("nothing"))
    for name in ("fails", "once", "never", "killed", "nothing"):
        cluster.delete(name)
        judge.check(f"{name} is removed", cluster.wait_gone(name) and not machine.processes(name), cluster.get(name))


def stubborn_ones(judge, cluster, machine):
    cluster.create(machine.workload("deaf", "trap '' TERM INT HUP; while :; do sleep 1; done", gracePeriod="500ms"))
    cluster.create(machine.workload("brood", "setsid sleep 1000 & (setsid sleep 1000 &) ; exec sleep 1000"))
    cluster.create(machine.workload(
        "hung", "exec sleep 1000", restart={"initialDelay": "50ms"}, probes={"liveness": {
            "exec": {"command": ["/bin/sh", "-c", "test ! -e ../../../../hang-now"]}, "period": "100ms",
            "failureThreshold": 2}}))
    cluster.create(machine.workload("frozen", "exec sleep 1000", gracePeriod="500ms"))
    for name in ("deaf", "brood", "hung", "frozen"):
        judge.check(f"{name} runs", cluster.wait_ready(name), cluster.get(name))
    judge.check("children that went into sessions of their own run", wait_for(
        lambda: len(machine.processes("brood")) == 3), machine.processes("brood"))
    for pid in machine.processes("frozen"):
        os.kill(pid, signal.SIGSTOP)
    for name in ("deaf", "brood", "hung", "frozen"):
        cluster.delete(name)
    for name in ("deaf", "brood", "hung", "frozen"):
        judge.check(f"{name} is removed whole", cluster.wait_gone(name) and not machine.processes(name),
                    (cluster.get(name), machine.processes(name)))


def bounded_ones(judge, cluster, machine):
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 1000"
    cluster.create(machine.workload("bomb", bomb, resources={"pids": 40}, restartPolicy="Never"))
    judge.check("a fork bomb goes off", wait_for(lambda: len(machine.processes("bomb")) > 0), "")
    counts = []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        counts.append(len(machine.processes("bomb")))
        time.sleep(0.05)
    judge.check("within its limit", max(counts) <= 45, max(counts))
    cluster.delete("bomb")
    judge.check("and is removed whole", cluster.wait_gone("bomb") and not machine.processes("bomb"),
                machine.processes("bomb"))
    eat = "import time\nblocks = [bytearray(8 << 20) for _ in range(64)]\ntime.sleep(1000)"
    cluster.create(machine.workload("eater", eat, program="/usr/bin/python3", resources={"memory": "64Mi"},
                                    restartPolicy="Never"))
    judge.check("one above its memory is killed and said to be so", wait_for(
        lambda: last_exit(cluster, "eater").get("oomKilled") is True), cluster.get("eater"))
    cluster.delete("eater")
    judge.check("eater is removed", cluster.wait_gone("eater"), cluster.get("eater"))


SERVE = ("import http.server, os\nprint('serving', flush=True)\n"
         "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT_HTTP'])), "
         "http.server.SimpleHTTPRequestHandler).serve_forever()")


def served_ones(judge, cluster, machine):
    probe = {"readiness": {"http": {"port": "http"}, "period": "100ms"}}
    cluster.create(machine.workload("web", SERVE, 3, "/usr/bin/python3", ports=[{"name": "http"}], probes=probe))
    judge.check("three servers are ready by their probes", cluster.wait_ready("web"), cluster.get("web"))
    ports = [i["ports"][0]["port"] for i in cluster.instances("web")]
    judge.check("each has a port of its own", len(set(ports)) == 3, ports)
    cluster.patch("web", {"instances": 5})
    judge.check("scaled up", wait_for(lambda: len(machine.processes("web")) == 5) and cluster.wait_ready("web"),
                cluster.get("web"))
    kept = set(machine.processes("web"))
    cluster.patch("web", {"instances": 2})
    judge.check("scaled down", wait_for(lambda: len(machine.processes("web")) == 2), machine.processes("web"))
    judge.check("the two that stay were not restarted", set(machine.processes("web")) <= kept, "")
    cluster.patch("web", {"suspend": True})
    judge.check("suspended: nothing runs", wait_for(lambda: not machine.processes("web"))
                and cluster.wait_reason("web", "Suspended"), cluster.get("web"))
    cluster.patch("web", {"suspend": False})
    judge.check("resumed", wait_for(lambda: len(machine.processes("web")) == 2) and cluster.wait_ready("web"),
                cluster.get("web"))
    before = set(machine.processes("web"))
    cluster.patch("web", {"args": ["-c", SERVE + "\n# changed"]})
    judge.check("a change of its arguments replaces all", wait_for(
        lambda: len(machine.processes("web")) == 2 and not before & set(machine.processes("web"))
        and cluster.wait_ready("web", deadline_s=1)), cluster.get("web"))
    cluster.delete("web")
    judge.check("web is removed", cluster.wait_gone("web") and not machine.processes("web"), cluster.get("web"))


def placed_ones(judge, cluster, machine):
    nodes = [{"name": f"node-{c}{i}", "labels": {"zone": c}} for c in "ab" for i in (1, 2)]
    clusters = [{"name": "alpha", "nodes": nodes[:2]}, {"name": "beta", "nodes": nodes[2:]}]
    status, answer = cluster.server.call("PATCH", f"{ORCHESTRATORS}/local", {"spec": {"local": {"clusters": clusters}}},
                                         MERGE)
    judge.check("one machine is divided into four nodes", status == 200, answer)
    judge.check("which can be seen", wait_for(lambda: len(cluster.server.call(
        "GET", "/apis/flops.dev/v1alpha1/edgenodes")[1]["items"]) == 4), "")
    cluster.create(machine.workload("each", "exec sleep 1000", placement={"onePerNode": True}))
    judge.check("one on every node", wait_for(lambda: sorted(i.get("node", "") for i in cluster.instances("each")) == [
        "node-a1", "node-a2", "node-b1", "node-b2"]), cluster.instances("each"))
    judge.check("each node tells soon what it runs", wait_for(lambda: [
        n.get("status", {}).get("workloads") for n in cluster.server.call(
            "GET", "/apis/flops.dev/v1alpha1/edgenodes")[1]["items"]] == [1, 1, 1, 1], 30), "")
    judge.check("the orchestrator has a version", cluster.server.call(
        "GET", f"{ORCHESTRATORS}/local")[1]["status"].get("version"), "")
    cluster.create(machine.workload("zoned", "exec sleep 1000", 2, placement={"nodeSelector": {"zone": "b"},
                                                                              "maxPerNode": 1}))
    judge.check("two in a zone", cluster.wait_ready("zoned") and sorted(
        i["node"] for i in cluster.instances("zoned")) == ["node-b1", "node-b2"], cluster.instances("zoned"))
    cluster.create(machine.workload("nowhere", "exec sleep 1000", placement={"cluster": "gamma"}))
    judge.check("no place is said", cluster.wait_reason("nowhere", "NoPlace"), cluster.get("nowhere"))
    for name in ("each", "zoned", "nowhere"):
        cluster.delete(name)
        judge.check(f"{name} is removed", cluster.wait_gone(name) and not machine.processes(name), cluster.get(name))


def outlives_the_control_plane(judge, cluster, machine):
    cluster.create(machine.workload("stays", "echo one; exec sleep 1000"))
    cluster.create(machine.workload("ends", "sleep 1.5; echo done; exit 3", restartPolicy="Never"))
    judge.check("both run", cluster.wait_ready("stays") and cluster.wait_ready("ends"), cluster.get("ends"))
    before = set(machine.processes("stays"))
    cluster.server.kill()
    judge.check("a killed control plane ends nothing", set(machine.processes("stays")) == before, "")
    judge.check("one ends meanwhile", wait_for(lambda: not machine.processes("ends")), machine.processes("ends"))
    cluster.server.start()
    judge.check("what runs is adopted", cluster.wait_ready("stays") and set(machine.processes("stays")) == before,
                (before, machine.processes("stays")))
    judge.check("how the other ended is known", wait_for(lambda: last_exit(cluster, "ends").get("code") == 3),
                cluster.get("ends"))
    judge.check("a stop in good order ends nothing either", cluster.server.stop() == 0
                and set(machine.processes("stays")) == before, cluster.server.errors()[-500:])
    cluster.server.start()
    for name in ("stays", "ends"):
        cluster.delete(name)
        judge.check(f"{name} is removed", cluster.wait_gone(name) and not machine.processes(name), cluster.get(name))


def main():
    judge, machine = Judge(), Machine()
    cluster = Cluster(Server("--no-audit").start())
    try:
        for part in (runs_and_ends, exits_and_restarts, stubborn_ones, bounded_ones, served_ones,
                     outlives_the_control_plane, placed_ones):
            part(judge, cluster, machine)
        judge.check("nothing is left", not machine.processes(), machine.processes())
        judge.check("it ends in good order", cluster.server.stop() == 0, cluster.server.errors()[-500:])
    finally:
        cluster.server.remove()
        for pid in machine.processes():
            os.kill(pid, signal.SIGKILL)
    judge.end()


if __name__ == "__main__":
    main()
