#!/usr/bin/env python3
"""git_project.py: from the link of a Git repository to a served model, in containers.

A `flops up` with MNIST in two parts; the scikit-learn repository of examples/code behind a link. Its image and the
aggregators' are built, learners train in them, the model is served, and predicts what scikit-learn predicts. A newer
ref changes the image and nothing else. What cannot be built is said by the project. Needs root, for containers.
$FLOPS is the program."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import project as p  # noqa: E402
import rig  # noqa: E402
from builds import Repository  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMESPACE = "flops-system"  # where repositories of this machine may be built from
API = f"{p.API}/namespaces/{NAMESPACE}"
LONG_S = 600  # packages are fetched and unpacked, on a machine that others use
LEARNERS = 2
judge = p.judge


def push_mnist(server):
    done = subprocess.run([os.path.join(ROOT, "hack", "get-data.sh"), os.path.join(ROOT, "build", "data"), "mnist"],
                          capture_output=True, text=True, check=True)
    folder = done.stdout.split()[-1]
    files = [os.path.join(folder, f"train-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for words in (["push", "mnist", *files], ["partition", "mnist", "--learners", str(LEARNERS)]):
        done = p.flops(server, "data", *words)
        assert done.returncode == 0, done.stderr


def get(server, name="digits"):
    return server.call("GET", f"{API}/flprojects/{name}")[1]


def explain(server, name="digits"):
    return json.dumps(get(server, name).get("status", {}))[:3000]


def patch(server, spec, name="digits"):
    status, body = server.call("PATCH", f"{API}/flprojects/{name}", {"spec": spec}, p.MERGE)
    assert status == 200, body


def link(server, name, repository, **spec):
    made = {"apiVersion": "flops.dev/v1alpha1", "kind": "FLProject", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"git": {"url": f"file://{repository.folder}", "ref": {"branch": "main"}}},
                     "learners": {"count": LEARNERS}, **spec}}
    p.apply(server, made)


def link_example(server, repository, file="flproject-git.yaml", of="scikit-mnist", name="digits"):
    """A manifest of examples/, for the repository and the number of rounds here."""
    text = open(os.path.join(ROOT, "examples", file)).read()
    for old, new in ((f"name: {of}", f"name: {name}"), ("namespace: default", f"namespace: {NAMESPACE}"),
                     ("https://git.example.org/team/federated.git", f"file://{repository.folder}"),
                     ("rounds: 10", "rounds: 2"), ("serve: {}", "serve: {port: 0}")):
        assert old in text, old
        text = text.replace(old, new)
    path = os.path.join(server.dir, "example.yaml")
    with open(path, "w") as out:
        out.write(text)
    done = p.flops(server, "apply", "-f", path)
    assert done.returncode == 0, done.stderr


def completes(server, rounds):
    return p.wait(f"round {rounds} is done", lambda: (get(server).get("status", {}).get("rounds") or {}).get(
        "completed", 0) >= rounds and p.condition(get(server), "Complete")["status"] == "True", LONG_S)


def workloads(server):
    return {w["metadata"]["name"]: w for w in server.call("GET", API + "/workloads")[1]["items"]}


def trains(server, repository):
    commit = repository.git("rev-parse", "HEAD")
    link_example(server, repository)
    judge.check("a Git link is trained to its end", completes(server, 2), explain(server))
    status = get(server)["status"]
    judge.check("the commit is told", status["source"] == {"commit": commit, "ref": "main"}, status.get("source"))
    images = {w["spec"]["role"]: w["spec"].get("image", "") for w in workloads(server).values()}
    wanted = "{name}@{digest}".format(**status["image"])
    judge.check("learners run the image that status tells", images["Learner"] == wanted, (images, wanted))
    judge.check("aggregators run one of their own", "/aggregator@sha256:" in images["Aggregator"], images)
    accuracy = float(status["metrics"]["best"]["values"]["accuracy"])
    judge.check("it learns", accuracy > 0.7, status["metrics"])
    print(f"# accuracy {accuracy} after 2 rounds")
    return commit


def unseen():
    """The first 200 digits that were not trained on, a row each, and what they are."""
    with open(os.path.join(ROOT, "build/data/mnist/t10k-images-idx3-ubyte"), "rb") as file:
        pixels = file.read()[16:16 + 200 * 784]
    with open(os.path.join(ROOT, "build/data/mnist/t10k-labels-idx1-ubyte"), "rb") as file:
        labels = list(file.read()[8:8 + 200])
    return [[x / 255 for x in pixels[i * 784:(i + 1) * 784]] for i in range(200)], labels


def right_of(server, name, what):
    """Its answers."""
    url = get(server, name)["status"]["serving"]["url"]
    rows, labels = unseen()
    request = urllib.request.Request(url + "/invocations", json.dumps({"inputs": rows}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        chances = json.load(answer)["predictions"]
    right = sum(row.index(max(row)) == label for row, label in zip(chances, labels))
    judge.check(what, right > 140, right)
    print(f"# {right} of 200 are right")
    return chances


def predicts(server):
    judge.check("the model is served", p.wait("served", lambda: p.condition(get(server), "ModelServed")["status"]
                                              == "True", LONG_S), explain(server))
    images = [w["spec"].get("image", "") for w in workloads(server).values() if w["spec"]["role"] == "InferenceServer"]
    judge.check("by images, too", images and all("/inference-server@sha256:" in image for image in images), images)
    right_of(server, "digits", "and predicts digits that it has not seen")


def goes_on_with_newer_code(server, repository, before):
    image = get(server)["status"]["image"]["digest"]
    judge.check("a branch that moves on moves nothing", repository.commit(NEWS="x") and
                get(server)["status"]["source"]["commit"] == before)
    repository.git("tag", "v2")
    patch(server, {"source": {"git": {"ref": {"branch": None, "tag": "v2"}}}, "training": {"rounds": 3}})
    judge.check("another ref is built and trained on", p.wait("newer code", lambda: get(server)["status"].get(
        "image", {}).get("digest") != image, LONG_S) and completes(server, 3), explain(server))
    builds = server.call("GET", API + "/imagebuilds")[1]["items"]
    judge.check("and the image before it is left", len([b for b in builds if b["spec"]["target"] == "Learner"]) == 1,
                [b["metadata"]["name"] for b in builds])


def own_code_predicts(server, folder):
    """A model that only its own code knows: that predicts, behind the server."""
    repository = Repository(os.path.join(folder, "own"))
    repository.git("checkout", "-qb", "main")
    shutil.copytree(os.path.join(ROOT, "examples", "code", "native"), repository.folder, dirs_exist_ok=True)
    repository.commit()
    link(server, "own", repository, data={"tags": ["mnist"]}, serve={"port": 0}, training={
        "rounds": 2, "local": {"epochs": 1, "batchSize": 50, "learningRate": "0.1"}})
    served = p.wait("own code serves", lambda: p.condition(get(server, "own"), "ModelServed")["status"] == "True", LONG_S)
    judge.check("a model of own code is served", served, explain(server, "own"))
    status = get(server, "own")["status"]
    images = {w["spec"]["image"] for w in workloads(server).values()
              if w["spec"]["role"] == "InferenceServer" and "servers" in w["metadata"]["name"] and
              w["metadata"]["name"].startswith("own")}
    judge.check("by the image of that code", images == {"{name}@{digest}".format(**status["image"])}, images)
    right_of(server, "own", "by what the code itself predicts")


def says_what_cannot_be_built(server, folder):
    repository = Repository(os.path.join(folder, "empty"))
    repository.git("checkout", "-qb", "main")
    repository.commit(readme__md="no code")
    link(server, "empty", repository, training={"rounds": 1})
    judge.check("code that is none is said by the project", p.wait("it says so", lambda: p.condition(
        get(server, "empty"), "Ready")["reason"] == "BuildFailed" and "there is no training code" in p.condition(
            get(server, "empty"), "Ready")["message"]), explain(server, "empty"))


def leaves_nothing(server):
    for name in ("digits", "own", "empty"):
        server.call("DELETE", f"{API}/flprojects/{name}")
    kinds = ("flprojects", "workloads", "imagebuilds", "flrounds", "modelversions", "inferenceservers")
    judge.check("deleted, nothing is left", p.wait("all is gone", lambda: not any(
        server.call("GET", f"{API}/{kind}")[1]["items"] for kind in kinds)),
        [(kind, len(server.call("GET", f"{API}/{kind}")[1]["items"])) for kind in kinds])


def main():
    server = rig.Server()
    folder = tempfile.mkdtemp(prefix="flops-git-project-")
    try:
        server.start()
        push_mnist(server)
        repository = Repository(os.path.join(folder, "scikit-mnist"))
        repository.git("checkout", "-qb", "main")
        shutil.copytree(os.path.join(ROOT, "examples", "code", "sklearn-mnist"),
                        os.path.join(repository.folder, "examples", "code", "sklearn-mnist"))
        repository.commit()
        commit = trains(server, repository)
        predicts(server)
        goes_on_with_newer_code(server, repository, commit)
        own_code_predicts(server, folder)
        says_what_cannot_be_built(server, folder)
        leaves_nothing(server)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
