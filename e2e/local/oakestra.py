#!/usr/bin/env python3
"""oakestra.py [--old] [CASE...]: FLProjects on an Oakestra root, which e2e/oakestra/double.py stands in for.

A `flops up` and a double with two clusters, whose services are real processes of $FLOPS. Projects are trained
in tiers by cluster and served, with a friendly root, and with all its traps at random by a seed (TRAP_SEED); the root
is down for a while; at the end nothing may be left there. Requests a minute in the steady state are counted by the
double and printed. Standard library only.

With --old the root is v0.4.402, which has no addresses to give: services have some of 10.30.x.y, so all of this runs in
a network namespace of its own, where these are local."""

import json
import os
import shutil
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]
import rig  # noqa: E402
from e2e.oakestra.client import Running  # noqa: E402
from e2e.oakestra.traps import TRAPS  # noqa: E402
from project import (API, LEARNERS, MERGE, NS, apply, completed, condition, explain, flops, get, holds, items, judge,  # noqa: E402
                     manifest, one_model_a_round, push_data, wait)

CLUSTERS = ("east", "west")
LATE = "north"  # is not there before a case has it come
SECRET = {"name": "oakestra-login", "namespace": "default"}
SEED = int(os.environ.get("TRAP_SEED", "1"))
OLD = "--old" in sys.argv
OWN_NETWORK = "ip link set lo up && ip route add local 10.30.0.0/16 dev lo && exec \"$@\""


def post(server, path, body):
    status, answer = server.call("POST", path, body)
    assert status == 201, answer


def join(server, double, name="oakestra", poll="500ms"):
    """An Orchestrator for the double."""
    post(server, "/api/v1/namespaces/default/secrets", {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET["name"]},
        "stringData": {"username": "Admin", "password": "Admin"}})
    post(server, API + "/orchestrators", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "Orchestrator", "metadata": {"name": name},
        "spec": {"type": "Oakestra", "endpoint": f"http://127.0.0.1:{double.root}", "credentialsSecret": SECRET,
                 "pollInterval": poll, "timeout": "5s", "oakestra": {
                     "programImage": "example.org/flops:1", "networkEndpoint": f"http://127.0.0.1:{double.network}",
                     "scheduleDeadline": "5s",
                     "clusters": [{"name": it, "dataTags": ["toy"]} for it in (*CLUSTERS, LATE)]}}})

    def known():
        return sorted(it["metadata"]["name"] for it in items(server, API + "/edgeclusters"))

    both = wait("two clusters", lambda: known() and set(CLUSTERS) <= set(known()), 60)
    judge.check("the root's clusters are known", both, known())


def on_oakestra(name, rounds, **spec):
    body = manifest(name, rounds, tiers=1, **spec)  # tier aggregators by cluster
    body["spec"]["orchestrator"] = "oakestra"
    body["spec"]["learners"]["restartLimit"] = 1000  # of that many deaths none is the project's fault
    return body


def programs(double):
    return {it["pid"]: it["job"] for it in double.state()["programs"] if it["pid"]}


def left(double):
    state = double.state()
    return {key: state[key] for key in ("applications", "services", "programs", "addresses") if state[key]}


# --- cases ---


def tiers_of(double):
    """Clusters of the programs that are tier aggregators: those with a parent."""
    found = []
    for it in double.state()["programs"]:
        words = command_line(it["pid"]) if it["pid"] else []
        if "aggregator" in words and "--parent" in words:
            found.append(it["cluster"])
    return sorted(found)


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().split("\0")
    except OSError:
        return []


def trains(server, double, name, rounds, deadline_s=180):
    apply(server, on_oakestra(name, rounds, training={"local": {"epochs": 10}}))
    tiers = wait(f"{name}: an aggregator a cluster", lambda: tiers_of(double) == list(CLUSTERS), deadline_s)
    judge.check(f"{name}: each cluster has its aggregator", tiers, tiers_of(double))
    done = wait(f"{name} is complete", lambda: holds(server, name), deadline_s)
    judge.check(f"{name}: completes", done, explain(server, name))
    good, models = one_model_a_round(server, name, rounds)
    judge.check(f"{name}: each committed round has one model", good, models)
    accuracy = float(get(server, name)["status"]["metrics"]["last"]["values"]["accuracy"]) if done else 0
    judge.check(f"{name}: the model is a good one", accuracy > 0.7, accuracy)


