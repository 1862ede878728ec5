#!/usr/bin/env python3
"""tracking.py FOLDER-OF-MLFLOW-2: projects with spec.tracking, on real MLflow servers with SQLite stores.

On MLflow 3 by way of a proxy that asks for TLS and a token and loses every fifth answer; on MLflow 2 directly.
The server dies while rounds run, and comes back; the control plane is killed; FLRounds are pruned before they
are recorded. Then MLflow's Python client reads back what there is: each point once, params, tags, data sets,
child runs, the registered model, which predicts what our server predicts. Both versions at the same time. A model that only
its own code can use is registered with that code, out of an image, and loads there. Runs in the environment of
mlflow_env.sh."""

import hashlib
import http.client
import io
import json
import os
import resource
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path[0] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "local")
from ports import free_port  # noqa: E402
import project as p  # noqa: E402
import rig  # noqa: E402
import serve_rig  # noqa: E402

ROUNDS, KEPT, TOKEN = 8, 2, "a-secret-token"
judge = p.judge


def wait(what, until, deadline_s=p.DEADLINE_S):
    """Asks seldom: what is waited for takes seconds, and the processors are for those who do it."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if until():
            return True
        time.sleep(0.25)
    print(f"# waited in vain for: {what}")
    return False


class MLflow:
    """A server of its own, of one version."""

    def __init__(self, folder, packages=None):
        self.folder, self.port, self.process = folder, free_port(), None
        self.env = {**os.environ, "PYTHONPATH": packages} if packages else None
        os.makedirs(folder)

    def start(self):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
                 "--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
                 "--artifacts-destination", os.path.join(self.folder, "artifacts")],
                stdout=log, stderr=log, start_new_session=True, env=self.env)
        return self

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.url()}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def version(self):
        with urllib.request.urlopen(f"{self.url()}/version", timeout=30) as answer:
            return answer.read().decode()

    def stop(self):
        """It has children, which are in its group."""
        if self.process:
            try:
                os.killpg(self.process.pid, 9)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None


class Proxy:
    """TLS and a token before a server; of the answers to what writes, every fifth is lost."""

    def __init__(self, target, folder):
        proxy = self
        self.lost = self.refused = self.writes = 0
        self.lock = threading.Lock()
        self.ca = self.make_certificate(folder)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    proxy.refused += 1
                    return self.answer(401, b"{}")
                try:
                    status, data = proxy.ask(target, self, body)
                except OSError:
                    return self.answer(503, b"")
                if self.command != "GET" and proxy.loses():
                    self.close_connection = True
                    return None
                return self.answer(status, data)

            def answer(self, status, data):
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = forward

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, os.path.join(folder, "key.pem"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def loses(self):
        with self.lock:
            self.writes += 1
            if self.writes % 5 == 0:
                self.lost += 1
                return True
            return False

    @staticmethod
    def ask(target, request, body):
        session = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30)
        try:
            kept = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "authorization")}
            session.request(request.command, request.path, body, kept)
            answer = session.getresponse()
            return answer.status, answer.read()
        finally:
            session.close()

    @staticmethod
    def make_certificate(folder):
        path = os.path.join(folder, "ca.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", os.path.join(folder, "key.pem"), "-out", path, "-days", "2", "-subj", "/CN=proxy",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        return path

    def url(self):
        return f"https://127.0.0.1:{self.server.server_address[1]}"


def tracked(server, name):
    return p.condition(p.get(server, name), "Tracked")


def tracking(server, name):
    return ((p.get(server, name) or {}).get("status") or {}).get("tracking") or {}


def is_recorded(server, name):
    return tracked(server, name)["status"] == "True" and tracking(server, name).get("pending") == 0


def put_secret(server, name, **texts):
    status, body = server.call("POST", "/api/v1/namespaces/default/secrets", {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts})
    assert status == 201, body


def make_project(server, name, mlflow, **more):
    """Learning is slowed down by many epochs, so that something can happen meanwhile."""
    manifest = p.manifest(name, ROUNDS, tiers=1, tracking={"mlflow": mlflow}, roundHistoryLimit=KEPT, **more)
    manifest["spec"]["training"]["local"]["epochs"] = 200
    status, body = server.call("POST", p.NS + "/flprojects", manifest)
    assert status == 201, body


def run_with_death(server, tracker, name):
    """Its tracker dies in the middle: rounds do not wait, and what is owed is told."""
    judge.check(f"{name}: rounds come", wait("rounds", lambda: p.completed(server, name) >= 1))
    p.patch(server, name, {"suspend": True})  # so that it is not at its end before its tracker is
    judge.check(f"{name}: are recorded as they come", wait(
        "recorded", lambda: tracking(server, name).get("runId") and is_recorded(server, name) and
        p.condition(p.get(server, name), "Ready")["reason"] == "Suspended"), json.dumps(tracked(server, name)))
    judge.check(f"{name}: more are to come", p.completed(server, name) < ROUNDS - KEPT, p.explain(server, name))
    tracker.stop()
    p.patch(server, name, {"suspend": False})
    judge.check(f"{name}: complete without its tracker", wait("complete", lambda: p.holds(server, name)),
                p.explain(server, name))
    judge.check(f"{name}: what is owed is told", wait(
        "owed", lambda: tracked(server, name)["reason"] == "Unreachable" and tracking(server, name)["pending"] > 0),
        json.dumps(tracked(server, name)))
    judge.check(f"{name}: old FLRounds are gone", wait("pruning", lambda: len(
        [r for r in p.items(server, p.NS + "/flrounds") if r["spec"]["project"]["name"] == name]) == KEPT))


def comes_back(server, mlflow, name):
    mlflow.start()
    judge.check(f"{name}: the tracker is back", wait("tracker", mlflow.answers))
    judge.check(f"{name}: all is recorded", wait("recorded", lambda: is_recorded(server, name)),
                json.dumps(tracked(server, name)))


# --- reading back -----------------------------------------------------------------------------------------------------

def check_curves(server, name, client, run):
    """What ModelVersions say, each once."""
    wanted = {m["spec"]["round"]: float(m["spec"]["metrics"]["accuracy"])
              for m in p.items(server, p.NS + "/modelversions") if m["spec"]["project"]["name"] == name and
              m["spec"]["round"] > 0 and m["spec"].get("metrics")}  # one that was suspended may not be judged
    history = client.get_metric_history(run.info.run_id, "evaluation/accuracy")
    judge.check(f"{name}: the curve is the models'", {m.step: m.value for m in history} == wanted,
                f"{[(m.step, m.value) for m in history]} {wanted}")
    for key in ("evaluation/accuracy", "train/loss", "duration/total_seconds", "learners/reported", "flops.round"):
        steps = [m.step for m in client.get_metric_history(run.info.run_id, key)]
        judge.check(f"{name}: {key}: each round once", sorted(steps) == list(range(1, ROUNDS + 1)), str(steps))
    judge.check(f"{name}: nothing of single learners", not [k for k in run.data.metrics if k.startswith("learner/")])


def check_runs(server, name, client, experiment):
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    by_name = {r.info.run_name: r for r in runs}
    run = by_name[name]
    judge.check(f"{name}: one run, and one a tier", sorted(by_name) == sorted([name, f"{name}/edge"]) and len(runs) == 2,
                str([r.info.run_name for r in runs]))
    judge.check(f"{name}: it is finished", run.info.status == "FINISHED", run.info.status)
    judge.check(f"{name}: its params", run.data.params["strategy.name"] == "FedAvg" and
                run.data.params["rounds"] == str(ROUNDS) and run.data.params["local.epochs"] == "200", str(run.data.params))
    judge.check(f"{name}: its tags", run.data.tags["flops.project"] == f"default/{name}" and
                run.data.tags["mlflow.source.name"] == "SoftmaxRegression", str(run.data.tags))
    judge.check(f"{name}: its data set", [d.dataset.name for d in run.inputs.dataset_inputs] == ["toy"])
    judge.check(f"{name}: the child", by_name[f"{name}/edge"].data.tags["mlflow.parentRunId"] == run.info.run_id)
    judge.check(f"{name}: status says which run", tracking(server, name)["runId"] == run.info.run_id)
    check_curves(server, name, client, run)
    return run


def ours(server, name, rows):
    """What our inference server predicts."""
    path = f"{p.NS}/inferenceservers/{name}"
    url = {}

    def serves():
        _, body = server.call("GET", path)
        url["is"] = (body.get("status") or {}).get("url")
        return p.condition(body, "Ready")["status"] == "True" and url["is"]
    assert wait("serving", serves), server.call("GET", path)
    ask = urllib.request.Request(url["is"] + "/invocations", json.dumps({"inputs": rows}).encode(),
                                 {"Content-Type": "application/json"})
    with urllib.request.urlopen(ask, timeout=30) as answer:
        return json.load(answer)["predictions"]


def check_model(server, name, mlflow_module, client, registered):
    import numpy
    versions = client.search_model_versions(f"name='{registered}'")
    judge.check(f"{name}: one version", len(versions) == 1, str(versions))
    best = client.get_model_version_by_alias(registered, "best")
    model = next(m for m in p.items(server, p.NS + "/modelversions")
                 if "best" in m["spec"].get("aliases", []) and m["spec"]["project"]["name"] == name)
    judge.check(f"{name}: it is the best model's", best.tags["flops.digest"] == model["spec"]["digest"], str(best.tags))
    judge.check(f"{name}: the ModelVersion says so", model["status"]["tracking"]["version"] == str(best.version))
    rows = [[0.1 * (i + j) for j in range(p.FEATURES)] for i in range(5)]
    loaded = mlflow_module.pyfunc.load_model(f"models:/{registered}@best")
    theirs = loaded.predict(numpy.array(rows, dtype=numpy.float32))["probabilities"]
    same = numpy.allclose(theirs, numpy.array(probabilities(ours(server, name, rows))), atol=1e-5)
    judge.check(f"{name}: it predicts what our server predicts", same, str(theirs))


def probabilities(predictions):
    """Ours may say each by its name."""
    return predictions["probabilities"] if isinstance(predictions, dict) else [
        row["probabilities"] if isinstance(row, dict) else row for row in predictions]


def read_back(server, name, mlflow, experiment, registered):
    import mlflow as client_module
    client_module.set_tracking_uri(mlflow.url())
    client = client_module.MlflowClient()
    check_runs(server, name, client, experiment)
    check_model(server, name, client_module, client, registered)


# --- the cases --------------------------------------------------------------------------------------------------------

def by_proxy(server, tracker):
    """TLS and a token, and answers that are lost."""
    proxy = Proxy(tracker, tracker.folder)
    put_secret(server, "tracker", token="wrong", **{"ca.crt": open(proxy.ca).read()})
    make_project(server, "three", {"url": proxy.url(), "experiment": "our digits", "registeredModel": "digits",
                                   "credentialsSecret": {"name": "tracker"}}, serve={"name": "three", "port": 0})
    judge.check("three: a wrong token is told", wait(
        "refusal", lambda: tracked(server, "three")["reason"] == "Unauthorized"), json.dumps(tracked(server, "three")))
    status, body = server.call("PATCH", "/api/v1/namespaces/default/secrets/tracker", {"stringData": {"token": TOKEN}},
                               p.MERGE)
    assert status == 200, body
    run_with_death(server, tracker, "three")
    return proxy


def directly(server, tracker):
    make_project(server, "two", {"url": tracker.url()}, serve={"name": "two", "port": 0})
    run_with_death(server, tracker, "two")


# --- code of one's own ------------------------------------------------------------------------------------------------

CODE = """
import numpy as np
from helper import rows_times

