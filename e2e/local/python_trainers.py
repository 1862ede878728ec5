#!/usr/bin/env python3
"""python_trainers.py [CASE...]: learners that train with users' Python code, by `flops-trainer`, on loopback.

The repositories in examples/code train really: scikit-learn on MNIST in the shape of a FLOps repository, with the
adapter's own stand-in for flops_utils and with the package from PyPI, NumPy in the native shape, and a Flower client;
accuracy rises from an initial model that a learner made. Whatever goes wrong in the code comes as a clear reason to
the aggregator, with the traceback in the learner's log, and costs one dropout: the same process goes on, or another
one where it died, and takes part in the next round. $FLOPS is the program; NumPy and scikit-learn are Debian's."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from federation import (FLOPS, ROOT, World, ask_json, flops, get_model, make_data, spec, wait_for, wait_for_learners)
from rig import Judge

PYTHON = "/usr/bin/python3"
TRAINER = os.path.join(ROOT, "workloads", "trainer", "python", "image", "usr", "bin", "flops-trainer")
CODE = os.path.join(ROOT, "examples", "code")
LEARNERS, AT_A_TIME = 3, 3
INSTALLING = threading.Lock()

# A trainer whose fit does FAULT first, until the file "healthy" lies beside it.
FAULTY = '''
import os, sys, time
import numpy as np
HERE = os.path.dirname(os.path.abspath(__file__))
sick = not os.path.exists(os.path.join(HERE, "healthy"))
{at_import}

class Trainer:
    def set_data(self, features, labels):
        self.x, self.y = features, labels
        self.model = {{"weight": np.zeros((10, 64), np.float32), "bias": np.zeros(10, np.float32)}}

    def get_parameters(self):
        return self.model

    def set_parameters(self, parameters):
        self.model = parameters

    def fit(self, options):
        result, sick = len(self.y), not os.path.exists(os.path.join(HERE, "healthy"))
        if sick:
            print("about to go wrong", flush=True)
            {fault}
        self.model["bias"] += 0.5
        return result

    def evaluate(self):
        return 0.5, 0.5, len(self.y)
'''
FLOWER = """
import numpy as np
from flwr.client import ClientApp, NumPyClient
from flops_utils.ml_repo_building_blocks import load_dataset

class Client(NumPyClient):
    def __init__(self):
        part = load_dataset().with_format("numpy")
        self.x, self.y = part["features"], part["label"]
        self.model = [np.zeros((64, 10)), np.zeros(10)]

    def get_parameters(self, config):
        return self.model

    def chances(self):
        powers = np.exp(self.x @ self.model[0] + self.model[1])
        return powers / powers.sum(axis=1, keepdims=True)

    def fit(self, parameters, config):
        self.model = parameters
        for _ in range(20 * config["local_epochs"]):
            slope = self.chances()
            slope[np.arange(len(self.y)), self.y] -= 1
            self.model[0] -= config["lr"] * self.x.T @ slope / len(self.y)
            self.model[1] -= config["lr"] * slope.mean(axis=0)
        return self.model, len(self.y), {"device": "cpu", "rows": float(len(self.y))}

    def evaluate(self, parameters, config):
        self.model = parameters
        chances = self.chances()
        loss = -np.log(chances[np.arange(len(self.y)), self.y]).mean()
        return float(loss), len(self.y), {"accuracy": float((chances.argmax(axis=1) == self.y).mean())}

def client_fn(context):
    assert context.node_config["num-partitions"] in (1, 3), context
    return Client().to_client()

