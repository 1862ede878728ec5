"""A federation of real processes on loopback: aggregators and learners that can be killed and started again,
and the control interface of the root (standard library only; $FLOPS is the program)."""

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
import tempfile
import threading
import time

from ports import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOPS = os.environ.get("FLOPS", os.path.join(ROOT, "bin", "flops"))
FEATURES, CLASSES, EXAMPLES = 64, 10, 600
DEADLINE_S = 240


class Process:
    """One that can be killed and started again over the same folder, on the same port."""

    def __init__(self, world, kind, name, *options):
        self.world, self.kind, self.name, self.options = world, kind, name, list(options)
        self.folder = os.path.join(world.dir, kind + "-" + name)
        self.port = free_port() if kind == "aggregator" else 0
        self.process = None
        self.scheme, self.context = "http", None

    def command(self, *more):
        command = [FLOPS, self.kind, "--name", self.name, "--folder", self.folder, *self.options, *more]
        if self.kind == "aggregator":
            command += ["--listen", f"127.0.0.1:{self.port}"]
        return command

    def spawn(self, *more):
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, "out"), "wb") as out, \
                open(os.path.join(self.folder, "err"), "ab") as err:
            self.process = subprocess.Popen(self.command(*more), stdout=out, stderr=err)

    def start(self):
        self.spawn()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if b"is ready: " in self.read("out"):
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} is not ready: " + self.errors()[-2000:])

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def errors(self):
        if not self.process:
            return ""
        return self.read("err").decode(errors="replace")

    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def end(self):
        """In good order, which is where sanitizers look for leaks."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            status = self.process.wait(timeout=60)
            assert status == 0, f"{self.name} ended with {status}: {self.errors()[-3000:]}"

    def restart(self):
        self.kill()
        return self.start()


class Victim:
    """Starts a process again whenever it was killed: each life ends at the next of these steps."""

    def __init__(self, process, deaths):
        self.process, self.deaths, self.died = process, list(deaths), []
        self.wrong, self.ended = None, False
        self.thread = threading.Thread(target=self.live, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def live(self):
        for death in self.deaths + [None]:
            if self.ended:
                return
            self.process.spawn(*(["--die-at", death] if death else []))
            status = self.process.process.wait()
            if self.ended or (status == 0 and not death):
                return
            if status != -signal.SIGKILL:
                self.wrong = f"{self.process.name} ended with {status}: {self.process.errors()[-1500:]}"
                return
            self.died.append(death)
            if "-unsynced" in death:
                tear(os.path.join(self.process.folder, "journal"), len(self.died))

    def stop(self):
        self.ended = True
        self.process.kill()
        self.thread.join(timeout=60)


def tear(journal, seed):
    """The machine lost its power before the last line was on disk: some of it is not there."""
    with open(journal, "r+b") as file:
        text = file.read()
        line = len(text) - text.rfind(b"\n", 0, len(text) - 1) - 1
        file.truncate(len(text) - random.Random(seed).randrange(1, line + 1))


class World:
    def __init__(self, aggregator_options=()):
        self.dir = tempfile.mkdtemp(prefix="flops-federation-")
        self.processes, self.victims = [], []
        self.aggregator_options = aggregator_options

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                for process in reversed(self.processes):  # learners can say goodbye then
                    process.end()
        finally:
            for victim in self.victims:
                victim.stop()
            for process in self.processes:
                process.kill()
        found = [process.errors() for process in self.processes if "Sanitizer" in process.errors()]
        if kind is None and not found:
            shutil.rmtree(self.dir)
        else:
            print("what is left of it:", self.dir)
        if found:
            raise RuntimeError(found[0][:3000])

    def add(self, kind, name, *options):
        process = Process(self, kind, name, *options)
        self.processes.append(process)
        return process

    def aggregator(self, name, parent=None, *options):
        if parent:
            options += ("--parent", parent.url())
        return self.add("aggregator", name, "--poll", "2s", "--silence", "10s", *self.aggregator_options, *options)

    def learner(self, name, aggregator, data_dir, data, *options):
        return self.add("learner", name, "--aggregator", aggregator.url(), "--data", data, "--data-dir", data_dir,
                        *(options or ("--trainer", "SoftmaxRegression")))

    def victim(self, process, deaths):
        victim = Victim(process, deaths)
        self.victims.append(victim)
        return victim.start()


def flops(*words):
    done = subprocess.run([FLOPS, *words], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"flops {' '.join(words)}: {done.stderr}")
    return done.stdout


def make_data(data_dir, learners):
    """Clouds of points about ten centres, the same every time; as toy.0, toy.1, …"""
    chance = random.Random(7)
    path = os.path.join(data_dir, "toy.csv")
    with open(path, "w") as file:
        for i in range(EXAMPLES):
            label = i % CLASSES
            row = [chance.gauss(2.0 if f % CLASSES == label else 0.0, 1.0) for f in range(FEATURES)]
            file.write(",".join(f"{x:.5f}" for x in row) + f",{label}\n")
    flops("data", "push", "toy", path, "--header", "no", "--data-dir", data_dir)
    flops("data", "partition", "toy", "--learners", str(learners), "--data-dir", data_dir)


def base_model():
    weight, bias = CLASSES * FEATURES * 4, CLASSES * 4
    header = json.dumps({"output.weight": {"dtype": "F32", "shape": [CLASSES, FEATURES],
                                           "data_offsets": [0, weight]},
                         "output.bias": {"dtype": "F32", "shape": [CLASSES],
                                         "data_offsets": [weight, weight + bias]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(weight + bias)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def connect(aggregator, context=None):
    context = context or aggregator.context
    if context:
        return http.client.HTTPSConnection("127.0.0.1", aggregator.port, timeout=30, context=context)
    return http.client.HTTPConnection("127.0.0.1", aggregator.port, timeout=30)


def ask(aggregator, method, path, body=None, deadline_s=60):
    """Until it answers: it may be dead just now."""
    end = time.monotonic() + deadline_s
    while True:
        connection = connect(aggregator)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
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
    version, end, status = 0, time.monotonic() + DEADLINE_S, None
    while time.monotonic() < end:
        status = ask_json(root, "GET", f"/v1/rounds/{number}?after={version}")
        if status["phase"] in ("Committed", "Failed", "Aborted"):
            return status
        version = status["version"]
    raise RuntimeError(f"round {number} does not end: {status}")


def wait_for_learners(root, count):
    end = time.monotonic() + DEADLINE_S
    while ask_json(root, "GET", "/v1/status").get("learners", 0) != count:
        if time.monotonic() > end:
            raise RuntimeError("not everybody has joined")
        time.sleep(0.02)


def put_model(root, data):
    """Its digest and size, as a round names them."""
    status, body = ask(root, "PUT", f"/v1/models/{digest(data)}", data)
    assert status in (200, 201, 204), (status, body)
    return digest(data), len(data)


def get_model(root, status):
    code, body = ask(root, "GET", f"/v1/models/{status['model']}")
    assert code == 200 and digest(body) == status["model"] and len(body) == status["modelSize"], (code, status)
    return status["model"], len(body)
