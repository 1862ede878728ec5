#!/usr/bin/env python3
"""supernode.py [ROUNDS]: one Flower app that does nothing, in Flower's SuperLink and SuperNode and in our aggregator and
learner: how long a round takes, and what one learner needs of memory.

The app is the same folder in both cases: its ClientApp gives the model back as it is. Flower's ServerApp drives its
rounds (FedAvg, training only); ours are ordered as the control plane does it. Flower is flwr of $FLWR (default 1.23.0)
from PyPI, in build/tools; both run the app with that Python. A round is timed where it is aggregated: from asking for
updates to having the next model. Memory is proportional (PSS: what processes share is counted once), of all processes of
a learner, the largest that was seen while rounds went on; beside it a Python that has only imported what is named."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

import data
from data import DIR, FLOPS, ROOT, program, run
from python_adapter import ADAPTER

sys.path.insert(0, os.path.join(ROOT, "e2e", "local"))
from ports import free_port  # noqa: E402

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
OUR_ROUNDS = 20 * ROUNDS
FLWR = os.environ.get("FLWR", "1.23.0")
VENV = os.path.join(ROOT, "build", "tools", f"flwr-{FLWR}")
HOME = os.path.join(DIR, "supernode")
APP = os.path.join(HOME, "app")
FLOATS = 1000
DEADLINE_S = 600

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "noop"
version = "1.0.0"
description = "An app that does nothing"
license = "Apache-2.0"
dependencies = []
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "noop.server_app:app"
clientapp = "noop.client_app:app"
[tool.flwr.app.config]
rounds = {rounds}
[tool.flwr.federations]
default = "here"
[tool.flwr.federations.here]
address = "127.0.0.1:{control}"
insecure = true
"""
CLIENT = """
from flwr.clientapp import ClientApp
from flwr.common import Message, MetricRecord, RecordDict

app = ClientApp()

@app.train()
def train(message, context):
    return Message(RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}),
                   reply_to=message)
"""
SERVER = """
import json, time
import numpy as np
from flwr.common import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

class Timed(FedAvg):
    seconds = []

    def configure_train(self, *args, **options):
        self.began = time.monotonic()
        return super().configure_train(*args, **options)

    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, list(replies))
        self.seconds.append(time.monotonic() - self.began)
        return result

@app.main()
def main(grid, context):
    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
    model = ArrayRecord([np.ones({floats}, np.float32)])
    strategy.start(grid=grid, initial_arrays=model, num_rounds=context.run_config["rounds"])
    with open({result!r} + ".new", "w") as file:
        json.dump(strategy.seconds, file)
    import os
    os.rename({result!r} + ".new", {result!r})
"""


def make_flower():
    if not os.path.exists(os.path.join(VENV, "ready")):
        run(sys.executable, "-m", "venv", VENV)
        run(os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            f"flwr=={FLWR}", "numpy")
        open(os.path.join(VENV, "ready"), "w").close()
    return os.path.join(VENV, "bin")


def make_app(control, result):
    shutil.rmtree(HOME, ignore_errors=True)
    os.makedirs(os.path.join(APP, "noop"))
    for name, text in (("pyproject.toml", PROJECT.format(rounds=ROUNDS, control=control)), ("noop/__init__.py", ""),
                       ("noop/client_app.py", CLIENT),
                       ("noop/server_app.py", SERVER.replace("{floats}", str(FLOATS)).replace("{result!r}", repr(result)))):
        with open(os.path.join(APP, name), "w") as file:
            file.write(text)


# ---- memory -----------------------------------------------------------------------------------------


def family(pid):
    """The process and all below it."""
    pids = [pid]
    for one in pids:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    pids += [int(child) for child in file.read().split()]
        except OSError:
            pass  # it has ended
    return pids


def pss_mb(pids):
    total = 0.0
    for pid in pids:
        try:
            total += data.memory_mb(pid, "Pss")
        except (OSError, AttributeError):
            pass
    return total


