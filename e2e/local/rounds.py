#!/usr/bin/env python3
"""rounds.py [CASE...]: federated training by real processes on loopback.

A root, tiers and learners train SoftmaxRegression on a data set that is made here, directly and through
tiers, and are killed (SIGKILL) one after the other in mid-round. Where everybody takes part in every round
the model must have the same digest, whatever happened. (A tier whose learner was just killed hands up the
sum of the others: then the rounds must end, count nobody twice, and the model be a good one.) Standard
library only; $FLOPS is the program."""

import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOPS = os.environ.get("FLOPS", os.path.join(ROOT, "bin", "flops"))
FEATURES, CLASSES, LEARNERS, ROUNDS = 8, 3, 6, 4
DEADLINE_S = 240


class Process:
    """One that can be killed and started again over the same folder, on the same port."""

    def __init__(self, world, kind, name, *options):
        self.world, self.kind, self.name, self.options = world, kind, name, options
        self.folder = os.path.join(world.dir, kind + "-" + name)
        self.port, self.process = 0, None

    def start(self):
        os.makedirs(self.folder, exist_ok=True)
        command = [FLOPS, self.kind, "--name", self.name, "--folder", self.folder, *self.options]
        if self.kind == "aggregator":
            command += ["--listen", f"127.0.0.1:{self.port}", "--poll", "2s", "--silence", "10s"]
        out = open(os.path.join(self.folder, "out"), "w+b")
        err = open(os.path.join(self.folder, "err"), "ab")
        self.process = subprocess.Popen(command, stdout=out, stderr=err)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ready = re.search(rb"is ready: (?:http://127\.0\.0\.1:(\d+))?", open(out.name, "rb").read())
            if ready:
                self.port = int(ready.group(1) or 0)
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} is not ready: " + open(err.name, errors="replace").read()[-2000:])

    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def restart(self):
        self.kill()
        return self.start()


class World:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="flops-rounds-")
        self.processes = []
        self.model = base_model()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for process in self.processes:
            process.kill()
        if kind is None:
            shutil.rmtree(self.dir)
        else:
            print("what is left of it:", self.dir)

    def aggregator(self, name, parent=None):
        options = ["--parent", parent.url()] if parent else []
        process = Process(self, "aggregator", name, *options).start()
        self.processes.append(process)
        return process

    def learner(self, number, aggregator, data_dir):
        process = Process(self, "learner", f"learner-{number}", "--aggregator", aggregator.url(),
                          "--data", f"toy.{number}", "--trainer", "SoftmaxRegression",
                          "--data-dir", data_dir).start()
        self.processes.append(process)
        return process


def make_data(data_dir):
    """Clouds of points about three centres, the same every time."""
    chance = random.Random(7)
    path = os.path.join(data_dir, "toy.csv")
    with open(path, "w") as file:
        for i in range(600):
            label = i % CLASSES
            row = [chance.gauss(2.0 if f % CLASSES == label else 0.0, 1.0) for f in range(FEATURES)]
            file.write(",".join(f"{x:.5f}" for x in row) + f",{label}\n")
    flops("data", "push", "toy", path, "--header", "no", "--data-dir", data_dir)
    flops("data", "partition", "toy", "--learners", str(LEARNERS), "--data-dir", data_dir)


def flops(*words):
    done = subprocess.run([FLOPS, *words], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"flops {' '.join(words)}: {done.stderr}")


