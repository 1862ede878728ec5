#!/usr/bin/env python3
"""Kills the server at random, again and again, while clients write; what was acknowledged is there,
whole, and nothing appears that nobody wrote. CRASHES=20 rounds."""

import http.client
import os
import random
import threading
import time

from rig import PROJECTS, Judge, Server, project

CRASHES = int(os.environ.get("CRASHES", "20"))
WRITERS = 6


class Writer(threading.Thread):
    """Creates, updates and deletes projects of its own; remembers what was acknowledged."""

    def __init__(self, server, number, book, seed):
        super().__init__()
        self.server, self.number, self.book = server, number, book
        self.random = random.Random(seed)
        self.halt = False

    def run(self):
        session = self.server.session(timeout=10)
        while not self.halt:
            name = f"w{self.number}-{self.random.randrange(20)}"
            try:
                self.step(session, name)
            except (OSError, http.client.HTTPException):
                self.book.unsure.add(name)  # sent, and nobody knows
                return

    def step(self, session, name):
        known = self.book.rounds.get(name)
        action = self.random.random()
        self.book.sent[name] = None
        if known is None:
            rounds = self.random.randrange(1, 1000)
            self.book.sent[name] = rounds
            status, _ = self.server.call("POST", PROJECTS, project(name, rounds), session=session)
            if status == 201:
                self.book.rounds[name] = rounds
        elif action < 0.7:
            rounds = self.random.randrange(1, 1000)
            self.book.sent[name] = rounds
            status, _ = self.server.call("PATCH", f"{PROJECTS}/{name}", {"spec": {"training": {"rounds": rounds}}},
                                         {"Content-Type": "application/merge-patch+json"}, session=session)
            if status == 200:
                self.book.rounds[name] = rounds
        else:
            status, _ = self.server.call("DELETE", f"{PROJECTS}/{name}", session=session)
            if status == 200:
                self.book.rounds[name] = None
        del self.book.sent[name]


class Book:
    def __init__(self):
        self.rounds, self.sent, self.unsure = {}, {}, set()


def compare(book, found):
    """What is wrong, or None. Of a name whose last request went unanswered, both ends are right."""
    for name, rounds in book.rounds.items():
        have = found.get(name)
        allowed = {rounds}
        if name in book.unsure:
            allowed.add(book.sent.get(name))
        if have not in allowed:
            return f"{name}: {have}, not one of {allowed}"
    for name in found:
        if name not in book.rounds and name not in book.unsure:
            return f"{name}: nobody knows of it"
    return None


def settle(book, found):
    """The next round begins with what is there."""
    book.rounds = {name: found.get(name) for name in set(book.rounds) | set(found)}
    book.sent, book.unsure = {}, set()


def main():
    judge = Judge()
    seed = int(os.environ.get("SEED", time.time_ns() % 10**9))
    rng = random.Random(seed)
    # What is looked at is the store: control loops would put finalizers on what is deleted.
    server = Server("--no-audit", "--no-controllers").start()
    book, wrong, acknowledged, revision = Book(), None, 0, 0
    try:
        for crash in range(CRASHES):
            writers = [Writer(server, i, book, rng.random()) for i in range(WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.02, 0.5))
            server.kill()
            for writer in writers:
                writer.halt = True
                writer.join()
            server.start()
            status, answer = server.call("GET", PROJECTS)
            found = {item["metadata"]["name"]: item["spec"]["training"]["rounds"] for item in answer["items"]}
            acknowledged += sum(1 for value in book.rounds.values() if value is not None)
            wrong = compare(book, found)
            now = int(answer["metadata"]["resourceVersion"])
            if now < revision:
                wrong = wrong or f"revision {now} after {revision}"
            revision = now
            if wrong or status != 200:
                break
            settle(book, found)
        judge.check(f"{CRASHES} crashes, {revision} revisions, seed {seed}: all that was acknowledged is there",
                    wrong is None, f"crash {crash}: {wrong}")
        judge.check("it did write", revision > 50 * CRASHES / 10, revision)
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        server.remove()
    judge.end()


if __name__ == "__main__":
    main()