class Trainer:
    def get_parameters(self): return {"weight": self.weight}
    def set_parameters(self, parameters): self.weight = parameters["weight"]
    def fit(self, options): return 1
    def evaluate(self): return 0.0, 0.0, 1
    def predict(self, rows): return rows_times(rows, self.weight) + 1
"""
HELPER = "def rows_times(rows, weight): return rows @ weight\n"


def put_blob(server, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    status, body = server.call("PUT", f"/content/v1/blobs/{digest}", data)
    assert status in (200, 201, 204), body
    return {"digest": digest, "size": len(data)}


def layer_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def put_image(server, *layers):
    """As the builders make them: code is at one place, on top of what else there is."""
    oci = "application/vnd.oci.image."
    config = put_blob(server, json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + "0" * 64 for _ in layers]}}).encode())
    manifest = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
                "config": {"mediaType": oci + "config.v1+json", **config},
                "layers": [{"mediaType": oci + "layer.v1.tar+gzip", **put_blob(server, layer)} for layer in layers]}
    return put_blob(server, json.dumps(manifest).encode())["digest"]


def own_code(server, name, tracker, registered):
    """One more model of the project; the numbers are those of plain arithmetic."""
    import array
    import mlflow
    import numpy
    weight = array.array("f", range(8))
    content = put_blob(server, serve_rig.safetensors({}, {"weight": ([4, 2], weight.tobytes())}))
    image = put_image(server, layer_of({"etc/os-release": "ID=none\n"}), layer_of(
        {"opt/flops/code/trainer.py": CODE, "opt/flops/code/helper.py": HELPER, "opt/flops/other": "not code\n"}))
    status, body = server.call("POST", p.NS + "/modelversions", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "ModelVersion", "metadata": {"name": name + "-code"},
        "spec": {"project": {"name": name}, "round": ROUNDS, "digest": content["digest"], "size": content["size"],
                 "format": "Safetensors", "aliases": ["production"], "lineage": {"imageDigest": image}}})
    assert status == 201, body
    path = f"{p.NS}/modelversions/{name}-code"
    judge.check(f"{name}: the model is recorded", wait("model", lambda: (
        server.call("GET", path)[1].get("status") or {}).get("tracking")), json.dumps(tracked(server, name)))
    mlflow.set_tracking_uri(tracker.url())
    rows = numpy.arange(12, dtype=numpy.float32).reshape(3, 4)
    found = mlflow.pyfunc.load_model(f"models:/{registered}@production").predict(rows)
    wanted = rows @ numpy.array(weight, dtype=numpy.float32).reshape(4, 2) + 1
    judge.check(f"{name}: its code predicts in MLflow", numpy.allclose(found, wanted), str(found))
    folder = mlflow.artifacts.download_artifacts(f"models:/{registered}@production")
    judge.check(f"{name}: of the image only the code", not [f for f in os.listdir(os.path.join(folder, "data", "repository"))
                                                           if f not in ("trainer.py", "helper.py")])


def check_secrets(server, proxy):
    judge.check("three: answers were lost", proxy.lost > 0 and proxy.refused > 0, f"{proxy.lost} {proxy.refused}")
    judge.check("three: no secret is told", TOKEN not in server.errors() + json.dumps(p.get(server, "three")))


def run_cases(server, three, two):
    """The control plane is killed while both are owed something."""
    with ThreadPoolExecutor(2) as pool:
        cases = [pool.submit(by_proxy, server, three), pool.submit(directly, server, two)]
        proxy = [case.result() for case in cases][0]
        server.kill()
        server.start()
        list(pool.map(lambda it: comes_back(server, *it), ((three, "three"), (two, "two"))))
    check_secrets(server, proxy)
    read_back(server, "three", three, "our digits", "digits")
    read_back(server, "two", two, "default/two", "two")
    own_code(server, "three", three, "digits")
    own_code(server, "two", two, "two")


def main():
    folder = tempfile.mkdtemp(prefix="flops-mlflow-")
    three, two = MLflow(os.path.join(folder, "3")), MLflow(os.path.join(folder, "2"), sys.argv[1])
    server = rig.Server()
    try:
        for tracker in (three, two):
            tracker.start()
        server.start()
        p.push_data(server)
        p.divide_machine(server)
        for tracker, version in ((three, "3"), (two, "2")):
            judge.check("a tracker answers", wait("tracker", tracker.answers))
            judge.check(f"it is MLflow {version}", tracker.version().startswith(version + "."), tracker.version())
        run_cases(server, three, two)
    finally:
        for tracker in (three, two):
            tracker.stop()
        server.remove()
        shutil.rmtree(folder)
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"# processor: {own.ru_utime + own.ru_stime:.1f} s here, {others.ru_utime + others.ru_stime:.1f} s in others")
    print(f"{judge.passed} passed, {judge.failed} failed")
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
