#!/usr/bin/env python3
"""Images that something is run for: a Containerfile in the repository with its arguments, a base image, a package that
must be compiled; a step that fails says why, one that hangs or takes too much memory is ended, and nothing is left of
it. For root, with buildah; packages come from where apt-get and pip get them."""

import glob
import os
import shutil
import subprocess
import sys
import tempfile

from builds import API, LONG_S, NAMESPACE, TRAINER, Builds, Repository
from rig import FLOPS, Judge, Server
from workloads import wait_for

BUSYBOX = "FROM scratch\nCOPY busybox /bin/busybox\n"


def run(script):
    return f'RUN ["/bin/busybox", "sh", "-c", "{script}"]\n'


class Code(Repository):
    """A repository with a Containerfile, and the one program that its image begins with."""

    def containerfile(self, text):
        shutil.copy("/bin/busybox", os.path.join(self.folder, "busybox"))
        return {"url": f"file://{self.folder}", "commit": self.commit(Containerfile=text)}


def marked(mark):
    """Processes that a build step began."""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                if mark.encode() in file.read().split(b"\0"):
                    found.append(path)
        except OSError:
            continue
    return found


def groups():
    return glob.glob("/sys/fs/cgroup/**/flops-builds/build-*", recursive=True)


def said(server, name, text):
    out = subprocess.run([FLOPS, "logs", "-n", NAMESPACE, name, "--data-dir", server.dir], capture_output=True,
                         text=True, check=False)
    return text in out.stdout


def start(server, name, image, command):
    status, answer = server.call("POST", f"{API}/workloads", {
        "apiVersion": "flops.dev/v1alpha1", "kind": "Workload", "metadata": {"name": name},
        "spec": {"image": "{name}@{digest}".format(**image), "command": command, "restartPolicy": "Never"}})
    assert status == 201, answer


def a_containerfile_becomes_an_image(judge, server, builds, code):
    source = code.containerfile(BUSYBOX + "ARG WHO=nobody\n" + run("echo $WHO > /who"))
    builds.create("first", source=source, args={"WHO": "a b; touch /oops"}, image=f"{NAMESPACE}/boxed")
    status = builds.wait("first")
    judge.check("a Containerfile becomes an image", builds.condition("first", "Ready").get("reason") == "Built"
                and status.get("backend") == "Buildah", status)
    image = status.get("image", {})
    start(server, "who", image, ["/bin/busybox", "cat", "/who", "/oops"])
    start(server, "program", image, ["/usr/bin/flops", "version"])
    judge.check("its argument is one, and no command", wait_for(lambda: said(server, "who", "a b; touch /oops"), 120)
                and wait_for(lambda: said(server, "who", "can't open '/oops'"), 120), "")
    judge.check("the program runs in it, though it brought no library",
                wait_for(lambda: said(server, "program", "flops "), 120),
                server.call("GET", f"{API}/workloads/program")[1].get("status"))
    return image


def a_base_image_is_built_on(judge, server, builds, code, base):
    name = "{name}@{digest}".format(**base)
    source = code.containerfile("FROM another\n" + run("echo more >> /who"))
    builds.create("above", source=source, baseImage=name, image=f"{NAMESPACE}/boxed")
    builds.create("aggregator", target="Aggregator", baseImage=name, image=f"{NAMESPACE}/boxed")
    builds.create("composed", source=source, backend="Compose", baseImage=name, image=f"{NAMESPACE}/boxed")
    status = builds.wait("above")
    judge.check("a base image takes the place of FROM", builds.condition("above", "Ready").get("reason") == "Built",
                status)
    start(server, "more", status.get("image", base), ["/bin/busybox", "cat", "/who"])
    judge.check("what it held is there", wait_for(lambda: said(server, "more", "touch /oops\nmore"), 120),
                server.call("GET", f"{API}/workloads/more")[1].get("status"))
    status = builds.wait("aggregator")
    judge.check("and of an aggregator's, nothing being run", builds.condition("aggregator", "Ready").get("reason")
                == "Built" and status.get("backend") == "Compose", status)
    builds.wait("composed")
    judge.check("Compose says that it cannot", "cannot put dependencies into baseImage" in
                builds.condition("composed", "Ready").get("message", ""), builds.condition("composed", "Ready"))


def what_fails_says_why(judge, builds, code):
    hang = "/bin/busybox setsid /bin/busybox sleep 10000 & /bin/busybox sleep 10000"
    wrong = [
        ("fails", run("echo the disk is blue; exit 7"), {}, "the disk is blue"),
        ("greedy", run("/bin/busybox tail /dev/zero"), {"resources": {"memory": "300Mi"}},
         "more memory than the 300 MiB it may have"),
        ("leaves", "RUN --mount=type=bind,source=/,target=/x true\n", {}, "line 3: --mount"),
        ("hangs", "ENV FLOPS_MARK=hangs\n" + run(hang), {"timeout": "20s"}, "took longer than it may"),
    ]
    for name, text, spec, _ in wrong:
        builds.create(name, source=code.containerfile(BUSYBOX + text), retryLimit=0, **spec)
    for name, _, _, words in wrong:
        builds.wait(name)
        ready = builds.condition(name, "Ready")
        judge.check(f"{name}: {words}", ready.get("reason") in ("BuildFailed", "DeadlineExceeded")
                    and words in ready.get("message", ""),
                    builds.get(name)["status"])
    judge.check("nothing of them is left", wait_for(lambda: not marked("FLOPS_MARK=hangs") and not groups(), 60),
                (marked("FLOPS_MARK=hangs"), groups()))


def source_is_compiled(judge, server, builds, folder):
    repository = Repository(os.path.join(folder, "compiled"))
    commit = repository.commit(trainer__py=TRAINER, requirements__txt="netifaces==0.11.0\n")
    source = {"url": f"file://{repository.folder}", "commit": commit}
    builds.create("compiled", source=source)
    builds.create("refused", source=source, backend="Compose", retryLimit=0)
    status = builds.wait("compiled")
    judge.check("a package without a wheel is compiled", builds.condition("compiled", "Ready").get("reason") == "Built"
                and status.get("backend") == "Buildah" and status["platforms"][0]["layers"] == 4, status)
    start(server, "compiled", status.get("image", {"name": "x", "digest": "y"}),
          ["/usr/bin/python3", "-c", "import netifaces, numpy; print(netifaces.interfaces()[0], netifaces.__file__)"])
    judge.check("and works", wait_for(lambda: said(server, "compiled", ".so"), 120),
                server.call("GET", f"{API}/workloads/compiled")[1].get("status"))
    builds.wait("refused")
    judge.check("unless nothing may be run", "netifaces" in builds.condition("refused", "Ready").get("message", ""),
                builds.condition("refused", "Ready"))


def main():
    if os.geteuid() != 0:
        sys.exit("buildah.py: only root's builder is tested here")
    judge = Judge()
    server = Server()
    folder = tempfile.mkdtemp(prefix="flops-buildah-")
    try:
        server.start()
        builds, code = Builds(server), Code(os.path.join(folder, "code"))
        image = a_containerfile_becomes_an_image(judge, server, builds, code)
        what_fails_says_why(judge, builds, code)
        a_base_image_is_built_on(judge, server, builds, code, image)
        source_is_compiled(judge, server, builds, folder)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
