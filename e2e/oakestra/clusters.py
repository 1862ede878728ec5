"""A cluster: what it runs of which service, and what it reports to the root.

Told what to run by the root, it starts programs, starts again what ended, and reports all it has at
each period; the root learns of anything by such a report only. One thread steps all clusters."""

import dataclasses
import itertools
import threading
import time
from pathlib import Path
from typing import Any, Optional

from e2e.oakestra.guardian import Guardian
from e2e.oakestra.network import LOOPBACK, on_loopback
from e2e.oakestra.processes import CannotStart, Images, Program
from e2e.oakestra.traps import Traps

Document = dict[str, Any]
ENDED = ("FAILED", "DEAD", "COMPLETED")
RESTARTED = ("FAILED", "DEAD")


@dataclasses.dataclass
class Spec:
    """NAME[:key=value…], such as east:vcpus=8:memory=8000:addons=FLOps+cuda:csi=local."""
    name: str
    location: str = ""
    vcpus: int = 64
    memory: int = 64000
    nodes: int = 1
    addons: tuple[str, ...] = ()
    csi: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> "Spec":
        name, *settings = text.split(":")
        fields: Document = {}
        for setting in settings:
            key, _, value = setting.partition("=")
            kind = {it.name: it.type for it in dataclasses.fields(Spec)}.get(key)
            if kind is None:
                raise ValueError(f"cluster {name}: no setting {key!r}")
            fields[key] = value if kind is str else int(value) if kind is int else tuple(value.split("+"))
        return Spec(name, **fields)


@dataclasses.dataclass
class Instance:
    number: int
    address: str
    status: str = "NODE_SCHEDULED"
    detail: str = ""
    program: Optional[Program] = None
    start_at: float = 0.0
    starts: int = 0
    stuck: bool = False


@dataclasses.dataclass
class Job:
    document: Document
    instances: dict[int, Instance] = dataclasses.field(default_factory=dict)
    leaked: list[Program] = dataclasses.field(default_factory=list)
    last: str = "CLUSTER_SCHEDULED"


@dataclasses.dataclass
class Timing:
    """Seconds. A real one reports each 15 s, and is taken for lost after 30."""
    report: float = 0.5
    start: float = 0.1
    fresh: float = 1.0


@dataclasses.dataclass
class World:
    """What clusters share."""
    images: Images
    folder: Path
    guardian: Guardian
    timing: Timing
    traps: Traps