app = ClientApp(client_fn=client_fn)
"""
SICK_FLOPS = '''
class ModelManager:
    def get_model_parameters(self):
        return []
'''

# In fit: what goes wrong, with what the learner is told to bear; the reason, the words, and what the log says.
FAULTS = {
    "exception": ("raise KeyError('pixels')", [], "CodeFailed", "KeyError: 'pixels' (trainer.py, line ", "Traceback"),
    "exit": ("sys.exit('no GPU here')", [], "CodeExited", "no GPU here", "Traceback"),
    "memory": ("np.ones(1 << 50)", [], "OutOfMemory", "trainer.py, line ", "Traceback"),
    "examples": ("result = 'many'", [], "TrainerBadResult", "not str 'many'", ""),
    "nothing": ("result = None", [], "TrainerBadResult", "not None", ""),
    "shape": ("self.model['weight'] = self.model['weight'].T", [], "TrainerBadResult",
              "weight has shape (64, 10), where the model's has (10, 64)", ""),
    "type": ("self.model['weight'] = 'heavy'", [], "TrainerBadResult", "must be an array of numbers", ""),
    "complex": ("self.model['bias'] = self.model['bias'] + 1j", [], "TrainerBadResult", "must be an array of numbers",
                ""),
    "fewer": ("del self.model['bias']; self.model = dict(self.model, bias=self.model.pop('weight'))", [],
              "TrainerBadResult", "gave 1 array (bias), where the model has 2 arrays", ""),
    "nan": ("self.model['bias'][3] = np.nan", [], "TrainerBadResult", "bias", ""),
    "crash": ("os.abort()", [], "TrainerCrashed", "SIGABRT", ""),
    "hang": ("time.sleep(3600)", ["--trainer-silence", "3s"], "TrainerHung", "said nothing", ""),
    "hoard": ("hoard = [bytearray(os.urandom(1 << 20)) for _ in range(5000)]", ["--trainer-memory", "150"],
              "TrainerOutOfMemory", "MiB of memory", ""),
}
# While the code is loaded, in place of one line at its beginning.
LOADING = {
    "import": ("import torchbearer", "CodeNotLoaded", "No module named 'torchbearer'"),
    "syntax": ("def broken(:", "CodeNotLoaded", "SyntaxError"),
    "quits": ("sys.exit(5)", "CodeExited", "sys.exit(5)"),
}


def code_folder(world, name, text, file="trainer.py"):
    folder = os.path.join(world.dir, "code-" + name)
    os.makedirs(folder)
    with open(os.path.join(folder, file), "w") as out:
        out.write(text)
    return folder


def learner(world, root, number, data_dir, data, code, *bears, python=PYTHON, words=()):
    return world.learner(f"learner-{number}", root, data_dir, data, *bears, "--", python, TRAINER, "--code", code,
                         *words)


def run_round(root, number, model, quorum=LEARNERS, deadline_ms=60000, rate=0.1, epochs=1):
    """The first one has no model: a learner makes it."""
    order = spec(number, *(model or ("", 0)), quorum)
    order.update({"maxWeight": 100000})
    order["participation"].update({"minAvailable": LEARNERS, "deadlineMs": deadline_ms})
    order["local"].update({"learningRate": rate, "epochs": epochs})
    if not model:
        del order["model"], order["modelSize"]
    wait_for_learners(root, LEARNERS)
    ask_json(root, "PUT", f"/v1/rounds/{number}", order)
    state = wait_for(root, number)
    assert state["phase"] == "Committed", state
    return state, get_model(root, state)


def trains(data_dir, data, code, rounds, wanted, python=PYTHON, words=()):
    """From an initial model of a learner on; all take part, and accuracy comes to what is wanted."""
    with World() as world:
        root = world.aggregator("root").start()
        learners = [learner(world, root, i, data_dir, f"{data}.{i}", code, python=python, words=words).start()
                    for i in range(LEARNERS)]
        model, accuracies = None, []
        for number in range(1, rounds + 1):
            state, model = run_round(root, number, model)
            assert state["learners"] == LEARNERS and not state.get("excluded"), state
            accuracies.append(state["evaluation"]["accuracy"])
        assert accuracies[-1] > max(accuracies[0], wanted), (accuracies, learners[0].errors()[-500:])


def told(state, reason, words):
    return any((out["learner"], out["outcome"], out["reason"]) == ("learner-2", "Dropped", reason) and
               words in out.get("message", "") for out in state.get("excluded", []))


def federation(world, data_dir, code, *bears):
    root = world.aggregator("root").start()
    good = code_folder(world, "good", FAULTY.format(fault="pass", at_import=""))
    for i in range(LEARNERS - 1):
        learner(world, root, i, data_dir, f"toy.{i}", good).start()
    return root, learner(world, root, 2, data_dir, "toy.2", code, *bears).start()


def base_model(root, world, data_dir):
    """As the good code has it, so that no sick learner is asked for it."""
    import struct

    from federation import put_model
    header = json.dumps({"weight": {"dtype": "F32", "shape": [10, 64], "data_offsets": [0, 2560]},
                         "bias": {"dtype": "F32", "shape": [10], "data_offsets": [2560, 2600]}}).encode()
    return put_model(root, struct.pack("<Q", len(header)) + header + bytes(2600))


def goes_wrong(data_dir, code_text, bears, reason, words, logged, file="trainer.py", deadline_ms=60000, heals=True):
    """One dropout with that reason; then, healed, it takes part again."""
    with World() as world:
        code = code_folder(world, "sick", code_text, file)
        root, sick = federation(world, data_dir, code, *bears)
        state, model = run_round(root, 1, base_model(root, world, data_dir), LEARNERS - 1, deadline_ms)
        assert state["learners"] == LEARNERS - 1 and told(state, reason, words), (state, sick.errors()[-1500:])
        assert logged in sick.errors(), sick.errors()[-2000:]
        if heals:
            open(os.path.join(code, "healthy"), "w").close()
            state, _ = run_round(root, 2, model)
            assert state["learners"] == LEARNERS and not state.get("excluded"), (state, sick.errors()[-1500:])


def goes_wrong_in_fit(data_dir, fault):
    line, bears, reason, words, logged = FAULTS[fault]
    goes_wrong(data_dir, FAULTY.format(fault=line, at_import=""), bears, reason, words, logged)


def goes_wrong_in_loading(data_dir, fault):
    line, reason, words = LOADING[fault]
    text = FAULTY.format(fault="pass", at_import="")
    broken = line if fault == "syntax" else f"if sick: {line}"
    goes_wrong(data_dir, text.replace("\nclass Trainer", f"{broken}\n\nclass Trainer"), [], reason, words, "",
               heals=fault != "syntax")


def goes_round_in_circles(data_dir):
    """It works, so it is not taken for hung; the round's deadline ends it, and the process lives on."""
    text = FAULTY.format(fault="\n            while True: options.progress(0, 1)", at_import="")
    with World() as world:
        code = code_folder(world, "sick", text)
        root, sick = federation(world, data_dir, code, "--trainer-silence", "30s")
        before = trainer_of(sick)
        state, model = run_round(root, 1, base_model(root, world, data_dir), LEARNERS - 1, 3000)
        assert state["learners"] == LEARNERS - 1, state
        open(os.path.join(code, "healthy"), "w").close()
        state, _ = run_round(root, 2, model)
        assert state["learners"] == LEARNERS, (state, sick.errors()[-1500:])
        assert trainer_of(sick) == before, sick.errors()[-1500:]


