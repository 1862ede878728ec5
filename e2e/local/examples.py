#!/usr/bin/env python3
"""examples.py [FILE...]: every manifest in examples/ does what it says.

Each file is applied to a real `flops up`, with small data from the commands of examples/README.md, reaches the state
that the table below names for it, and is deleted; then nothing may be left. Files are found by listing: one that the
table does not know, or that the README does not list, is a failure. What is only an example in a file (addresses that
do not exist, ports that may be taken) is replaced by what there is. Standard library only; $FLOPS is the program."""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import federation  # noqa: E402
import gitops  # noqa: E402
import ports  # noqa: E402
import rig  # noqa: E402
sys.path.insert(0, rig.ROOT)
from e2e.oakestra.client import Running  # noqa: E402

FOLDER = os.path.join(rig.ROOT, "examples")
API = "/apis/flops.dev/v1alpha1"
KINDS = {"FLProject": "flprojects", "FLRound": "flrounds", "InferenceServer": "inferenceservers", "GitSync": "gitsyncs",
         "Workload": "workloads", "ModelVersion": "modelversions", "Orchestrator": "orchestrators"}
DEADLINE_S, AT_A_TIME = 120, 6
judge = rig.Judge()


class World:
    """A control plane with data, and what the examples only name."""

    def __init__(self, follows_folder):
        self.base = tempfile.mkdtemp(prefix="flops-examples-")
        self.manifests = os.path.join(self.base, "manifests")
        os.mkdir(self.manifests)
        self.server = rig.Server(*(["--manifests", self.manifests] if follows_folder else [])).start()
        self.ports = {}

    def flops(self, *words, **options):
        return subprocess.run([rig.FLOPS, *words, "--data-dir", self.server.dir], capture_output=True, text=True,
                              timeout=60, **options)

    def get(self, path):
        try:
            status, body = self.server.call("GET", path)
        except OSError:
            return None
        return body if status == 200 else None

    def items(self, path):
        return (self.get(path) or {}).get("items", [])

    def object(self, kind, name, ns="default"):
        where = "" if kind == "Orchestrator" else f"/namespaces/{ns}"
        return self.get(f"{API}{where}/{KINDS[kind]}/{name}")

    def free_port(self, port):
        if port not in self.ports:
            self.ports[port] = ports.free_port()
        return self.ports[port]

    def close(self):
        self.server.remove()
        shutil.rmtree(self.base, ignore_errors=True)


def wait(what, deadline_s=DEADLINE_S):
    return gitops.wait_for(what, deadline_s)


def condition(thing, kind):
    for it in ((thing or {}).get("status") or {}).get("conditions", []):
        if it["type"] == kind:
            return it
    return {"status": "", "reason": "", "message": ""}


def say(thing):
    if not thing:
        return "it is not there"
    return "\n  ".join(f'{c["type"]}={c["status"]} {c["reason"]}: {c["message"]}'
                       for c in thing.get("status", {}).get("conditions", []))


