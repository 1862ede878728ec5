#!/usr/bin/env python3
"""An InferenceServer under load that never pauses, while all that can change about it does: models roll out and are taken
back, servers come, go and are killed, the control plane and the router die. No request may fail."""

import hashlib
import json
import os
import signal
import subprocess
import time

import rig
from serve_rig import Softmax, slow_model, wait_until
from serving_load import Live, Load

API = "/apis/flops.dev/v1alpha1/namespaces/default"
VERSIONS, SERVERS, WORKLOADS = f"{API}/modelversions", f"{API}/inferenceservers", f"{API}/workloads"
MERGE = {"Content-Type": "application/merge-patch+json"}
JUDGE = rig.Judge()
SHAPE = [2, 3]


def get(server, path):
    """None while it cannot be had: the control plane may be down."""
    try:
        status, answer = server.call("GET", path)
    except OSError:
        return None
    return answer if status == 200 else None


def push(server, model):
    path = os.path.join(server.dir, "model.file")
    with open(path, "wb") as file:
        file.write(model.bytes)
    subprocess.run([rig.FLOPS, "models", "push", path, "--kubeconfig", os.path.join(server.dir, "kubeconfig")], check=True,
                   capture_output=True, timeout=60)


def publish(server, project, number, model, aliases=("latest",), accuracy="0.9"):
    """As whoever commits a round does."""
    push(server, model)
    status, answer = server.call("POST", VERSIONS, {
        "apiVersion": "flops.dev/v1alpha1", "kind": "ModelVersion", "metadata": {"name": f"{project}-{number}"},
        "spec": {"project": {"name": project}, "round": number, "digest": model.digest, "size": len(model.bytes),
                 "aliases": list(aliases), "metrics": {"accuracy": accuracy},
                 "lineage": {"strategy": "FedAvg", "contributors": 4, "dataTags": ["x"],
                             "source": {"builtin": "SoftmaxRegression"}, "time": "2026-01-02T03:04:05Z"}}})
    assert status == 201, answer


class Slow:
    """Takes a millisecond or more for a row; all classes are the same to it."""

    def __init__(self):
        self.bytes = slow_model(6, 2500, SHAPE)
        self.digest = "sha256:" + hashlib.sha256(self.bytes).hexdigest()

    def answer(self, _):
        return [0.5, 0.5]


def models_from(seed, count):
    return [Softmax(SHAPE, 4, seed + i) for i in range(count)]


