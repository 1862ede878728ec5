"""Models written here, a `flops serve` to serve them, and what it should answer (standard library only)."""

import array
import hashlib
import http.client
import json
import math
import os
import random
import re
import signal
import struct
import subprocess
import tempfile
import time

from rig import FLOPS


def safetensors(notes, tensors):
    """tensors: name -> (shape, bytes of F32)."""
    header, offset, data = {"__metadata__": notes}, 0, b""
    for name in sorted(tensors):
        shape, content = tensors[name]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(content)]}
        offset += len(content)
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def notes(trainer, options, shape, classes):
    compact = {"separators": (",", ":"), "sort_keys": True}
    return {"flops.format": "1", "flops.trainer": trainer, "flops.options": json.dumps(options, **compact),
            "flops.input": json.dumps({"dtype": "F32", "name": "input", "shape": shape}, **compact),
            "flops.output": json.dumps({"classes": classes, "name": "probabilities"}, **compact)}


class Softmax:
    """Softmax regression with weights by chance, and the same in plain Python."""

    def __init__(self, shape, classes, seed):
        chance = random.Random(seed)
        self.shape, self.width, self.classes = shape, math.prod(shape), classes
        self.weight = array.array("f", [chance.uniform(-1, 1) for _ in range(self.width * classes)])
        self.bias = array.array("f", [chance.uniform(-1, 1) for _ in range(classes)])
        self.bytes = safetensors(notes("SoftmaxRegression", {}, shape, classes),
                                 {"output.weight": ([classes, self.width], self.weight.tobytes()),
                                  "output.bias": ([classes], self.bias.tobytes())})
        self.digest = "sha256:" + hashlib.sha256(self.bytes).hexdigest()

    def answer(self, row):
        logits = [self.bias[c] + sum(self.weight[c * self.width + i] * x for i, x in enumerate(row))
                  for c in range(self.classes)]
        top = max(logits)
        exps = [math.exp(x - top) for x in logits]
        return [x / sum(exps) for x in exps]


def slow_model(width, units, shape=None):
    """An MLP of zeros: it takes its time, whatever it is asked."""
    tensors = {"dense1.weight": ([units, width], bytes(4 * units * width)), "dense1.bias": ([units], bytes(4 * units)),
               "dense2.weight": ([units, units], bytes(4 * units * units)), "dense2.bias": ([units], bytes(4 * units)),
               "output.weight": ([2, units], bytes(8 * units)), "output.bias": ([2], bytes(8))}
    return safetensors(notes("MLP", {"activation": "ReLU", "hiddenUnits": [units, units]}, shape or [width], 2), tensors)


def is_close(got, wanted):
    return len(got) == len(wanted) and all(abs(a - b) < 1e-5 for a, b in zip(got, wanted))


def v2_body(rows, shape, **more):
    flat = [x for row in rows for x in row]
    return {"inputs": [{"name": "input", "shape": [len(rows), *shape], "datatype": "FP32", "data": flat}], **more}


class Serve:
    """A server in a folder of its own."""

    def __init__(self, *options, model=None, admin=True):
        self.dir = tempfile.mkdtemp(prefix="flops-serve-")
        self.options = list(options)
        if model is not None:
            self.options += ["--model", self.put("model", model)]
        if admin:
            self.options += ["--admin", "127.0.0.1:0"]
        self.process = None

    def put(self, name, content):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def launch(self):
        self.process = subprocess.Popen(
            [FLOPS, "serve", "--listen", "127.0.0.1:0", *self.options],
            stdout=open(os.path.join(self.dir, "out"), "w+b"), stderr=open(os.path.join(self.dir, "err"), "ab"))
        return self

    def start(self, ready=True, deadline_s=60):
        self.launch()
        end = time.monotonic() + deadline_s
        while time.monotonic() < end and self.process.poll() is None:
            said = re.search(rb":(\d+)(?:, admin port (\d+))?\n", open(os.path.join(self.dir, "out"), "rb").read())
            if said:
                self.port, self.admin_port = int(said.group(1)), int(said.group(2) or 0)
                if not ready or self.is_ready():
                    return self
            time.sleep(0.01)
        raise RuntimeError("not ready: " + self.errors())

    def is_ready(self):
        try:
            return self.call("GET", "/v2/health/ready")[0] == 200
        except OSError:
            return False

    def connect(self, timeout=30):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, headers=None, connection=None, port=None):
        """Status, headers, and the answer as JSON where it is JSON."""
        own = connection or http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        own.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        answer = own.getresponse()
        content = answer.read()
        if not connection:
            own.close()
        try:
            return answer.status, answer.headers, json.loads(content)
        except ValueError:
            return answer.status, answer.headers, content

    def admin(self, method, path, body=None, headers=None):
        return self.call(method, path, body, headers, port=self.admin_port)

    def metric(self, name):
        text = self.admin("GET", "/metrics")[2].decode()
        found = re.search("^" + re.escape(name) + r" (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else None

    def errors(self):
        return open(os.path.join(self.dir, "err"), errors="replace").read()

    def wait(self, deadline_s=60):
        try:
            return self.process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -1

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        subprocess.run(["rm", "-rf", self.dir], check=False)


def wait_until(holds, deadline_s=60):
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False
