#!/usr/bin/env python3
"""kills.py [--each] [PARTY] [STEP...]: processes die at every named step of a ten-round run.

A root with a tier below it, which has one learner, and another learner of its own. In each run one of them
is ended by SIGKILL exactly at a step (`flops aggregator --die-at list` names them all), started again, ended
at the next, and so on; where a record was written and not synced, part of it is then torn off, as by a loss
of power. Every one of the ten models must be that of the undisturbed run, to the bit, with everybody's
examples counted once; and each step must have been met: a step that no run comes to is a failure.
By default a run meets several steps; with --each a step has a run of its own and is met three times.
Standard library only; $FLOPS is the program."""

import re
import shutil
import sys
import tempfile
import time

from federation import (EXAMPLES, World, ask, ask_json, base_model, flops, get_model, make_data, put_model, spec,
                        wait_for, wait_for_learners)
from rig import Judge

ROUNDS, LEARNERS, STEPS_A_RUN = 10, 2, 8
ABORTED = 5  # this round is called off first, and then ordered again
PARTIES = {"root": "R", "tier": "T", "learner": "L"}


def steps_of(party):
    """The names in the program's own table."""
    lines = flops("aggregator", "--die-at", "list", "--folder", "unused").splitlines()
    return [line.split()[0] for line in lines if PARTIES[party] in line.split()[1]]


def order(root, number, model, size):
    """A round, once everybody is there: what is planned must not depend on who is just away."""
    wait_for_learners(root, LEARNERS)
    order = spec(number, model, size, 2)
    if number == ABORTED:
        ask_json(root, "PUT", f"/v1/rounds/{number}", order)
        ask_json(root, "POST", f"/v1/rounds/{number}/abort", {})
        order["run"] = 1
    ask_json(root, "PUT", f"/v1/rounds/{number}", order)
    return wait_for(root, number)


def train(root):
    """The digests of all models."""
    model, size = put_model(root, base_model())
    models = []
    for number in range(1, ROUNDS + 1):
        status = order(root, number, model, size)
        assert status["phase"] == "Committed", status
        assert (status["learners"], status["examples"]) == (LEARNERS, EXAMPLES), status
        model, size = get_model(root, status)
        models.append(model)
    assert status["evaluation"]["accuracy"] > 0.8, status
    return models


def end(world, victims):
    """Training is over: everybody goes by himself."""
    root = world.processes[0]
    ask(root, "POST", "/v1/stop", "{}")
    for process in world.processes:
        deadline = time.monotonic() + 60
        while process.process.poll() != 0 or any(v.thread.is_alive() for v in victims if v.process is process):
            assert process.process.poll() in (None, 0, -9), (process.name, process.process.poll(), process.errors())
            assert time.monotonic() < deadline, f"{process.name} does not end"
            if root.process.poll() is None:
                try:
                    ask(root, "POST", "/v1/stop", "{}", deadline_s=0)
                except OSError:
                    pass
            time.sleep(0.02)


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
        models = train(root)
        end(world, world.victims)
        for victim in world.victims:
            assert not victim.wrong, victim.wrong
            met = len(victim.died)
            assert met == len(victim.deaths), f"never came to {victim.deaths[met]}; before it {victim.died}"
        return models


def plan(each, chosen):
    for party in PARTIES:
        steps = [step for step in steps_of(party) if not chosen or step in chosen or party in chosen]
        if chosen and set(chosen) & set(PARTIES) and party not in chosen:
            continue
        if each:
            for step in steps:
                yield party, [f"{step}:{n}" for n in ((1, 1, 1) if is_rare(step) else (1, 2, 5))]
        else:
            for i in range(0, len(steps), STEPS_A_RUN):
                yield party, steps[i:i + STEPS_A_RUN]


def is_rare(step):
    return re.match("start|spec|shorter|fail|stop", step) is not None


def main():
    words = sys.argv[1:]
    each = "--each" in words
    chosen = [word for word in words if word != "--each"]
    data_dir = tempfile.mkdtemp(prefix="flops-kills-data-")
    judge, deaths = Judge(), 0

    make_data(data_dir, LEARNERS)
    undisturbed = run(data_dir)
    for party, steps in plan(each, chosen):
        began, name = time.monotonic(), f"{party} dies at {', '.join(steps)}"
        try:
            models = run(data_dir, party, steps)
            deaths += len(steps)
            judge.check(f"{name} ({time.monotonic() - began:.1f} s)", models == undisturbed, "other models")
        except (AssertionError, RuntimeError, OSError) as error:
            judge.check(name, False, repr(error)[:3000])
    print(f"{deaths} deaths; the last model is {undisturbed[-1]}")
    shutil.rmtree(data_dir)
    judge.end()


if __name__ == "__main__":
    main()
