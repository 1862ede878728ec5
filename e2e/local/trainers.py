#!/usr/bin/env python3
"""trainers.py [CASE...]: learners whose trainer is a program, on loopback.

The builtin trainer behind the protocol gives the same model as in the learner's process, to the bit. A
trainer in plain Python (plain_trainer.py), written from the protocol's page alone, takes part beside builtin
ones; whatever goes wrong with it once is mended by a new process within the round, and what goes wrong
always makes its learner drop out with a clear reason, and never ends a round. And a learner that has a test
set is judged by that. Standard library only; $FLOPS is the program."""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from federation import (CLASSES, EXAMPLES, FLOPS, ROOT, World, ask, ask_json, base_model, flops, get_model, make_data,
                        put_model, spec, wait_for, wait_for_learners)
from rig import Judge

LEARNERS, ROUNDS, AT_A_TIME = 3, 2, 4
PLAIN = os.path.join(ROOT, "e2e", "local", "plain_trainer.py")

# What goes wrong, what the learner is told to bear, and what its aggregator is told.
FAULTS = {"crash": ([], "TrainerCrashed", "SIGSEGV"),
          "exit": ([], "TrainerExited", "KeyError: 'pixels'"),
          "hang": (["--trainer-silence", "1s"], "TrainerHung", "said nothing"),
          "garbage": ([], "TrainerProtocolError", "no frame"),
          "close": ([], "TrainerExited", "status 0"),
          "memory": (["--trainer-memory", "300"], "TrainerOutOfMemory", "MiB of memory"),
          "error": ([], "OutOfMemory", "the GPU is full"),
          "nan": ([], "TrainerBadResult", "bias"),
          "shape": ([], "TrainerBadResult", "output.weight")}


def plain(world, root, data_dir, *words, bears=()):
    """The third learner, whose trainer is the plain one."""
    return world.learner("learner-2", root, data_dir, "toy.2", *bears, "--", sys.executable, PLAIN,
                         os.path.join(data_dir, "toy.csv"), "2", str(LEARNERS), *words)


def federation(world, data_dir, third):
    root = world.aggregator("root").start()
    for i in range(LEARNERS - 1):
        world.learner(f"learner-{i}", root, data_dir, f"toy.{i}").start()
    return root, third(root).start()


def train(root, quorum=LEARNERS, in_round=None, epochs=1):
    """The states of all rounds."""
    model, size = put_model(root, base_model())
    states = []
    for number in range(1, ROUNDS + 1):
        wait_for_learners(root, LEARNERS)
        order = spec(number, model, size, quorum)
        order["participation"]["minAvailable"] = LEARNERS
        order["local"]["epochs"] = epochs
        ask_json(root, "PUT", f"/v1/rounds/{number}", order)
        if in_round:
            in_round(number)
        states.append(wait_for(root, number))
        assert states[-1]["phase"] == "Committed", states[-1]
        model, size = get_model(root, states[-1])
    return states


def same_model(data_dir):
    """In the process and behind the protocol."""
    models = []
    for words in (["--trainer", "SoftmaxRegression"],
                  ["--", FLOPS, "trainer", "--builtin", "SoftmaxRegression", "--data", "toy.2", "--data-dir", data_dir]):
        with World() as world:
            root, _ = federation(world, data_dir,
                                 lambda root: world.learner("learner-2", root, data_dir, "toy.2", *words))
            models.append([state["model"] for state in train(root)])
    assert models[0] == models[1], models


def plain_takes_part(data_dir):
    with World() as world:
        root, learner = federation(world, data_dir, lambda root: plain(world, root, data_dir))
        states = train(root)
        assert all((s["learners"], s["examples"]) == (LEARNERS, EXAMPLES) for s in states), states
        assert states[-1]["evaluation"]["accuracy"] > 0.8, states[-1]
        assert states[-1]["train"]["plain"] == 1, states[-1]
        assert "plain trainer: 200 examples" in learner.errors(), learner.errors()


def wrong_once(data_dir, fault):
    """Another process does it. (An error that a trainer tells of itself, and a wrong model, are no crash: the
    learner drops out of that round, and takes part in the next.)"""
    bears, reason, _ = FAULTS[fault]
    with World() as world:
        mark = os.path.join(world.dir, "it-went-wrong")
        root, learner = federation(world, data_dir, lambda root: plain(world, root, data_dir, fault, mark, bears=bears))
        states = train(root, LEARNERS - 1)
        assert os.path.exists(mark)
        assert states[1]["learners"] == LEARNERS, states
        assert states[0]["learners"] == LEARNERS or told(states[0], reason, ""), states
        if reason in ("TrainerCrashed", "TrainerExited", "TrainerHung", "TrainerOutOfMemory"):
            assert states[0]["learners"] == LEARNERS, (states[0], learner.errors())


def told(state, reason, words):
    return any((out["learner"], out["outcome"], out["reason"]) == ("learner-2", "Dropped", reason) and
               words in out.get("message", "") for out in state.get("excluded", []))


