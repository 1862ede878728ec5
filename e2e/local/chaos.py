#!/usr/bin/env python3
"""Kills the control plane at random, again and again, while Workloads are created, edited and
deleted; at the end exactly what is declared runs, and no process is left over. KILLS=50."""

import http.client
import os
import random
import signal
import threading
import time

from rig import Judge, Server
from workloads import MERGE, WORKLOADS, Cluster, Machine, wait_for

KILLS = int(os.environ.get("KILLS", "50"))
NAMES = 8
SCRIPT = "trap 'exit 0' TERM; echo %d; while :; do sleep 1 & wait; done"


class Users(threading.Thread):
    """Creates, edits and deletes; goes on over kills, and does not care whether an answer came."""

    def __init__(self, server, machine, seed):
        super().__init__()
        self.server, self.machine = server, machine
        self.random = random.Random(seed)
        self.halt = False
        self.done = 0

    def run(self):
        while not self.halt:
            try:
                self.step(f"w{self.random.randrange(NAMES)}")
                self.done += 1
            except (OSError, http.client.HTTPException, AttributeError):
                time.sleep(0.02)

    def step(self, name):
        rng, call = self.random, self.server.call
        action = rng.random()
        script = SCRIPT % rng.randrange(1000)
        if action < 0.4:
            call("POST", WORKLOADS, self.machine.workload(name, script, rng.randrange(4), gracePeriod="300ms"))
        elif action < 0.8:
            spec = rng.choice([{"instances": rng.randrange(4)}, {"args": ["-c", script]},
                               {"suspend": rng.random() < 0.5}])
            call("PATCH", f"{WORKLOADS}/{name}", {"spec": spec}, MERGE)
        else:
            call("DELETE", f"{WORKLOADS}/{name}")
        time.sleep(rng.uniform(0, 0.05))


def shells(machine, name):
    """The programs themselves, not their children: by their script, as a list."""
    scripts = []
    for pid in machine.processes(name):
        try:
            line = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if line[:2] == [b"/bin/sh", b"-c"]:
            scripts.append(line[2].decode())
    return sorted(scripts)


def is_right(cluster, machine):
    """None, or what is wrong."""
    status, answer = cluster.server.call("GET", WORKLOADS)
    if status != 200:
        return answer
    declared = {item["metadata"]["name"]: item for item in answer["items"]}
    for name in set(machine.processes().values()) - set(declared):
        return f"{name} is not declared, but runs: {machine.processes(name)}"
    for name, item in declared.items():
        spec, have = item["spec"], shells(machine, name)
        count = 0 if spec["suspend"] else spec["instances"]
        if "deletionTimestamp" in item["metadata"]:
            return f"{name} is still being deleted"
        if have != [spec["args"][1]] * count:
            return f"{name}: {have}, not {count} of {spec['args'][1]}"
        if item["status"].get("observedGeneration") != item["metadata"]["generation"]:
            return f"{name}: status is of an older spec"
        if not spec["suspend"] and item["status"]["replicas"].get("ready", 0) != count:
            return f"{name}: {item['status']['replicas']}"
    return None


def main():
    judge, machine = Judge(), Machine()
    seed = int(os.environ.get("SEED", time.time_ns() % 10**9))
    rng = random.Random(seed)
    server = Server("--no-audit").start()
    cluster = Cluster(server)
    users = [Users(server, machine, rng.random()) for _ in range(2)]
    try:
        for user in users:
            user.start()
        for _ in range(KILLS):
            time.sleep(rng.choice([rng.uniform(0, 0.1), rng.uniform(0.1, 1)]))
            server.kill()
            server.start()
        for user in users:
            user.halt = True
            user.join()
        done = sum(user.done for user in users)
        right = wait_for(lambda: is_right(cluster, machine) is None, 120)
        judge.check(f"{KILLS} kills, {done} requests, seed {seed}: what is declared runs, and nothing else", right,
                    is_right(cluster, machine))
        judge.check("there was work", done > 2 * KILLS, done)
        for item in server.call("GET", WORKLOADS)[1]["items"]:
            cluster.delete(item["metadata"]["name"])
        judge.check("deleted: nothing is left", wait_for(
            lambda: not server.call("GET", WORKLOADS)[1]["items"] and not machine.processes()), machine.processes())
        judge.check("no folder of a run is left", wait_for(lambda: not leftovers(server)), leftovers(server))
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        for user in users:
            user.halt = True
        server.remove()
        for pid in machine.processes():
            os.kill(pid, signal.SIGKILL)
    judge.end()


def leftovers(server):
    base = os.path.join(server.dir, "local")
    return [name for name in (os.listdir(base) if os.path.isdir(base) else []) if len(name) == 36]


if __name__ == "__main__":
    main()
