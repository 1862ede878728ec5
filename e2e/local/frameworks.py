#!/usr/bin/env python3
"""frameworks.py [keras] [pytorch]: repositories of large frameworks, from a Git link to a served model, in containers.

The Keras and the PyTorch repository of examples/code are tried first, with the adapter's own stand-in for flops_utils
and with the package from PyPI. Then a `flops up` with MNIST in two parts has them behind links: images are built,
learners train in them for two rounds, the model is served by its code, and predicts digits; MLflow loads it, and
predicts the same. Not a part of `make test`: packages of gigabytes are fetched. Needs root, for containers and for
Debian's PyTorch. $FLOPS is the program."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import git_project as g  # noqa: E402
import project as p  # noqa: E402
import rig  # noqa: E402
from builds import Repository  # noqa: E402
from python_trainers import PYTHON, python_with  # noqa: E402

FRAMEWORKS = ("keras", "pytorch")
KERAS = "tensorflow-cpu==2.19.1"
REAL = ("flops_utils==0.6.1", "mlflow-skinny==3.*", "pandas")
DATASETS = {"keras": ["datasets==5.2.0"],
            "pytorch": ["datasets==4.0.0", "pyarrow<21", "numpy<2"]}  # the newest that go with Debian's PyTorch
TOLERANCE = 1e-4  # of chances: the judge's framework is another version of it
judge = p.judge
g.LONG_S = 3000

# In a process that has nothing of ours in its path.
LOADING = """
import json, sys
import mlflow, numpy
rows = numpy.array(json.load(sys.stdin), numpy.float32)
found = mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)
sys.stderr.flush()
print("\\n" + json.dumps(numpy.asarray(found).tolist()))
"""


def code_of(name):
    return os.path.join(g.ROOT, "examples", "code", f"{name}-mnist")


def debians_torch():
    """The smallest one there is for processors."""
    if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode != 0:
        for words in (["update"], ["install", "-y", "--no-install-recommends", "python3-torch", "python3-venv"]):
            subprocess.run(["apt-get", "-qq", *words], check=True, stdout=subprocess.DEVNULL)


def pythons_of(name):
    """One with the framework alone, and one that has flops_utils and MLflow, too."""
    if name == "keras":
        return python_with("keras-venv", KERAS), python_with("keras-flops-utils-venv", KERAS, *REAL, *DATASETS[name])
    debians_torch()
    return PYTHON, python_with("pytorch-flops-utils-venv", *REAL, *DATASETS[name], options=("--system-site-packages",))


def is_tried(name, what, python):
    done = subprocess.run([rig.FLOPS, "try", code_of(name), "--python", python, "--timeout", "10m"],
                          capture_output=True, text=True, timeout=1200)
    lines = [line for line in done.stdout.splitlines() if line.startswith("round ")]
    judge.check(f"{name}: is tried with {what}", done.returncode == 0 and len(lines) == 2 and
                done.stdout.rstrip().endswith("it trains"), (done.stdout + done.stderr)[-3000:])
    print(f"# {name}: {lines[-1:]}")


def loads_in_mlflow(server, name, python, chances):
    folder = os.path.join(server.dir, f"{name}-mlflow")
    done = p.flops(server, "models", "export", f"{name}:latest", "-n", g.NAMESPACE, "--format", "mlflow", "--code",
                   code_of(name), "-o", folder)
    judge.check(f"{name}: is exported for MLflow", done.returncode == 0, done.stderr)
    done = subprocess.run([python, "-c", LOADING, folder], input=json.dumps(g.unseen()[0]), cwd=server.dir,
                          capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else []
    worst = max((abs(x - y) for one, other in zip(found, chances) for x, y in zip(one, other)), default=1)
    judge.check(f"{name}: MLflow predicts what the server predicts", len(found) == len(chances) and worst < TOLERANCE,
                (worst, done.stderr[-3000:]))
    print(f"# {name}: worst difference {worst:.1e}")


def size_of(server, name):
    builds = [b for b in server.call("GET", g.API + "/imagebuilds")[1]["items"]
              if b["metadata"]["name"].startswith(name) and b["spec"]["target"] == "Learner"]
    return builds[0]["status"] if builds else {}


def serves(server, folder, name, python):
    repository = Repository(os.path.join(folder, name))
    repository.git("checkout", "-qb", "main")
    shutil.copytree(code_of(name), os.path.join(repository.folder, "examples", "code", f"{name}-mnist"))
    repository.commit()
    began = time.monotonic()
    g.link_example(server, repository, f"flproject-git-{name}.yaml", f"{name}-mnist", name)
    built = p.wait("the image", lambda: g.get(server, name).get("status", {}).get("image"), g.LONG_S)
    judge.check(f"{name}: its image is built", built, g.explain(server, name))
    print(f"# {name}: built after {time.monotonic() - began:.0f} s: {size_of(server, name).get('platforms')}",
          flush=True)
    served = p.wait(f"{name} is served", lambda: p.condition(g.get(server, name), "ModelServed")["status"] == "True",
                    g.LONG_S)
    judge.check(f"{name}: is trained and served", served, g.explain(server, name))
    status = g.get(server, name)["status"]
    print(f"# {name}: served after {time.monotonic() - began:.0f} s: {status['metrics']['best']['values']}", flush=True)
    loads_in_mlflow(server, name, python, g.right_of(server, name, f"{name}: predicts"))
    server.call("DELETE", f"{g.API}/flprojects/{name}")
    judge.check(f"{name}: deleted, nothing runs on", p.wait("all is gone", lambda: not g.workloads(server)),
                list(g.workloads(server)))


def main():
    names = sys.argv[1:] or FRAMEWORKS
    pythons = {name: pythons_of(name) for name in names}
    for name, (bare, full) in pythons.items():
        is_tried(name, "the stand-in for flops_utils", bare)
        is_tried(name, "flops_utils of PyPI", full)
    server = rig.Server()
    folder = tempfile.mkdtemp(prefix="flops-frameworks-")
    try:
        server.start()
        g.push_mnist(server)
        for name in names:
            serves(server, folder, name, pythons[name][1])
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
