#!/usr/bin/env python3
"""parity.py KUBECTL...: one manifest, the same result, whichever way it comes.

A federation of two clusters, two tiers of aggregators and four learners, with an InferenceServer, is given to
fresh control planes: by each unmodified kubectl, by a commit to a Git repository, as a file in a watched folder,
and by `flops apply`. All must come to the same number of rounds and to the same model after each, by digest,
and serve it with the same answers. kubectl's own watches and waits say how it goes. Standard library and git only."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "local"))
import gitops  # noqa: E402
import rig  # noqa: E402

NS = "/apis/flops.dev/v1alpha1/namespaces/default"
ROUNDS, FEATURES, CLASSES, ROWS, LEARNERS = 4, 6, 3, 400, 4
DEADLINE_S = 120
MANIFEST = f"""apiVersion: flops.dev/v1alpha1
kind: Orchestrator
metadata: {{name: local}}
spec:
  type: Local
  local:
    clusters:
      - {{name: east, nodes: [{{name: east-1}}, {{name: east-2}}]}}
      - {{name: west, nodes: [{{name: west-1}}, {{name: west-2}}]}}
---
apiVersion: flops.dev/v1alpha1
kind: FLProject
metadata: {{name: parity}}
spec:
  source: {{builtin: {{trainer: MLP, options: {{hiddenUnits: [8]}}}}}}
  data: {{tags: [points]}}
  training:
    rounds: {ROUNDS}
    seed: 11
    local: {{learningRate: "0.1", batchSize: 10}}
    participation: {{minAvailable: {LEARNERS}, quorum: {LEARNERS}, selection: All}}
  topology:
    tiers: [{{name: edge, groupBy: Cluster}}, {{name: site, groupBy: Node}}]
  learners: {{count: {LEARNERS}}}
  serve: {{name: parity, select: Latest, port: 0}}