def serves(server, name, deadline_s=120):
    """A server of the project's model on the same root, behind a router there."""
    post(server, f"{NS}/inferenceservers", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "InferenceServer", "metadata": {"name": name},
        "spec": {"model": {"project": {"name": name, "select": "Latest"}}, "port": 0, "orchestrator": "oakestra"}})

    def answers():
        status, body = server.call("GET", f"{NS}/inferenceservers/{name}")
        url = body.get("status", {}).get("url") if status == 200 else None
        if not url:
            return False
        asked = flops(server, "predict", url, "--data", "toy", "--count", "50")
        answers.told = f"{url}: {asked.stdout}{asked.stderr}"
        return asked.returncode == 0

    answers.told = ""
    judge.check(f"{name}: it is served", wait("predictions", answers, deadline_s), answers.told or json.dumps(
        server.call("GET", f"{NS}/inferenceservers/{name}")[1].get("status"))[:1000])
    print(f"# {name}: {answers.told.strip()}")
    server.call("DELETE", f"{NS}/inferenceservers/{name}")


def goes(server, double, name, deadline_s=180):
    server.call("DELETE", f"{NS}/flprojects/{name}")
    gone = wait(f"{name} is gone", lambda: get(server, name) is None, deadline_s)
    judge.check(f"{name}: is deleted", gone, explain(server, name))
    empty = wait("the root is empty", lambda: not left(double), deadline_s)
    judge.check(f"{name}: nothing is left on the root", empty, json.dumps(left(double))[:1500])


def friendly(server, double):
    """Without traps, from manifest to nothing."""
    trains(server, double, "calm", 3)
    serves(server, "calm")
    goes(server, double, "calm")


def set_traps(double, names):
    double.do("traps", **{it: it in names for it in TRAPS})


def trapped(server, double):
    """With all of them, at random by the seed."""
    set_traps(double, TRAPS)
    trains(server, double, "rough", 4, 400)
    serves(server, "rough", 400)
    goes(server, double, "rough", 400)
    state = double.state()
    print(f"# TRAP_SEED={SEED}; sprung: {({name: n for name, n in state['sprung'].items() if n})}")
    set_traps(double, [])


def requests(double):
    return sum(it["total"] for it in double.counts()["requests"].values())


def long_project(server, name):
    """One that trains until it is deleted."""
    apply(server, on_oakestra(name, 100000, training={"local": {"epochs": 100}}))
    wait("some rounds", lambda: completed(server, name) >= 2)


def groups_meet(double):
    """Each group of learners counts from where the one before it ends: none is left of a plan that was changed since."""
    firsts, at = {}, 0
    for pid, job in programs(double).items():
        words = command_line(pid)
        if "--first" in words:
            firsts.setdefault(job.split(".")[0], []).append(int(words[words.index("--first") + 1]))
    for group in sorted(firsts.values()):
        if set(group) != {at}:
            return False
        at += len(group)
    return at == LEARNERS


def ready_programs(double):
    """Process ids, once there is what a project of two tiers needs: a root, two tiers, learners."""
    wait("all run", lambda: len(programs(double)) == 3 + LEARNERS and groups_meet(double))
    return programs(double)


def down(server, double):
    """The root is away for $ROOT_DOWN_S seconds (10). Who runs, runs on, and trains."""
    long_project(server, "down")
    before = ready_programs(double)
    seconds = float(os.environ.get("ROOT_DOWN_S", "10"))
    double.do("root", down_s=seconds)
    at = completed(server, "down")
    on = wait("rounds", lambda: completed(server, "down") > at + 1, seconds)
    judge.check("down: it trains on without the root", on, explain(server, "down"))
    before_it = requests(double)
    judge.check("down: the root is asked again", wait("requests", lambda: requests(double) > before_it + 5, seconds + 60))
    at = completed(server, "down")
    wait("rounds", lambda: completed(server, "down") > at + 1)
    judge.check("down: nothing that ran was started again", programs(double) == before, f"{before} {programs(double)}")
    goes(server, double, "down")


def steady(server, double):
    """How often the root is asked when nothing changes, at the poll interval that is the default."""
    status, body = server.call("PATCH", API + "/orchestrators/oakestra", {"spec": {"pollInterval": "5s"}}, MERGE)
    assert status == 200, body
    long_project(server, "steady")
    services = len(ready_programs(double))
    before = double.counts()
    seconds = float(os.environ.get("STEADY_S", "25"))
    wait("time passes", lambda: double.counts()["seconds"] > before["seconds"] + seconds, seconds + 60)
    after = double.counts()
    span = (after["seconds"] - before["seconds"]) / 60
    rates = {path: (it["total"] - before["requests"].get(path, {"total": 0})["total"]) / span
             for path, it in after["requests"].items()}
    rates = {path: rate for path, rate in rates.items() if rate > 0}
    print(f"# steady: {services} services, {sum(rates.values()):.1f} requests a minute: "
          + ", ".join(f"{path} {rate:.1f}" for path, rate in rates.items()))
    judge.check("steady: no more than one read a service in 5 s", sum(rates.values()) <= 12 * services, rates)
    judge.check("steady: nothing is changed", not [it for it in rates if not it.startswith("GET ")], rates)
    goes(server, double, "steady")


