#!/usr/bin/env python3
"""bad_projects.py [CASE...]: what cannot work says why and what to do, and goes on by itself once it can.

Each case makes a project that cannot be trained or served: no learners, no quorum, no data, broken data, full disks,
ports that others have, things that this version does not do. Its conditions must say the reason in words that help,
in the way kstatus reads them; nothing may hang. Then the cause is taken away, and it must come to its end without
anybody touching the project, or with the change that the message asked for. Disks are filled where mounting is
allowed. Standard library only; $FLOPS is the program."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import project as p  # noqa: E402
import rig  # noqa: E402
from disk_full import fill  # noqa: E402

judge = p.judge
pushing = threading.Lock()  # two at a time are refused
ORCHESTRATOR = p.API + "/orchestrators/local"


def small(name, rounds=2, minimum=1, count=1, **spec):
    """Two rounds of one learner, but for what the case is about."""
    participation = {"minAvailable": minimum, "quorum": min(minimum, 2), "deadline": "60s",
                     **spec.pop("participation", {})}
    return p.manifest(name, rounds, tiers=0, learners={"count": count, **spec.pop("learners", {})},
                      training={"rounds": rounds, "participation": participation, **spec.pop("training", {})}, **spec)


def apply(server, manifest):
    status, body = server.call("POST", p.NS + "/flprojects", manifest)
    assert status == 201, body


def faults_of_conditions(thing):
    """What kstatus, or a person, could not make sense of."""
    there = {c["type"]: c for c in thing["status"]["conditions"]}
    faults = [f"{c['type']}: {c}" for c in there.values()
              if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", c["reason"]) or not c["message"]
              or c["observedGeneration"] != thing["metadata"]["generation"]]
    ready = there.get("Ready", {}).get("status")
    moving = [t for t in ("Reconciling", "Stalled") if there.get(t, {}).get("status") == "True"]
    if thing["status"].get("observedGeneration") != thing["metadata"]["generation"]:
        faults.append("observedGeneration")
    if (ready == "True" and moving) or (ready != "True" and len(moving) != 1):
        faults.append(f"Ready {ready}, and {moving}")
    return faults


def tells(server, name, reason, words, kind="Ready", stalled=None):
    """The condition is false for that reason, in these words, and the whole reads well."""
    def told():
        it = p.condition(p.get(server, name), kind)
        return it["status"] == "False" and it["reason"] == reason and words in it["message"] and \
            (stalled is None or p.holds(server, name, "Stalled") == stalled)
    good = p.wait(f"{name}: {reason}", told, 60)
    judge.check(f"{name}: says {reason}, and \"{words}\"", good, p.explain(server, name))
    faults = faults_of_conditions(p.get(server, name))
    judge.check(f"{name}: its conditions read well", not faults, faults)


def goes_on(server, name, why, rounds=2):
    judge.check(f"{name}: goes on {why}", p.wait(f"{name} completes", lambda: p.holds(server, name)),
                p.explain(server, name))
    judge.check(f"{name}: has all its rounds", p.completed(server, name) == rounds, p.explain(server, name))
    p.remove(server, name)


def push(server, tag):
    with pushing:
        p.push_data(server, tag)


# --- learners ---


def no_learners(server):
    apply(server, small("nodes", learners={"nodeSelector": {"gpu": "yes"}}))
    tells(server, "nodes", "WaitingForLearners", "learners.nodeSelector")
    status, body = server.call("GET", ORCHESTRATOR)
    clusters = body["spec"]["local"]["clusters"]
    clusters[0]["nodes"].append({"name": "fast", "labels": {"gpu": "yes"}})
    status, body = server.call("PATCH", ORCHESTRATOR, {"spec": {"local": {"clusters": clusters}}}, p.MERGE)
    assert status == 200, body
    goes_on(server, "nodes", "when such a node comes")


def no_quorum(server):
    apply(server, small("quorum", minimum=9, count=None))
    tells(server, "quorum", "QuorumNotReached", "participation.minAvailable")
    p.patch(server, "quorum", {"training": {"participation": {"minAvailable": 1, "quorum": 1}}})
    goes_on(server, "quorum", "when fewer are asked for")


def no_patience(server):
    """What lacks for longer than a round would wait is Stalled, and no less watched."""
    apply(server, small("patience", data={"tags": ["late"]}, participation={"availableWithin": "1s"}))
    tells(server, "patience", "WaitingForLearners", "flops data push", stalled=True)
    push(server, "late")
    goes_on(server, "patience", "when the data set is pushed")


def no_trainer(server):
    status, body = server.call("POST", p.NS + "/flprojects", p.manifest("trainer", 1, trainer="Forest"))
    judge.check("trainer: one that does not exist is refused with its field",
                status == 422 and "spec.source.builtin.trainer" in body["message"] and
                "Forest" in body["message"], body)


# --- data ---


def broken_data(server):
    rows = os.path.join(server.dir, "data", "hurt.parts", "rows.safetensors")
    push(server, "hurt")
    good = open(rows, "rb").read()
    os.unlink(rows)  # not the same file any more as what others may have open
    with open(rows, "wb") as file:
        file.write(good[:len(good) // 2])
    apply(server, small("broken", data={"tags": ["hurt"]}, learners={"restartLimit": 1000}))
    tells(server, "broken", "WaitingForLearners", "hurt.parts")
    with open(rows, "wb") as file:
        file.write(good)
    goes_on(server, "broken", "when the data are whole again")


def spoil_last_row(path):
    """Of the last part, which then has a row that does not exist."""
    data = bytearray(open(path, "rb").read())
    size, = struct.unpack_from("<Q", data)
    end = 8 + size + json.loads(data[8:8 + size])["rows"]["data_offsets"][1]
    data[end - 4:end] = b"\xff\xff\xff\xff"
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(data)


def one_broken(server):
    """The data of one learner of four: it is a dropout, with its cause, and the others train."""
    push(server, "spoilt")
    spoil_last_row(os.path.join(server.dir, "data", "spoilt.parts", "rows.safetensors"))
    apply(server, small("dropout", rounds=100000, minimum=3, count=4, data={"tags": ["spoilt"]}))
    tells(server, "dropout", "SomeMissing", "3 of 4 learners have joined; instance 3 of", kind="LearnersReady")
    message = p.condition(p.get(server, "dropout"), "LearnersReady")["message"]
    judge.check("dropout: what is wrong with its data is told", "data set spoilt.3" in message, message)
    judge.check("dropout: the others train", p.wait("rounds", lambda: p.completed(server, "dropout") >= 2),
                p.explain(server, "dropout"))
    p.patch(server, "dropout", {"training": {"rounds": 1}})
    p.wait("dropout completes", lambda: p.holds(server, "dropout"))
    p.remove(server, "dropout")


def foreign_data(server):
    """Data sets that do not go together, and then one of them alone."""
    path = os.path.join(server.dir, "wide.csv")
    with open(path, "w") as file:
        file.write("".join(f"{i},{i % 2}\n" for i in range(40)))
    with pushing:
        done = p.flops(server, "data", "push", "wide", path, "--header", "no")
    assert done.returncode == 0, done.stderr
    apply(server, small("foreign", data={"tags": ["toy", "wide"]}))
    tells(server, "foreign", "WaitingForLearners", "cannot be trained on together")
    p.patch(server, "foreign", {"data": {"tags": ["toy"]}})
    goes_on(server, "foreign", "with one of them")


# --- code that cannot be had (what cannot be built is in builds.py) ---


def no_repository(server):
    apply(server, small("git", source={"builtin": None, "git": {"url": "https://127.0.0.1:1/x"}}))
    tells(server, "git", "SourceNotReady", "127.0.0.1", stalled=False)
    p.patch(server, "git", {"source": {"git": {"url": "file:///etc"}}})
    tells(server, "git", "SourceInvalid", "control plane's machine", stalled=True)
    p.remove(server, "git")


# --- what this version does not do ---


def no_privacy(server):
    private = {"differentialPrivacy": {"clipNorm": "1", "noiseMultiplier": "1", "budget": {"epsilon": "1",
                                                                                         "delta": "1e-5"}}}
    for name, privacy in (("noise", private), ("masks", {"secureAggregation": {}})):
        apply(server, small(name, minimum=4, count=4, privacy=privacy, participation={"quorum": 4}))
        tells(server, name, "NotSupported", "spec.privacy", stalled=True)
        running = [w for w, _ in p.instances(server) if w.startswith(name + "-")]
        judge.check(f"{name}: nothing is trained without it", not running, running)
        p.patch(server, name, {"privacy": None})
        goes_on(server, name, "when it is not asked for")


def no_tracking(server):
    apply(server, small("tracking", tracking={"mlflow": {"url": "http://127.0.0.1:9"}}))
    tells(server, "tracking", "Unreachable", "will be delivered", kind="Tracked")
    goes_on(server, "tracking", "without it, for it delays nothing")


def nowhere(server):
    apply(server, small("where", orchestrator="nowhere"))
    tells(server, "where", "OrchestratorNotReady", "there is no Orchestrator nowhere")
    p.remove(server, "where")


# --- serving ---


def infs(server, name):
    return server.call("GET", f"{p.NS}/inferenceservers/{name}")[1]


def serves(server, name, why):
    ready = p.wait("serves", lambda: p.condition(infs(server, name), "Ready")["status"] == "True")
    judge.check(f"{name}: serves {why}", ready, infs(server, name).get("status"))
    server.call("DELETE", f"{p.NS}/inferenceservers/{name}")
    p.wait(f"{name} is gone", lambda: server.call("GET", f"{p.NS}/inferenceservers/{name}")[0] == 404)


def server_tells(server, name, reason, words):
    told = p.wait(f"{name}: {reason}", lambda: p.condition(infs(server, name), "Ready")["reason"] == reason and
                  words in p.condition(infs(server, name), "Ready")["message"], 60)
    judge.check(f"{name}: says {reason}, and \"{words}\"", told, infs(server, name).get("status"))
    faults = faults_of_conditions(infs(server, name))
    judge.check(f"{name}: its conditions read well", not faults, faults)


def declare_server(server, name, **spec):
    status, body = server.call("POST", p.NS + "/inferenceservers", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "InferenceServer", "metadata": {"name": name},
        "spec": {"port": 0, **spec}})
    assert status == 201, body


def no_model(server):
    """Neither the project, nor the Secrets, nor the file that are named are there yet."""
    path = os.path.join(server.dir, "late.safetensors")
    declare_server(server, "model", model={"project": {"name": "origin"}})
    declare_server(server, "file", model={"uri": "file://" + path})
    declare_server(server, "secret", model={"project": {"name": "origin"}}, tokensSecret={"name": "clients"})
    server_tells(server, "model", "WaitingForModel", "origin")
    server_tells(server, "secret", "SecretNotFound", "clients")
    server_tells(server, "file", "Restarting", path)
    apply(server, small("origin"))
    p.wait("origin completes", lambda: p.holds(server, "origin"))
    serves(server, "model", "when the project has one")
    done = p.flops(server, "models", "export", "origin:best", "-o", path)
    assert done.returncode == 0, done.stderr
    serves(server, "file", "when the file is there")
    server.call("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "clients"},
                                                               "stringData": {"a": "token-of-a-client"}})
    serves(server, "secret", "when the Secret is there")
    server.call("DELETE", "/api/v1/namespaces/default/secrets/clients")
    p.remove(server, "origin")


# --- ports ---


def listen(port=0):
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind(("127.0.0.1", port))
    it.listen()
    return it


def server_port(server):
    """The declared port of the stable address."""
    with listen() as taken:
        port = taken.getsockname()[1]
        apply(server, small("port", serve={"port": port}))
        tells(server, "port", "WaitingForServer", f"{port} on 127.0.0.1 cannot be had", kind="ModelServed")
        status, body = server.call("GET", p.NS + "/inferenceservers/port")
        it = p.condition(body, "Ready")
        judge.check("port: its InferenceServer says the same", it["reason"] == "PortTaken" and
                    str(port) in it["message"] and not faults_of_conditions(body), body.get("status"))
        judge.check("port: training is complete for all that", p.wait("completes", lambda: p.holds(server, "port")),
                    p.explain(server, "port"))
    judge.check("port: serves when it is free",
                p.wait("served", lambda: p.holds(server, "port", "Ready") and p.holds(server, "port", "ModelServed")),
                p.explain(server, "port"))
    p.remove(server, "port")


def root_port(server):
    """Somebody takes the root's port while it is away for a moment."""
    apply(server, small("root", rounds=100000))
    p.wait("some rounds", lambda: p.completed(server, "root") >= 2)
    tier = p.get(server, "root")["status"]["tiers"][0]["address"]
    pid = next(pid for name, pid in p.instances(server, "root") if name.startswith("root-"))
    os.kill(pid, signal.SIGKILL)
    taken = None
    while not taken:
        try:
            taken = listen(int(tier.rsplit(":", 1)[1]))
        except OSError:
            time.sleep(0.001)
    with taken:
        at = p.completed(server, "root")
        judge.check("root: goes on at another port", p.wait("rounds", lambda: p.completed(server, "root") > at + 2),
                    p.explain(server, "root"))
        moved = p.get(server, "root")["status"]["tiers"][0]["address"]
        judge.check("root: which its status says", moved != tier, f"{tier} {moved}")
    p.patch(server, "root", {"training": {"rounds": 1}})
    p.wait("root completes", lambda: p.holds(server, "root"))
    p.remove(server, "root")


