#!/usr/bin/env python3
"""Workloads as containers of this machine: an image is pushed to the control plane's registry, pulled, run confined,
limited, probed, adopted through kills, and leaves nothing behind. Needs root, runc and busybox-static."""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import tarfile
import time

from registry import MANIFEST, Client
from rig import Judge, Server
from workloads import MERGE, Cluster, Machine, last_exit, wait_for

BUSYBOX = "/bin/busybox"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TOOLS = ["sh", "echo", "cat", "sleep", "touch", "test", "id", "mount", "unshare", "grep", "dd", "kill", "true", "ps", "uname"]
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OTHER = "s390x"


def tar_of(files, links):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def push_image(server, name, architecture=HERE, as_index=False, busybox=BUSYBOX):
    """Two layers, the upper one with a whiteout. Returns the digest of what the tag names."""
    client = Client(server)
    lower = tar_of({"bin/busybox": open(busybox, "rb").read(), "etc/gone": b"lower"},
                   {f"bin/{tool}": "busybox" for tool in TOOLS})
    upper = tar_of({"etc/.wh.gone": b"", "etc/passwd": b"app:x:1000:1000::/tmp:/bin/sh\n"}, {})
    layers, diff_ids = [], []
    for tar in (lower, upper):
        layers.append({**client.push_blob(name, gzip.compress(tar, 1, mtime=0), 4_000_000), "mediaType": LAYER})
        diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
    config = json.dumps({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers",
                         "diff_ids": diff_ids}, "config": {"Entrypoint": ["/bin/sh"], "WorkingDir": "/tmp",
                         "Env": ["FROM_IMAGE=yes"]}}).encode()
    described = {**client.push_blob(name, config), "mediaType": CONFIG}
    digest = client.push_manifest(name, "1", described, layers)
    if as_index:
        size = len(client.get(f"/v2/{name}/manifests/{digest}"))
        text = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": digest, "size": size,
             "platform": {"os": "linux", "architecture": architecture}}]}).encode()
        client.call("PUT", f"/v2/{name}/manifests/1", text, {"Content-Type": INDEX})
    client.close()
    return digest


class Containers(Machine):
    def __init__(self, registry):
        super().__init__()
        self.registry = registry

    def container(self, name, script, image="app:1", **spec):
        made = self.workload(name, script, **spec)
        del made["spec"]["process"]
        made["spec"]["image"] = f"{self.registry}/{image}" if image else image
        return made


def logs_have(cluster, name, *texts):
    return wait_for(lambda: all(text in cluster.flops("logs", name) for text in texts))


def runs(judge, cluster, machine, digest):
    probe = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "period": "100ms", "timeout": "20s"}
    cluster.create(machine.container("plain", "echo hello $FROM_IMAGE $OF_SPEC; echo oops >&2; cat /in/file; "
                   "test -e /etc/gone || echo whiteout; touch /state/s; touch /tmp/up; exec sleep 1000",
                   probes={"readiness": probe}, env=[{"name": "OF_SPEC", "value": "too"}],
                   files=[{"path": "/in/file", "content": "of a file\n"}],
                   mounts=[{"path": "/state", "type": "State"}]))
    judge.check("a container is pulled, started and ready by its probe", cluster.wait_ready("plain"),
                cluster.get("plain"))
    judge.check("its output is kept, environment, files, mounts and whiteouts as they should be", logs_have(
        cluster, "plain", "hello yes too", "oops", "of a file", "whiteout"), cluster.flops("logs", "plain"))
    cluster.create(machine.container("keys", "cat /var/lib/deep/down/key", restartPolicy="Never",
                   security={"runAsUser": 1000}, files=[{"path": "/var/lib/deep/down/key", "content": "its own\n",
                                                         "mode": "0400"}]))
    judge.check("a file in folders that the image has not is for its user", cluster.wait_ready("keys", "Completed")
                and logs_have(cluster, "keys", "its own"), cluster.get("keys"))
    status = cluster.get("plain")["status"]
    judge.check("status has the image's digest", digest in json.dumps(status), status)
    nodes = cluster.server.call("GET", "/apis/flops.dev/v1alpha1/edgenodes")[1]["items"]
    judge.check("the node names its runtime", any("run" in (node["status"].get("runtime") or "") for node in nodes),
                nodes)