def lost(server, double):
    """A cluster goes with all that ran there, and comes back; what ended is started again there without end."""
    double.do("traps", restart_loop=True)
    apply(server, on_oakestra("lost", 100000, training={
        "local": {"epochs": 20}, "evaluation": {"deadline": "5s"},
        "participation": {"minAvailable": 2, "quorum": 2, "deadline": "5s"}}))
    wait("some rounds", lambda: completed(server, "lost") >= 2)
    ready_programs(double)
    double.do("cluster", name="west", gone_s=3600, programs_too=True)
    at = completed(server, "lost")
    judge.check("lost: it goes on with what is left", wait("rounds", lambda: completed(server, "lost") > at + 2),
                explain(server, "lost"))
    double.do("cluster", name="west", gone_s=0)
    back = wait("both clusters have aggregators", lambda: tiers_of(double) == list(CLUSTERS))
    judge.check("lost: the cluster has its aggregator again", back, tiers_of(double))
    at = completed(server, "lost")
    judge.check("lost: it goes on with both", wait("rounds", lambda: completed(server, "lost") > at + 2),
                explain(server, "lost"))
    goes(server, double, "lost")
    set_traps(double, [])


def grows(server, double):
    """A learner on every node. A cluster appears while it trains: it gets a learner, and an aggregator above it. It goes
    again, which costs its learner and no round."""
    project = on_oakestra("grows", 100000, training={
        "local": {"epochs": 20}, "evaluation": {"deadline": "5s"},
        "participation": {"minAvailable": 2, "quorum": 2, "deadline": "5s"}}, roundHistoryLimit=5, modelHistoryLimit=5)
    del project["spec"]["learners"]["count"]
    apply(server, project)
    judge.check("grows: trains", wait("some rounds", lambda: completed(server, "grows") >= 2), explain(server, "grows"))
    judge.check("grows: a learner a cluster", learners_of(double) == list(CLUSTERS), learners_of(double))
    double.do("cluster", name=LATE, gone_s=0)
    all_of_them = sorted((*CLUSTERS, LATE))
    come = wait("an aggregator and a learner there", lambda: tiers_of(double) == learners_of(double) == all_of_them)
    judge.check("grows: the cluster that appeared has an aggregator and a learner", come,
                f"{tiers_of(double)} {learners_of(double)} {explain(server, 'grows')}")
    judge.check("grows: it takes part", wait("three learners in a round", lambda: reported(server, "grows") == 3),
                explain(server, "grows"))
    double.do("cluster", name=LATE, gone_s=3600, programs_too=True)
    judge.check("grows: a round is done without it", wait("a round of two", lambda: reported(server, "grows") == 2),
                explain(server, "grows"))
    more = completed(server, "grows") + 3
    judge.check("grows: goes on", wait("more rounds", lambda: completed(server, "grows") >= more), explain(server, "grows"))
    goes(server, double, "grows")


def learners_of(double):
    found = [it["cluster"] for it in double.state()["programs"]
             if it["pid"] and "learner" in command_line(it["pid"])]
    return sorted(found)


def reported(server, name):
    """Learners whose updates are in the last round that was committed."""
    rounds = [it for it in items(server, f"{NS}/flrounds") if it["spec"]["project"]["name"] == name
              and condition(it, "Succeeded")["status"] == "True"]
    last = max(rounds, key=lambda it: it["status"]["index"], default=None)
    return last and last["status"].get("participants", {}).get("reported")


CASES = {"friendly": friendly, "grows": grows, "lost": lost, "trapped": trapped, "down": down, "steady": steady}


def enter_network():
    """This program again, where 10.30.x.y are local addresses."""
    os.environ["OWN_NETWORK"] = "yes"
    how = "-n" if os.geteuid() == 0 else "-rn"
    os.execvp("unshare", ["unshare", how, "sh", "-c", OWN_NETWORK, "sh", sys.executable, *sys.argv])


def main():
    if OLD and "OWN_NETWORK" not in os.environ:
        enter_network()
    server = rig.Server().start()
    double = Running("--seed", str(SEED), "--clusters", ",".join((*CLUSTERS, LATE)), "--image", f"*={rig.FLOPS}",
                     "--env", f"FLOPS_DATA_DIR={server.dir}/data", "--dir", os.path.join(server.dir, "oakestra"),
                     *(["--version", "0.4.402", "--real-addresses"] if OLD else []))
    kept = False
    try:
        push_data(server)
        double.do("cluster", name=LATE, gone_s=1e6)
        join(server, double)
        for name in [it for it in sys.argv[1:] if it != "--old"] or CASES:
            began = time.monotonic()
            CASES[name](server, double)
            print(f"# {name} took {time.monotonic() - began:.1f} s")
        judge.check("the control plane ends well", server.stop() == 0, server.errors()[-500:])
    except BaseException:
        kept = bool(os.environ.get("KEEP"))
        raise
    finally:
        double.stop()
        if kept:
            print("what is left of it:", server.dir)
        else:
            server.remove()
            shutil.rmtree(server.dir, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
