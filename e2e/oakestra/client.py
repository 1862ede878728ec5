"""A running double, and a small client of it, for tests."""

import http.client
import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, Optional

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
Document = dict[str, Any]


class Running:
    """`python3 -m e2e.oakestra.double` with these options, and the administrator's side of it."""

    def __init__(self, *options: str):
        self.process = subprocess.Popen([sys.executable, "-m", "e2e.oakestra.double", *options], cwd=ROOT,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        ports = json.loads(self.process.stdout.readline() or "{}")
        if not ports:
            raise RuntimeError(f"the double did not start: status {self.process.wait()}")
        self.root, self.network, self.admin = ports["root"], ports["network"], ports["admin"]

    def state(self) -> Document:
        return dict(self._admin("GET", "/state"))

    def counts(self) -> Document:
        return dict(self._admin("GET", "/counts"))

    def do(self, what: str, **settings: Any) -> None:
        """traps, signal, cluster, root, expire: see admin.py."""
        self._admin("POST", "/" + what, settings)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        if self.process.stdout:
            self.process.stdout.close()

    def _admin(self, method: str, path: str, body: Optional[Document] = None) -> Any:
        status, answer = call(self.admin, method, path, body)
        if status != 200:
            raise ValueError(f"{method} {path}: {status} {answer}")
        return answer


def call(port: int, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """Status, and the answer as JSON, one layer of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


class User:
    def __init__(self, double: Running, name: str = "Admin", password: str = "Admin"):
        self.double, self.name, self.password = double, name, password
        self.token = ""

    def login(self) -> "User":
        status, answer = call(self.double.root, "POST", "/api/auth/login",
                              {"username": self.name, "password": self.password})
        assert status == 200, (status, answer)
        self.token = answer["token"]
        return self

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return call(self.double.root, method, path, body, self.token)

    def app(self, name: str = "app", services: Optional[list[Document]] = None) -> str:
        status, answer = self.call("POST", "/api/application/", sla([application(name, services or [])]))
        assert status == 200, (status, answer)
        return str(next(it["applicationID"] for it in json.loads(answer) if it["application_name"] == name))

    def service(self, app_id: str, service: Document) -> Document:
        body = sla([{**application("app", [service]), "applicationID": app_id}])
        status, answer = self.call("POST", "/api/service/", body)
        assert status == 200, (status, answer)
        return dict(answer)

    def deploy(self, job_id: str) -> None:
        status, answer = self.call("POST", f"/api/service/{job_id}/instance")
        assert (status, answer) == (200, {"message": "ok"}), (status, answer)

    def job(self, job_id: str) -> Document:
        status, answer = self.call("GET", f"/api/service/{job_id}")
        assert status == 200, (status, answer)
        return dict(json.loads(answer))


def sla(applications: list[Document]) -> Document:
    return {"sla_version": "v2.0", "customerID": "Admin", "applications": applications}


def application(name: str, services: list[Document]) -> Document:
    return {"application_name": name, "application_namespace": "test", "microservices": services}


def microservice(name: str, *command: str, **more: Any) -> Document:
    return {"microservice_name": name, "microservice_namespace": "test", "virtualization": "container",
            "code": "example.org/image:1", "cmd": list(command), **more}


def wait(what: str, until: Callable[[], Any], deadline_s: float = 60.0) -> Any:
    """What `until` says once that is true of anything."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        found = until()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for: {what}")
