#!/usr/bin/env python3
"""own_code.py: models that only their own code knows, behind `flops serve … -- flops-trainer`.

Answers are those of plain arithmetic, in every protocol. Rows at which the code raises, dies or sleeps cost their request
and no other; its processes are killed at random under load, its model is replaced, and nobody waits for ever. $FLOPS is
the program; NumPy is Debian's."""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import serve_rig  # noqa: E402
from rig import Judge  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRAINER = os.path.join(ROOT, "workloads", "trainer", "python", "image", "usr", "bin", "flops-trainer")
CODE = '''
import os, time
import numpy as np

class Trainer:
    def get_parameters(self): return {"weight": self.weight, "bias": self.bias}
    def set_parameters(self, parameters): self.weight, self.bias = parameters["weight"], parameters["bias"]
    def fit(self, options): return 1
    def evaluate(self): return 0.0, 0.0, 1
    def predict(self, rows):
        if (rows[:, 0] == 101).any(): raise ValueError("bad luck")
        if (rows[:, 0] == 102).any(): os.abort()
        if (rows[:, 0] == 103).any(): time.sleep(3600)
        powers = np.exp(rows @ self.weight + self.bias)
        return powers / powers.sum(axis=1, keepdims=True)
'''
WIDTH, CLASSES, CLIENTS = 6, 3, 8
judge = Judge()


class Model(serve_rig.Softmax):
    """The same numbers, in a file that does not say what they are."""

    def __init__(self, seed):
        super().__init__([WIDTH], CLASSES, seed)
        turned = [self.weight[c * WIDTH + i] for i in range(WIDTH) for c in range(CLASSES)]
        self.bytes = serve_rig.safetensors(
            {"flops.input": json.dumps({"dtype": "F32", "name": "input", "shape": [WIDTH]})},
            {"weight": ([WIDTH, CLASSES], serve_rig.array.array("f", turned).tobytes()),
             "bias": ([CLASSES], self.bias.tobytes())})
        self.digest = "sha256:" + serve_rig.hashlib.sha256(self.bytes).hexdigest()


def rows_of(chance, count):
    return [[chance.uniform(-1, 1) for _ in range(WIDTH)] for _ in range(count)]


def is_right(model, rows, found):
    return len(rows) == len(found) and all(serve_rig.is_close(got, model.answer(row)) for row, got in zip(rows, found))


def processes(server):
    """Those that predict."""
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as file:
        found = file.read().split()
    for task in os.listdir(f"/proc/{server.process.pid}/task"):
        with open(f"/proc/{server.process.pid}/task/{task}/children") as file:
            found += file.read().split()
    return sorted({int(pid) for pid in found})


def answers(server, model):
    chance = random.Random(1)
    for count in (1, 3, 200):
        rows = rows_of(chance, count)
        status, headers, body = server.call("POST", "/invocations", {"inputs": rows})
        judge.check(f"MLflow, {count} rows", status == 200 and is_right(model, rows, body["predictions"]) and
                    headers["X-Model-Digest"] == model.digest, body)
        status, _, body = server.call("POST", "/v2/models/model/infer", serve_rig.v2_body(rows, [WIDTH]))
        flat = body["outputs"][0]["data"] if status == 200 else []
        judge.check(f"Open Inference, {count} rows", is_right(
            model, rows, [flat[i:i + CLASSES] for i in range(0, len(flat), CLASSES)]), body)
        status, _, body = server.call("POST", "/v1/models/model:predict", {"instances": rows})
        judge.check(f"KServe, {count} rows", status == 200 and is_right(model, rows, body["predictions"]), body)
    status, _, body = server.call("POST", "/invocations", {"inputs": [[1, 2]]})
    judge.check("a row of another width is the client's mistake", status == 400, body)


def ask(server, first, **more):
    return server.call("POST", "/invocations", {"inputs": [[first, *([0.5] * (WIDTH - 1))]]}, **more)


def faults(server):
    for first, status, words in ((101, 500, "ValueError: bad luck"), (102, 503, "SIGABRT"), (103, 503, "said nothing")):
        got, _, body = ask(server, first)
        judge.check(f"code that fails is told: {words}", got == status and words in json.dumps(body), (got, body))
        judge.check("and the next request is answered", ask(server, 1)[0] == 200)


class Load:
    """Clients that ask one after the other; what they got."""

    def __init__(self, server, models):
        self.server, self.models, self.statuses, self.wrong = server, models, {}, []
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, seed):
        chance, connection = random.Random(seed), self.server.connect()
        while not self.stopping.is_set():
            rows = rows_of(chance, chance.randint(1, 5))
            status, headers, body = self.server.call("POST", "/invocations", {"inputs": rows}, connection=connection)
            good = status != 200 or is_right(self.models[headers["X-Model-Digest"]], rows, body["predictions"])
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
                if not good or status not in (200, 503):
                    self.wrong.append((status, rows, body))

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        return not any(thread.is_alive() for thread in self.threads)


def killed(server, model):
    load, chance = Load(server, {model.digest: model}), random.Random(7)
    for _ in range(6):
        time.sleep(0.7)
        found = processes(server)
        if found:
            os.kill(chance.choice(found), signal.SIGKILL)
    time.sleep(1)
    judge.check("killed at random: nobody waits for ever", load.end(), load.statuses)
    judge.check("no answer is wrong", not load.wrong, load.wrong[:3])
    judge.check("nearly all are answered", load.statuses.get(200, 0) > 50 * load.statuses.get(503, 0), load.statuses)
    judge.check("they were started again", server.metric("flops_serve_program_restarts_total") >= 3,
                server.metric("flops_serve_program_restarts_total"))
    print(f"# answers by status: {load.statuses}")


def replaced(server, model):
    other = Model(2)
    before = processes(server)
    load = Load(server, {model.digest: model, other.digest: other})
    time.sleep(0.5)
    status, _, body = server.admin("PUT", "/v1/admin/model", {"path": server.put("other", other.bytes), "digest": other.digest})
    judge.check("another model takes over", status == 200, body)
    time.sleep(0.5)
    judge.check("replaced under load: all are answered", load.end() and set(load.statuses) == {200} and not load.wrong,
                (load.statuses, load.wrong[:3]))
    judge.check("by processes of its own, alone", len(processes(server)) == 2 and not set(before) & set(processes(server)),
                (before, processes(server)))
    rows = rows_of(random.Random(3), 3)
    judge.check("with its own numbers", is_right(other, rows, server.call("POST", "/invocations", {"inputs": rows})[2][
        "predictions"]))


def ends(server):
    left = processes(server)
    server.process.send_signal(signal.SIGTERM)
    judge.check("it ends in good order", server.process.wait(60) == 0, server.errors()[-500:])
    judge.check("and its processes with it", not [pid for pid in left if os.path.exists(f"/proc/{pid}")], left)


def main():
    model = Model(1)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "trainer.py"), "w") as file:
            file.write(CODE)
        server = serve_rig.Serve("--timeout", "3s", model=model.bytes)
        server.options += ["--", "/usr/bin/python3", TRAINER, "--code", folder]
        server.start()
        try:
            answers(server, model)
            faults(server)
            killed(server, model)
            replaced(server, model)
            ends(server)
        finally:
            server.remove()
    judge.end()


if __name__ == "__main__":
    main()