class Cluster:
    def __init__(self, spec: Spec, cluster_id: str, world: World):
        self.spec, self.id = spec, cluster_id
        self._images, self._timing, self._traps = world.images, world.timing, world.traps
        self._guardian, self._folder = world.guardian, world.folder / spec.name
        self._lock = threading.RLock()
        self._folders = itertools.count(1)
        self._jobs: dict[str, Job] = {}
        self._going: list[Program] = []
        self._silent_until = 0.0
        self._dark = False  # its nodes are gone, too
        self._next_report = 0.0
        self.heard = time.monotonic()

    # What the root tells it.

    def deploy(self, document: Document, number: int, address: str) -> None:
        with self._lock:
            job = self._jobs.setdefault(document["_id"], Job(document))
            before = job.instances.get(number)
            if before and before.program:  # nobody stops it now before the whole job ends
                job.leaked.append(before.program)
            job.document = document
            job.instances[number] = Instance(number, address, start_at=time.monotonic() + self._timing.start,
                                             stuck=self._traps.springs("stuck"))
            job.last = "CLUSTER_SCHEDULED"

    def undeploy(self, job_id: str, number: int) -> None:
        with self._lock:
            job = self._jobs.get(job_id)
            if not job:
                return
            for it in [it for it in job.instances.values() if number in (-1, it.number)]:
                self._end(job.instances.pop(it.number).program)
            if not job.instances:
                for program in self._jobs.pop(job_id).leaked:
                    self._end(program)

    # What happens in it.

    def step(self, now: float) -> None:
        with self._lock:
            self._going = [it for it in self._going if it.exit_code() is None]
            self._dark = self._dark and now < self._silent_until
            for job in self._jobs.values():
                for instance in job.instances.values():
                    self._step_instance(job, instance, now)

    def report(self, now: float) -> Optional[list[Document]]:
        """Its jobs, if it is time for a report; None: not now."""
        with self._lock:
            if now < self._next_report or now < self._silent_until:
                return None
            self._next_report = now + self._timing.report
            if self._traps.springs("cluster_flap"):
                self.go(self._traps.between("cluster_flap", 1.0, 4.0))
                return None
            self.heard = now
            return [self._job_report(job_id, job) for job_id, job in self._jobs.items()]

    def is_active(self) -> bool:
        return time.monotonic() - self.heard < self._timing.fresh

    # What tests do to it.

    def go(self, seconds: float, programs_too: bool = False) -> None:
        """No word from it for so long; with `programs_too` its nodes are gone as well."""
        with self._lock:
            self._silent_until = time.monotonic() + seconds
            self._dark = programs_too
            if programs_too:
                for job in self._jobs.values():
                    for it in job.instances.values():
                        if it.program:
                            it.program.kill()

    def come_back(self) -> None:
        with self._lock:
            self._silent_until = 0.0

    def signal(self, job_id: str, number: int, signal_number: int) -> bool:
        with self._lock:
            job = self._jobs.get(job_id)
            instance = job.instances.get(number) if job else None
            if not instance or not instance.program:
                return False
            instance.program.signal(signal_number)
            return True

    def stop_all(self) -> None:
        with self._lock:
            for job in self._jobs.values():
                self._going += [it.program for it in job.instances.values() if it.program] + job.leaked
            for program in self._going:
                program.kill()
            self._jobs.clear()
            self._going.clear()

    def programs(self) -> list[Document]:
        """All that runs, with those that the root knows no more."""
        with self._lock:
            known = [{"cluster": self.spec.name, "job": job.document["job_name"], "id": job_id,
                      "instance": it.number, "status": it.status, "starts": it.starts, "address": it.address,
                      "pid": it.program.pid if it.program else None, "log": str(it.program.log) if it.program else ""}
                     for job_id, job in self._jobs.items() for it in job.instances.values()]
            leaked = [(it, "leaked") for job in self._jobs.values() for it in job.leaked]
            return known + [{"cluster": self.spec.name, "job": None, "status": status, "pid": it.pid}
                            for it, status in leaked + [(it, "going") for it in self._going]
                            if it.exit_code() is None]

    # Below

    def _end(self, program: Optional[Program]) -> None:
        if program:
            program.stop()
            self._going.append(program)

    def _step_instance(self, job: Job, instance: Instance, now: float) -> None:
        if instance.stuck or self._dark:
            return
        if instance.status == "NODE_SCHEDULED" and now >= instance.start_at:
            self._start(job, instance)
        elif instance.status == "RUNNING" and instance.program:
            code = instance.program.exit_code()
            if code is not None:
                self._ended(job, instance, code, now)
        elif instance.status in RESTARTED and now >= instance.start_at and self._traps.springs("restart_loop"):
            self._set(job, instance, "NODE_SCHEDULED", "")
            instance.start_at = now + self._timing.start

    def _set(self, job: Job, instance: Instance, status: str, detail: str) -> None:
        instance.status, instance.detail, job.last = status, detail, status

    def _start(self, job: Job, instance: Instance) -> None:
        document = job.document
        name = f"{document['job_name']}.instance.{instance.number}"
        own = on_loopback(instance.address)
        given, command = ([on_loopback(it).replace("0.0.0.0", own) for it in document.get(key) or []]
                          for key in ("environment", "cmd"))
        environment = {**self._images.environment, "HOSTNAME": name[-63:],
                       **dict(it.partition("=")[::2] for it in given)}
        instance.starts += 1
        try:
            argv = self._images.argv(document["code"], command)
            folder = self._folder / name / str(next(self._folders))
            instance.program = Program(argv, environment, folder, self._guardian)
            self._set(job, instance, "RUNNING", "")
        except CannotStart as error:
            instance.start_at = time.monotonic() + self._timing.report
            self._set(job, instance, "FAILED", str(error))

    def _ended(self, job: Job, instance: Instance, code: int, now: float) -> None:
        well = "COMPLETED" if job.document.get("one_shot") else "DEAD"
        instance.start_at = now + self._timing.report
        self._set(job, instance, well if code == 0 else "FAILED", f"exit status {code}")

    def _job_report(self, job_id: str, job: Job) -> Document:
        told = [self._instance_report(it) for it in job.instances.values()
                if not it.stuck and not self._traps.springs("late_states")]
        return {"_id": job_id, "status": job.last, "status_detail": None, "instance_list": told}

    def _instance_report(self, instance: Instance) -> Document:
        running = instance.status == "RUNNING"
        return {"instance_number": instance.number, "status": instance.status,
                "status_detail": instance.detail or "No extra information",
                "publicip": LOOPBACK + "255.1", "cpu_percent": "0.5" if running else None,
                "memory_percent": "1" if running else None, "disk": "0" if running else None,
                "logs": instance.program.log_tail() if instance.program else "",
                "worker_id": f"{self.id[:23]}0", "host_ip": "127.0.0.1", "host_port": 50103}