def no_port(server):
    """All ports that the orchestrator may give are taken."""
    with listen() as taken:
        port = taken.getsockname()[1]
        status, body = server.call("PATCH", ORCHESTRATOR, {"spec": {"local": {"ports": {"first": port, "last": port}}}},
                                   p.MERGE)
        assert status == 200, body
        assert p.wait("the orchestrator knows", lambda: server.call("GET", ORCHESTRATOR)[1]["status"][
            "observedGeneration"] == body["metadata"]["generation"])
        apply(server, small("ports"))
        tells(server, "ports", "StartingAggregators", f"no port from {port} to {port} is free")
    goes_on(server, "ports", "when one is free")


# --- disks ---


class Disk:
    """A small one in the place of a folder."""

    def __init__(self, folder, size):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        subprocess.check_call(["mount", "-t", "tmpfs", "-o", f"size={size}", "flops-e2e", folder])

    def fill(self):
        fill(os.path.join(self.folder, "filler"))

    def empty(self):
        os.unlink(os.path.join(self.folder, "filler"))

    def remove(self):
        subprocess.call(["umount", "-l", self.folder])


def full_content(server):
    """The content store has no room for models."""
    disk = Disk(os.path.join(server.dir, "content"), "2m")
    try:
        server.start()
        p.push_data(server)
        disk.fill()
        apply(server, small("content", serve={"port": 0}))
        tells(server, "content", "Training", "No space left on device")
        disk.empty()
        goes_on(server, "content", "when there is room")
    finally:
        disk.remove()


