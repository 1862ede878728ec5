#!/usr/bin/env python3
"""`flops simulate` on the real data: the 2NN of the FedAvg paper for a few rounds, an attack that a
mean does not survive and robust rules do, all forms of output, and the same models with and without
the protocol, whatever the number of threads."""

import csv
import glob
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from rig import FLOPS, ROOT, Judge

# 12 rounds came to 0.953; training on one learner's part alone stays below 0.92.
PAPER = ["--options", '{"hiddenUnits":[200,200]}', "--learners", "100", "-c", "0.1", "--epochs", "1",
         "--batch", "10", "--learning-rate", "0.2", "--rounds", "12"]
PAPER_ACCURACY = 0.945
SMALL = ["--trainer", "SoftmaxRegression", "--learners", "100", "-c", "0.2", "--batch", "32",
         "--learning-rate", "0.05", "--rounds", "6"]

SKLEARN = os.path.join(ROOT, "examples", "code", "sklearn-mnist")
PYTHON = "/usr/bin/python3"  # has scikit-learn
CRASH = """

from flops_trainer.data import given


class Frail(ModelManager):
    def fit_model(self):
        number = given().partition()[0]
        if number == 3:
            import os
            os.abort()
        if number == 5:
            raise ValueError("five")
        return super().fit_model()


ModelManager = Frail
"""


def data():
    done = subprocess.run([os.path.join(ROOT, "hack", "get-data.sh")], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise SystemExit("no data: " + done.stderr[-500:])
    return done.stdout.split()[-2:]


def simulate(*options):
    return subprocess.run([FLOPS, "simulate", *options], capture_output=True, text=True, check=False,
                          timeout=300)


def document(*options):
    done = simulate("-o", "json", "-q", *options)
    if not done.stdout.startswith("{"):
        raise SystemExit("flops simulate " + " ".join(options) + ": " + done.stderr)
    return json.loads(done.stdout)


def learns_as_published(judge, mnist):
    options = ["--idx", mnist, *PAPER]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        memory = document(*options, "--every", "4", "--jobs", "1", "--save", path)
        digest = "sha256:" + hashlib.sha256(open(path, "rb").read()).hexdigest()
    accuracy = memory["result"]["accuracy"]
    judge.check(f"the 2NN reaches {PAPER_ACCURACY} in 12 rounds", accuracy >= PAPER_ACCURACY, accuracy)
    judge.check("the saved model is the last round's", digest == memory["result"]["model"], digest)
    protocol = document(*options, "--every", "4", "--jobs", "3", "--protocol")
    judge.check("the protocol and other threads give the same document", protocol == memory,
                (protocol["result"], memory["result"]))
    alone = document(*options[:-1], "12", "-c", "0", "--every", "0", "--partition", "Shards")
    judge.check("one learner with two digits a round does not", alone["result"]["accuracy"] < 0.92,
                alone["result"]["accuracy"])


def survives_attacks(judge, fashion):
    attacks = {"none": [], "sign flip": ["--attack", "SignFlip", "--attackers", "15%", "--attack-scale", "8"],
               "replacement": ["--attack", "Scaled", "--attackers", "15%", "--attack-scale", "20"]}
    rules = {"FedAvg": [], "Median": [], "Krum": ["--set", "byzantineLearners=7"]}
    for attack, options in attacks.items():
        for rule, parameters in rules.items():
            result = document("--idx", fashion, *SMALL, "--every", "0", "--strategy", rule, *parameters,
                              *options)["result"]
            accuracy = result.get("accuracy", 0)  # none where the model left the range of sums
            if rule == "FedAvg" and attack != "none":
                judge.check(f"{attack}: the mean collapses", accuracy < 0.55, accuracy)
            else:
                judge.check(f"{attack}: {rule} holds", accuracy > 0.65, accuracy)


def speaks_all_forms(judge, mnist):
    options = ["--idx", mnist, *SMALL, "--rounds", "3", "--delay", "1s", "--delay-spread", "0.5",
               "--dropout", "0.1"]
    told = document(*options)
    table, rows = simulate(*options), list(csv.DictReader(io.StringIO(simulate("-o", "csv", *options).stdout)))
    judge.check("CSV tells the same", [row["model"] for row in rows] == [row["model"] for row in told["rounds"]]
                and [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in told["rounds"]], rows)
    judge.check("the table tells the same", told["result"]["model"] in table.stdout, table.stdout)
    judge.check("plain lines tell how far it is", "round 2 of 3: accuracy" in table.stderr, table.stderr)
    judge.check("time passes for slow learners", 0 < told["rounds"][0]["virtualMs"] < told["rounds"][2]["virtualMs"],
                told["rounds"])
    project = os.path.join(ROOT, "examples", "flproject-minimal.yaml")
    declared = document("-f", project, "--idx", mnist, "--rounds", "1", "--trainer", "SoftmaxRegression")
    judge.check("an FLProject is taken, and options change it", declared["result"]["rounds"] == 1
                and declared["options"]["trainer"] == "SoftmaxRegression", declared)


def code_of_ones_own(judge, mnist):
    """A FLOps repository on scikit-learn, as it is: many learners, two processes."""
    options = ["--python", PYTHON, "--jobs", "2", "-q"]
    told = document(SKLEARN, *options, "--idx", mnist, "--learners", "20", "--rounds", "3", "--every", "3")
    accuracy = told["result"]["accuracy"]
    judge.check("a repository of scikit-learn comes to 0.8 in 3 rounds", accuracy > 0.8, accuracy)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SKLEARN, folder, dirs_exist_ok=True)
        with open(os.path.join(folder, "model_manager.py"), "a") as file:
            file.write(CRASH)
        options += ["--learners", "8", "--quorum", "6", "--rounds", "2", "--every", "0"]
        told, other = document(folder, *options), document(folder, *options, "--protocol", "--jobs", "3")
        failed = {failure["learner"]: failure["error"] for failure in told["rounds"][1]["failures"]}
        judge.check("who crashes or fails is a dropout, with its reason", told["rounds"][1]["dropped"] == 2
                    and failed["learner-000003"].startswith("TrainerCrashed: it was ended by SIGABRT")
                    and failed["learner-000005"].startswith("CodeFailed: training: ValueError: five"), told["rounds"])
        judge.check("the others go on, and their model is the same however they share processes",
                    told["result"]["model"] == other["result"]["model"], (told["result"], other["result"]))


