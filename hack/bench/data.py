#!/usr/bin/env python3
"""Measures the data plane: a real `flops aggregator` process (FLOPS=bin/flops) on loopback, with learners of
hack/bench/crowd, each with its own identity, connections and learner core; beside it, in the same run, Flower
1.8.0's start_server with echo clients, in a virtual environment that is made here from PyPI.

data.py [overhead] [large] [many] [idle] [fold]    some of it, or all
  overhead  SoftmaxRegression on MNIST in 1,000 parts (two digits each), 10 learners a round, 100 rounds
  large     10 echoes x 10 million float32 parameters, beside Flower
  many      200 echoes x 10 thousand parameters, beside Flower
  idle      10,000 learners that have joined and wait
  fold      what the strategies add up, beside a plain loop over the same bytes

Times are the medians of rounds, with the fastest and the slowest; memory is the server's peak RSS.
ROUNDS=100 LARGE_ROUNDS=10 MANY_ROUNDS=30 IDLE=10000 IDLE_SECONDS=60 DIR=build/bench/data BUILD=release"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILT = os.path.join(ROOT, "build", os.environ.get("BUILD", "release"))
FLOPS = os.environ.get("FLOPS", os.path.join(BUILT, "flops"))
CROWD = os.path.join(BUILT, "hack", "bench", "crowd", "crowd")
FOLDING = os.path.join(BUILT, "workloads", "aggregator", "folding_bench")
DIR = os.environ.get("DIR", os.path.join(ROOT, "build", "bench", "data"))
VENV = os.path.join(ROOT, "build", "tools", "flwr")
ROUNDS = int(os.environ.get("ROUNDS", "100"))
LARGE_ROUNDS = int(os.environ.get("LARGE_ROUNDS", "10"))
MANY_ROUNDS = int(os.environ.get("MANY_ROUNDS", "30"))
IDLE = int(os.environ.get("IDLE", "10000"))
IDLE_SECONDS = int(os.environ.get("IDLE_SECONDS", "60"))
PARTS, PIXELS, CLASSES = 1000, 784, 10
DEADLINE_S = 300


# ---- processes --------------------------------------------------------------------------------------


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def program(name, *words, env=None, stdin=None):
    """Runs until the end of the block; its stderr is kept in DIR."""
    with open(os.path.join(DIR, name + ".err"), "wb") as err:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=err, text=True, env=env, stdin=stdin)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid, what):
    """VmHWM or VmRSS of the process, or Pss."""
    file = "smaps_rollup" if what == "Pss" else "status"
    return int(re.search(rf"^{what}:\s+(\d+)", open(f"/proc/{pid}/{file}").read(), re.M).group(1)) / 1024


# ---- ours -------------------------------------------------------------------------------------------


class Aggregator:
    def __init__(self, process):
        line = process.stdout.readline()
        ready = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not ready:
            raise RuntimeError("the aggregator is not ready: " + line)
        self.pid, self.port = process.pid, int(ready.group(1))
        self.session = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def ask(self, method, path, body=None):
        self.session.request(method, path, body)
        answer = self.session.getresponse()
        data = answer.read()
        if answer.status not in (200, 201, 204):
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:500]}")
        return data

    def ask_json(self, method, path, value=None):
        return json.loads(self.ask(method, path, None if value is None else json.dumps(value)))

    def put_model(self, data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.ask("PUT", f"/v1/models/{digest}", data)
        return digest, len(data)

    def wait_for_members(self, count):
        end = time.monotonic() + DEADLINE_S
        while self.ask_json("GET", "/v1/status").get("members", 0) < count:
            if time.monotonic() > end:
                raise RuntimeError(f"not all {count} have joined")
            time.sleep(0.02)

    def train(self, spec):
        """One round; its status."""
        path, version = f"/v1/rounds/{spec['round']}", 0
        status = self.ask_json("PUT", path, spec)
        while status["phase"] not in ("Committed", "Failed", "Aborted"):
            version = status["version"]
            status = self.ask_json("GET", f"{path}?after={version}")
        if status["phase"] != "Committed":
            raise RuntimeError(f"round {spec['round']}: {status}")
        return status


@contextlib.contextmanager
def federation(count, *crowd_options):
    folder = os.path.join(DIR, "aggregator")
    shutil.rmtree(folder, ignore_errors=True)
    with program("aggregator", FLOPS, "aggregator", "--folder", folder, "--listen", "127.0.0.1:0",
                 "--uploads", "64") as process:
        aggregator = Aggregator(process)
        began = time.monotonic()
        with program("crowd", CROWD, "learners", "--aggregator", f"127.0.0.1:{aggregator.port}", "--count",
                     str(count), *crowd_options):
            aggregator.wait_for_members(count)
            aggregator.join_s = time.monotonic() - began
            yield aggregator
    shutil.rmtree(folder, ignore_errors=True)


def spec(number, model, size, available, fraction, learning_rate=0.03):
    wanted = round(available * fraction)
    return {"project": "bench", "round": number, "model": model, "modelSize": size, "seed": 11,
            "local": {"epochs": 1, "batchSize": 10, "learningRate": learning_rate},
            "strategy": {"name": "FedAvg"},
            "participation": {"minAvailable": available, "quorum": wanted, "fraction": fraction,
                              "selection": "Random", "deadlineMs": 60000, "retryLimit": 3}}


def train(aggregator, rounds, data, available, fraction):
    """The last model's digest, and how long each round took."""
    model, size = aggregator.put_model(data)
    took = []
    for number in range(1, rounds + 1):
        began = time.monotonic()
        status = aggregator.train(spec(number, model, size, available, fraction))
        took.append(time.monotonic() - began)
        if status["learners"] != round(available * fraction):
            raise RuntimeError(f"not everybody counts: {status}")
        model, size = status["model"], status["modelSize"]
    return model, took