def bounded_content(server):
    """The same where the bound is the user's."""
    server.start()
    p.push_data(server)
    apply(server, small("bounded"))
    tells(server, "bounded", "Training", "--content-max-bytes")
    server.stop()
    server.options = ()
    server.start()
    goes_on(server, "bounded", "with a larger one")


def full_journals(server):
    """The folder in which services keep their journals and models has no room."""
    disk = Disk(os.path.join(server.dir, "local"), "16m")
    try:
        server.start()
        p.push_data(server)
        apply(server, small("journal", rounds=100000))
        p.wait("some rounds", lambda: p.completed(server, "journal") >= 2)
        disk.fill()
        p.wait("it says so", lambda: "o space left on device" in p.explain(server, "journal"), 60)
        judge.check("journal: a full disk is named", "o space left on device" in p.explain(server, "journal"),
                    p.explain(server, "journal"))
        faults = faults_of_conditions(p.get(server, "journal"))
        judge.check("journal: its conditions read well", not faults, faults)
        disk.empty()
        at = p.completed(server, "journal")
        judge.check("journal: goes on when there is room", p.wait(
            "rounds", lambda: p.completed(server, "journal") > at + 2), p.explain(server, "journal"))
        p.patch(server, "journal", {"training": {"rounds": 1}})
        p.wait("journal completes", lambda: p.holds(server, "journal"))
        p.remove(server, "journal")
    finally:
        disk.remove()


