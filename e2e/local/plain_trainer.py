#!/usr/bin/env python3
"""plain_trainer.py FILE.csv PART OF [FAULT [MARK]]: a trainer for `flops learner` that knows nothing of this
project but the page workloads/trainer/protocol.h: softmax regression in plain Python, on every OF-th line of
the file from line PART on, whose last column is the class.

With a FAULT it goes wrong when it is to train, as programs do; with MARK, a file, only once: it makes the
file first, and is good where that is there already. Standard library only."""

import csv
import json
import math
import os
import random
import signal
import socket
import struct
import sys
import time

HELLO, INIT, FIT, EVALUATE, EXPORT, CANCEL, STOP, PROGRESS, RESULT, ERROR = 1, 2, 3, 4, 5, 6, 7, 64, 65, 66
HEADER = struct.Struct("<4sHHIIQ")


class Channel:
    """Frames on descriptor 3."""

    def __init__(self):
        self.socket = socket.socket(fileno=3)

    def read(self, size):
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                sys.exit(0)  # the learner is gone
            data += piece
        return bytes(data)

    def receive(self):
        magic, kind, flags, number, head_size, body_size = HEADER.unpack(self.read(HEADER.size))
        assert magic == b"FLT1" and flags & 1 == 0
        head = json.loads(self.read(head_size) or b"{}")
        return kind, number, head, self.read(body_size)

    def send(self, kind, number, head, body=b""):
        text = json.dumps(head).encode()
        self.socket.sendall(HEADER.pack(b"FLT1", kind, 0, number, len(text), len(body)) + text + body)


def read_model(data):
    """Of safetensors: its header as it is, and the two tensors as lists."""
    size, = struct.unpack_from("<Q", data)
    header, values = json.loads(data[8:8 + size]), {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            assert entry["dtype"] == "F32"
            values[name] = list(struct.unpack(f"<{(end - begin) // 4}f", data[8 + size + begin:8 + size + end]))
    return data[:8 + size], header, values


def write_model(prefix, header, values):
    names = sorted((name for name in values), key=lambda name: header[name]["data_offsets"][0])
    return prefix + b"".join(struct.pack(f"<{len(values[name])}f", *values[name]) for name in names)


def fresh_model(features, classes):
    header = {"output.weight": {"dtype": "F32", "shape": [classes, features],
                                "data_offsets": [0, 4 * classes * features]},
              "output.bias": {"dtype": "F32", "shape": [classes],
                              "data_offsets": [4 * classes * features, 4 * classes * (features + 1)]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4 * classes * (features + 1))


class Softmax:
    def __init__(self, values, features):
        self.weight, self.bias, self.features = values["output.weight"], values["output.bias"], features

    def chances(self, row):
        n = self.features
        scores = [bias + sum(w * x for w, x in zip(self.weight[c * n:c * n + n], row))
                  for c, bias in enumerate(self.bias)]
        most = max(scores)
        powers = [math.exp(score - most) for score in scores]
        return [power / sum(powers) for power in powers]

    def step(self, batch, rate):
        loss = 0.0
        gradients = [[0.0] * self.features for _ in self.bias]
        lifts = [0.0] * len(self.bias)
        for row, label in batch:
            chances = self.chances(row)
            loss -= math.log(max(chances[label], 1e-30))
            for c, chance in enumerate(chances):
                slope = (chance - (c == label)) / len(batch)
                lifts[c] += slope
                gradients[c] = [g + slope * x for g, x in zip(gradients[c], row)]
        for c, gradient in enumerate(gradients):
            self.bias[c] -= rate * lifts[c]
            for f, slope in enumerate(gradient):
                self.weight[c * self.features + f] -= rate * slope
        return loss

    def judge(self, rows):
        loss, hits = 0.0, 0
        for row, label in rows:
            chances = self.chances(row)
            loss -= math.log(max(chances[label], 1e-30))
            hits += chances.index(max(chances)) == label
        return loss / len(rows), hits / len(rows)


def go_wrong(channel, number, fault):
    """Returns whether the request was answered."""
    print("something is about to go wrong:", fault, file=sys.stderr, flush=True)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "exit":
        sys.exit("KeyError: 'pixels'")
    if fault == "hang":
        time.sleep(3600)
    if fault == "garbage":
        channel.socket.sendall(b"Epoch 1/5: loss 0.3, what a nice day\n")
        time.sleep(3600)
    if fault == "close":
        channel.socket.close()
        sys.exit(0)
    if fault == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20)))
    if fault == "error":
        channel.send(ERROR, number, {"reason": "OutOfMemory", "message": "the GPU is full", "traceback": "line 1"})
        return True
    return False


