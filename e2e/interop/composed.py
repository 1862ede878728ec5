#!/usr/bin/env python3
"""composed.py: other people's tools judge the image that `flops build` composes of a repository with scikit-learn, for
linux/amd64 and linux/arm64: skopeo reads and copies it; umoci unpacks it; runc, crun, podman and buildah run it; the
arm64 one starts under QEMU. Each imports what the code needs. Needs root. Prints a line a check and "N passed, N
failed"; fails when any failed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FLOPS = os.path.join(ROOT, "bin", "flops")
QEMU = "/usr/bin/qemu-aarch64-static"
DEADLINE_S = 600
PLATFORMS = ("amd64", "arm64")
FILES = {"requirements.txt": "scikit-learn==1.5.2\n", "trainer.py": """import sklearn.linear_model


class Trainer:
    def get_parameters(self):
        return []

    def set_parameters(self, parameters):
        pass

    def fit(self):
        sklearn.linear_model.LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
        return 1

    def evaluate(self):
        return 0.0, 1.0, 1
"""}
# What needs no time is asked of each tool, what takes long once a platform.
SHORT = "import platform, numpy; print(platform.machine(), numpy.dot([1, 2], [3, 4]))"
LONG = "import platform, numpy, sklearn, trainer; print(platform.machine(), trainer.Trainer().fit(), 'trained')"
PYTHON = "/usr/bin/python3"
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")  # theirs are higher than a machine may allow

checks = []


def check(test):
    """Registers a check; its docstring is its name."""
    checks.append(test)
    return test


def want_in(text, words):
    if words not in text:
        raise AssertionError(f"{words!r} is not in {text!r}")


def run(*words, cwd=None):
    done = subprocess.run([str(word) for word in words], capture_output=True, timeout=DEADLINE_S, text=True, check=False,
                          cwd=cwd, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: exit {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    return done.stdout


class World:
    def __init__(self, folder):
        self.folder = folder
        code = self.path("code")
        os.makedirs(code)
        for name, text in FILES.items():
            with open(os.path.join(code, name), "w", encoding="utf-8") as file:
                file.write(text)
        run("git", "init", "-q", cwd=code)
        run("git", "add", ".", cwd=code)
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x", cwd=code)
        platforms = [word for name in PLATFORMS for word in ("--platform", f"linux/{name}")]
        self.digest = run(FLOPS, "build", code, "-q", *platforms, "-o", self.path("layout"), "--data-dir",
                          self.path("builder")).strip()

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def copied(self, architecture):
        """skopeo's copy of one platform; once."""
        if not os.path.isdir(self.path(architecture)):
            run("skopeo", "copy", "-q", "--override-os", "linux", "--override-arch", architecture,
                f"oci:{self.path('layout')}", f"oci:{self.path(architecture)}:x")
        return f"{self.path(architecture)}:x"

    def bundle(self, architecture):
        """umoci's of that; once. Its process is the given Python code."""
        path = self.path(f"bundle-{architecture}")
        if not os.path.isdir(path):
            run("umoci", "unpack", "--image", self.copied(architecture), path)
        return path

    def set_code(self, architecture, code):
        path = os.path.join(self.bundle(architecture), "config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        config["process"].update(args=[PYTHON, "-c", code], terminal=False)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        return os.path.dirname(path)


def alone(*words):
    """In a mount namespace where control groups are of one version: crun refuses both at once."""
    return run("unshare", "--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"", "sh", *words)


@check
def skopeo_reads_it(w):
    """skopeo finds both platforms, of the digest that was said"""
    raw = json.loads(run("skopeo", "inspect", "--raw", f"oci:{w.path('layout')}"))
    found = sorted(entry["platform"]["architecture"] for entry in raw["manifests"])
    assert found == list(PLATFORMS), found
    index = run("skopeo", "manifest-digest", os.path.join(w.path("layout"), "blobs", "sha256", w.digest[7:])).strip()
    assert index == w.digest, index
    for architecture in PLATFORMS:
        told = json.loads(run("skopeo", "inspect", f"oci:{w.copied(architecture)}"))
        assert told["Architecture"] == architecture and len(told["Layers"]) == 4, told


@check
def runc_runs_it(w):
    """umoci unpacks it and runc runs it: the code trains with scikit-learn"""
    bundle = w.set_code("amd64", LONG)
    want_in(run("runc", "--root", w.path("runc"), "run", "--bundle", bundle, "composed-runc"), "x86_64 1 trained")


@check
def crun_runs_it(w):
    """crun runs it"""
    bundle = w.set_code("amd64", SHORT)
    want_in(alone("crun", "--root", w.path("crun"), "run", "--bundle", bundle, "composed-crun"), "x86_64 11")


@check
def podman_runs_it(w):
    """podman pulls it from the layout and runs it"""
    stores = ("--root", w.path("podman"), "--runroot", w.path("podman-run"), "--storage-driver", "vfs",
              "--cgroup-manager", "cgroupfs", "--events-backend", "none")
    try:
        want_in(alone("podman", *stores, "run", "--rm", "--network", "none", "--cgroups", "disabled", "--runtime", "crun",
                      *LIMITS, "--entrypoint", PYTHON, f"oci:{w.copied('amd64')}", "-c", SHORT), "x86_64 11")
    finally:
        run("podman", *stores, "system", "reset", "--force")


@check
def buildah_builds_on_it(w):
    """buildah takes it as a base and runs it without a runtime"""
    stores = ("--root", w.path("buildah"), "--runroot", w.path("buildah-run"), "--storage-driver", "vfs")
    name = run("buildah", *stores, "from", f"oci:{w.copied('amd64')}").strip().splitlines()[-1]
    want_in(run("buildah", *stores, "run", "--isolation", "chroot", name, "--", PYTHON, "-c", SHORT), "x86_64 11")
    run("buildah", *stores, "rm", name)


@check
def qemu_starts_it(w):
    """the arm64 image starts under QEMU: the code trains with scikit-learn, and so does the program start"""
    root = os.path.join(w.bundle("arm64"), "rootfs")
    shutil.copy(QEMU, os.path.join(root, "tmp", "qemu"))
    start = ("env", "-i", "PYTHONPATH=/opt/flops/code", shutil.which("chroot"), root, "/tmp/qemu")
    want_in(run(*start, PYTHON, "-c", LONG), "aarch64 1 trained")
    want_in(run(*start, "/usr/bin/flops", "version"), "flops ")


def judge(test, *words):
    try:
        test(*words)
    except Exception:  # pylint: disable=broad-except
        print(f"not ok - {test.__doc__}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"ok - {test.__doc__}", flush=True)
    return True


def main():
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="flops-composed-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        w = World(folder)
        told = [judge(test, w) for test in checks]
    print(f"{told.count(True)} passed, {told.count(False)} failed")
    return 0 if all(told) else 1


if __name__ == "__main__":
    sys.exit(main())
