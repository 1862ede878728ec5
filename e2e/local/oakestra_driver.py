#!/usr/bin/env python3
"""oakestra_driver.py [CASE...]: the orchestrator `oakestra` by itself, with real processes.

A `flops up` and the double of a root with two clusters (e2e/oakestra). Workloads die, loop and lose their
finalizer, the root and the control plane are away at once, a cluster goes and comes back, a password is
corrected. At the end nothing is left at the root. Projects on it are in oakestra.py. Standard library only; $FLOPS
is the program."""

import base64
import http.client
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import project as projects  # noqa: E402
import rig  # noqa: E402
sys.path.insert(0, rig.ROOT)
from e2e.oakestra import schema  # noqa: E402

API, NS, MERGE = projects.API, projects.NS, projects.MERGE
CLUSTERS = ("east", "west")
DEADLINE_S = 240
judge = projects.judge


class Root:
    """The double, as a process."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "e2e.oakestra.double", "--clusters", ",".join(CLUSTERS), "--user", "Admin:pw",
             "--image", "*=" + os.path.abspath(rig.FLOPS), *options],
            cwd=rig.ROOT, stdout=subprocess.PIPE)
        self.ports = json.loads(self.process.stdout.readline())

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=20)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")

    def state(self):
        return self.ask("GET", "/state")[1]

    def pids(self):
        return sorted(it["pid"] for it in self.state()["programs"] if it["pid"] and it["status"] == "RUNNING")

    def left(self):
        state = self.state()
        return [len(state[key]) for key in ("applications", "services", "programs", "addresses")]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


def connect(server, root, name="oak", password="pw"):
    """An Orchestrator for the root, its credentials in a Secret."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in
            (("username", "Admin"), ("password", password))}
    server.call("POST", "/api/v1/namespaces/flops-system/secrets",
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
    spec = {"type": "Oakestra", "endpoint": f"http://127.0.0.1:{root.ports['root']}", "pollInterval": "1s",
            "credentialsSecret": {"name": name, "namespace": "flops-system"},
            "oakestra": {"networkEndpoint": f"http://127.0.0.1:{root.ports['network']}", "scheduleDeadline": "3s",
                         "programImage": "example.org/flops:1",
                         "clusters": [{"name": it, "labels": {"site": it}} for it in CLUSTERS]}}
    status, body = server.call("POST", API + "/orchestrators", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "Orchestrator", "metadata": {"name": name}, "spec": spec})
    assert status == 201, body


def get(server, path):
    status, body = server.call("GET", path)
    return body if status == 200 else {}


def condition(thing, kind="Ready"):
    return next((it for it in thing.get("status", {}).get("conditions", []) if it["type"] == kind), {})


def wait(what, holds, deadline_s=DEADLINE_S):
    return projects.wait(what, holds, deadline_s)


def wait_until_ready(server, path, deadline_s=DEADLINE_S):
    wait(path.rsplit("/", 1)[-1] + " is ready", lambda: condition(get(server, path)).get("status") == "True",
         deadline_s)


def workload(name, instances=1, **spec):
    return {"apiVersion": "flops.dev/v1alpha1", "kind": "Workload", "metadata": {"name": name}, "spec": {
        "orchestrator": "oak", "process": {"program": "flops"}, "instances": instances,
        "args": ["aggregator", "--folder", "state", "--project", "x", "--port-env", "PORT_HTTP",
                 "--token-file", "token"],
        "files": [{"path": "token", "content": "a token of 32 characters at least"}],
        "ports": [{"name": "http"}], **spec}}


def run_workload(server, *words, **spec):
    made = workload(*words, **spec)
    status, body = server.call("POST", NS + "/workloads", made)
    assert status == 201, body
    wait_until_ready(server, f"{NS}/workloads/{made['metadata']['name']}")


def gone(server, path):
    server.call("DELETE", path)
    wait(path.rsplit("/", 1)[-1] + " is gone", lambda: server.call("GET", path)[0] == 404)


def check_nothing_left(root, name):
    try:
        wait("nothing is left at the root", lambda: not any(root.left()), 90)
    except AssertionError:
        pass
    judge.check(name, not any(root.left()), f"applications, services, programs, addresses: {root.left()}")


# Cases


def outage(server, root):
    """The root is out of reach, and the control plane dies meanwhile."""
    run_workload(server, "outage", 3)
    pids = root.pids()
    root.ask("POST", "/root", {"down_s": 12})
    server.kill()
    server.start()
    wait("it is out of reach",
         lambda: condition(get(server, API + "/orchestrators/oak"), "Reachable").get("status") == "False")
    wait("it is back", lambda: condition(get(server, API + "/orchestrators/oak")).get("status") == "True")
    wait_until_ready(server, NS + "/workloads/outage")
    status = get(server, NS + "/workloads/outage")["status"]
    judge.check("a root that was out of reach costs nothing that runs",
                root.pids() == pids and len(pids) == 3 and not status["replicas"].get("restarts"),
                f"{pids} became {root.pids()}")
    gone(server, NS + "/workloads/outage")


