#!/usr/bin/env python3
"""kills.py [--each] [PARTY] [STEP...]: processes die at every named step of a ten-round run.

A root with a tier below it, which has one learner, and another learner of its own. In each run one of them
is ended by SIGKILL exactly at a step (`flops aggregator --die-at list` names them all), started again, ended
at the next, and so on; where a record was written and not synced, part of it is then torn off, as by a loss
of power. Every one of the ten models must be that of the undisturbed run, to the bit, with everybody's
examples counted once; and each step must have been met: a step that no run comes to is a failure.
By default a run meets several steps; with --each a step has a run of its own and is met three times.
Standard library only; $FLOPS is the program."""

import json
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from federation import (EXAMPLES, World, ask, ask_json, base_model, flops, get_model, make_data, put_model, spec,
                        wait_for, wait_for_learners)
from rig import Judge

ROUNDS, LEARNERS, STEPS_A_RUN, AT_A_TIME = 10, 2, 8, 4
ABORTED = 5  # this round is called off first, and then ordered again
PARTIES = {"root": "R", "tier": "T", "learner": "L"}


def steps_of(party):
    """The names in the program's own table."""
    lines = flops("aggregator", "--die-at", "list", "--folder", "unused").splitlines()
    return [line.split()[0] for line in lines if PARTIES[party] in line.split()[1]]


def call_off(root, tier, order):
    """A round in which training takes long is called off when it has come to the lowest tier."""
    number, end = order["round"], time.monotonic() + 60
    ask_json(root, "PUT", f"/v1/rounds/{number}", {**order, "local": {**order["local"], "epochs": 10000}})
    while time.monotonic() < end:
        status, body = ask(tier, "GET", f"/v1/rounds/{number}")
        if status == 200 and json.loads(body)["phase"] == "Training":
            break
        time.sleep(0.02)
    ask_json(root, "POST", f"/v1/rounds/{number}/abort", {})
    assert wait_for(root, number)["phase"] == "Aborted"
    while ask_json(tier, "GET", f"/v1/rounds/{number}")["phase"] == "Training":
        assert time.monotonic() < end, "the tier goes on with what was called off"
        time.sleep(0.02)
    order["run"] = 1


def order(root, tier, number, model, size):
    """A round, once everybody is there: what is planned must not depend on who is just away."""
    wait_for_learners(root, LEARNERS)
    order = spec(number, model, size, 2)
    if number == ABORTED:
        call_off(root, tier, order)
    ask_json(root, "PUT", f"/v1/rounds/{number}", order)
    return wait_for(root, number)


def train(root, tier):
    """The digests of all models."""
    model, size = put_model(root, base_model())
    models = []
    for number in range(1, ROUNDS + 1):
        status = order(root, tier, number, model, size)
        assert status["phase"] == "Committed", status
        assert (status["learners"], status["examples"]) == (LEARNERS, EXAMPLES), status
        model, size = get_model(root, status)
        models.append(model)
    assert status["evaluation"]["accuracy"] > 0.8, status
    return models


def end(world, victims):
    """Training is over: everybody goes by himself. (Who is killed after he was told and before he has written
    it down comes back to a parent that is gone, and waits for it until somebody stops him.)"""
    root, deadline = world.processes[0], time.monotonic() + 120
    grace = time.monotonic() + 5
    while any(process.process.poll() != 0 for process in world.processes) or alive(victims):
        assert time.monotonic() < deadline, [process.name for process in world.processes if process.process.poll() != 0]
        if root.process.poll() != 0:
            try:
                ask(root, "POST", "/v1/stop", "{}", deadline_s=0)
            except (OSError, HTTPException):
                pass
            grace = time.monotonic() + 5
        elif time.monotonic() > grace:
            for process in world.processes:
                process.process.terminate()
        time.sleep(0.02)


def alive(victims):
    return any(victim.thread.is_alive() for victim in victims)


def run(data_dir, party=None, deaths=()):
    with World(("--chunk-bytes", "1024", "--journal-bytes", "4000")) as world:
        root = world.aggregator("root")
        tier = world.aggregator("tier", root)
        direct = world.learner("learner-0", root, data_dir, "toy.0")
        below = world.learner("learner-1", tier, data_dir, "toy.1")
        condemned = {"root": root, "tier": tier, "learner": direct, None: None}[party]
        for process in (root, tier, direct, below):
            if process is condemned:
                world.victim(process, deaths)
            else:
                process.start()
        models = train(root, tier)
        end(world, world.victims)
        for victim in world.victims:
            assert not victim.wrong, victim.wrong
            met = len(victim.died)
            assert met == len(victim.deaths), f"never came to {victim.deaths[met]}; before it {victim.died}"
        return models


def plan(each, chosen):
    for party in PARTIES:
        if set(chosen) & set(PARTIES) and party not in chosen:
            continue
        wanted = set(chosen) - set(PARTIES)
        steps = [step for step in steps_of(party) if not wanted or step in wanted]
        if each:
            for step in steps:
                yield party, [f"{step}:{n}" for n in times(step)]
        else:
            runs = (len(steps) + STEPS_A_RUN - 1) // STEPS_A_RUN
            for i in range(runs):  # neighbours apart: a round is called off once in a run, training ends once
                yield party, sorted(steps[i::runs], key=lambda step: step.startswith("stop"))


def times(step):
    """How often it is met in the lives of a run: a round is called off once, training ends once."""
    if re.match("fail|stop", step):
        return [1]
    return [1, 1, 1] if re.match("start|spec|shorter|join", step) else [1, 2, 5]


def main():
    words = sys.argv[1:]
    each = "--each" in words
    chosen = [word for word in words if word != "--each"]
    data_dir = tempfile.mkdtemp(prefix="flops-kills-data-")
    judge = Judge()

    make_data(data_dir, LEARNERS)
    undisturbed = run(data_dir)

    def judged(work):
        party, steps = work
        began, name = time.monotonic(), f"{party} dies at {', '.join(steps)}"
        try:
            models = run(data_dir, party, steps)
            judge.check(f"{name} ({time.monotonic() - began:.1f} s)", models == undisturbed, "other models")
            return len(steps)
        except (AssertionError, RuntimeError, OSError, ValueError, KeyError) as error:
            judge.check(name, False, repr(error)[:3000])
            return 0

    with ThreadPoolExecutor(AT_A_TIME) as pool:  # they wait for each other's deadlines most of the time
        deaths = sum(pool.map(judged, plan(each, chosen)))
    print(f"{deaths} deaths; the last model is {undisturbed[-1]}")
    shutil.rmtree(data_dir)
    judge.end()


if __name__ == "__main__":
    main()
