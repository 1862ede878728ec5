"""Clients of an InferenceServer that never pause: each answer must be 200, right, and of a model that was meant to serve
at that time (standard library only)."""

import http.client
import json
import random
import threading
import time

from serve_rig import is_close, v2_body


class Live:
    """Which models may answer, and since and until when."""

    def __init__(self):
        self.lock = threading.Lock()
        self.spans = {}  # digest -> (model, since, until)

    def allow(self, *models):
        with self.lock:
            for model in models:
                self.spans[model.digest] = (model, time.monotonic(), None)

    def only(self, model):
        """From now on; who was asked before may still have answered."""
        with self.lock:
            for digest, (other, since, until) in self.spans.items():
                if digest != model.digest and until is None:
                    self.spans[digest] = (other, since, time.monotonic())

    def model_for(self, digest, sent, answered):
        with self.lock:
            model, since, until = self.spans.get(digest, (None, 0, 0))
        return model if model and since <= answered and (until is None or sent <= until) else None


class Load:
    """`kept` clients with a connection each, `fresh` ones with a new connection for each request."""

    def __init__(self, port, live, name, kept=3, fresh=2, pause_s=0.002):
        self.port, self.live, self.name, self.pause_s = port, live, name, pause_s
        self.lock, self.over = threading.Lock(), threading.Event()
        self.done, self.by, self.failures, self.gap = 0, {}, [], None
        self.threads = [threading.Thread(target=self.run, args=(i, i < kept), daemon=True) for i in range(kept + fresh)]
        for thread in self.threads:
            thread.start()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, connection, chance):
        """What is wrong with the answer, or None; and its model's digest."""
        row = [chance.uniform(-1, 1) for _ in range(6)]
        v2 = chance.random() < 0.5
        path = f"/v2/models/{self.name}/infer" if v2 else "/invocations"
        body = v2_body([row], [2, 3]) if v2 else {"inputs": [row]}
        sent = time.monotonic()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        digest = answer.headers["X-Model-Digest"]
        if answer.status != 200:
            return f"status {answer.status} of {digest}: {content[:200]}", digest
        model = self.live.model_for(digest, sent, time.monotonic())
        if not model:
            return f"answered by {digest}, which should not serve", digest
        got = json.loads(content)
        got = got["outputs"][0]["data"] if v2 else got["predictions"][0]
        return None if is_close(got, model.answer(row)) else f"wrong: {got}", digest

    def note(self, problem, digest):
        now = time.monotonic()
        with self.lock:
            if problem and self.gap is not None:
                self.gap["lost"] += 1
                self.gap["since"] = self.gap["since"] or now
            elif problem:
                self.failures.append(problem)
            else:
                self.done += 1
                self.by[digest] = self.by.get(digest, 0) + 1
                if self.gap and self.gap["since"]:
                    self.gap["until"] = self.gap["until"] or now

    def run(self, i, keep):
        chance, connection = random.Random(i), self.connect()
        while not self.over.is_set():
            digest = None
            try:
                problem, digest = self.ask(connection, chance)
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            self.note(problem, digest)
            if problem or not keep:
                connection.close()
            self.over.wait(self.pause_s)

    def expect_gap(self):
        """Failures are counted and forgiven from here on, until `end_gap`."""
        with self.lock:
            self.gap = {"lost": 0, "since": None, "until": None}

    def end_gap(self):
        with self.lock:
            gap, self.gap = self.gap, None
        return gap

    def taken(self):
        """What was answered since the last call: count by model; and what went wrong."""
        with self.lock:
            by, self.by = self.by, {}
            failures, self.failures = self.failures, []
        return by, failures

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
