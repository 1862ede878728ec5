#!/usr/bin/env python3
"""packages.py: Python itself judges what is composed of Debian's packages and wheels.

The base of a learner's image and NumPy are found, fetched and unpacked for linux/amd64 and linux/arm64 from the
machine's own sources, by the bench program that does nothing else. Their layers, unpacked again, are a root folder:
the machine's own platform starts in it, the other one by QEMU's user emulation where it is installed (else it is only
looked at from outside, and that is said). Prints a line a check and "N passed, N failed"; fails when any failed.
"""

import base64
import csv
import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BENCH = "build/dev/reconcilers/imagebuild/compose/packages_bench"
BASE = ["python3", "libstdc++6", "ca-certificates"]
MACHINES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}  # as uname and as ELF have it
DEADLINE_S = 400
SUM = "import numpy, ssl; print(numpy.dot([1, 2], [3, 4]), len(ssl.create_default_context().get_ca_certs()) > 50)"


def run(*words):
    done = subprocess.run(words, capture_output=True, timeout=DEADLINE_S, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise AssertionError(f"{words[0]}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def compose(folder, architecture):
    text = run(os.path.join(ROOT, BENCH), os.path.join(folder, architecture), f"linux/{architecture}", *BASE, "--", "numpy")
    return json.loads(text)


def emulator(architecture):
    """What starts programs of the platform: nothing for the machine's own, QEMU else; None: it cannot be had."""
    machine = MACHINES[architecture][0]
    return "" if platform.machine() == machine else shutil.which(f"qemu-{machine}-static")


def start(root, architecture, *words):
    """Python in the root folder. A static QEMU runs there by itself, without being registered with the kernel."""
    before = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    qemu = emulator(architecture)
    if qemu:
        shutil.copy(qemu, os.path.join(root, "tmp/qemu"))
    return run(*before, "chroot", root, *(["/tmp/qemu"] if qemu else []), "/usr/bin/python3", *words).strip()


def site_of(root):
    folder = os.path.join(root, "usr/local/lib")
    return os.path.join(folder, os.listdir(folder)[0], "dist-packages")


def check_record(root):
    """Every file below the site folder is in a RECORD, with its digest, and everything in it is there."""
    site, named = site_of(root), set()
    for info in [name for name in os.listdir(site) if name.endswith(".dist-info")]:
        with open(os.path.join(site, info, "RECORD"), newline="", encoding="utf-8") as file:
            for path, digest, size in csv.reader(file):
                at = os.path.normpath(os.path.join(site, path))
                named.add(at)
                if not digest:
                    assert path.endswith("/RECORD"), path
                    continue
                with open(at, "rb") as content:
                    data = content.read()
                wanted = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == ("sha256=" + wanted, len(data)), f"{path} is not what RECORD says"
    there = {os.path.join(folder, name) for folder, _, names in os.walk(site) for name in names}
    assert there - named == set(), f"no RECORD names {sorted(there - named)[:3]}"
    assert len(named) > 500, f"only {len(named)} files"


def check_machine(root, architecture):
    """Python and NumPy's libraries are of the platform."""
    paths = [os.path.realpath(os.path.join(root, "usr/bin/python3"))]
    paths += [os.path.join(folder, name) for folder, _, names in os.walk(site_of(root)) for name in names if ".so" in name]
    assert len(paths) > 10, paths
    for path in paths:
        with open(path, "rb") as file:
            head = file.read(20)
        assert head[:4] == b"\x7fELF", path
        assert struct.unpack("<H", head[18:20])[0] == MACHINES[architecture][1], path


def check_pip(root):
    """pip finds what is installed."""
    pip = json.loads(run("/usr/bin/python3", "-I", "-m", "pip", "list", "--path", site_of(root), "--format", "json"))
    assert [item["name"] for item in pip] == ["numpy"], pip


def check_start(root, architecture):
    """NumPy and certificates work where the platform can be started."""
    said = start(root, architecture, "-c", SUM)
    assert said == "11 True", said


def check_script(root, architecture):
    with open(os.path.join(root, "usr/local/bin/numpy-config"), encoding="utf-8") as file:
        assert file.readline() == "#!/usr/bin/python3\n"
    assert os.access(file.name, os.X_OK)
    said = start(root, architecture, "/usr/local/bin/numpy-config", "--version")
    assert said[0].isdigit(), said


def check_links(root):
    """No link of the root leads to nowhere, seen from within."""
    lost = []
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                target = os.readlink(path)
                base = root + target if target.startswith("/") else os.path.join(os.path.realpath(folder), target)
                if not os.path.lexists(base) and not target.startswith(("/proc", "/dev", "/run")):
                    lost.append(path[len(root):])
    return lost


def check_again(folder, architecture, first):
    """The same again, from what is there: the same digests, and nothing is fetched."""
    second = compose(folder, architecture)
    for part in ("debian", "python"):
        assert second[part]["digest"] == first[part]["digest"], f"{part} has another digest"
        assert second[part]["fetched"] == 0, f"{part} was fetched again"


def main():
    folder = tempfile.mkdtemp(prefix="flops-packages-")
    passed = failed = 0

    def check(name, test, *words):
        nonlocal passed, failed
        try:
            test(*words)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok - {name}\n{traceback.format_exc()}", flush=True)
            return
        passed += 1
        print(f"ok - {name}", flush=True)

    try:
        run("make", "--no-print-directory", BENCH)
        for architecture in MACHINES:
            first = compose(folder, architecture)
            root = os.path.join(folder, architecture, "root")
            check(f"{architecture}: RECORD is true", check_record, root)
            check(f"{architecture}: libraries are of the platform", check_machine, root, architecture)
            check(f"{architecture}: pip finds NumPy", check_pip, root)
            if emulator(architecture) is not None:
                check(f"{architecture}: NumPy works", check_start, root, architecture)
                check(f"{architecture}: a script works", check_script, root, architecture)
            else:
                print(f"# {architecture}: nothing of it is started: qemu-user-static is missing")
            print(f"# {architecture}: links to nowhere: {check_links(root)}")
            check(f"{architecture}: the same again", check_again, folder, architecture, first)
            print(f"# {architecture}: {json.dumps(first)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
