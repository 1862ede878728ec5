#!/usr/bin/env python3
"""Repeats published results with `flops simulate` and prints them beside the published numbers:

  tables   McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data
           (AISTATS 2017), Tables 1 and 2: rounds until a test accuracy is first reached on MNIST
  matrix   attacks and strategies on Fashion-MNIST: the final accuracy of each pair

Usage: paper.py [--data DIR] [--rows WORD] [--jobs N] [tables] [matrix]

The learning rate of a row was tuned as the paper did, one rate a row, and is printed with it; learners of the CNN
have momentum, too (0.9), which the paper does not speak of: without it the best seen in 20 rounds is 98.94 %. Each
row stops at its target, or at the paper's number of rounds: then it is missed, and the exit status
tells. --rows takes those rows only that have the word in their name."""

import argparse
import json
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOPS = os.environ.get("FLOPS", os.path.join(ROOT, "bin", "flops"))

# name, target, the paper's rounds, learning rate, options
IID, SHARDS = ["--partition", "IID"], ["--partition", "Shards"]
NN = ["--trainer", "MLP", "--options", '{"hiddenUnits":[200,200]}', "--epochs", "1", "--batch", "10"]
CNN = ["--trainer", "CNN", "--epochs", "5", "--batch", "10"]
ROWS = [
    ("2NN IID C=0", 0.97, 316, "0.1", NN + IID + ["-c", "0"]),
    ("2NN IID C=0.1", 0.97, 87, "0.2", NN + IID + ["-c", "0.1"]),
    ("2NN IID C=0.2", 0.97, 77, "0.2", NN + IID + ["-c", "0.2"]),
    ("2NN IID C=0.5", 0.97, 75, "0.2", NN + IID + ["-c", "0.5"]),
    ("2NN IID C=1", 0.97, 70, "0.2", NN + IID + ["-c", "1"]),
    ("CNN IID C=0.1, momentum", 0.99, 20, "0.02", CNN + IID + ["-c", "0.1", "--momentum", "0.9", "--seed", "1"]),
    ("2NN non-IID C=0", 0.97, 3275, "0.05", NN + SHARDS + ["-c", "0"]),
    ("2NN non-IID C=0.1", 0.97, 664, "0.2", NN + SHARDS + ["-c", "0.1"]),
    ("2NN non-IID C=0.2", 0.97, 619, "0.2", NN + SHARDS + ["-c", "0.2"]),
    ("2NN non-IID C=0.5", 0.97, 443, "0.2", NN + SHARDS + ["-c", "0.5"]),
    ("2NN non-IID C=1", 0.97, 380, "0.2", NN + SHARDS + ["-c", "1"]),
]

# Twenty learners, all in every round, four of them hostile: as many as Bulyan can stand (4 f + 3).
MATRIX = ["--options", '{"hiddenUnits":[64]}', "--learners", "20", "--batch", "32",
          "--learning-rate", "0.05", "--rounds", "15"]
ATTACKS = [("none", []),
           ("sign flip x 5", ["--attack", "SignFlip", "--attackers", "4", "--attack-scale", "5"]),
           ("noise", ["--attack", "Noise", "--attackers", "4"]),
           ("label flip", ["--attack", "LabelFlip", "--attackers", "4"]),
           ("replacement x 10", ["--attack", "Scaled", "--attackers", "4"])]
STRATEGIES = [("FedAvg", []), ("Median", []), ("TrimmedMean", ["trimFraction=0.2"]),
              ("Krum", ["byzantineLearners=4"]), ("MultiKrum", ["byzantineLearners=4"]),
              ("Bulyan", ["byzantineLearners=4"]), ("GeometricMedian", []),
              ("NormBound", ["normBound=1"])]


def simulate(*options):
    """The result, also where a round failed; the seconds a round."""
    began = time.monotonic()
    done = subprocess.run([FLOPS, "simulate", "-o", "json", "-q", *options], capture_output=True,
                          text=True, check=False)
    if not done.stdout.startswith("{"):
        sys.exit("flops simulate " + " ".join(options) + ":\n" + done.stderr)
    document = json.loads(done.stdout)
    rounds = max(document["result"]["rounds"], 1)
    return document["result"], (time.monotonic() - began) / rounds


def tables(args):
    print("Rounds until the test accuracy is first reached: 100 learners, E and B as the paper has "
          "them.\n")
    print("| row | target | paper | here | rate | best accuracy | s/round |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    missed = 0
    for name, target, paper, rate, options in ROWS:
        if args.rows and args.rows not in name:
            continue
        result, seconds = simulate("--idx", os.path.join(args.data, "mnist"), "--learners", "100",
                                   "--rounds", str(paper), "--target", str(target), "--jobs",
                                   str(args.jobs), "--learning-rate", rate, *options)
        here = result.get("targetReachedInRound")
        missed += here is None
        print(f"| {name} | {target:.2f} | {paper} | {here or 'not reached'} | {rate} "
              f"| {result['bestAccuracy']:.4f} | {seconds:.2f} |", flush=True)
    return missed


def matrix(args):
    print("\nFinal accuracy on Fashion-MNIST, 4 of 20 learners hostile, 15 rounds "
          "(\"lost\": the model left the range that sums hold).\n")
    print("| attack | " + " | ".join(name for name, _ in STRATEGIES) + " |")
    print("| --- |" + " --- |" * len(STRATEGIES))
    for name, attack in ATTACKS:
        cells = []
        for strategy, parameters in STRATEGIES:
            sets = [word for parameter in parameters for word in ("--set", parameter)]
            result, _ = simulate("--idx", os.path.join(args.data, "fashion-mnist"), "--jobs",
                                 str(args.jobs), "--strategy", strategy, *sets, *MATRIX, *attack)
            cells.append("lost" if "error" in result else f"{result['accuracy']:.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["tables", "matrix"])
    parser.add_argument("--data", default=os.path.join(ROOT, "build", "data"))
    parser.add_argument("--rows", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    parts = {"tables": tables, "matrix": matrix}
    sys.exit(1 if sum(parts[part](args) for part in args.what) else 0)


if __name__ == "__main__":
    main()