def restarts(server, root):
    """A program that dies is started anew, once each time, under another name; and one that always fails is not
    started by its cluster for ever."""
    run_workload(server, "dies")
    first = root.state()["programs"][0]
    root.ask("POST", "/signal", {"service": first["job"], "signal": 9})
    wait("it runs again", lambda: get(server, NS + "/workloads/dies")["status"]["replicas"].get("restarts") == 1
         and condition(get(server, NS + "/workloads/dies")).get("status") == "True")
    now = [it for it in root.state()["programs"] if it.get("job")]
    judge.check("what died was started anew under a fresh name", len(now) == 1 and now[0]["job"] != first["job"]
                and now[0]["starts"] == 1, str(now))
    gone(server, NS + "/workloads/dies")
    root.ask("POST", "/traps", {"restart_loop": True})
    server.call("POST", NS + "/workloads", workload("loops", restartPolicy="Never", args=["no-such-command"]))
    wait("it is given up", lambda: condition(get(server, NS + "/workloads/loops")).get("reason") == "OutOfRestarts")
    wait("its cluster lets go of it", lambda: not any(root.left()[1:]), 60)
    judge.check("a one-shot that fails is taken from its cluster", not any(root.left()[1:]), str(root.left()))
    root.ask("POST", "/traps", {"restart_loop": 0})
    gone(server, NS + "/workloads/loops")


def orphans(server, root):
    """A Workload whose finalizer was taken away by force."""
    run_workload(server, "orphan")
    server.call("PATCH", NS + "/workloads/orphan", {"metadata": {"finalizers": None}}, MERGE)
    server.call("DELETE", NS + "/workloads/orphan")
    check_nothing_left(root, "what belongs to no Workload is removed")


def clusters(server, root):
    """They are EdgeClusters, and how they are is followed."""
    wait("both clusters", lambda: {it["metadata"]["name"] for it in get(server, API + "/edgeclusters").get("items", [])
                                   if it["spec"]["orchestrator"] == "oak"} == set(CLUSTERS))
    wait_until_ready(server, API + "/edgeclusters/east")
    capacity = get(server, API + "/edgeclusters/east")["status"].get("capacity", {})
    root.ask("POST", "/cluster", {"name": "east", "gone_s": 600})
    wait("east is not ready", lambda: condition(get(server, API + "/edgeclusters/east")).get("status") == "False")
    other = condition(get(server, API + "/edgeclusters/west")).get("status")
    root.ask("POST", "/cluster", {"name": "east", "gone_s": 0})
    wait_until_ready(server, API + "/edgeclusters/east")
    judge.check("a cluster goes and comes back", other == "True" and capacity.get("cpu"), f"{other} {capacity}")


def secrets(server, root):
    """A second Orchestrator with a wrong password, which is then corrected."""
    connect(server, root, "second", "wrong")
    path = API + "/orchestrators/second"
    wait("it is refused", lambda: "credentials" in condition(get(server, path), "Reachable").get("message", ""))
    message = json.dumps(get(server, path))
    data = {"data": {"password": base64.b64encode(b"pw").decode()}}
    server.call("PATCH", "/api/v1/namespaces/flops-system/secrets/second", data, MERGE)
    wait_until_ready(server, path)
    errors = server.errors()
    judge.check("a new password is found, and none is told", "wrong" not in message and '"wrong"' not in errors)
    gone(server, path)


def preview_of(server, thing):
    """The SLAs that `flops sla` prints, and what the root's schema has against them."""
    path = os.path.join(server.dir, "preview.json")
    with open(path, "w") as file:
        json.dump(thing, file)
    words = [word for it in CLUSTERS for word in ("--cluster", it)]
    done = subprocess.run([rig.FLOPS, "sla", *words, "--program-image", "example.org/flops:1", path],
                          capture_output=True, text=True, timeout=60)
    slas = [json.loads(it) for it in done.stdout.split("---\n") if it]
    wrong = [it for it in (schema.check(sla, schema.sla("0.4.411")) for sla in slas) if it]
    return slas, done.stderr + " ".join(wrong)


def preview(server, root):
    """What `flops sla` prints is what a root accepts."""
    slas, wrong = preview_of(server, workload("preview", 2, resources={"cpu": "1500m", "memory": "100Mi"}))
    services = slas[0]["applications"][0]["microservices"] if slas else []
    judge.check("the preview of a Workload is valid", not wrong and len(services) == 2 and services[0]["vcpus"] == 2,
                wrong)
    slas, wrong = preview_of(server, projects.manifest("preview", 3, tiers=1))
    placed = [it["constraints"][0]["cluster"] for sla in slas for it in sla["applications"][0]["microservices"][:1]]
    judge.check("so are those of a project", not wrong and len(slas) == 5 and set(placed) == set(CLUSTERS),
                f"{wrong} {placed}")


CASES = {it.__name__: it for it in (clusters, preview, secrets, restarts, orphans, outage)}


def main():
    root = Root()
    server = rig.Server().start()
    try:
        connect(server, root)
        wait_until_ready(server, API + "/orchestrators/oak")
        for name in sys.argv[1:] or CASES:
            CASES[name](server, root)
    finally:
        if judge.failed or sys.exc_info()[0]:
            print("\n".join(server.errors().splitlines()[-30:]))
        server.stop()
        server.remove()
        root.stop()
    judge.end()


if __name__ == "__main__":
    main()