def spoil(fault, header, values):
    """A model that is no result of this training."""
    if fault == "nan":
        values["output.bias"][0] = math.nan
    if fault == "shape":
        header["output.weight"]["shape"].reverse()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


class Trainer:
    def __init__(self, channel, rows, fault, mark):
        self.channel, self.rows, self.fault, self.mark = channel, rows, fault, mark
        self.features = len(rows[0][0])

    def is_faulty(self):
        if not self.fault or (self.mark and os.path.exists(self.mark)):
            return False
        if self.mark:
            open(self.mark, "w").close()
        return True

    def fit(self, number, head, body):
        prefix, header, values = read_model(body)
        model, steps, loss = Softmax(values, self.features), 0, 0.0
        before = model.judge(self.rows)[0] if head["lossBefore"] else None
        chance, size = random.Random(int(head["seed"])), head["batchSize"] or len(self.rows)
        batches = (len(self.rows) + size - 1) // size
        faulty = self.is_faulty()
        if faulty and go_wrong(self.channel, number, self.fault):
            return
        for _ in range(head["epochs"]):
            order, loss = chance.sample(self.rows, len(self.rows)), 0.0
            for at in range(0, len(order), size):
                loss += model.step(order[at:at + size], head["learningRate"])
                steps += 1
                self.channel.send(PROGRESS, number, {"done": steps, "of": batches * head["epochs"]})
        if faulty:
            prefix = spoil(self.fault, header, values)
        self.channel.send(RESULT, number, {"examples": len(self.rows), "steps": steps, "lossBefore": before,
                                           "loss": loss / len(self.rows), "metrics": {"plain": 1}},
                          write_model(prefix, header, values))

    def evaluate(self, number, body):
        loss, accuracy = Softmax(read_model(body)[2], self.features).judge(self.rows)
        self.channel.send(RESULT, number, {"examples": len(self.rows), "loss": loss, "accuracy": accuracy})

    def answer(self, kind, number, head, body):
        if kind == HELLO:
            self.channel.send(RESULT, number, {"version": 1, "name": "plain", "descriptors": False,
                                               "maxBodyBytes": 1 << 30, "can": ["init", "fit", "evaluate"],
                                               "examples": len(self.rows)})
        elif kind == INIT:
            classes = 1 + max(label for _, label in self.rows)
            self.channel.send(RESULT, number, {}, fresh_model(self.features, classes))
        elif kind == FIT:
            self.fit(number, head, body)
        elif kind == EVALUATE:
            self.evaluate(number, body)
        elif kind == STOP:
            self.channel.send(RESULT, number, {})
            sys.exit(0)
        elif kind != CANCEL:
            self.channel.send(ERROR, number, {"reason": "Unsupported", "message": f"no request of type {kind}"})


def main():
    path, part, parts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    fault, mark = (sys.argv[4:] + [None, None])[:2]
    with open(path, newline="") as file:
        rows = [([float(x) for x in line[:-1]], int(line[-1])) for line in csv.reader(file)]
    print("plain trainer:", len(rows[part::parts]), "examples", file=sys.stderr, flush=True)
    trainer = Trainer(Channel(), rows[part::parts], fault, mark)
    while True:
        trainer.answer(*trainer.channel.receive())


if __name__ == "__main__":
    main()
