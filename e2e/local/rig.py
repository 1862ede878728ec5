"""A real `flops up` in a temporary folder, and plain sockets to talk to it (standard library only)."""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from ports import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOPS = os.environ.get("FLOPS", os.path.join(ROOT, "bin", "flops"))


class Server:
    def __init__(self, *options):
        self.dir = tempfile.mkdtemp(prefix="flops-e2e-")
        self.options = options
        self.port = free_port()
        self.process = None

    def start(self, deadline_s=30):
        out = open(os.path.join(self.dir, "out"), "w+b")
        err = open(os.path.join(self.dir, "err"), "ab")
        self.process = subprocess.Popen(
            [FLOPS, "up", "--data-dir", self.dir, "--listen", f"127.0.0.1:{self.port}", *self.options],
            stdout=out, stderr=err)
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            ready = re.search(rb"127\.0\.0\.1:(\d+)", open(out.name, "rb").read())
            if ready:
                self.port = int(ready.group(1))
                self._read_kubeconfig()
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError("not ready: " + open(err.name, errors="replace").read()[-2000:])

    def _read_kubeconfig(self):
        text = open(os.path.join(self.dir, "kubeconfig")).read()
        for key, name in (("certificate-authority-data", "ca"), ("client-certificate-data", "cert"),
                          ("client-key-data", "key")):
            data = re.search(key + r": (\S+)", text).group(1)
            with open(os.path.join(self.dir, name + ".pem"), "wb") as file:
                file.write(base64.b64decode(data))
        self.tls = self.context(True)

    def context(self, with_certificate):
        context = ssl.create_default_context(cafile=os.path.join(self.dir, "ca.pem"))
        if with_certificate:
            context.load_cert_chain(os.path.join(self.dir, "cert.pem"), os.path.join(self.dir, "key.pem"))
        return context

    def connect(self, with_certificate=True, timeout=20):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        context = self.tls if with_certificate else self.context(False)
        return context.wrap_socket(raw, server_hostname="127.0.0.1")

    def session(self, timeout=30):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, timeout=timeout)

    def call(self, method, path, body=None, headers=None, session=None):
        """Status, and the answer as JSON where it is JSON."""
        own = session or self.session()
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        own.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = own.getresponse()
        text = answer.read()
        if not session:
            own.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def rss_kb(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def errors(self):
        return open(os.path.join(self.dir, "err"), errors="replace").read()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends it in good order; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1

    def remove(self):
        """And what it started, which would outlive it."""
        if self.process and self.process.poll() is None:
            self.kill()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/cwd").startswith(self.dir + os.sep):
                    os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass  # somebody else's, or gone
        shutil.rmtree(self.dir, ignore_errors=True)


class Judge:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, holds, why=""):
        if holds:
            self.passed += 1
            print(f"ok - {name}")
        else:
            self.failed += 1
            print(f"not ok - {name}: {why}")
        sys.stdout.flush()

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed or not self.passed else 0)


def project(name, rounds=3):
    return {"apiVersion": "flops.dev/v1alpha1", "kind": "FLProject", "metadata": {"name": name},
            "spec": {"source": {"builtin": {"trainer": "MLP"}}, "training": {"rounds": rounds}}}


PROJECTS = "/apis/flops.dev/v1alpha1/namespaces/default/flprojects"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
