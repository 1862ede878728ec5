#!/usr/bin/env python3
"""Images from a Git link: ImageBuilds of a repository with Python code, what they say, that they really run, that the
same inputs give the same image, and that what is wrong is said in one line. Packages come from where apt-get and pip
get them."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile

from registry import Client
from rig import FLOPS, Judge, Server
from workloads import wait_for

NAMESPACE = "flops-system"  # where repositories of this machine may be built from
API = f"/apis/flops.dev/v1alpha1/namespaces/{NAMESPACE}"
LONG_S = 400  # packages are fetched and unpacked, on a machine that others use
TRAINER = """import numpy


class Trainer:
    def get_parameters(self):
        return []

    def set_parameters(self, parameters):
        pass

    def fit(self):
        return 1

    def evaluate(self):
        return 0.0, 1.0, 1
"""


class Repository:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        self.git("init", "-q")

    def git(self, *words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=self.folder, check=True,
                              capture_output=True, text=True).stdout.strip()

    def commit(self, **files):
        for name, text in files.items():
            with open(os.path.join(self.folder, name.replace("__", ".")), "w", encoding="utf-8") as file:
                file.write(text)
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")


class Builds:
    def __init__(self, server):
        self.server = server

    def create(self, name, **spec):
        status, answer = self.server.call("POST", f"{API}/imagebuilds", {
            "apiVersion": "flops.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": name}, "spec": spec})
        assert status == 201, answer

    def get(self, name):
        return self.server.call("GET", f"{API}/imagebuilds/{name}")[1]

    def condition(self, name, kind):
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((item for item in conditions if item["type"] == kind), {})

    def wait(self, name):
        """Until it is built, or cannot be."""
        wait_for(lambda: self.condition(name, "Ready").get("status") == "True"
                 or self.condition(name, "Stalled").get("status") == "True", LONG_S)
        return self.get(name)["status"]


def code_becomes_an_image(judge, builds, repository):
    commit = repository.commit(trainer__py=TRAINER, requirements__txt="joblib==1.4.2\n")
    source = {"url": f"file://{repository.folder}", "commit": commit}
    builds.create("first", source=source)
    builds.create("aggregator", target="Aggregator")
    status = builds.wait("first")
    judge.check("a repository becomes an image", builds.condition("first", "Ready").get("reason") == "Built", status)
    judge.check("with its size, its platform and its stages", status.get("image", {}).get("size", 0) > 10_000_000
                and status["platforms"][0]["layers"] == 4 and
                {"Fetch", "Resolve", "Base", "Dependencies", "Push"} <= {s["name"] for s in status["stages"]}, status)
    status = builds.wait("aggregator")
    size = status.get("image", {}).get("size", 0)
    judge.check("an aggregator's image is the program and its libraries", 1_000_000 < size < 25_000_000, status)
    commit = repository.commit(trainer__py=TRAINER + "# changed\n")
    builds.create("second", source={**source, "commit": commit})
    status = builds.wait("second")
    judge.check("code that changed makes one new layer", status.get("platforms", [{}])[0].get("cachedLayers") == 3,
                status)


def the_same_is_the_same(judge, builds, repository, folder):
    """Another checkout and another builder, with nothing in common but the commit."""
    clone = os.path.join(folder, "clone")
    repository.git("clone", "-q", repository.folder, clone)
    digests = []
    for name in ("one", "two"):
        done = subprocess.run([FLOPS, "build", clone, "-q", "--data-dir", os.path.join(folder, name), "-o",
                               os.path.join(folder, f"layout-{name}")], capture_output=True, text=True, check=False)
        digests.append(done.stdout.strip() or done.stderr)
    judge.check("two builders make the same bytes", digests[0].startswith("sha256:") and digests[0] == digests[1],
                digests)


def images_run(judge, builds, server):
    image = {name: "{name}@{digest}".format(**builds.get(name)["status"]["image"]) for name in ("second", "aggregator")}
    runs = {"code": (image["second"], ["/usr/bin/python3", "-c",
                                       "import joblib, numpy, trainer; print(trainer.Trainer().fit(), 'trained')"]),
            "program": (image["aggregator"], ["/usr/bin/flops", "version"])}
    for name, (reference, command) in runs.items():
        status, answer = server.call("POST", f"{API}/workloads", {
            "apiVersion": "flops.dev/v1alpha1", "kind": "Workload", "metadata": {"name": name},
            "spec": {"image": reference, "command": command, "restartPolicy": "Never"}})
        assert status == 201, answer

    def said(name, text):
        out = subprocess.run([FLOPS, "logs", "-n", NAMESPACE, name, "--data-dir", server.dir], capture_output=True,
                             text=True, check=False)
        return text in out.stdout

    judge.check("the code runs in its image with its packages", wait_for(lambda: said("code", "1 trained"), 120),
                server.call("GET", f"{API}/workloads/code")[1].get("status"))
    judge.check("so does the program in its own", wait_for(lambda: said("program", "flops "), 120),
                server.call("GET", f"{API}/workloads/program")[1].get("status"))


def flops(server, *words):
    return subprocess.run([FLOPS, *words, "--data-dir", server.dir], capture_output=True, text=True, check=False)


def what_was_built_is_there(judge, builds, server):
    """The same again, and what is attached to it."""
    first = builds.get("second")
    builds.create("again", source=first["spec"]["source"])
    status, before = builds.wait("again"), first["status"]
    judge.check("the same commit is not built again", status.get("key") == before["key"]
                and status["image"]["digest"] == before["image"]["digest"]
                and [s["state"] for s in status["stages"]] == ["Cached", "Done"], status)
    judge.check("nor is what is attached", status.get("attestations") == before["attestations"]
                and len(set(before["attestations"].values())) == 3, status)
    image = "{0}/{1}@{2}".format(*before["image"]["name"].rsplit("/", 2)[1:], before["image"]["digest"])
    done = flops(server, "image", "verify", image)
    judge.check("its signature, its provenance and the list of its parts are good", done.returncode == 0
                and before["attestations"]["sbom"] in done.stdout and first["spec"]["source"]["commit"] in done.stdout,
                done)
    other = os.path.join(server.dir, "other.pub")
    subprocess.run(f"openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out {other}", shell=True, check=True)
    done = flops(server, "image", "verify", "--key", other, image)
    judge.check("and not by another key", done.returncode == 1 and "not signed with this key" in done.stderr, done)
    key = os.stat(os.path.join(server.dir, "signing.key"))
    judge.check("the key is for nobody else", key.st_mode & 0o777 == 0o600, oct(key.st_mode))


def a_model_is_in_its_image(judge, builds, server):
    data = os.urandom(100_000)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    builds.create("serving", target="InferenceServer", model={"digest": digest})
    judge.check("a model that is not there is waited for", wait_for(
        lambda: digest in builds.condition("serving", "Ready").get("message", "")), builds.get("serving"))
    client = Client(server)
    client.call("PUT", f"/content/v1/blobs/{digest}", data)
    client.close()
    status = builds.wait("serving")
    judge.check("an inference server's image has its model", "Model" in [s["name"] for s in status["stages"]] and
                status["platforms"][0]["layers"] == builds.get("aggregator")["status"]["platforms"][0]["layers"] + 1,
                status)


def logs_are_kept(judge, builds, repository, server):
    source = {**builds.get("first")["spec"]["source"],
              "commit": repository.commit(trainer__py=TRAINER + "# for its log\n")}
    builds.create("logged", source=source)
    followed = flops(server, "logs", "-f", "-n", NAMESPACE, "imagebuild/logged").stdout
    judge.check("a build's log can be followed", "Fetch: Running" in followed and
                followed.endswith(f"built {builds.wait('logged')['image']['digest']}\n"), followed)
    server.kill()
    server.start()
    shown = flops(server, "logs", "-n", NAMESPACE, "imagebuild/logged").stdout
    judge.check("and is there after a crash of the control plane", shown == followed, shown)
    logs = os.path.join(server.dir, "builds", "logs")
    name = builds.get("logged")["metadata"]["uid"] + ".log"
    there = os.path.exists(os.path.join(logs, name))
    server.call("DELETE", f"{API}/imagebuilds/logged")
    judge.check("until the object goes", there and wait_for(lambda: not os.path.exists(os.path.join(logs, name))),
                os.listdir(logs))


BAD = [
    ("no-code", {"readme__md": "x"}, {}, "SourceInvalid", "there is no training code"),
    ("no-method", {"model_manager__py": "class ModelManager:\n    def fit_model(self): pass\n"}, {}, "SourceInvalid",
     "class ModelManager lacks set_model_data"),
    ("no-lock", {"trainer__py": TRAINER, "requirements__txt": "joblib\n"}, {"lockPolicy": "Require"}, "SourceInvalid",
     "names no hashes"),
    ("no-version", {"trainer__py": TRAINER, "requirements__txt": "joblib==0.0.0.1\n"}, {}, "BuildFailed",
     "nothing fulfils joblib==0.0.0.1 for linux/amd64"),
    ("two-lines", {"trainer__py": TRAINER, "requirements__txt": "joblib\r-r /etc/passwd\n"}, {}, "BuildFailed",
     "line 1: a requirement is of plain letters"),
    ("option", {"trainer__py": TRAINER, "requirements__txt": "-r /etc/passwd\n"}, {}, "BuildFailed", "line 1"),
]


def what_is_wrong_is_said(judge, builds, folder):
    for name, files, spec, _, _ in BAD:
        repository = Repository(os.path.join(folder, name))
        commit = repository.commit(**files)
        builds.create(name, source={"url": f"file://{repository.folder}", "commit": commit}, **spec)
    for name, _, _, reason, words in BAD:
        builds.wait(name)
        ready = builds.condition(name, "Ready")
        judge.check(f"{name}: {words}", ready.get("reason") == reason and words in ready.get("message", ""), ready)
    builds.create("slow", source={"url": f"file://{folder}/no-version", "commit": "1" * 40}, timeout="1ms")
    builds.wait("slow")
    judge.check("a build that takes too long is ended", builds.condition("slow", "Stalled").get("reason")
                == "DeadlineExceeded", builds.condition("slow", "Stalled"))
    builds.create("gone", source={"url": f"file://{folder}/no-code", "commit": "0" * 40}, retryLimit=0)
    builds.wait("gone")
    judge.check("a commit that is not there", builds.condition("gone", "Ready").get("reason") == "SourceNotReady",
                builds.condition("gone", "Ready"))


def elsewhere_it_is_refused(judge, server, repository):
    api = API.replace(NAMESPACE, "default")
    server.call("POST", f"{api}/imagebuilds", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "ImageBuild", "metadata": {"name": "local"},
        "spec": {"source": {"url": f"file://{repository.folder}", "commit": repository.git("rev-parse", "HEAD")}}})
    judge.check("files of this machine are not for every namespace", wait_for(
        lambda: "control plane's machine" in json.dumps(server.call("GET", f"{api}/imagebuilds/local")[1])), "")


def main():
    judge = Judge()
    server = Server()
    folder = tempfile.mkdtemp(prefix="flops-builds-")
    try:
        server.start()
        builds, repository = Builds(server), Repository(os.path.join(folder, "repository"))
        code_becomes_an_image(judge, builds, repository)
        what_was_built_is_there(judge, builds, server)
        a_model_is_in_its_image(judge, builds, server)
        logs_are_kept(judge, builds, repository, server)
        what_is_wrong_is_said(judge, builds, folder)
        elsewhere_it_is_refused(judge, server, repository)
        if os.geteuid() == 0:
            images_run(judge, builds, server)
        the_same_is_the_same(judge, builds, repository, folder)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