# ---- cases ------------------------------------------------------------------------------------------


def row(name, value, beside="", ratio=""):
    print(f"{name:58} {value:>18} {beside:>18} {ratio:>8}", flush=True)


def spread(seconds):
    ms = sorted(1000 * s for s in seconds)
    return f"{statistics.median(ms):.0f} ({ms[0]:.0f}..{ms[-1]:.0f})"


def mnist():
    """The store with MNIST in parts of two digits each, and its test set."""
    folder, data = os.path.join(DIR, "store"), os.path.join(ROOT, "build", "data", "mnist")
    if not os.path.exists(os.path.join(folder, "data", "mnist.parts", "manifest.json")):
        run(os.path.join(ROOT, "hack", "get-data.sh"), os.path.join(ROOT, "build", "data"))
        shutil.rmtree(folder, ignore_errors=True)
        for tag, name in (("mnist", "train"), ("test", "t10k")):
            run(FLOPS, "data", "push", tag, f"{data}/{name}-images-idx3-ubyte",
                f"{data}/{name}-labels-idx1-ubyte", "--data-dir", folder)
        run(FLOPS, "data", "partition", "mnist", "--learners", str(PARTS), "--kind", "Shards", "--data-dir", folder)
    return os.path.join(folder, "data")


def zero_model():
    weight, bias = CLASSES * PIXELS * 4, CLASSES * 4
    header = json.dumps({"output.weight": {"dtype": "F32", "shape": [CLASSES, PIXELS], "data_offsets": [0, weight]},
                         "output.bias": {"dtype": "F32", "shape": [CLASSES],
                                         "data_offsets": [weight, weight + bias]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(weight + bias)


def overhead():
    store = mnist()
    with federation(PARTS, "--data", store + "/mnist") as aggregator:
        began, cpu = time.monotonic(), cpu_s(aggregator.pid)
        model, took = train(aggregator, ROUNDS, zero_model(), PARTS, 10 / PARTS)
        seconds, cpu = time.monotonic() - began, cpu_s(aggregator.pid) - cpu
        file = os.path.join(DIR, "model")
        with open(file, "wb") as out:
            out.write(aggregator.ask("GET", f"/v1/models/{model}"))
    accuracy = float(re.search(r"accuracy ([0-9.]+)", run(CROWD, "evaluate", file, store + "/test")).group(1))
    row(f"LR on MNIST, {PARTS} learners, 10 a round, {ROUNDS} rounds: s", f"{seconds:.2f}")
    row("  test accuracy, %", f"{100 * accuracy:.1f}")
    row("  a round, ms (fastest..slowest)", spread(took))
    row("  processor time of the aggregator, s", f"{cpu:.2f}")


def echo_ours(learners, parameters, rounds):
    file = os.path.join(DIR, "model")
    run(CROWD, "model", file, str(parameters), "10")
    with federation(learners) as aggregator:
        cpu = cpu_s(aggregator.pid)
        took = train(aggregator, rounds, open(file, "rb").read(), learners, 1.0)[1]
        return took, memory_mb(aggregator.pid, "VmHWM"), (cpu_s(aggregator.pid) - cpu) / rounds


def make_flower():
    python = os.path.join(VENV, "bin", "python")
    if not os.path.exists(os.path.join(VENV, "ready")):
        run(sys.executable, "-m", "venv", VENV)
        run(python, "-m", "pip", "install", "--quiet", "flwr==1.8.0")
        open(os.path.join(VENV, "ready"), "w").close()
    return python


def echo_flower(learners, parameters, rounds):
    python, script = make_flower(), os.path.join(HERE, "flower.py")
    env = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "GRPC_VERBOSITY": "ERROR"}
    with program("flower", python, script, "server", str(learners), str(parameters), str(rounds), env=env) as server:
        port = server.stdout.readline().strip()
        with program("echoes", python, script, "echoes", port, str(learners), env=env):
            result = json.loads(server.stdout.readline())
    return result["seconds"], result["peak_mb"], result["cpu_s"] / rounds


def echoes(learners, parameters, rounds):
    ours, ours_mb, ours_cpu = echo_ours(learners, parameters, rounds)
    flower, flower_mb, flower_cpu = echo_flower(learners, parameters, rounds)
    name = f"{learners} echoes x {parameters:,} parameters"
    row(f"{name}: a round, ms", spread(ours), spread(flower),
        f"{statistics.median(flower) / statistics.median(ours):.1f}")
    row("  server's processor time a round, ms", f"{1000 * ours_cpu:.0f}", f"{1000 * flower_cpu:.0f}",
        f"{flower_cpu / ours_cpu:.1f}")
    row("  server's peak memory, MB (RSS)", f"{ours_mb:.0f}", f"{flower_mb:.0f}", f"{flower_mb / ours_mb:.1f}")


def idle():
    with federation(IDLE, "--frugal") as aggregator:
        joined = aggregator.join_s
        time.sleep(5)
        began, cpu = time.monotonic(), cpu_s(aggregator.pid)
        time.sleep(IDLE_SECONDS)
        percent = 100 * (cpu_s(aggregator.pid) - cpu) / (time.monotonic() - began)
        pss = memory_mb(aggregator.pid, "Pss")
        members = aggregator.ask_json("GET", "/v1/status")["members"]
    row(f"{members} joined learners: time in which all joined, s", f"{joined:.1f}")
    row("  processor time while they wait, % of a core", f"{percent:.1f}")
    row("  memory, MB (PSS)", f"{pss:.0f}")


def fold():
    for line in run(FOLDING).splitlines():
        name, value = re.fullmatch(r"(.*?) {2,}(.*)", line).groups()
        row(name, value)


CASES = {"overhead": overhead, "large": lambda: echoes(10, 10_000_000, LARGE_ROUNDS),
         "many": lambda: echoes(200, 10_000, MANY_ROUNDS), "idle": idle, "fold": fold}


def main():
    chosen = sys.argv[1:] or list(CASES)
    if not set(chosen) <= set(CASES):
        print(__doc__, file=sys.stderr)
        return 2
    os.makedirs(DIR, exist_ok=True)
    print(f"{os.cpu_count()} processors, load average before: {os.getloadavg()[0]:.2f}")
    row("", "flops", "Flower 1.8.0", "ratio")
    for name in chosen:
        CASES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
