"""A real kube-apiserver with etcd and a controller-runtime manager (hack/bench/yardstick) that does for suspended
Workloads what our control loops do. Used as rig.Server is; what differs is that it is three processes."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import tempfile

from ports import free_port
from rig import ROOT, Server
from workloads import WORKLOADS, wait_for

TOOLS = os.path.join(ROOT, "build", "tools")
SCRIPT = os.path.join(ROOT, "hack", "yardstick.sh")
CRD = os.path.join(ROOT, "crds", "flops.dev_workloads.yaml")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def is_built():
    return all(os.access(os.path.join(TOOLS, name), os.X_OK) for name in ("kube-apiserver", "etcd", "kube-manager"))


class Kube(Server):
    def __init__(self, port):
        super().__init__()
        self.port, self.metrics_port = port, 0

    def start_servers(self):
        subprocess.run([SCRIPT, "start", self.dir, str(self.port)], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "COLLECTOR": "no"})
        self.tls = ssl.create_default_context(cafile=self._path("ca.crt"))
        self.tls.load_cert_chain(self._path("admin.crt"), self._path("admin.key"))
        status, answer = self.call("POST", CRDS, open(CRD).read(), {"Content-Type": "application/yaml"})
        if status != 201 or not wait_for(lambda: self.call("GET", WORKLOADS)[0] == 200):
            raise RuntimeError(f"Workloads are not served: {status} {answer}")

    def start(self, deadline_s=30):
        """The manager alone: the servers it talks to stay."""
        self.metrics_port = free_port()
        with open(self._path("err"), "ab") as err:
            self.process = subprocess.Popen([os.path.join(TOOLS, "kube-manager"), self._path("kubeconfig-cert"),
                                             f"127.0.0.1:{self.metrics_port}"], stderr=err)
        if not wait_for(self._answers, deadline_s):
            raise RuntimeError("not ready: " + self.errors()[-2000:])
        return self

    def _answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.metrics_port)) == 0

    def _path(self, name):
        return os.path.join(self.dir, name)

    def pids(self):
        return [self.process.pid] + [int(open(self._path(name + ".pid")).read()) for name in ("kube-apiserver", "etcd")]

    def metrics_session(self):
        return http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=30)

    def last_words(self):
        names = [name for name in ("err", "kube-apiserver.log", "etcd.log") if os.path.exists(self._path(name))]
        return "\n".join(f"--- {name}\n{open(self._path(name), errors='replace').read()[-2000:]}" for name in names)

    def remove(self):
        if self.process and self.process.poll() is None:
            self.kill()
        subprocess.run([SCRIPT, "stop", self.dir], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


class Flops(Server):
    """Ours: one process is all of it."""

    def pids(self):
        return [self.process.pid]

    def metrics_session(self):
        return self.session()