def base_model():
    weight, bias = CLASSES * FEATURES * 4, CLASSES * 4
    header = json.dumps({"output.weight": {"dtype": "F32", "shape": [CLASSES, FEATURES],
                                           "data_offsets": [0, weight]},
                         "output.bias": {"dtype": "F32", "shape": [CLASSES],
                                         "data_offsets": [weight, weight + bias]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(weight + bias)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def ask(aggregator, method, path, body=None, deadline_s=60):
    """Until it answers: it may be dead just now."""
    end = time.monotonic() + deadline_s
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", aggregator.port, timeout=30)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        finally:
            connection.close()


def ask_json(aggregator, method, path, value=None):
    status, body = ask(aggregator, method, path, None if value is None else json.dumps(value))
    if status != 200:
        raise RuntimeError(f"{method} {path}: {status} {body.decode(errors='replace')}")
    return json.loads(body)


def spec(number, model, size, members):
    return {"project": "toy", "round": number, "model": model, "modelSize": size, "seed": 11,
            "local": {"epochs": 1, "batchSize": 10, "learningRate": 0.1},
            "strategy": {"name": "FedAvg"}, "maxWeight": 1000, "rangeBits": 7,
            "participation": {"minAvailable": members, "quorum": members, "fraction": 1,
                              "selection": "All", "deadlineMs": 60000, "retryLimit": 20},
            "evaluation": {"enabled": True, "fraction": 1, "deadlineMs": 30000}}


def wait_for(root, number):
    version, end = 0, time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        status = ask_json(root, "GET", f"/v1/rounds/{number}?after={version}")
        if status["phase"] in ("Committed", "Failed", "Aborted"):
            return status
        version = status["version"]
    raise RuntimeError(f"round {number} does not end: {status}")


def wait_for_everybody(root):
    end = time.monotonic() + DEADLINE_S
    while ask_json(root, "GET", "/v1/status").get("learners", 0) != LEARNERS:
        if time.monotonic() > end:
            raise RuntimeError("not everybody has joined")
        time.sleep(0.05)


def train(world, root, members, disturb=None):
    """All rounds; returns the last model's digest, and whether everybody took part in all of them.
    `disturb(number)` is called when a round has begun."""
    everybody = True
    model, size = digest(world.model), len(world.model)
    status, body = ask(root, "PUT", f"/v1/models/{model}", world.model)
    assert status == 201, (status, body)
    for number in range(1, ROUNDS + 1):
        wait_for_everybody(root)
        ask_json(root, "PUT", f"/v1/rounds/{number}", spec(number, model, size, members))
        if disturb:
            disturb(number)
        status = wait_for(root, number)
        assert status["phase"] == "Committed", status
        assert status["examples"] == status["learners"] * 600 / LEARNERS, status
        assert status["learners"] == LEARNERS or (disturb and members != LEARNERS), status
        everybody = everybody and status["learners"] == LEARNERS
        model, size = status["model"], status["modelSize"]
        code, body = ask(root, "GET", f"/v1/models/{model}")
        assert code == 200 and digest(body) == model and len(body) == size
    assert status["evaluation"]["accuracy"] > 0.8, status
    return model, everybody


def flat(data_dir, disturbed=None):
    with World() as world:
        root = world.aggregator("root")
        learners = [world.learner(i, root, data_dir) for i in range(LEARNERS)]
        return train(world, root, LEARNERS, disturbed and disturbed([root] + learners))


def tiered(data_dir, disturbed=None):
    with World() as world:
        root = world.aggregator("root")
        tiers = [world.aggregator(f"tier-{i}", root) for i in range(2)]
        learners = [world.learner(i, tiers[i % 2], data_dir) for i in range(LEARNERS)]
        return train(world, root, 2, disturbed and disturbed([root] + tiers + learners))


def killing(processes):
    """In every round another one, at another moment."""
    chance = random.Random(3)

    def disturb(number):
        time.sleep(chance.random() * 0.4)
        victims = processes[number - 1::ROUNDS]
        for victim in victims:
            victim.restart()
    return disturb


def main():
    data_dir = tempfile.mkdtemp(prefix="flops-rounds-data-")
    cases = [("flat", lambda: flat(data_dir)), ("flat again", lambda: flat(data_dir)),
             ("tiered", lambda: tiered(data_dir)), ("flat, killed", lambda: flat(data_dir, killing)),
             ("tiered, killed", lambda: tiered(data_dir, killing))]
    chosen, digests, ran, failed = sys.argv[1:], {}, 0, 0

    make_data(data_dir)
    for name, run in cases:
        if chosen and name not in chosen:
            continue
        began = time.monotonic()
        try:
            model, everybody = run()
            ran += 1
            if everybody:
                digests[name] = model
            same = len(set(digests.values())) <= 1
            print("ok" if same else "not ok", "-", name, model[7:19],
                  "" if everybody else "(not everybody took part)", f"{time.monotonic() - began:.1f} s", flush=True)
            failed += not same
        except (AssertionError, RuntimeError, OSError) as error:
            failed += 1
            print("not ok -", name, repr(error), flush=True)
    shutil.rmtree(data_dir)
    print(f"{ran} ran, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
