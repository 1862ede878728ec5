#!/usr/bin/env python3
"""Models as content: put, listed, tagged, exported in three forms, over connections that break and a control
plane that is killed; and content that is missing or too large."""

import hashlib
import json
import os
import random
import socket
import struct
import subprocess
import threading
import time

import rig

VERSIONS = "/apis/flops.dev/v1alpha1/namespaces/default/modelversions"
BLOBS = "/content/v1/blobs"
DEADLINE_S = 60


def safetensors(notes, tensors):
    header, data = {"__metadata__": notes}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def softmax_model(seed):
    """What the trainer SoftmaxRegression makes for 2 x 3 numbers and 4 classes."""
    chance = random.Random(seed)
    notes = {"flops.format": "1", "flops.trainer": "SoftmaxRegression", "flops.options": "{}",
             "flops.input": '{"dtype":"F32","name":"input","shape":[2,3]}',
             "flops.output": '{"classes":4,"name":"probabilities"}'}
    return safetensors(notes, {"output.bias": ([4], [chance.uniform(-1, 1) for _ in range(4)]),
                               "output.weight": ([4, 6], [chance.uniform(-1, 1) for _ in range(24)])})


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def version(name, number, digest, size, project="mnist"):
    return {"apiVersion": "flops.dev/v1alpha1", "kind": "ModelVersion", "metadata": {"name": name},
            "spec": {"project": {"name": project}, "round": number, "digest": digest, "size": size,
                     "metrics": {"accuracy": "0.9"},
                     "lineage": {"strategy": "FedAvg", "contributors": 4, "dataTags": ["x"],
                                 "source": {"builtin": "SoftmaxRegression"}, "time": "2026-01-02T03:04:05Z"}}}