def ends_when_told(judge, mnist):
    """In mid-round: no process and no file is left."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.Popen([FLOPS, "simulate", SKLEARN, "--idx", mnist, "--python", PYTHON, "--learners", "20",
                                 "--rounds", "1000", "--every", "0"], env={**os.environ, "TMPDIR": folder},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 120
        while not glob.glob(os.path.join(folder, "flops-simulate-*", "learner-000011*")) and time.monotonic() < end:
            time.sleep(0.02)
        held = os.listdir(folder)
        done.send_signal(signal.SIGINT)
        _, err = done.communicate(timeout=120)
        judge.check("a simulation that is interrupted ends, and leaves nothing behind", held and
                    done.returncode == 1 and "interrupted" in err and os.listdir(folder) == [],
                    (held, done.returncode, err[-300:], os.listdir(folder)))


def says_what_is_wrong(judge, mnist):
    for options, status, text in (
            ([], 2, "--idx"), (["--idx", mnist, "--mode", "Async"], 1, "needs the protocol"),
            (["--idx", mnist, "--strategy", "FedFoo"], 1, "FedFoo"),
            (["--idx", mnist, "--set", "trimFracton=0.1"], 2, "no such parameter"),
            (["--idx", mnist, "--attack", "Noise"], 2, "--attackers"),
            (["--idx", mnist, "--trainer", "GAN"], 2, "GAN"),
            (["--idx", "/nowhere"], 1, "/nowhere"),
            (["--idx", mnist, "--save", "/nowhere/model"], 1, "cannot write there"),
            (["--idx", mnist, *SMALL, "--rounds", "1", "--target", "0.999"], 1, "not reached")):
        done = simulate(*options)
        judge.check("refused: " + (" ".join(options[2:4]) or "nothing"),
                    done.returncode == status and text in done.stdout + done.stderr,
                    (done.returncode, done.stdout[-300:], done.stderr[-300:]))


def main():
    judge = Judge()
    mnist, fashion = data()
    learns_as_published(judge, mnist)
    survives_attacks(judge, fashion)
    speaks_all_forms(judge, mnist)
    code_of_ones_own(judge, mnist)
    ends_when_told(judge, mnist)
    says_what_is_wrong(judge, mnist)
    judge.end()


if __name__ == "__main__":
    main()