def is_confined(judge, cluster, machine):
    cluster.create(machine.container("confined", "id; touch /x; unshare -m true; mount -t tmpfs x /tmp; "
                   "grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; ps; exit 0", restartPolicy="Never"))
    judge.check("one that tries what it may not completes", cluster.wait_ready("confined", "Completed"),
                cluster.get("confined"))
    said = cluster.flops("logs", "confined")
    judge.check("its root is read-only", "/x: Read-only file system" in said, said)
    judge.check("it makes no namespaces and mounts nothing", "unshare(0x20000): Operation not permitted" in said
                and "mount: permission denied" in said, said)
    judge.check("no new privileges, no capabilities, seccomp", "NoNewPrivs:\t1" in said and "Seccomp:\t2" in said
                and "CapEff:\t0000000000000000" in said, said)
    judge.check("it sees its own processes only", re.search(r"(?m)^ *1 0 +/.flops-init", said), said)
    cluster.create(machine.container("user", "id; exit 0", restartPolicy="Never", security={"runAsUser": 1000}))
    judge.check("it runs as another user", cluster.wait_ready("user", "Completed")
                and logs_have(cluster, "user", "uid=1000"), cluster.flops("logs", "user"))


def is_limited(judge, cluster, machine):
    quick = {"limit": 0}
    cluster.create(machine.container("hungry", "x=xxxxxxxx; while :; do x=$x$x; done", restart=quick,
                                     resources={"memory": "48Mi"}))
    judge.check("one that takes too much memory is killed for it", wait_for(
        lambda: last_exit(cluster, "hungry").get("reason") == "OOMKilled"), cluster.get("hungry"))
    cluster.create(machine.container("bomb", "f() { f | f & }; f 2>/dev/null; echo lit; while :; do sleep 1; done",
                                     resources={"pids": 30, "memory": "64Mi", "cpu": "500m"}))
    judge.check("a fork bomb is held", logs_have(cluster, "bomb", "lit") or last_exit(cluster, "bomb"),
                cluster.get("bomb"))
    judge.check("within its bound", len(machine.processes("bomb")) <= 31, len(machine.processes("bomb")))
    judge.check("and is ended", cluster.delete("bomb") == 200 and cluster.wait_gone("bomb")
                and not machine.processes("bomb"), machine.processes("bomb"))


def ends(judge, cluster, machine):
    cluster.create(machine.container("deaf", "trap '' TERM; echo up; while :; do sleep 1; done", gracePeriod="300ms"))
    judge.check("one that ignores the signal runs", logs_have(cluster, "deaf", "up"), cluster.get("deaf"))
    judge.check("and is killed after its grace", cluster.delete("deaf") == 200 and cluster.wait_gone("deaf"),
                cluster.get("deaf"))
    judge.check("with all that is in it", not machine.processes("deaf"), machine.processes("deaf"))
    cluster.create(machine.container("obeys", "echo up; sleep 1000", gracePeriod="10m"))
    judge.check("one without a handler", logs_have(cluster, "obeys", "up"), cluster.get("obeys"))
    judge.check("ends by the signal all the same", cluster.delete("obeys") == 200 and cluster.wait_gone("obeys"),
                cluster.get("obeys"))


def without_containers(judge, server, cluster, machine):
    """The orchestrator runs processes only, for a while: who needs an image is told so, others run."""
    local = "/apis/flops.dev/v1alpha1/orchestrators/local"
    server.call("PATCH", local, {"spec": {"local": {"runtime": "Process"}}}, MERGE)
    judge.check("a machine without containers names no runtime", wait_for(
        lambda: "runtime" not in server.call("GET", local)[1]["status"]), server.call("GET", local)[1]["status"])
    cluster.create(machine.container("imaged", "exec sleep 1000"))
    cluster.create(machine.workload("bare", "exec sleep 1000"))
    judge.check("an image has no place there, and it is said", wait_for(
        lambda: "runs no images" in (cluster.condition("imaged", "Scheduled").get("message") or "")),
        cluster.get("imaged"))
    judge.check("processes run", cluster.wait_ready("bare"), cluster.get("bare"))
    server.call("PATCH", local, {"spec": {"local": {"runtime": "Auto"}}}, MERGE)
    judge.check("and where containers can be had again, it runs", cluster.wait_ready("imaged"), cluster.get("imaged"))
    for name in ("imaged", "bare"):
        cluster.delete(name)
        judge.check(f"{name} is gone", cluster.wait_gone(name), cluster.get(name))