"""
judge = rig.Judge()


class Way:
    """A control plane of its own, with the same data as all, and a way for the manifest to come."""

    def __init__(self, name, data, *options):
        self.name, self.server, self.data = name, rig.Server(*options), data
        self.base = tempfile.mkdtemp(prefix="flops-parity-")

    def start(self):
        self.server.start()
        for words in (["push", "points", self.data, "--header", "no"],
                      ["partition", "points", "--learners", str(LEARNERS)]):
            self.flops("data", *words)

    def flops(self, *words):
        return subprocess.run([rig.FLOPS, *words, "--data-dir", self.server.dir], check=True, capture_output=True,
                              text=True, timeout=2 * DEADLINE_S).stdout

    def write(self, folder):
        path = os.path.join(folder, "parity.yaml")
        with open(path, "w") as file:
            file.write(MANIFEST)
        return path

    def give(self):
        self.flops("apply", "-f", self.write(self.base))

    def wait(self):
        for condition in ("Complete", "Ready"):
            self.flops("wait", f"--for=condition={condition}", "flp/parity", f"--timeout={DEADLINE_S}s")

    def items(self, kind):
        return self.server.call("GET", f"{NS}/{kind}")[1]["items"]

    def result(self):
        """Rounds done, models by round, and what the last one says about a few rows once it serves."""
        gitops.wait_for(lambda: self.items("inferenceservers")[0]["status"]["model"]["round"] == ROUNDS, DEADLINE_S)
        status = self.server.call("GET", f"{NS}/flprojects/parity")[1]["status"]
        models = {m["spec"]["round"]: m["spec"]["digest"] for m in self.items("modelversions")}
        rows = [[float((i + f) % CLASSES) for f in range(FEATURES)] for i in range(5)]
        request = urllib.request.Request(status["serving"]["url"] + "/invocations",
                                         json.dumps({"instances": rows}).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            served = json.load(answer)
        return {"rounds": status["rounds"]["completed"], "last": status["model"]["digest"], "models": models,
                "served": served}

    def run(self):
        self.start()
        self.give()
        self.wait()
        return self.result()

    def close(self):
        self.server.call("DELETE", f"{NS}/flprojects/parity")
        gitops.wait_for(lambda: not self.items("flprojects") and not self.items("workloads"))
        ended = self.server.stop()
        self.server.remove()
        shutil.rmtree(self.base, ignore_errors=True)
        return ended


class ByKubectl(Way):
    """With a watch on each kind, as a person would have in terminals beside it."""

    def __init__(self, kubectl, data):
        super().__init__(os.path.basename(kubectl), data)
        self.kubectl, self.watches = os.path.abspath(kubectl), {}

    def kube(self, *words):
        env = {"HOME": self.base, "PATH": os.environ["PATH"], "KUBECONFIG": os.path.join(self.server.dir, "kubeconfig")}
        return [self.kubectl, *words], env

    def run_kubectl(self, *words):
        command, env = self.kube(*words)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * DEADLINE_S)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def watch(self, kind):
        command, env = self.kube("get", kind, "-w")
        path = os.path.join(self.base, kind)
        with open(path, "w") as out:
            self.watches[kind] = path, subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)

    def seen(self, kind):
        return open(self.watches[kind][0]).read()

    def give(self):
        for kind in ("flp", "flr", "infs", "wl"):
            self.watch(kind)
        self.run_kubectl("apply", "-f", self.write(self.base))

    def wait(self):
        try:
            said = self.run_kubectl("wait", "--for=condition=Complete", "flp/parity", f"--timeout={DEADLINE_S}s")
            judge.check(f"{self.name}: kubectl wait sees it complete", "condition met" in said, said)
            self.run_kubectl("wait", "--for=condition=Ready", "flp/parity", f"--timeout={DEADLINE_S}s")
            self.check_watches()
        finally:
            for _, process in self.watches.values():
                process.kill()
                process.wait()

    def check_watches(self):
        wanted = {"flp": [r"ROUND +ACCURACY +LEARNERS +STATUS", r"parity .*(StartingAggregators|WaitingForLearners)",
                          r"parity +[1-3]/4 .*Training", r"parity +4/4 .*(Complete|Serving|RoundsDone)"],
                  "flr": [r"parity-round-[1-4]-\S+ +parity +[1-4] .*Training",
                          r"parity-round-4-\S+ +parity +4 +4/4 +0\.\d+ .*Committed"],
                  "infs": [r"parity +http://127.0.0.1:\d+ +1/1 +4 +Serving"],
                  "wl": [r"parity-root-\S+ .*1/1 .*Running", r"parity-edge-east-\S+ ",
                         r"parity-\S*learner\S* .*Running"]}
        for kind, lines in wanted.items():
            missing = [line for line in lines if not gitops.wait_for(lambda: re.search(line, self.seen(kind)), 20)]
            judge.check(f"{self.name}: kubectl get {kind} -w shows how it goes", not missing,
                        f"{missing} in\n{self.seen(kind)}")


class ByGit(Way):
    def __init__(self, data):
        self.folder = tempfile.mkdtemp(prefix="flops-parity-git-")
        self.repository = gitops.Repository(self.folder)
        self.repository.commit({"README": "nothing yet"})
        super().__init__("git", data, "--git", "file://" + self.repository.bare)

    def give(self):
        self.repository.commit({"parity.yaml": MANIFEST})
        status, body = self.server.call(
            "PATCH", "/apis/flops.dev/v1alpha1/namespaces/flops-system/gitsyncs/git",
            {"metadata": {"annotations": {"flops.dev/reconcile": "now"}}},
            {"Content-Type": "application/merge-patch+json"})
        assert status == 200, body
        assert gitops.wait_for(lambda: self.items("flprojects")), "the commit is not applied"

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.server.call("DELETE", "/apis/flops.dev/v1alpha1/namespaces/flops-system/gitsyncs/git")
        return super().close()


class ByFolder(Way):
    def __init__(self, data):
        self.folder = tempfile.mkdtemp(prefix="flops-parity-folder-")
        super().__init__("folder", data, "--manifests", self.folder)

    def give(self):
        self.write(self.folder)
        assert gitops.wait_for(lambda: self.items("flprojects")), "the file is not applied"

    def close(self):
        os.unlink(os.path.join(self.folder, "parity.yaml"))
        ended = super().close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return ended


def make_data(path):
    chance = random.Random(3)
    with open(path, "w") as file:
        for i in range(ROWS):
            row = [chance.gauss(2.0 if f % CLASSES == i % CLASSES else 0.0, 1.0) for f in range(FEATURES)]
            file.write(",".join(f"{x:.5f}" for x in row) + f",{i % CLASSES}\n")


def try_way(way):
    try:
        return way.run()
    except Exception as error:
        what = f"{error} {getattr(error, 'stderr', '')}\n{way.server.errors()[-1500:]}"
        judge.check(f"{way.name}: comes to its end", False, what)
        return None


def main():
    base = tempfile.mkdtemp(prefix="flops-parity-data-")
    data = os.path.join(base, "points.csv")
    make_data(data)
    ways = [*(ByKubectl(k, data) for k in sys.argv[1:]), ByGit(data), ByFolder(data), Way("flops", data)]
    try:
        with ThreadPoolExecutor(len(ways)) as pool:
            results = list(pool.map(try_way, ways))
        first = results[0] or {}
        judge.check("every round has a model, and the last is the project's",
                    first.get("rounds") == ROUNDS and first["models"].get(ROUNDS) == first["last"] and
                    len(set(first["models"].values())) >= ROUNDS, first)
        for way, result in zip(ways[1:], results[1:]):
            judge.check(f"{way.name}: the same rounds, models and answers as by {ways[0].name}", result == first,
                        f"\n{result}\n{first}")
    finally:
        for way in ways:
            judge.check(f"{way.name}: is deleted, and the control plane ends well", way.close() == 0,
                        way.server.process and way.server.process.returncode)
        shutil.rmtree(base, ignore_errors=True)
    judge.end()


main()