def until(what, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


class CuttingProxy:
    """Passes bytes on, and breaks each of the first connections after so many of the server's."""

    def __init__(self, port, cuts, after):
        self.port, self.cuts, self.after = port, cuts, after
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            self.connections += 1
            limit = self.after if self.connections <= self.cuts else 1 << 60
            threading.Thread(target=self.copy, args=(client, server, 1 << 60), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, limit), daemon=True).start()

    @staticmethod
    def copy(source, target, limit):
        try:
            while limit > 0:
                data = source.recv(min(65536, limit))
                if not data:
                    break
                target.sendall(data)
                limit -= len(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Models:
    def __init__(self):
        self.judge = rig.Judge()
        self.server = rig.Server("--content-max-bytes", str(64 << 20)).start()
        self.files = os.path.join(self.server.dir, "files")
        os.mkdir(self.files)

    def path(self, name):
        return os.path.join(self.files, name)

    def flops(self, *words, kubeconfig=None):
        """Status, standard output, standard error of `flops models …`."""
        where = ["--kubeconfig", kubeconfig or os.path.join(self.server.dir, "kubeconfig")]
        done = subprocess.run([rig.FLOPS, "models", *words, *where], cwd=self.files, capture_output=True,
                              text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def says(self, name, words, text, status=0):
        got, out, err = self.flops(*words)
        self.judge.check(name, got == status and text in out + err, f"{got}: {out} {err}")

    def ready(self, name):
        status, answer = self.server.call("GET", f"{VERSIONS}/{name}")
        conditions = answer.get("status", {}).get("conditions", []) if status == 200 else []
        return next((c["reason"] for c in conditions if c["type"] == "Ready"), None)

    def store(self):
        check = self.judge.check
        self.models = [softmax_model(i) for i in range(3)]
        for number, data in enumerate(self.models):
            with open(self.path(f"{number}.model"), "wb") as file:
                file.write(data)
            status, out, err = self.flops("push", f"{number}.model")
            check(f"model {number} is put", status == 0 and out.strip() == digest_of(data), err)
            status, answer = self.server.call("POST", VERSIONS,
                                              version(f"m{number}", number, digest_of(data), len(data)))
            check(f"ModelVersion m{number} is made", status == 201, answer)
            check(f"m{number} is ready", until(lambda n=number: self.ready(f"m{n}") == "Stored"),
                  self.ready(f"m{number}"))

    def show(self):
        status, out, err = self.flops("ls", "mnist")
        lines = out.splitlines()
        self.judge.check("ls lists them in order", status == 0 and [line.split()[0] for line in lines[1:]] ==
                         ["m0", "m1", "m2"] and "ACCURACY" in lines[0], out + err)
        self.says("ls of another project is empty", ["ls", "other"], "No models found")
        self.says("get tells of lineage", ["get", "mnist:1"], "FedAvg")
        self.says("get by a name that is none", ["get", "none"], "not found", 1)
        self.says("get by an alias that is none", ["get", "mnist:nope"], 'has no model "nope"', 1)
        status, out, _ = self.flops("get", "m2", "-o", "json")
        self.judge.check("get as JSON", status == 0 and json.loads(out)["spec"]["round"] == 2, out)

    def tag(self):
        self.says("tag", ["tag", "mnist:2", "best"], "goes by best")
        self.says("the alias is found", ["get", "mnist:best"], "m2")
        self.says("tag an older one", ["tag", "m0", "best"], "goes by best")
        self.says("the alias has moved", ["get", "mnist:best"], "m0")
        aliases = lambda name: self.server.call("GET", f"{VERSIONS}/{name}")[1]["spec"].get("aliases", [])
        self.judge.check("from the other", aliases("m2") == [] and aliases("m0") == ["best"])
        self.judge.check("and the controller agrees", until(
            lambda: self.server.call("GET", f"{VERSIONS}/m0")[1]["status"].get("aliasSummary") == "best"))
        self.says("untag", ["untag", "m0", "best"], "does not go by best")
        self.says("an alias that means a number is refused", ["tag", "m0", "v1"], "choose another alias", 1)

    def export(self):
        check, data = self.judge.check, self.models[1]
        self.says("export as it is", ["export", "m1"], "m1.safetensors")
        check("byte by byte", open(self.path("m1.safetensors"), "rb").read() == data)
        self.says("what is there is not overwritten", ["export", "m1"], "is there already", 1)
        self.says("unless that is wanted", ["export", "m1", "--overwrite"], "m1.safetensors")
        self.says("export as ONNX", ["export", "mnist:1", "--format", "onnx", "-o", "m1.onnx"], "m1.onnx")
        onnx = open(self.path("m1.onnx"), "rb").read()
        check("ONNX has graph and lineage", all(part in onnx for part in (
            b"Softmax", b"flops.trainer", b"lineage.strategy", b"lineage.metrics.accuracy")))
        self.says("export for MLflow", ["export", "m1", "--format", "mlflow"], "m1")
        check("MLflow's files", sorted(os.listdir(self.path("m1"))) == [
            "MLmodel", "conda.yaml", "model.onnx", "python_env.yaml", "requirements.txt"])
        mlmodel = open(self.path("m1/MLmodel")).read()
        check("MLmodel has time and digest of the model", "2026-01-02 03:04:05" in mlmodel and
              digest_of(data) in mlmodel, mlmodel)
        self.says("a directory is never overwritten", ["export", "m1", "--format", "mlflow", "--overwrite"],
                  "is there already", 1)
        self.says("an unknown format", ["export", "m1", "--format", "pickle"], "safetensors, onnx or mlflow", 2)
        check("nothing is left beside them", not [n for n in os.listdir(self.files) if ".part" in n])

    def odd_content(self):
        """Content that says nothing of itself, that is missing, that does not fit."""
        plain = safetensors({}, {"w": ([2], [1.0, 2.0])})
        with open(self.path("plain"), "wb") as file:
            file.write(plain)
        self.flops("push", "plain")
        self.server.call("POST", VERSIONS, version("plain", 7, digest_of(plain), len(plain), "odd"))
        self.says("a model that says nothing is exported as it is", ["export", "plain"], "plain.safetensors")
        self.says("but not as ONNX", ["export", "plain", "--format", "onnx"], "does not say what it is", 1)
        gone = digest_of(b"gone")
        self.server.call("POST", VERSIONS, version("gone", 8, gone, 4, "odd"))
        self.judge.check("missing content is told", until(lambda: self.ready("gone") == "ContentMissing"),
                         self.ready("gone"))
        self.says("and cannot be exported", ["export", "gone"], "is not here", 1)
        status, _ = self.server.call("PUT", f"{BLOBS}/{gone}", b"gone",
                                     {"Content-Type": "application/octet-stream"})
        self.judge.check("content comes late", status == 201 and until(lambda: self.ready("gone") == "Stored"),
                         self.ready("gone"))
        with open(self.path("vast"), "wb") as file:
            file.truncate(80 << 20)
        self.says("what does not fit is refused", ["push", "vast"], "the content store is full", 1)
        status, answer = self.server.call("PUT", f"{BLOBS}/{digest_of(b'a')}", b"b")
        self.judge.check("another digest is refused", status == 422, answer)

    def broken_connections(self):
        data = random.Random(7).randbytes(24 << 20)
        with open(self.path("large"), "wb") as file:
            file.write(data)
        status, out, err = self.flops("push", "large")
        self.judge.check("24 MB are put", status == 0 and out.strip() == digest_of(data), err)
        self.server.call("POST", VERSIONS, version("large", 9, digest_of(data), len(data), "odd"))
        proxy = CuttingProxy(self.server.port, 3, 7 << 20)
        text = open(os.path.join(self.server.dir, "kubeconfig")).read()
        with open(self.path("config"), "w") as file:
            file.write(text.replace(f":{self.server.port}", f":{proxy.listener.getsockname()[1]}"))
        # The first connection finds the object, and breaks while content comes.
        status, out, err = self.flops("export", "large", kubeconfig=self.path("config"))
        self.judge.check("a download goes on where it broke", status == 0 and proxy.connections == 4 and
                         open(self.path("large.safetensors"), "rb").read() == data,
                         f"{proxy.connections} connections: {out} {err}")
        proxy.listener.close()

    def killed(self):
        self.server.kill()
        self.server.start()
        self.judge.check("after a kill all is there", until(lambda: self.ready("m1") == "Stored"))
        self.says("and exported", ["export", "m1", "--overwrite"], "m1.safetensors")
        self.server.call("DELETE", f"{VERSIONS}/m1")
        self.judge.check("a deleted ModelVersion is gone", self.server.call("GET", f"{VERSIONS}/m1")[0] == 404)
        status, answer = self.server.call("GET", BLOBS)
        self.judge.check("its content waits for the collector", status == 200 and digest_of(self.models[1]) in
                         [item["digest"] for item in answer["items"]], answer)

    def run(self):
        try:
            for part in (self.store, self.show, self.tag, self.export, self.odd_content,
                         self.broken_connections, self.killed):
                part()
            self.judge.check("the server ends in good order", self.server.stop() == 0, self.server.errors()[-500:])
        finally:
            self.server.remove()
        self.judge.end()


if __name__ == "__main__":
    Models().run()