class Serving:
    """One InferenceServer and its load."""

    def __init__(self, server, name, first, select="Latest", **spec):
        self.server, self.name, self.path = server, name, f"{SERVERS}/{name}"
        self.live, self.load = Live(), None
        publish(server, name, 1, first, ("latest", "best"))
        model = {"project": {"name": name, "select": select}}
        status, answer = server.call("POST", SERVERS, {
            "apiVersion": "flops.dev/v1alpha1", "kind": "InferenceServer", "metadata": {"name": name},
            "spec": {"model": model, "port": 0, "gracePeriod": "10s", **spec}})
        assert status == 201, answer
        self.live.allow(first)
        JUDGE.check(f"{name}: it serves", wait_until(lambda: self.serves(first)), self.explain())
        self.port = int(self.status()["url"].rsplit(":", 1)[1])
        self.load = Load(self.port, self.live, name)

    def status(self):
        return (get(self.server, self.path) or {}).get("status", {})

    def reason(self):
        return next((c["reason"] for c in self.status().get("conditions", []) if c["type"] == "Ready"), None)

    def took_back(self, model):
        """And the router has heard of it."""
        status = self.status()
        rollout, traffic = status.get("rollout", {}), status.get("traffic", [])
        return (rollout.get("state") == "RolledBack" and rollout.get("rejected") == model.digest and
                [t["role"] for t in traffic] == ["Stable"])

    def explain(self):
        return json.dumps(self.status())[:2000]

    def events(self, reason):
        items = (get(self.server, "/api/v1/namespaces/default/events") or {}).get("items", [])
        return [e["message"] for e in items if e["reason"] == reason and e["involvedObject"]["name"] == self.name]

    def patch(self, spec):
        status, answer = self.server.call("PATCH", self.path, {"spec": spec}, MERGE)
        assert status == 200, answer

    def serves(self, model):
        """The model alone, and by as many servers as are wanted."""
        status = self.status()
        traffic, replicas = status.get("traffic", []), status.get("replicas", {})
        return (self.reason() == "Serving" and [t.get("digest") for t in traffic] == [model.digest] and
                traffic[0]["percent"] == 100 and replicas["ready"] == replicas["desired"] == replicas["current"])

    def answered(self, count):
        """So many more requests."""
        seen = self.load.done
        return wait_until(lambda: self.load.done >= seen + count or self.load.failures)

    def judge(self, what, wanted, enough=50):
        """No request failed since the last judgement, and these models did answer."""
        went_on = self.answered(enough)
        by, failures = self.load.taken()
        JUDGE.check(f"{self.name}: {what}: no request fails", went_on and not failures and sum(by.values()) >= enough,
                    f"{len(failures)} of {sum(by.values())}: {failures[:3]}; {self.explain()}")
        missing = [model.digest[:16] for model in wanted if model.digest not in by]
        JUDGE.check(f"{self.name}: {what}: answers of each model meant", not missing, (missing, by))

    def processes(self, word):
        """Of its servers or router."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                argv = open(f"/proc/{pid}/cmdline", "rb").read().decode().split("\0")
                if argv[1:2] == [word] and os.readlink(f"/proc/{pid}/cwd").startswith(self.server.dir + "/"):
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def kept_models(self, size):
        """Files of that size in the state folders of its services."""
        return [os.path.join(path, name) for path, _, names in os.walk(self.server.dir) if "/state" in path
                for name in names if os.path.getsize(os.path.join(path, name)) == size]

    def end(self):
        self.load.end()
        self.server.call("DELETE", self.path)
        JUDGE.check(f"{self.name}: deleted", wait_until(lambda: get(self.server, self.path) is None), self.explain())
        JUDGE.check(f"{self.name}: nothing runs on", wait_until(
            lambda: not self.processes("serve") and not self.processes("router")))


def rolling(serving, number, model):
    serving.live.allow(model)
    publish(serving.server, serving.name, number, model)
    JUDGE.check(f"{serving.name}: rolled out", wait_until(lambda: serving.serves(model)), serving.explain())
    serving.live.only(model)


def scaling(serving, model):
    for replicas in (1, 3):
        serving.patch({"replicas": replicas})
        JUDGE.check(f"{serving.name}: {replicas} servers", wait_until(
            lambda n=replicas: serving.serves(model) and serving.status()["replicas"]["current"] == n), serving.explain())
        serving.judge(f"scaled to {replicas}", [model])


def servers_killed(serving, model):
    for _ in range(3):
        before = serving.processes("serve")
        os.kill(before[0], signal.SIGKILL)
        JUDGE.check(f"{serving.name}: a killed server is replaced", wait_until(
            lambda b=before: b[0] not in serving.processes("serve") and len(serving.processes("serve")) == 3 and
            serving.serves(model)), serving.explain())
    serving.judge("servers are killed", [model])


def control_plane_killed(serving, number, model):
    """At some moments of a roll-out."""
    serving.live.allow(model)
    publish(serving.server, serving.name, number, model)
    for pause in (0, 0.05, 0.3):
        time.sleep(pause)  # the moment is what is tried, nothing is waited for
        serving.server.kill()
        serving.answered(30)
        serving.server.start()
    JUDGE.check(f"{serving.name}: rolled out all the same", wait_until(lambda: serving.serves(model)), serving.explain())
    serving.live.only(model)
    serving.judge("the control plane is killed in mid-roll-out", [model])


def router_killed(serving, model):
    serving.load.expect_gap()
    os.kill(serving.processes("router")[0], signal.SIGKILL)
    JUDGE.check(f"{serving.name}: the router is back", wait_until(
        lambda: serving.load.gap["until"] and serving.serves(model)), serving.explain())
    JUDGE.check(f"{serving.name}: at its address", serving.status()["url"].endswith(f":{serving.port}"), serving.explain())
    gap = serving.load.end_gap()
    print(f"# the router was away for {1000 * (gap['until'] - gap['since']):.0f} ms; {gap['lost']} requests met nobody")
    serving.judge("the router was killed", [model])


def roll(server):
    models = models_from(10, 4)
    serving = Serving(server, "roll", models[0], replicas=3)
    try:
        serving.judge("at rest", [models[0]])
        rolling(serving, 2, models[1])
        serving.judge("a new model rolls out", models[:2])
        scaling(serving, models[1])
        servers_killed(serving, models[1])
        control_plane_killed(serving, 3, models[2])
        router_killed(serving, models[2])
        rolling(serving, 4, models[3])
        serving.judge("a last model rolls out", models[2:])
    finally:
        serving.end()


def alone(server):
    """One server: who calls while it is started again waits."""
    model = models_from(40, 1)[0]
    serving = Serving(server, "alone", model)
    try:
        JUDGE.check("alone: it keeps its model", wait_until(lambda: len(serving.kept_models(len(model.bytes))) == 1),
                    serving.kept_models(len(model.bytes)))
        for _ in range(2):
            before = serving.processes("serve")
            os.kill(before[0], signal.SIGKILL)
            JUDGE.check("alone: the only server is started again", wait_until(
                lambda b=before: serving.processes("serve") not in ([], b) and serving.serves(model)), serving.explain())
            serving.judge("the only server is killed", [model])
    finally:
        serving.end()


def scaled(server):
    """Load leads the number of servers up and down."""
    model = Slow()
    serving = Serving(server, "scaled", model, autoscale={
        "minReplicas": 1, "maxReplicas": 3, "metric": "Concurrency", "target": 1, "window": "2s", "scaleDownDelay": "3s"})
    try:
        for pause_s, wanted in ((0, 3), (0.5, 1), (0, 3)):
            serving.load.pause_s = pause_s
            JUDGE.check(f"scaled: {wanted} servers", wait_until(
                lambda n=wanted: serving.serves(model) and serving.status()["replicas"]["current"] == n), serving.explain())
            serving.judge(f"load led to {wanted}", [model])
        os.kill(serving.processes("router")[0], signal.SIGKILL)
        serving.load.expect_gap()
        serving.answered(50)
        serving.load.end_gap()
        JUDGE.check("scaled: a router that has measured nothing yet changes nothing",
                    serving.status()["replicas"]["desired"] == 3, serving.explain())
        said = serving.events("Scaled")
        JUDGE.check("scaled: events say why", any("3 servers instead of" in s and "Concurrency" in s for s in said) and
                    any("1 servers instead of" in s or "2 servers instead of" in s for s in said), said)
    finally:
        serving.end()


CANARY = {"strategy": "Canary", "steps": [10, 50], "interval": "500ms", "minRequests": 20}


def canary(server):
    first, good, bad, slow = *models_from(20, 2), Softmax([3, 3], 4, 22), Slow()
    serving = Serving(server, "canary", first, replicas=2, rollout=CANARY)
    try:
        rolling(serving, 2, good)
        serving.judge("a good canary is promoted", [first, good])
        publish(server, "canary", 3, bad)
        JUDGE.check("canary: one of another signature is taken back", wait_until(lambda: serving.took_back(bad)),
                    serving.explain())
        JUDGE.check("canary: which is the reason of Ready", wait_until(lambda: serving.reason() == "RolledBack"),
                    serving.explain())
        why = serving.status().get("rollout", {}).get("message", "")
        JUDGE.check("canary: it says why", "requests failed" in why, why)
        JUDGE.check("canary: an event says so, too", wait_until(
            lambda: any("requests failed" in message for message in serving.events("RolledBack"))),
            get(server, "/api/v1/namespaces/default/events"))
        JUDGE.check("canary: its servers are gone", wait_until(lambda: len(serving.processes("serve")) == 2))
        serving.judge("a bad canary is taken back", [good])
        serving.patch({"rollout": {"maxLatency": "1ms", "maxErrorRate": "1"}})
        serving.live.allow(slow)
        publish(server, "canary", 4, slow)
        JUDGE.check("canary: one too slow is taken back", wait_until(lambda: serving.took_back(slow)),
                    serving.explain())
        why = serving.status().get("rollout", {}).get("message", "")
        JUDGE.check("canary: it says so", "99th percentile" in why, why)
        serving.live.only(good)
        serving.judge("a slow canary is taken back", [good, slow])
    finally:
        serving.end()


def selection(server):
    first, later, best, fourth = models_from(30, 4)
    serving = Serving(server, "choice", first, select="Best")
    try:
        publish(server, "choice", 2, later)
        serving.judge("one that is not the best is not taken", [first])
        serving.live.allow(best)
        publish(server, "choice", 3, best, ("latest", "best"))
        JUDGE.check("choice: the best is taken", wait_until(lambda: serving.serves(best)), serving.explain())
        serving.live.only(best)
        publish(server, "choice", 4, fourth)
        serving.live.allow(fourth)
        serving.patch({"model": {"project": {"select": "Latest"}}})
        JUDGE.check("choice: the latest is taken", wait_until(lambda: serving.serves(fourth)), serving.explain())
        serving.live.only(fourth)
        serving.live.allow(later)
        serving.patch({"model": {"project": {"select": "Round", "round": 2}}})
        JUDGE.check("choice: the round is taken", wait_until(lambda: serving.serves(later)), serving.explain())
        serving.live.only(later)
        serving.judge("the choice is changed", [first, best, fourth, later])
        serving.patch({"model": {"project": {"select": "Round", "round": 9}}})
        JUDGE.check("choice: it waits for a round to come", wait_until(lambda: serving.reason() == "WaitingForModel"),
                    serving.explain())
        serving.judge("a model is waited for", [later])
    finally:
        serving.end()


def main():
    server = rig.Server()
    try:
        server.start()
        for part in (roll, alone, scaled, canary, selection):
            part(server)
        server.stop()
    finally:
        server.remove()
    JUDGE.end()


if __name__ == "__main__":
    main()
