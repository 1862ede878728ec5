#!/usr/bin/env python3
"""rounds.py [CASE...]: federated training by real processes on loopback.

A root, tiers and learners train SoftmaxRegression on a data set that is made here, directly and through
tiers, and are killed (SIGKILL) one after the other in mid-round. Where everybody takes part in every round
the model must have the same digest, whatever happened. (A tier whose learner was just killed hands up the
sum of the others: then the rounds must end, count nobody twice, and the model be a good one.) Standard
library only; $FLOPS is the program."""

import random
import shutil
import sys
import tempfile
import time

from federation import (EXAMPLES, World, ask_json, base_model, get_model, make_data, put_model, spec, wait_for,
                        wait_for_learners)
from rig import Judge

LEARNERS, ROUNDS = 6, 4


def train(root, members, disturb=None):
    """All rounds; returns the last model's digest, and whether everybody took part in all of them.
    `disturb(number)` is called when a round has begun."""
    everybody = True
    model, size = put_model(root, base_model())
    for number in range(1, ROUNDS + 1):
        wait_for_learners(root, LEARNERS)
        ask_json(root, "PUT", f"/v1/rounds/{number}", spec(number, model, size, members))
        if disturb:
            disturb(number)
        status = wait_for(root, number)
        assert status["phase"] == "Committed", status
        assert status["examples"] == status["learners"] * EXAMPLES / LEARNERS, status
        assert status["learners"] == LEARNERS or (disturb and members != LEARNERS), status
        everybody = everybody and status["learners"] == LEARNERS
        model, size = get_model(root, status)
    assert status["evaluation"]["accuracy"] > 0.8, status
    return model, everybody


def flat(data_dir, disturbed=None):
    with World() as world:
        root = world.aggregator("root").start()
        learners = [world.learner(f"learner-{i}", root, data_dir, f"toy.{i}").start() for i in range(LEARNERS)]
        return train(root, LEARNERS, disturbed and disturbed([root] + learners))


def tiered(data_dir, disturbed=None):
    with World() as world:
        root = world.aggregator("root").start()
        tiers = [world.aggregator(f"tier-{i}", root).start() for i in range(2)]
        learners = [world.learner(f"learner-{i}", tiers[i % 2], data_dir, f"toy.{i}").start()
                    for i in range(LEARNERS)]
        return train(root, 2, disturbed and disturbed([root] + tiers + learners))


def killing(processes):
    """In every round another one, at another moment."""
    chance = random.Random(3)

    def disturb(number):
        time.sleep(chance.random() * 0.4)
        for victim in processes[number - 1::ROUNDS]:
            victim.restart()
    return disturb


def main():
    data_dir = tempfile.mkdtemp(prefix="flops-rounds-data-")
    cases = {"flat": lambda: flat(data_dir), "flat again": lambda: flat(data_dir),
             "tiered": lambda: tiered(data_dir), "flat, killed": lambda: flat(data_dir, killing),
             "tiered, killed": lambda: tiered(data_dir, killing)}
    digests, judge = set(), Judge()

    make_data(data_dir, LEARNERS)
    for name in sys.argv[1:] or cases:
        began = time.monotonic()
        try:
            model, everybody = cases[name]()
            if everybody:
                digests.add(model)
            print(name, model[7:19], "" if everybody else "(not everybody took part)",
                  f"{time.monotonic() - began:.1f} s")
            judge.check(name, len(digests) <= 1, f"another model: {digests}")
        except (AssertionError, RuntimeError, OSError) as error:
            judge.check(name, False, repr(error))
    shutil.rmtree(data_dir)
    judge.end()


if __name__ == "__main__":
    main()