def cannot_be(judge, cluster, machine):
    quick = {"limit": 1, "initialDelay": "50ms", "maxDelay": "100ms"}
    cluster.create(machine.container("missing", "true", image="nothing:1", restart=quick))
    judge.check("an image that is not there is told", wait_for(
        lambda: last_exit(cluster, "missing").get("reason") == "ImageNotFound"), cluster.get("missing"))
    push_image(cluster.server, "foreign", OTHER, as_index=True)
    cluster.create(machine.container("foreign", "true", image="foreign:1", restart=quick))
    judge.check("one of another platform says what would help", wait_for(
        lambda: "qemu-user-static" in json.dumps(cluster.get("foreign"))), cluster.get("foreign"))
    bad = machine.container("nosuch", "true", restart=quick)
    bad["spec"]["command"] = ["/no/such/program"]
    cluster.create(bad)
    judge.check("a program that is not in it is told", wait_for(
        lambda: "/no/such/program" in json.dumps(cluster.get("nosuch")["status"])), cluster.get("nosuch")["status"])


def shims_of(uid):
    """Its uid is their argument."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if b"flops" in words[0] and any(word.startswith(uid.encode() + b"/") for word in words[1:]):
            yield int(pid)


def steady(machine, name):
    """Its processes, without those that come and go (the runtime's own, while it looks after the container)."""
    found = machine.processes(name)
    for _ in range(10):
        time.sleep(0.2)
        found = {pid: it for pid, it in machine.processes(name).items() if pid in found}
    return found


def survives(judge, cluster, machine, digest):
    server = cluster.server
    before = steady(machine, "plain")
    cluster.create(machine.container("lost", "echo up; exec sleep 1000", image=f"app@{digest}"))
    logs_have(cluster, "lost", "up")
    uid = cluster.get("lost")["metadata"]["uid"]
    server.kill()
    judge.check("containers outlive the control plane", steady(machine, "plain") == before and before, before)
    for pid in shims_of(uid):
        os.kill(pid, signal.SIGKILL)
    server.start()
    judge.check("the next one adopts them", cluster.wait_ready("plain") and steady(machine, "plain") == before,
                machine.processes("plain"))
    judge.check("and begins anew what lost its shim", cluster.wait_ready("lost") and wait_for(
        lambda: len(machine.processes("lost")) == len(before)), (machine.processes("lost"), cluster.get("lost")))


def leaves_nothing(judge, cluster, machine):
    server = cluster.server
    for name in ("plain", "keys", "lost", "confined", "user", "hungry", "missing", "foreign", "nosuch"):
        cluster.delete(name)
        judge.check(f"{name} is deleted", cluster.wait_gone(name), cluster.get(name))
    judge.check("no process is left", wait_for(lambda: not machine.processes()), machine.processes())
    folder = os.path.join(server.dir, "local")
    left = wait_for(lambda: not [name for name in os.listdir(folder) if not name.startswith(".")])
    judge.check("no folder", left, os.listdir(folder))
    judge.check("no state of a runtime", not os.listdir(os.path.join(folder, ".runtime")),
                os.listdir(os.path.join(folder, ".runtime")))
    judge.check("no mount", server.dir not in open("/proc/self/mountinfo").read())
    groups = groups_now() - GROUPS_BEFORE
    judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    after = groups_now() - GROUPS_BEFORE
    judge.check("no control group of a run", not [group for group in groups if "/flops-" in group and
                group.count("/flops-") > 1], groups)
    judge.check("and none at all after the end", not [group for group in after if "/flops-" in group], after)


def groups_now():
    found = set()
    for at, folders, _files in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(at, folder) for folder in folders if folder.startswith("flops-"))
    return found


GROUPS_BEFORE = set()


def main():
    judge = Judge()
    lacking = next((what for what, there in (
        ("root", os.geteuid() == 0), ("runc (install runc)", shutil.which("runc")),
        ("busybox-static", os.path.exists(BUSYBOX))) if not there), None)
    judge.check("this machine can run containers", not lacking, f"it lacks {lacking}")
    if lacking:
        judge.end()
    GROUPS_BEFORE.update(groups_now())
    server = Server()
    try:
        server.start()
        cluster = Cluster(server)
        machine = Containers(f"127.0.0.1:{server.port}")
        digest = push_image(server, "app")
        runs(judge, cluster, machine, digest)
        is_confined(judge, cluster, machine)
        is_limited(judge, cluster, machine)
        ends(judge, cluster, machine)
        cannot_be(judge, cluster, machine)
        without_containers(judge, server, cluster, machine)
        survives(judge, cluster, machine, digest)
        leaves_nothing(judge, cluster, machine)
    finally:
        server.remove()
    judge.end()


if __name__ == "__main__":
    main()
