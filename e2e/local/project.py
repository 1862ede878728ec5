#!/usr/bin/env python3
"""project.py [CASE...]: FLProjects from manifest to model, with real processes.

A `flops up`, a data set in four parts, two clusters of two nodes, two tiers of aggregators and four
learners. Projects are trained to their end, edited in mid-flight, suspended and resumed; the control
plane, the root, a tier, a learner and all of them are killed. What cannot work is in bad_projects.py. The
clocks that are printed are measured, not judged. Standard library only; $FLOPS is the program."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig  # noqa: E402

API = "/apis/flops.dev/v1alpha1"
NS = API + "/namespaces/default"
MERGE = {"Content-Type": "application/merge-patch+json"}
DEADLINE_S = 180
CLASSES, FEATURES, ROWS, LEARNERS = 3, 8, 800, 4
judge = rig.Judge()


def flops(server, *words, **options):
    return subprocess.run([rig.FLOPS, *words, "--data-dir", server.dir], capture_output=True, text=True,
                          timeout=60, **options)


def push_data(server, tag="toy"):
    """Clouds of points about three centres, the same every time."""
    chance = random.Random(7)
    path = os.path.join(server.dir, tag + ".csv")
    with open(path, "w") as file:
        for i in range(ROWS):
            row = [chance.gauss(2.0 if f % CLASSES == i % CLASSES else 0.0, 1.0) for f in range(FEATURES)]
            file.write(",".join(f"{x:.5f}" for x in row) + f",{i % CLASSES}\n")
    for words in (["push", tag, path, "--header", "no"], ["partition", tag, "--learners", str(LEARNERS)]):
        done = flops(server, "data", *words)
        assert done.returncode == 0, done.stderr


def divide_machine(server):
    clusters = [{"name": c, "nodes": [{"name": c + n} for n in "12"]} for c in ("east", "west")]
    status, body = server.call("PATCH", API + "/orchestrators/local", {"spec": {"local": {"clusters": clusters}}},
                               MERGE)
    assert status == 200, body
    wait("two clusters of two nodes", lambda: len(items(server, API + "/edgenodes")) == 4)


def manifest(name, rounds, trainer="SoftmaxRegression", tiers=2, **spec):
    both = [{"name": "edge", "groupBy": "Cluster"}, {"name": "site", "groupBy": "Node"}]
    own = {"source": {"builtin": {"trainer": trainer}}, "data": {"tags": ["toy"]},
           "learners": {"count": LEARNERS}, "topology": {"tiers": both[:tiers]}, "modelHistoryLimit": 1000,
           "roundHistoryLimit": 1000,
           "training": {"rounds": rounds, "seed": 5, "local": {"learningRate": "0.1", "batchSize": 10},
                        "participation": {"minAvailable": LEARNERS, "quorum": 2, "deadline": "60s"}}}
    for key, value in spec.items():
        own[key] = {**own[key], **value} if isinstance(value, dict) and key in own else value
    return {"apiVersion": "flops.dev/v1alpha1", "kind": "FLProject", "metadata": {"name": name}, "spec": own}


def items(server, path):
    status, body = server.call("GET", path)
    return body["items"] if status == 200 else []


def apply(server, project):
    path = os.path.join(server.dir, "manifest.json")
    with open(path, "w") as file:
        json.dump(project, file)
    done = flops(server, "apply", "-f", path)
    assert done.returncode == 0, done.stderr


def patch(server, name, spec):
    status, body = server.call("PATCH", f"{NS}/flprojects/{name}", {"spec": spec}, MERGE)
    assert status == 200, body


def get(server, name):
    """None while it cannot be had."""
    try:
        status, body = server.call("GET", f"{NS}/flprojects/{name}")
    except OSError:
        return None
    return body if status == 200 else None


def condition(thing, kind):
    for it in ((thing or {}).get("status") or {}).get("conditions", []):
        if it["type"] == kind:
            return it
    return {"status": "", "reason": "", "message": ""}


def holds(server, name, kind="Complete"):
    return condition(get(server, name), kind)["status"] == "True"


def completed(server, name):
    return (((get(server, name) or {}).get("status") or {}).get("rounds") or {}).get("completed", 0)


def wait(what, until, deadline_s=DEADLINE_S):
    began = time.monotonic()
    end = began + deadline_s
    while time.monotonic() < end:
        if until():
            if time.monotonic() - began > 10:
                print(f"# {what}: after {time.monotonic() - began:.1f} s")
            return True
        time.sleep(0.02)
    print(f"# waited in vain for: {what}")
    return False


def explain(server, name):
    project = get(server, name)
    told = [f'{c["type"]}={c["status"]} {c["reason"]}: {c["message"]}'
            for c in ((project or {}).get("status") or {}).get("conditions", [])]
    rounds = [(r["spec"].get("index"), condition(r, "Ready")["reason"], condition(r, "Ready")["message"])
              for r in items(server, NS + "/flrounds")]
    return "\n  ".join(told) + f"\n  {rounds}"


def instances(server, role=None):
    """(workload's name, process id) of all that run."""
    for workload in items(server, NS + "/workloads"):
        label = workload["metadata"].get("labels", {}).get("flops.dev/role", "")
        for instance in workload.get("status", {}).get("instances", []):
            if instance.get("id", "").isdigit() and (role is None or label.startswith(role)):
                yield workload["metadata"]["name"], int(instance["id"])


def kill(server, role):
    pids = [pid for _, pid in instances(server, role)]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return len(pids)


def one_model_a_round(server, name, rounds):
    models = sorted(m["spec"]["round"] for m in items(server, NS + "/modelversions")
                    if m["spec"]["project"]["name"] == name)
    return [m for m in models if m > 0] == list(range(1, rounds + 1)), models  # 0: the initial one


def processes_below(folder):
    """Those that work in the folder, or hold it as an argument; not our own `flops up`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if cwd.startswith(folder + "/"):
            found.append(int(pid))
    return found


class Watcher(threading.Thread):
    """When FLRounds change, with the clock of this machine."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.began, self.ended, self.totals = server, {}, {}, {}
        self.start()

    def run(self):
        session = self.server.session(timeout=120)
        try:
            session.request("GET", f"{NS}/flrounds?watch=true&timeoutSeconds=120")
            answer = session.getresponse()
            while True:
                line = answer.readline()
                if not line:
                    return
                self.see(json.loads(line)["object"], time.monotonic())
        except (OSError, ValueError):
            return

    def see(self, round_, now):
        number = round_["spec"].get("index")
        if condition(round_, "Selected")["status"] == "True" or round_.get("status", {}).get("startTime"):
            self.began.setdefault(number, now)
        if condition(round_, "Succeeded")["status"] == "True":
            self.ended.setdefault(number, now)
            self.totals[number] = seconds(round_["status"].get("durations", {}).get("total", "0s"))


def seconds(text):
    total, number = 0.0, ""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    i = 0
    while i < len(text):
        if text[i].isdigit() or text[i] == ".":
            number += text[i]
            i += 1
            continue
        unit = "ms" if text.startswith("ms", i) else text[i]
        total += float(number) * units[unit]
        number = ""
        i += len(unit)
    return total


def finish(server, name, rounds):
    """Waits for the end and checks what every good end has."""
    done = wait(f"{name} is complete", lambda: holds(server, name))
    judge.check(f"{name}: completes", done, explain(server, name))
    good, models = one_model_a_round(server, name, rounds)
    judge.check(f"{name}: each committed round has one model", good, models)
    return done


def remove(server, name):
    server.call("DELETE", f"{NS}/flprojects/{name}")
    gone = wait(f"{name} is gone", lambda: get(server, name) is None and server.process.poll() is None, 60)
    judge.check(f"{name}: is deleted", gone, explain(server, name))


# --- cases ---


def whole(server):
    """From manifest to model, with the clocks."""
    watcher = Watcher(server)
    began = time.monotonic()
    apply(server, manifest("whole", 5, tiers=int(os.environ.get("TIERS", 2))))
    wait("learners", lambda: (get(server, "whole") or {}).get("status", {}).get("learners", {}).get("ready") == 4)
    joined = time.monotonic()
    if finish(server, "whole", 5):
        status = get(server, "whole")["status"]
        accuracy = float(status["metrics"]["last"]["values"]["accuracy"])
        judge.check("whole: the model is a good one", accuracy > 0.8, accuracy)
        judge.check("whole: status tells all", status["rounds"]["summary"] == "5/5" and
                    status["model"]["round"] == 5 and "bestModel" in status, json.dumps(status)[:800])
        tiers = {t["name"]: t["desired"] for t in status["tiers"]}
        judge.check("whole: its tiers are there", set(tiers) == {"root", "edge", "site"}, tiers)
        wait("the watch tells of round 5", lambda: 5 in watcher.ended, 10)
        if 5 in watcher.ended and 1 in watcher.began:
            span = watcher.ended[5] - watcher.began[1]
            overhead = (span - sum(watcher.totals.values())) / 5
            print(f"# apply to first round: {(watcher.began[1] - began) * 1000:.0f} ms, of it after the "
                  f"learners were ready {(watcher.began[1] - joined) * 1000:.0f} ms; a round takes "
                  f"{span / 5 * 1000:.0f} ms, of it control plane {overhead * 1000:.1f} ms")
    # more rounds: it trains on
    patch(server, "whole", {"training": {"rounds": 7}})
    wait("two more", lambda: completed(server, "whole") == 7)
    finish(server, "whole", 7)
    judge.check("whole: scaled down when complete",
                wait("nothing runs", lambda: not list(instances(server)), 30), list(instances(server)))
    remove(server, "whole")


def edits(server):
    """What changes in mid-flight."""
    apply(server, manifest("edits", 200, tiers=1, training={
        "rounds": 200, "local": {"learningRate": "0.1", "batchSize": 10, "epochs": 5},
        "participation": {"minAvailable": 2}}))
    wait("some rounds", lambda: completed(server, "edits") >= 2)
    patch(server, "edits", {"training": {"strategy": {"name": "FedAvgM"}, "participation": {"deadline": "30s"}}})
    at = completed(server, "edits")
    wait("the edit takes effect", lambda: completed(server, "edits") >= at + 3)
    strategies = {r["spec"]["index"]: r["spec"]["strategy"]["name"] for r in items(server, NS + "/flrounds")}
    judge.check("edits: another strategy counts from the next round on",
                strategies.get(1) == "FedAvg" and strategies.get(at + 3) == "FedAvgM", strategies)
    patch(server, "edits", {"suspend": True})
    stopped = wait("suspended", lambda: not list(instances(server)) and
                   condition(get(server, "edits"), "Ready")["reason"] == "Suspended", 60)
    judge.check("edits: suspended, nothing runs", stopped, explain(server, "edits"))
    at = completed(server, "edits")
    patch(server, "edits", {"suspend": False})
    judge.check("edits: resumed, it goes on", wait("a round", lambda: completed(server, "edits") > at),
                explain(server, "edits"))
    patch(server, "edits", {"topology": {"tiers": []}})
    at = completed(server, "edits")
    judge.check("edits: without tiers it goes on",
                wait("rounds", lambda: completed(server, "edits") > at + 1), explain(server, "edits"))
    patch(server, "edits", {"training": {"rounds": 1}})
    done = wait("complete", lambda: holds(server, "edits"))
    # The round that was under way then is still committed, and counted.
    good = wait("one model a round", lambda: one_model_a_round(server, "edits", completed(server, "edits"))[0], 30)
    judge.check("edits: fewer rounds than are done: complete", done and good,
                f"{completed(server, 'edits')} {one_model_a_round(server, 'edits', 0)}")
    remove(server, "edits")


def deadline(server):
    apply(server, manifest("late", 100000, tiers=0, training={
        "rounds": 100000, "deadline": "3s", "participation": {"minAvailable": 2}}))
    done = wait("complete", lambda: holds(server, "late"), 60)
    judge.check("late: the deadline ends it with what there is",
                done and condition(get(server, "late"), "Complete")["reason"] == "DeadlineExceeded" and
                completed(server, "late") > 0, explain(server, "late"))
    remove(server, "late")


def kills(server):
    """Whoever dies, it goes on by itself."""
    rounds = 30
    apply(server, manifest("kills", rounds, tiers=1, training={
        "rounds": rounds, "local": {"learningRate": "0.05", "batchSize": 10, "epochs": 20}}))
    victims = ["control plane", "root", "edge", "learners", "all"]
    for number, victim in enumerate(victims):
        at = 1 + number * 2
        wait(f"round {at}", lambda at=at: completed(server, "kills") >= at)
        if victim == "all":
            kill(server, None)
        elif victim != "control plane":
            judge.check(f"kills: there is a {victim} to kill", kill(server, victim) > 0, explain(server, "kills"))
        if victim in ("control plane", "all"):
            server.kill()
            server.start()
        judge.check(f"kills: goes on after {victim} died",
                    wait("rounds", lambda at=at: completed(server, "kills") >= at + 1), explain(server, "kills"))
    patch(server, "kills", {"training": {"rounds": 12}})
    wait("12 rounds", lambda: completed(server, "kills") >= 12)
    wait("complete", lambda: holds(server, "kills"))
    finish(server, "kills", completed(server, "kills"))
    remove(server, "kills")


def not_twice(server, name):
    """No round has more examples, or more learners, than there are."""
    rounds = [r for r in items(server, NS + "/flrounds") if r["spec"]["project"]["name"] == name]
    odd = [r["metadata"]["name"] for r in rounds
           if r["status"].get("examples", 0) > ROWS or r["status"].get("participants", {}).get("reported", 0) > LEARNERS]
    judge.check(f"{name}: nobody is counted twice", rounds and not odd, odd)


def kill_one(server, chance):
    alive = list(instances(server))
    if not alive or chance.random() < 0.15:
        server.kill()
        server.start()
        return "control plane"
    name, pid = chance.choice(alive)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return "nobody"
    return name.rsplit("-", 1)[0]


def chaos(server):
    """Random processes are killed for $CHAOS_S seconds (300) while projects of 30 rounds run."""
    seed = int(os.environ.get("CHAOS_SEED", time.time()))
    chance, killed, number = random.Random(seed), {}, 0
    end = time.monotonic() + int(os.environ.get("CHAOS_S", "300"))
    print(f"# CHAOS_SEED={seed}")
    while time.monotonic() < end:
        name = f"chaos-{number}"
        number += 1
        apply(server, manifest(name, 30, tiers=1, learners={"count": LEARNERS, "restartLimit": 1000}, training={
            "local": {"learningRate": "0.05", "batchSize": 10, "epochs": 20}}))
        while time.monotonic() < end and not holds(server, name):
            time.sleep(chance.uniform(0.3, 2.5))
            victim = kill_one(server, chance)
            killed[victim] = killed.get(victim, 0) + 1
        finish(server, name, 30)
        not_twice(server, name)
        remove(server, name)
    print(f"# {number} projects; killed: {killed}")


def failed(server):
    """A round that cannot reach its quorum: Stalled with the cause, until the spec is another."""
    apply(server, manifest("failed", 2, tiers=1, training={
        "rounds": 2, "local": {"learningRate": "0.1", "batchSize": 1, "epochs": 10000},
        "participation": {"minAvailable": LEARNERS, "quorum": LEARNERS, "deadline": "2s", "retryLimit": 1}}))
    stalled = wait("stalled", lambda: holds(server, "failed", "Stalled"), 60)
    judge.check("failed: Stalled with the cause and what to do", stalled and
                "FLRound" in condition(get(server, "failed"), "Ready")["message"], explain(server, "failed"))
    judge.check("failed: nothing runs any more", wait("nothing runs", lambda: not list(instances(server)), 60),
                list(instances(server)))
    patch(server, "failed", {"training": {"local": {"epochs": 1, "batchSize": 10},
                                          "participation": {"deadline": "60s"}}})
    finish(server, "failed", 2)
    judge.check("failed: attempts that failed are counted",
                get(server, "failed")["status"]["rounds"]["failed"] > 0, explain(server, "failed"))
    remove(server, "failed")


def files_of_services(server):
    return [os.path.join(where, name) for where, folders, files in os.walk(os.path.join(server.dir, "local"))
            for name in files if name in ("journal", "kept.json") or name.startswith("sha256")]


def nothing_left(server):
    for kind in ("workloads", "flrounds", "modelversions", "inferenceservers"):
        left = [i["metadata"]["name"] for i in items(server, f"{NS}/{kind}")]
        judge.check(f"no {kind} are left", not left, left)
    secrets = [i["metadata"]["name"] for i in items(server, "/api/v1/namespaces/default/secrets")]
    judge.check("no Secret is left", not secrets, secrets)
    judge.check("no process is left", wait("processes end", lambda: not processes_below(server.dir), 20),
                processes_below(server.dir))
    wait("files go", lambda: not files_of_services(server), 30)
    judge.check("no journal or model of a service is left", not files_of_services(server),
                files_of_services(server)[:5])


CASES = {"whole": whole, "edits": edits, "deadline": deadline, "kills": kills, "failed": failed}
LONG = {"chaos": chaos}  # only when asked for by name


def main():
    server = rig.Server().start()
    kept = False
    try:
        push_data(server)
        divide_machine(server)
        for name in sys.argv[1:] or CASES:
            began = time.monotonic()
            {**CASES, **LONG}[name](server)
            print(f"# {name} took {time.monotonic() - began:.1f} s")
        nothing_left(server)
        judge.check("the control plane ends well", server.stop() == 0, server.errors()[-500:])
    except BaseException:
        kept = bool(os.environ.get("KEEP"))
        raise
    finally:
        if kept:
            print("what is left of it:", server.dir)
        else:
            for pid in processes_below(server.dir):
                os.kill(pid, signal.SIGKILL)
            server.remove()
            shutil.rmtree(server.dir, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