class Scales(threading.Thread):
    """Weighs a process and what is below it, again and again."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.ended = pid, 0.0, threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            self.most = max(self.most, pss_mb(family(self.pid)))

    def end(self):
        self.ended.set()
        self.join()
        return self.most


def bare_mb(python, imports):
    with program("bare", python, "-c", f"{imports}\nprint(flush=True)\nimport sys; sys.stdin.read()",
                 env={**os.environ, "PYTHONPATH": APP}, stdin=subprocess.PIPE) as process:
        process.stdout.readline()
        return pss_mb([process.pid])


# ---- a federation of one learner --------------------------------------------------------------------


def flower(bin_dir, fleet, control, server_io, client_io, result):
    env = {**os.environ, "PATH": bin_dir + ":" + os.environ["PATH"], "FLWR_HOME": os.path.join(HOME, "flwr"),
           "FLWR_TELEMETRY_ENABLED": "0", "GRPC_VERBOSITY": "ERROR"}
    with program("superlink", os.path.join(bin_dir, "flower-superlink"), "--insecure", "--fleet-api-address",
                 f"127.0.0.1:{fleet}", "--control-api-address", f"127.0.0.1:{control}", "--serverappio-api-address",
                 f"127.0.0.1:{server_io}", env=env), \
         program("supernode", os.path.join(bin_dir, "flower-supernode"), "--insecure", "--superlink",
                 f"127.0.0.1:{fleet}", "--clientappio-api-address", f"127.0.0.1:{client_io}", env=env) as node:
        deadline = time.monotonic() + DEADLINE_S
        while subprocess.run([os.path.join(bin_dir, "flwr"), "run", APP, "here"], env=env, capture_output=True,
                             timeout=120).returncode != 0:
            assert time.monotonic() < deadline, "the SuperLink takes no run"
            time.sleep(1)
        scales = Scales(node.pid)
        scales.start()
        while not os.path.exists(result):
            assert time.monotonic() < deadline and node.poll() is None, f"no result: see {DIR}"
            time.sleep(0.1)
        most = scales.end()
    with open(result) as file:
        return json.load(file), most


def model():
    import struct
    header = json.dumps({"0": {"dtype": "F32", "shape": [FLOATS], "data_offsets": [0, 4 * FLOATS]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", 1.0) * FLOATS


def ours(bin_dir):
    folder = os.path.join(HOME, "aggregator")
    with program("aggregator", FLOPS, "aggregator", "--folder", folder, "--listen", "127.0.0.1:0") as process:
        aggregator = data.Aggregator(process)
        with program("learner", FLOPS, "learner", "--name", "one", "--aggregator", f"http://127.0.0.1:{aggregator.port}",
                     "--data-dir", os.path.join(HOME, "data"), "--folder", os.path.join(HOME, "learner"), "--",
                     os.path.join(bin_dir, "python"), os.path.join(ADAPTER, "bin", "flops-trainer"), "--code", APP,
                     "--entrypoint", "noop.client_app:app") as learner:
            aggregator.wait_for_members(1)
            scales = Scales(learner.pid)
            scales.start()
            _, took = data.train(aggregator, OUR_ROUNDS, model(), 1, 1.0)
            trainer = [pid for pid in family(learner.pid) if pid != learner.pid]
            return took, scales.end(), pss_mb([learner.pid]), pss_mb(trainer)


# ---- the table --------------------------------------------------------------------------------------


def say(what, seconds, rounds, memory):
    times = sorted(1000 * one for one in seconds[1:])  # the first one finds nothing loaded
    print(f"{what:<44}{statistics.median(times):>10.1f}{times[int(len(times) * 0.95)]:>10.1f}"
          f"{1000 * seconds[0]:>12.1f}{rounds:>8}{memory:>12.1f}", flush=True)


def main():
    os.makedirs(DIR, exist_ok=True)
    fleet, control, server_io, client_io = (free_port() for _ in range(4))
    bin_dir, result = make_flower(), os.path.join(HOME, "seconds.json")
    python = os.path.join(bin_dir, "python")
    make_app(control, result)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; flwr {FLWR}, "
          f"a model of {4 * FLOATS} bytes, one learner")
    print(f"{'':<44}{'median ms':>10}{'95 % ms':>10}{'the first':>12}{'rounds':>8}{'PSS MiB':>12}")
    took, most, own, trainer = ours(bin_dir)
    say("aggregator and learner", took, OUR_ROUNDS, most)
    theirs, their_most = flower(bin_dir, fleet, control, server_io, client_io, result)
    say("SuperLink and SuperNode", theirs, ROUNDS, their_most)
    numpy, app = bare_mb(python, "import numpy"), bare_mb(python, "import numpy, noop.client_app")
    print(f"ours: the learner itself {own:.1f} MiB, its Python {trainer:.1f}; a Python that has imported NumPy "
          f"{numpy:.1f}, NumPy and the app (and so flwr) {app:.1f}: the adapter adds {trainer - app:.1f} MiB")
    print(f"per round {statistics.median(theirs[1:]) / statistics.median(took[1:]):.0f} times as fast, "
          f"{their_most / most:.1f} times less memory a learner")
    shutil.rmtree(HOME, ignore_errors=True)


if __name__ == "__main__":
    main()
