"""What tests have in common: the package's path, folders of code, and a learner's side of the socket."""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

import numpy as np

IMAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "image", "usr")
LIBRARY = os.path.join(IMAGE, "lib", "flops", "python")
TRAINER = os.path.join(IMAGE, "bin", "flops-trainer")
sys.path.insert(0, LIBRARY)

from flops_trainer import protocol, tensors  # noqa: E402
from flops_trainer.failure import Failure  # noqa: E402


class Case(unittest.TestCase):
    def folder(self, **files):
        """Of files by name, "_" standing for the dot before their end."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        for name, text in files.items():
            with open(os.path.join(place.name, ".".join(name.rsplit("_", 1))), "w") as file:
                file.write(textwrap.dedent(text))
        return place.name

    def fails(self, reason, words, work, *args):
        with self.assertRaises(Failure) as caught:
            work(*args)
        self.assertEqual(caught.exception.reason, reason, caught.exception.message)
        self.assertIn(words, caught.exception.message)
        return caught.exception


class Learner:
    """Drives a flops-trainer as a learner does."""

    def __init__(self, folder, *words, descriptors=True, hello=None):
        ours, theirs = protocol._socket.socketpair()
        ours.settimeout(60)
        self.process = subprocess.Popen([sys.executable, TRAINER, "--code", folder, *words], pass_fds=[3],
                                        preexec_fn=lambda: os.dup2(theirs.fileno(), 3, inheritable=True),
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        theirs.close()
        self.channel, self.number, self.progress = protocol.Channel(ours.detach()), 0, []
        self.hello = self.ask(protocol.HELLO, {"version": 1, "descriptors": descriptors, **(hello or {})})[1]
        self.channel.descriptors = descriptors

    def tell(self, kind, head, model=None, body=None):
        self.number += 1
        self.channel.send(kind, self.number, head, tensors.write(model) if model else body)

    def hear(self):
        """(type, head, model)"""
        kind, head, view = self.hear_bytes()
        return kind, head, tensors.read(view)[0] if len(view) else None

    def hear_bytes(self):
        """(type, head, body)"""
        while True:
            data, fd = self.channel._read_header()
            _, kind, _, number, head_size, size = protocol._HEADER.unpack(data)
            head = json.loads(self.channel._read(head_size) or b"{}")
            if kind == protocol.PROGRESS:
                self.progress.append(head)
                continue
            assert number == self.number, (number, self.number)
            if fd < 0:
                return kind, head, memoryview(self.channel._read(size))
            view = tensors.map_fd(fd, size)
            os.close(fd)
            return kind, head, view

    def ask(self, kind, head, model=None):
        self.tell(kind, head, model)
        return self.hear()

    def fit(self, model, **head):
        return self.ask(protocol.FIT, {"epochs": 1, "batchSize": 10, "learningRate": 0.1, "seed": "7", **head}, model)

    def predict(self, rows):
        """(type, head, numbers)"""
        self.tell(protocol.PREDICT, {"rows": len(rows)}, body=[rows.astype("<f4").tobytes()] if rows.size else None)
        kind, head, view = self.hear_bytes()
        return kind, head, np.frombuffer(view, "<f4").reshape(int(head.get("rows", 0)), -1) if len(view) else None

    def stop(self):
        """What it wrote."""
        answer = self.ask(protocol.STOP, {})
        output = self.process.communicate(timeout=60)[0]
        self.channel._socket.close()
        assert answer[0] == protocol.RESULT and self.process.returncode == 0, (answer, output)
        return output