def trainer_of(sick):
    """The process that trains."""
    found = []
    for task in os.listdir(f"/proc/{sick.process.pid}/task"):
        with open(f"/proc/{sick.process.pid}/task/{task}/children") as file:
            found += file.read().split()
    assert len(found) == 1, found
    return found[0]


def prints(data_dir):
    """Text on standard output is the log's, and harms nobody; nor does code that closes what it does not know."""
    fault = "print('Epoch 1/5: loss 0.3\\n' * 50); os.closerange(3, 10); print('and on', end='')"
    with World() as world:
        root, chatty = federation(world, data_dir, code_folder(world, "sick", FAULTY.format(fault=fault, at_import="")))
        state, _ = run_round(root, 1, base_model(root, world, data_dir))
        assert state["learners"] == LEARNERS and not state.get("excluded"), state
        assert "Epoch 1/5: loss 0.3" in chatty.errors()


def no_data(data_dir):
    with World() as world:
        root = world.aggregator("root").start()
        good = code_folder(world, "good", FAULTY.format(fault="pass", at_import=""))
        for i, data in enumerate(["toy.0", "toy.1", "lost"]):
            learner(world, root, i, data_dir, data, good).start()
        state, _ = run_round(root, 1, base_model(root, world, data_dir), LEARNERS - 1)
        assert told(state, "DataMissing", "no data set lost"), state


