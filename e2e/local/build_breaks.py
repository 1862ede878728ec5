#!/usr/bin/env python3
"""Builds that are broken off: killed again and again at any moment, and on a disk that is full (where
mounting is permitted). What is kept from build to build is whole at all times, and the build that gets
through makes the same image as one that nobody disturbed."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

from rig import FLOPS, Judge

KILLS = 12
LONG_S = 600


def build(data, layout, *words):
    return subprocess.Popen([FLOPS, "build", "--target", "Aggregator", "-q", "--data-dir", data, "-o", layout, *words],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process):
    out, errors = process.communicate(timeout=LONG_S)
    return process.returncode, out.strip(), errors.strip()


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(folder):
    """Files that are not what their names say."""
    return [name for name in os.listdir(folder) if len(name) == 64 and digest_of(os.path.join(folder, name)) != name]


def incomplete(layout):
    """What a layout names and lacks, from its index down; without an index it names nothing."""
    problems = []

    def look(digest):
        path = os.path.join(layout, "blobs", "sha256", digest.split(":")[1])
        if not os.path.exists(path) or f"sha256:{digest_of(path)}" != digest:
            problems.append(digest)
            return
        with open(path, "rb") as file:
            text = file.read()
        document = json.loads(text) if text[:1] == b"{" else {}
        for item in document.get("manifests", []) + document.get("layers", []):
            look(item["digest"])
        if "layers" in document:
            look(document["config"]["digest"])

    index = os.path.join(layout, "index.json")
    if os.path.exists(index):
        with open(index, encoding="utf-8") as file:
            for item in json.load(file)["manifests"]:
                look(item["digest"])
    return problems


def is_killed(judge, folder, data, wanted, took):
    content, layout = os.path.join(data, "builds", "content"), os.path.join(folder, "killed")
    bad, killed = [], 0
    for _ in range(KILLS):
        process = build(data, layout, "--anew")
        try:
            process.communicate(timeout=random.uniform(0, took))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        bad += damaged(content) + incomplete(layout)
    judge.check(f"killed {killed} times, what is kept is whole", killed > 0 and not bad, bad)
    status, digest, errors = finish(build(data, layout, "--anew"))
    judge.check("and the image is the same in the end", status == 0 and digest == wanted, (digest, errors))
    judge.check("with all that it names", not incomplete(layout) and not damaged(content))
    judge.check("and nothing of what was begun is left", not os.listdir(os.path.join(content, "new")),
                os.listdir(os.path.join(content, "new")))


def has_no_room(judge, folder, data, wanted):
    used = int(subprocess.check_output(["du", "-sm", data], text=True).split()[0])
    disk = os.path.join(folder, "disk")
    os.mkdir(disk)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", f"size={used + 8}m", "flops-e2e", disk])
    try:
        shutil.copytree(data, os.path.join(disk, "data"), symlinks=True)
        layout = os.path.join(disk, "layout")
        status, digest, errors = finish(build(os.path.join(disk, "data"), layout, "--anew"))
        judge.check("a full disk is said", status != 0 and not digest and "No space left" in errors, (status, errors))
        judge.check("nothing is named that is not there", not incomplete(layout), incomplete(layout))
        judge.check("what is kept is whole", not damaged(os.path.join(disk, "data", "builds", "content")))
        subprocess.check_call(["mount", "-o", f"remount,size={3 * used + 100}m", disk])
        status, digest, errors = finish(build(os.path.join(disk, "data"), layout, "--anew"))
        judge.check("with room again it is built, and the same", status == 0 and digest == wanted, (digest, errors))
        judge.check("and whole", not incomplete(layout))
    finally:
        subprocess.call(["umount", disk])


def main():
    judge = Judge()
    folder = tempfile.mkdtemp(prefix="flops-breaks-")
    data = os.path.join(folder, "data")
    try:
        status, digest, errors = finish(build(data, os.path.join(folder, "first")))
        judge.check("an image is built", status == 0 and digest.startswith("sha256:"), errors)
        began = time.monotonic()
        status, again, errors = finish(build(data, os.path.join(folder, "second"), "--anew"))
        judge.check("and the same anew", status == 0 and again == digest, (again, errors))
        if status == 0:
            is_killed(judge, folder, data, digest, time.monotonic() - began)
        if status == 0 and os.geteuid() == 0:
            has_no_room(judge, folder, data, digest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