def ask(url, body=None, headers=None):
    """Status and answer; None while nobody answers."""
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None,
                                     {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return None, str(error)


# --- data: what examples/README.md tells to type, and images that stand for Fashion-MNIST ---


def commands_of_readme():
    text = open(os.path.join(FOLDER, "README.md")).read()
    return re.search(r"```sh\n(.*?points.*?)```", text, re.S).group(1)


def push_points(world):
    env = {**os.environ, "PATH": os.path.dirname(rig.FLOPS) + ":" + os.environ["PATH"],
           "FLOPS_DATA_DIR": world.server.dir}
    done = subprocess.run(["bash", "-euc", commands_of_readme()], cwd=world.base, env=env, capture_output=True,
                          text=True, timeout=60)
    judge.check("README: its commands make the data set", done.returncode == 0, done.stderr)


def push_images(world):
    count, side = 240, 28
    images = bytearray(struct.pack(">IIII", 0x803, count, side, side))
    labels = bytearray(struct.pack(">II", 0x801, count))
    for i in range(count):
        images += bytes(200 if (x + y) % 10 == i % 10 else 7 for y in range(side) for x in range(side))
        labels.append(i % 10)
    for name, data in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
        with open(os.path.join(world.base, name), "wb") as file:
            file.write(data)
    files = [os.path.join(world.base, name) for name in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for words in (["push", "fashion", *files], ["partition", "fashion", "--learners", "4"]):
        done = world.flops("data", *words)
        assert done.returncode == 0, done.stderr


# --- what is only an example ---


def with_free_ports(world, text):
    return re.sub(r"(port: |127\.0\.0\.1:|localhost:)(\d{4,5})\b", lambda m: m[1] + str(world.free_port(m[2])), text)


def with_repository(world, text):
    """A repository on this machine, reached as the one in the example would be."""
    base = os.path.join(world.base, "private")
    os.mkdir(base)
    repository = gitops.Repository(base)
    key, public = repository.signing_key("anna")
    repository.sign_with(key)
    repository.commit({"clusters/edge/map.yaml": gitops.settings("private", "1")}, "-S")
    https, authority = gitops.serve_https(base)
    text = text.replace("https://git.example.org/edge/federations.git",
                        f"https://localhost:{https.server_port}/repo.git")
    text = text.replace("username: flops", "username: user").replace(
        "password: replace-me", f"password: pass word\n  ca.crt: {json.dumps(authority)}")
    return re.sub(r"ssh-ed25519 \S+ \S+", public, text)


def with_tagged_repository(world, text):
    """Here by file, which only those in flops-system may."""
    base = os.path.join(world.base, "public")
    os.mkdir(base)
    repository = gitops.Repository(base)
    repository.commit({"deploy/map.yaml": gitops.settings("tagged", "1"), "deploy/test-map.yaml": "kind: broken"})
    repository.git("tag", "v1.4.0")
    repository.git("push", "-q", "origin", "v1.4.0")
    world.server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
    return text.replace("https://git.example.org/edge/public.git", "file://" + repository.bare).replace(
        "  name: public\n", "  name: public\n  namespace: flops-system\n")


def with_root(world, text):
    """The double of an Oakestra root, while this program runs."""
    root = Running("--clusters", "garching", "--user", "Admin:change-me", "--image", "*=" + os.path.abspath(rig.FLOPS))
    atexit.register(root.stop)
    return text.replace("http://root.example.org:10000", f"http://127.0.0.1:{root.root}")


def with_folder(world, text):
    with open(os.path.join(world.manifests, "map.yaml"), "w") as file:
        file.write(gitops.settings("watched", "1"))
    return text.replace("/srv/manifests", world.manifests)


def with_certificate(world, text):
    """And a model in a file, by the commands of the example."""
    path = [os.path.join(world.base, name) for name in ("tls.key", "tls.crt", "points.safetensors")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", path[0], "-out", path[1]], check=True,
                   capture_output=True)
    done = world.flops("models", "export", "minimal:best", "-o", path[2])
    assert done.returncode == 0, done.stderr
    status, body = world.server.call("POST", "/api/v1/namespaces/default/secrets", {
        "metadata": {"name": "certificate"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.key": open(path[0]).read(), "tls.crt": open(path[1]).read()}})
    assert status == 201, body
    return with_free_ports(world, text.replace("/srv/models/points.safetensors", path[2]))


def with_more_data(world, text):
    done = world.flops("data", "push", "more-points", os.path.join(world.base, "points.csv"), "--header", "no")
    assert done.returncode == 0, done.stderr
    return text


def with_model(world, text):
    model = next(m for m in world.items(API + "/namespaces/default/modelversions")
                 if m["spec"]["project"]["name"] == "minimal" and m["spec"]["round"] == 3)
    text = re.sub(r"sha256:[0-9a-f]{64}", model["spec"]["digest"], text)
    return text.replace("minimal-model-3-0123456789", model["metadata"]["name"])


# --- states ---


def reaches(kind, name, type_="Ready", reason=None, ns="default"):
    """The condition holds, for the spec as it is, with that reason if one is given."""
    def check(world):
        def holds():
            thing = world.object(kind, name, ns)
            it = condition(thing, type_)
            return it["status"] == "True" and reason in (None, it["reason"]) and \
                thing["status"].get("observedGeneration") == thing["metadata"]["generation"]
        if wait(holds):
            return None
        return f"{kind} {name} is not {type_} {reason or ''}: {say(world.object(kind, name, ns))}"
    return check


def children(world, project):
    return [w for w in world.items(API + "/namespaces/default/workloads")
            if w["metadata"].get("ownerReferences", [{}])[0].get("name") == project]


def completes(name, reason="RoundsDone"):
    return reaches("FLProject", name, "Complete", reason)


def suspends(name):
    def check(world):
        project = wait(lambda: condition(world.object("FLProject", name), "Ready")["reason"] == "Suspended")
        running = [w["metadata"]["name"] for w in children(world, name) if not w["spec"].get("suspend")]
        return None if project and not running else f"{say(world.object('FLProject', name))} {running}"
    return check


def aggregates(name, count, *wanted):
    """So many aggregators, in these tiers."""
    def check(world):
        tiers = [t["name"] for t in world.object("FLProject", name)["status"]["tiers"]]
        there = [w["metadata"]["name"] for w in children(world, name) if w["spec"].get("role") == "Aggregator"]
        return None if tiers == list(wanted) and len(there) == count else f"{name}: {tiers} {there}"
    return check


def all_of(*checks):
    def check(world):
        return next((why for why in (it(world) for it in checks) if why), None)
    return check


def has_map(name, ns="default"):
    def check(world):
        found = wait(lambda: world.get(f"/api/v1/namespaces/{ns}/configmaps/{name}"))
        return None if found else f"ConfigMap {name} is not there"
    return check


def answers(name, path="/v2", status=200, body=None, headers=None):
    def check(world):
        url = world.object("InferenceServer", name)["status"].get("url", "")
        got = ask(url + path, body, headers)
        return None if got[0] == status else f"{url}{path}: {got}"
    return check


def has_examples(project, count):
    """In the last round that is kept."""
    def check(world):
        rounds = [r["status"].get("examples") for r in world.items(API + "/namespaces/default/flrounds")
                  if r["spec"]["project"]["name"] == project]
        return None if count in rounds else f"{rounds}"
    return check


def answers_over_tls(world):
    with urllib.request.urlopen(f"https://localhost:{world.free_port('8443')}/v2/models/points", timeout=20,
                                context=ssl.create_default_context(cafile=os.path.join(world.base, "tls.crt"))) as it:
        answer = json.load(it)
    world.server.call("DELETE", "/api/v1/namespaces/default/secrets/certificate")
    return None if answer.get("name") == "points" else f"{answer}"


def starts_from_minimal(world):
    models = world.items(API + "/namespaces/default/modelversions")
    best = next(m for m in models if m["spec"]["project"]["name"] == "minimal" and
                "best" in m["spec"].get("aliases", []))
    first = next(m for m in models if m["spec"]["project"]["name"] == "warm-start" and m["spec"]["round"] == 1)
    same = first["spec"]["lineage"]["baseModel"] == best["spec"]["digest"]
    return None if same else f"{first['spec']['lineage']} {best['spec']['digest']}"


def goes_by_alias(world):
    done = world.flops("models", "get", "minimal:production")
    return None if done.returncode == 0 else done.stderr


def one_extra_round(world):
    rounds = [r for r in world.items(API + "/namespaces/default/flrounds") if r["spec"]["project"]["name"] == "rounds"]
    numbers = sorted(r["status"].get("index", 0) for r in rounds)
    return None if len(rounds) == len(set(numbers)) and max(numbers) <= 5 else f"{numbers}"


def divides_machine(world):
    nodes = wait(lambda: len(world.items(API + "/edgenodes")) == 4)
    return None if nodes else f"{[n['metadata']['name'] for n in world.items(API + '/edgenodes')]}"


class Root:
    """An aggregator, as federation.py calls one."""

    def __init__(self, port):
        self.context, self.port = None, port


def trains_a_line(world):
    """One round by hand, from nothing; the points lie about y = 3x + 1."""
    root, text = Root(world.free_port("7070")), b'{"line":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    model, size = federation.put_model(root, struct.pack("<Q", len(text)) + text + bytes(8))
    federation.wait_for_learners(root, 2)
    order = federation.spec(1, model, size, 2)
    order["local"]["epochs"] = 5
    federation.ask_json(root, "PUT", "/v1/rounds/1", order)
    state = federation.wait_for(root, 1)
    if state["phase"] != "Committed":
        return f"{state}"
    _, body = federation.ask(root, "GET", f"/v1/models/{state['model']}")
    a, b = struct.unpack("<2f", body[-8:])
    return None if abs(a - 3) < 0.2 and abs(b - 1) < 0.2 else f"{a} {b}"


def may_create(user, ns):
    def check(world):
        status, body = world.server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": {
            "user": user, "resourceAttributes": {"namespace": ns, "verb": "create", "group": "flops.dev",
                                                 "resource": "flprojects"}}})
        return None if status == 201 and body["status"]["allowed"] else f"{status} {body}"
    return check


POINT = {"instances": [[2, 0, 0, 2, 0, 0, 2, 0]]}


class Example:
    def __init__(self, state, edit=with_free_ports, alone=False):
        self.state, self.edit, self.alone = state, edit, alone


# What each file must come to. `alone`: it changes this machine's nodes, so it has a control plane of its own.
TABLE = {
    "fashion-mnist.yaml": Example(all_of(completes("fashion-mnist"), reaches("InferenceServer", "fashion-mnist"),
                                         answers("fashion-mnist"), aggregates("fashion-mnist", 3, "root", "edge")),
                                  alone=True),
    "flproject-async.yaml": Example(completes("asynchronous")),
    "flproject-cnn.yaml": Example(completes("cnn")),
    "flproject-data.yaml": Example(all_of(completes("data"), has_examples("data", 4 * (160 + 640))), with_more_data),
    "flproject-early-stopping.yaml": Example(completes("early-stopping", "TargetReached")),
    "flproject-fedadam.yaml": Example(completes("fedadam")),
    "flproject-fedprox.yaml": Example(completes("fedprox")),
    "flproject-learners.yaml": Example(completes("learners")),
    "flproject-minimal.yaml": Example(completes("minimal")),
    "flproject-participation.yaml": Example(completes("participation")),
    "flproject-resources.yaml": Example(completes("resources")),
    "flproject-robust.yaml": Example(completes("robust")),
    "flproject-semisync.yaml": Example(completes("semisync")),
    "flproject-serve.yaml": Example(all_of(completes("served"), reaches("FLProject", "served"),
                                           answers("served", "/invocations", body=POINT))),
    "flproject-sites.yaml": Example(all_of(completes("sites"), aggregates("sites", 2, "root", "site"))),
    "flproject-suspended.yaml": Example(suspends("suspended")),
    "flproject-tiers.yaml": Example(all_of(completes("tiers"), aggregates("tiers", 7, "root", "cluster", "node"))),
    "flproject-warm-start.yaml": Example(all_of(completes("warm-start"), starts_from_minimal)),
    "flround.yaml": Example(all_of(completes("rounds"), reaches("FLRound", "extra"), one_extra_round)),
    "gitsync-folder.yaml": Example(all_of(reaches("GitSync", "manifests", ns="flops-system"), has_map("watched")),
                                   with_folder),
    "gitsync-public.yaml": Example(all_of(reaches("GitSync", "public", ns="flops-system"), has_map("tagged", "demo")),
                                   with_tagged_repository),
    "gitsync.yaml": Example(all_of(reaches("GitSync", "federations"), has_map("private")), with_repository),
    "inferenceserver-autoscale.yaml": Example(all_of(reaches("InferenceServer", "autoscaled"), answers(
        "autoscaled", "/invocations", body=POINT))),
    "inferenceserver-rolling.yaml": Example(all_of(reaches("InferenceServer", "rolling"), answers(
        "rolling", "/v1/models/points:predict", body=POINT))),
    "inferenceserver-tls.yaml": Example(all_of(reaches("InferenceServer", "tls"), answers_over_tls), with_certificate),
    "inferenceserver-tokens.yaml": Example(all_of(reaches("InferenceServer", "tokens"), answers("tokens", status=401),
                                                  answers("tokens", headers={"Authorization": "Bearer replace-me"}))),
    "inferenceserver.yaml": Example(all_of(reaches("InferenceServer", "canary"), answers(
        "canary", "/v2/models/canary"))),
    "modelversion-alias.yaml": Example(goes_by_alias, with_model),
    "namespace.yaml": Example(may_create("alice", "hospital")),
    "orchestrator.yaml": Example(all_of(reaches("Orchestrator", "local"), divides_machine)),
    "orchestrator-oakestra.yaml": Example(reaches("Orchestrator", "edge"), with_root, alone=True),
    "workload-job.yaml": Example(reaches("Workload", "job", "Complete")),
    "workload-placement.yaml": Example(all_of(reaches("Workload", "agent"), reaches("Workload", "spread"))),
    "workload-process.yaml": Example(reaches("Workload", "hello")),
    "workload-secret.yaml": Example(reaches("Workload", "greeter")),
    "workload-trainer.yaml": Example(all_of(reaches("Workload", "aggregator"), reaches("Workload", "trainers"),
                                            trains_a_line)),
}
# Those that take an image: git_project.py, frameworks.py.
ELSEWHERE = {"flproject-git.yaml", "flproject-git-keras.yaml", "flproject-git-pytorch.yaml"}
FIRST = ["orchestrator.yaml", "flproject-minimal.yaml"]  # which others build on


# --- the run ---


def write_edited(world, name):
    path = os.path.join(world.base, name)
    with open(path, "w") as file:
        file.write(TABLE[name].edit(world, open(os.path.join(FOLDER, name)).read()))
    return path


def try_example(world, name, began):
    at = time.monotonic()
    try:
        done = world.flops("apply", "-f", write_edited(world, name))
        why = done.stderr if done.returncode != 0 else TABLE[name].state(world)
    except Exception:
        why = traceback.format_exc()
    if why:
        why += "".join(f"\n  {w}: {log_of(world, w)}" for w in workloads_of(name))
    judge.check(f"{name} ({at - began:.1f} s to {time.monotonic() - began:.1f} s)", not why, why)


def workloads_of(name):
    return re.findall(r"^kind: Workload\nmetadata:\n  name: (\S+)", open(os.path.join(FOLDER, name)).read(), re.M)


def log_of(world, workload):
    return world.flops("logs", workload).stdout[-500:]


def delete_example(world, name):
    done = world.flops("delete", "-f", os.path.join(world.base, name))
    if done.returncode != 0:
        judge.check(f"{name}: is deleted", False, done.stderr)


def processes_below(folder):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder + "/"):
                found.append(int(pid))
        except OSError:
            continue
    return found


def nothing_left(world):
    def left():
        objects = [f"{kind} {i['metadata']['name']}" for kind in KINDS.values() if kind != "orchestrators"
                   for i in world.items(f"{API}/{kind}")]
        secrets = [i["metadata"]["name"] for i in world.items("/api/v1/namespaces/default/secrets")]
        return objects + secrets + processes_below(world.server.dir)
    judge.check("nothing is left of them", wait(lambda: not left(), 60), f"{left()}")


def run_world(names):
    world = World("gitsync-folder.yaml" in names)
    try:
        push_points(world)
        push_images(world)
        began = time.monotonic()
        for name in filter(names.__contains__, FIRST):
            try_example(world, name, began)
        rest = [n for n in names if n not in FIRST]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda n: try_example(world, n, began), rest))
            list(pool.map(lambda n: delete_example(world, n), reversed(names)))
        nothing_left(world)
        print(f"# {len(names)} files took {time.monotonic() - began:.1f} s")
        judge.check("the control plane ends well", world.server.stop() == 0, world.server.errors()[-500:])
    finally:
        for pid in processes_below(world.server.dir):
            os.kill(pid, signal.SIGKILL)
        world.close()


def check_lists():
    files = sorted(f for f in os.listdir(FOLDER) if f.endswith(".yaml"))
    readme = open(os.path.join(FOLDER, "README.md")).read()
    judge.check("every file has a state in the table here", set(files) == set(TABLE) | ELSEWHERE, set(files) ^ set(TABLE))
    listed = [*files, *(f"code/{f}" for f in os.listdir(os.path.join(FOLDER, "code")))]
    judge.check("README lists every file", all(f"({f})" in readme for f in listed),
                [f for f in listed if f"({f})" not in readme])
    judge.check("each begins with what it shows and how to run it",
                all(open(os.path.join(FOLDER, f)).read(2) == "# " for f in files))
    return [f for f in files if f in TABLE]


def main():
    files = check_lists()
    wanted = [f for f in files if f in sys.argv[1:]] or files
    for names in ([f for f in wanted if not TABLE[f].alone], [f for f in wanted if TABLE[f].alone]):
        if names:
            run_world(names)
    judge.end()


main()