def make_mnist(data_dir):
    """A test set's 10,000 pictures are enough to see that it learns."""
    done = subprocess.run([os.path.join(ROOT, "hack", "get-data.sh"), os.path.join(ROOT, "build", "data"), "mnist"],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    files = [os.path.join(done.stdout.split()[-1], f"t10k-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
    flops("data", "push", "mnist", *files, "--data-dir", data_dir)
    flops("data", "partition", "mnist", "--learners", str(LEARNERS), "--data-dir", data_dir)


def python_with(name, *packages, options=()):
    """A Python that has these from PyPI."""
    venv = os.path.join(ROOT, "build", "tools", name)
    python = os.path.join(venv, "bin", "python3")
    with INSTALLING:
        if not os.path.exists(os.path.join(venv, "ready")):
            shutil.rmtree(venv, ignore_errors=True)
            for command in ([PYTHON, "-m", "venv", *options, venv],
                            [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check",
                             *packages]):
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)
                assert done.returncode == 0, done.stderr[-2000:]
            open(os.path.join(venv, "ready"), "w").close()
    return python


REAL = ("flops_utils==0.6.1", "datasets==5.2.0", "scikit-learn==1.9.1")


def with_real_flops_utils(data_dir):
    """As an image has it: flops_utils and Hugging Face's datasets, which it imports; nothing of Debian's."""
    python = python_with("flops-utils-venv", *REAL)
    done = subprocess.run([python, "-c", "import flops_utils; print(list(flops_utils.__path__))"], capture_output=True,
                          text=True)
    assert "flops-utils-venv" in done.stdout, done
    trains(data_dir, "mnist", os.path.join(CODE, "sklearn-mnist"), 2, 0.7, python=python)


TABLES = """
import os, sys
sys.path.insert(0, sys.argv[1])
import datasets
import numpy as np
from flops_trainer import data
image = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
form = datasets.Features({"image": datasets.Array2D(shape=(2, 3), dtype="float32"),
                          "label": datasets.ClassLabel(names=["cat", "dog"])})
made = datasets.Dataset.from_dict({"image": image, "label": [0, 1, 1, 0]}, features=form)
made.to_parquet("one.parquet")
made.save_to_disk("folder")
for paths, count in ((["one.parquet"], 4), (["folder"], 4), (["one.parquet", "folder"], 8)):
    data.give(data.Data([], paths))
    found = data.load_dataset()
    assert isinstance(found, datasets.Dataset) and len(found) == count, found
    assert found.features["label"].names == ["cat", "dog"], found.features
    found.set_format("numpy")
    np.testing.assert_array_equal(found[:4]["image"], image)
    assert all(isinstance(found[name], np.ndarray) for name in ("image", "label")), found["label"]
    assert found["image"].shape == (count, 2, 3), found["image"]
    assert list(found[:4]["label"]) == [0, 1, 1, 0]
"""


def tables(_data_dir):
    """Parquet, and Hugging Face's folders, as their own library reads them."""
    python = python_with("flops-utils-venv", *REAL)
    with tempfile.TemporaryDirectory() as folder:
        package = os.path.join(os.path.dirname(os.path.dirname(TRAINER)), "lib", "flops", "python")
        done = subprocess.run([python, "-c", TABLES, package], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]


def flower(data_dir, version, *words):
    """The package is the one from PyPI."""
    python = python_with(f"flower-{version}-venv", f"flwr=={version}", "numpy")
    with tempfile.TemporaryDirectory() as code:
        with open(os.path.join(code, "client_app.py"), "w") as file:
            file.write(FLOWER)
        trains(data_dir, "toy", code, 3, 0.9, python=python, words=words)
        simulates(data_dir, code, python, words)


def simulates(data_dir, code, python, words):
    """Three learners in two processes: each is given its own number in the context."""
    done = subprocess.run([FLOPS, "simulate", code, "--data", "toy", "--data-dir", data_dir, "--python", python,
                           "--learners", "3", "--jobs", "2", "--rounds", "3", "--learning-rate", "0.1", "-o", "json",
                           *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["result"]["accuracy"] > 0.9 and not any("failures" in row for row in told["rounds"]), told


def try_it(folder, *words):
    done = subprocess.run([FLOPS, "try", folder, "--python", PYTHON, *words], capture_output=True, text=True,
                          timeout=300)
    return done.returncode, done.stdout, done.stderr


def tried(data_dir):
    """What trains says so, with rising accuracy; what does not says why, and leaves nothing behind."""
    for name in ("native", "sklearn-mnist"):
        status, out, error = try_it(os.path.join(CODE, name))
        assert status == 0 and out.endswith("it trains\n") and "round 2: " in out, (out, error)
    status, out, _ = try_it(os.path.join(CODE, "sklearn-mnist"), "--data", "mnist", "--data-dir", data_dir,
                            "--rounds", "3")
    accuracies = [float(found) for found in re.findall("accuracy ([0-9.]+)", out)]
    assert status == 0 and len(accuracies) == 3 and accuracies[2] > max(accuracies[0], 0.8), out
    text = FAULTY.format(fault="FAULT", at_import="")
    wrong = [(FAULTS[fault][0], FAULTS[fault][2], FAULTS[fault][3]) for fault in ("exception", "shape", "exit", "nan")]
    for line, reason, words in (*wrong, ("time.sleep(3600)", "TrainerHung", "said nothing"),
                                ("import torchbearer", "CodeFailed", "install it"),
                                ("self.model['bias'] -= 0.5", None, "changed nothing")):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "trainer.py"), "w") as file:
                file.write(text.replace("FAULT", line))
            status, out, error = try_it(folder, "--timeout", "3s")
            assert (status == 1 and f"flops try: {reason}: " in error) if reason else status == 0, (line, out, error)
            assert words in out + error, (line, out, error)
    with tempfile.TemporaryDirectory() as folder:
        status, out, error = try_it(folder)
        assert status == 1 and "has no training code" in error, (out, error)


def begun():
    """What init writes passes its own test and trains; it writes over nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = os.path.join(place, "new", "code")
        flops("init", folder)
        done = subprocess.run([PYTHON, "-m", "unittest", "discover", folder], capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0 and "OK" in done.stderr, done.stderr
        assert try_it(folder)[0] == 0
        os.unlink(os.path.join(folder, "README.md"))
        again = subprocess.run([FLOPS, "init", folder], capture_output=True, text=True)
        assert again.returncode == 1 and "is there already" in again.stderr, again
        assert not os.path.exists(os.path.join(folder, "README.md"))


def cases(data_dir):
    yield "flops try", lambda: tried(data_dir)
    yield "flops init", begun
    yield "a Flower app", lambda: flower(data_dir, "1.23.0")
    yield "a Flower client", lambda: flower(data_dir, "1.23.0", "--entrypoint", "client_app:Client")

    yield "scikit-learn on MNIST, a FLOps repository", lambda: trains(
        data_dir, "mnist", os.path.join(CODE, "sklearn-mnist"), 4, 0.84)
    yield "the same with flops_utils of PyPI", lambda: with_real_flops_utils(data_dir)
    yield "data in Parquet and in Hugging Face's folders", lambda: tables(data_dir)
    yield "NumPy in the native shape", lambda: trains(data_dir, "toy", os.path.join(CODE, "native"), 3, 0.9)
    yield "prints", lambda: prints(data_dir)
    yield "no data", lambda: no_data(data_dir)
    yield "goes round in circles", lambda: goes_round_in_circles(data_dir)
    yield "lacks methods", lambda: goes_wrong(data_dir, SICK_FLOPS, [], "CodeNotLoaded", "lacks set_model_data", "",
                                              "model_manager.py", heals=False)
    for fault in LOADING:
        yield f"{fault}, in loading", lambda fault=fault: goes_wrong_in_loading(data_dir, fault)
    for fault in FAULTS:
        yield f"{fault}, in fit", lambda fault=fault: goes_wrong_in_fit(data_dir, fault)


def main():
    data_dir = tempfile.mkdtemp(prefix="flops-python-trainers-")
    judge, chosen = Judge(), sys.argv[1:]
    make_data(data_dir, LEARNERS)
    make_mnist(data_dir)

    def judged(case):
        name, run = case
        began = time.monotonic()
        try:
            run()
            judge.check(f"{name} ({time.monotonic() - began:.1f} s)", True)
        except (AssertionError, RuntimeError, OSError, ValueError, KeyError) as error:
            judge.check(name, False, repr(error)[:3000])

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(judged, [case for case in cases(data_dir) if not chosen or any(c in case[0] for c in chosen)]))
    shutil.rmtree(data_dir)
    judge.end()


if __name__ == "__main__":
    main()