def wrong_always(data_dir, fault):
    bears, reason, words = FAULTS[fault]
    with World() as world:
        root, learner = federation(world, data_dir, lambda root: plain(world, root, data_dir, fault, bears=bears))
        states = train(root, LEARNERS - 1)
        for state in states:
            assert state["learners"] == LEARNERS - 1 and told(state, reason, words), state
        assert f"something is about to go wrong: {fault}" in learner.errors()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        found = [int(child) for child in file.read().split()]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(child) for child in file.read().split()]
    return sorted(set(found))


def killed_in_mid_training(data_dir):
    """Whoever kills the trainer, another one does the work; and it goes with its learner."""
    with World() as world:
        root, learner = federation(world, data_dir, lambda root: plain(world, root, data_dir))
        killed = []

        def in_round(number):
            end = time.monotonic() + 60
            while ask_json(root, "GET", f"/v1/rounds/{number}").get("reported", 0) < LEARNERS - 1:
                assert time.monotonic() < end
            killed.extend(children(learner.process.pid))
            for child in killed[-1:]:
                os.kill(child, signal.SIGKILL)
        states = train(root, in_round=in_round, epochs=20)
        assert len(set(killed)) == ROUNDS, killed
        assert all(state["learners"] == LEARNERS for state in states), states
        left = children(learner.process.pid)
        learner.kill()
        end = time.monotonic() + 30
        while any(os.path.exists(f"/proc/{child}") for child in left):
            assert time.monotonic() < end, "the trainer outlives its learner"
            time.sleep(0.02)


def does_not_start(data_dir):
    with World() as world:
        root = world.aggregator("root").start()
        for words, why in ((["/nonexistent/trainer"], "/nonexistent/trainer"), (["no-such-trainer"], "no program"),
                           ([sys.executable, "-c", "import sys; sys.exit('no module named torch')"], "no module named torch")):
            learner = world.learner("learner-2", root, data_dir, "toy.2", "--", *words)
            learner.spawn()
            assert learner.process.wait(timeout=60) == 1
            assert why in learner.errors(), learner.errors()


def judged_by_test_set(data_dir):
    """A test set whose labels are all wrong: who is judged by it has learnt nothing."""
    path = os.path.join(data_dir, "toy.csv")
    wrong = os.path.join(data_dir, "wrong.csv")
    with open(path) as file, open(wrong, "w") as out:
        for line in list(file)[:50]:
            features, label = line.rsplit(",", 1)
            out.write(f"{features},{(int(label) + 1) % CLASSES}\n")
    flops("data", "push", "toy-test", wrong, "--header", "no", "--like", "toy", "--data-dir", data_dir)
    where = ["--data-dir", data_dir]
    ways = {"in the process": ["--trainer", "SoftmaxRegression", "--test-data", "toy-test"],
            "as a child": ["--", FLOPS, "trainer", "--builtin", "SoftmaxRegression", "--data", "toy", "--test-data",
                           "toy-test", *where],
            "without one": ["--trainer", "SoftmaxRegression"]}
    for way, words in ways.items():
        with World() as world:
            root = world.aggregator("root").start()
            world.learner("learner-0", root, data_dir, "toy", *words).start()
            wait_for_learners(root, 1)
            model, size = put_model(root, base_model())
            ask_json(root, "PUT", "/v1/rounds/1", spec(1, model, size, 1))
            state = wait_for(root, 1)
            assert state["examples"] == EXAMPLES, state
            accuracy = state["evaluation"]["accuracy"]
            assert accuracy > 0.8 if way == "without one" else accuracy < 0.2, (way, state)


def cases(data_dir):
    yield "the same model, in the process and as a child", lambda: same_model(data_dir)
    yield "a trainer in plain Python takes part", lambda: plain_takes_part(data_dir)
    yield "trainers that do not start", lambda: does_not_start(data_dir)
    yield "killed in mid-training", lambda: killed_in_mid_training(data_dir)
    yield "a test set judges", lambda: judged_by_test_set(data_dir)
    for fault in FAULTS:
        yield f"{fault}, once", lambda fault=fault: wrong_once(data_dir, fault)
        yield f"{fault}, always", lambda fault=fault: wrong_always(data_dir, fault)


def main():
    data_dir = tempfile.mkdtemp(prefix="flops-trainers-data-")
    judge, chosen = Judge(), sys.argv[1:]

    make_data(data_dir, LEARNERS)

    def judged(case):
        name, run = case
        began = time.monotonic()
        try:
            run()
            judge.check(f"{name} ({time.monotonic() - began:.1f} s)", True)
        except (AssertionError, RuntimeError, OSError, ValueError, KeyError) as error:
            judge.check(name, False, repr(error)[:2000])

    with ThreadPoolExecutor(AT_A_TIME) as pool:  # they wait more than they work
        list(pool.map(judged, [case for case in cases(data_dir) if not chosen or any(c in case[0] for c in chosen)]))
    shutil.rmtree(data_dir)
    judge.end()


if __name__ == "__main__":
    main()
