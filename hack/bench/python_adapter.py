#!/usr/bin/env python3
"""python_adapter.py [HOST_BENCH]: what the Python adapter costs a learner, beside what Python and NumPy cost themselves.

The learner's side of the trainer protocol is played here, as workloads/trainer/host.c does it: a model goes as
sealed memory, and the answer is mapped. Printed: a round of code that does nothing, a 40 MB model to Python and
back, start-up, and memory over a Python with NumPy. HOST_BENCH is the program of workloads/trainer/host_bench.c:
the first two as the real host does them. Standard library only; $PYTHON has NumPy (default /usr/bin/python3)."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ADAPTER = os.path.join(ROOT, "workloads", "trainer", "python", "image", "usr")
PYTHON = os.environ.get("PYTHON", "/usr/bin/python3")
sys.path.insert(0, os.path.join(ADAPTER, "lib", "flops", "python"))

from flops_trainer import protocol  # noqa: E402

ROUNDS = 200
CODE = """
class Trainer:
    def get_parameters(self):
        return getattr(self, "model", [])
    def set_parameters(self, parameters):
        self.model = parameters
    def fit(self, options):
        return 1
    def evaluate(self):
        return 0.0, 1.0, 1
"""
BARE = "import numpy, sys; print('ready', flush=True); sys.stdin.read()"


class Child:
    """A flops-trainer with this code, asked as a learner asks."""

    def __init__(self, code):
        ours, theirs = protocol._socket.socketpair()
        self.began = time.perf_counter()
        self.process = subprocess.Popen([PYTHON, os.path.join(ADAPTER, "bin", "flops-trainer"), "--code", code],
                                        preexec_fn=lambda: os.dup2(theirs.fileno(), 3, inheritable=True), pass_fds=[3])
        theirs.close()
        self.channel, self.number = protocol.Channel(ours.detach()), 0

    def ask(self, kind, head, parts=None):
        self.number += 1
        self.channel.send(kind, self.number, head, parts)
        while True:
            data, fd = self.channel._read_header()
            magic, answer, flags, number, head_size, size = protocol._HEADER.unpack(data)
            head = json.loads(self.channel._read(head_size) or b"{}")
            body = None if fd >= 0 else self.channel._read(size)
            if answer != protocol.PROGRESS:
                break
        assert answer == protocol.RESULT, head
        if fd >= 0:
            os.close(fd)
        return head, body

    def hello(self):
        self.ask(protocol.HELLO, {"version": 1, "descriptors": True})
        self.channel.descriptors = True
        return time.perf_counter() - self.began

    def fit(self, parts):
        began = time.perf_counter()
        self.ask(protocol.FIT, {"epochs": 1, "batchSize": 10, "learningRate": 0.1, "seed": "1"}, parts)
        return time.perf_counter() - began

    def end(self):
        self.ask(protocol.STOP, {})
        assert self.process.wait() == 0


def model(floats):
    text = json.dumps({"0": {"dtype": "F32", "shape": [floats], "data_offsets": [0, 4 * floats]}}).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, bytes(4 * floats)]


def memory(pid):
    """What is its own, and the share of what it has in common: KiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        fields = dict(line.split(":") for line in file if ":" in line)
    with open(f"/proc/{pid}/status") as file:
        resident = next(line.split()[1] for line in file if line.startswith("VmRSS"))
    own = sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
    return int(resident), own


def bare():
    """Memory and start of a Python that has NumPy and does nothing."""
    began = time.perf_counter()
    process = subprocess.Popen([PYTHON, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    took = time.perf_counter() - began
    found = memory(process.pid)
    process.communicate()
    return found, took


def milliseconds(times):
    times = sorted(1000 * t for t in times)
    return f"median {statistics.median(times):.2f} ms, 95 % {times[int(len(times) * 0.95)]:.2f} ms"


def main():
    with tempfile.TemporaryDirectory() as code:
        with open(os.path.join(code, "trainer.py"), "w") as file:
            file.write(CODE)
        (without, without_own), bare_s = bare()
        child = Child(code)
        hello_s = child.hello()
        small = model(1000)
        first = child.fit(small)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        print(f"no-op round, 4 KB model: {milliseconds([child.fit(small) for _ in range(ROUNDS)])} "
              f"(the first {1000 * first:.0f} ms)")
        resident, own = memory(child.process.pid)
        print(f"memory: {resident / 1024:.1f} MiB resident ({own / 1024:.1f} its own); Python and NumPy alone "
              f"{without / 1024:.1f} ({without_own / 1024:.1f}): {(resident - without) / 1024:+.1f} MiB "
              f"({(own - without_own) / 1024:+.1f})")
        large = model(10_000_000)
        child.fit(large)
        print(f"40 MB model to Python and back: {milliseconds([child.fit(large) for _ in range(20)])}")
        after = memory(child.process.pid)[1]
        for _ in range(10 * ROUNDS):
            child.fit(small)
        print(f"memory its own after {11 * ROUNDS + 21} rounds: {memory(child.process.pid)[1] / 1024:.1f} MiB (before the "
              f"last {10 * ROUNDS}: {after / 1024:.1f})")
        print(f"start to hello: {1000 * hello_s:.0f} ms; Python and NumPy alone: {1000 * bare_s:.0f} ms")
        child.end()
        for host_bench in sys.argv[1:]:
            print("by the learner's own host:", flush=True)
            subprocess.run([os.path.abspath(host_bench), PYTHON, os.path.join(ADAPTER, "bin", "flops-trainer"), "--code",
                            code], check=True)


if __name__ == "__main__":
    main()