# --- the run ---

TOGETHER = [no_learners, no_quorum, no_patience, no_trainer, broken_data, one_broken, foreign_data, no_repository,
            no_privacy, no_tracking, nowhere, no_model, server_port, root_port]
ALONE = {no_port: [], bounded_content: ["--content-max-bytes", "100"]}
MOUNTED = {full_content: [], full_journals: []}


def attempt(case, server):
    began = time.monotonic()
    try:
        case(server)
    except Exception:
        judge.check(f"{case.__name__}: comes to its end", False, traceback.format_exc() + server.errors()[-500:])
    print(f"# {case.__name__} took {time.monotonic() - began:.1f} s")


def with_server(server, work):
    try:
        work()
        p.nothing_left(server)
        judge.check("the control plane ends well", server.stop() == 0, server.errors()[-500:])
    finally:
        for pid in p.processes_below(server.dir):
            os.kill(pid, signal.SIGKILL)
        server.remove()
        shutil.rmtree(server.dir, ignore_errors=True)


def run_together(cases):
    server = rig.Server()

    def work():
        server.start()
        p.push_data(server)
        p.divide_machine(server)
        with ThreadPoolExecutor(len(cases)) as pool:
            list(pool.map(lambda case: attempt(case, server), cases))
    with_server(server, work)


def run_alone(case, options):
    server = rig.Server(*options)

    def work():
        if case is no_port:
            server.start()
            p.push_data(server)
        attempt(case, server)
    with_server(server, work)


def main():
    wanted = sys.argv[1:]
    alone = {**ALONE, **(MOUNTED if os.geteuid() == 0 else {})}
    together = [c for c in TOGETHER if not wanted or c.__name__ in wanted]
    if together:
        run_together(together)
    chosen = [(c, o) for c, o in alone.items() if not wanted or c.__name__ in wanted]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda it: run_alone(*it), chosen))
    judge.end()


if __name__ == "__main__":
    main()
