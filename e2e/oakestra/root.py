"""What a root knows and does: applications, services (jobs), instances, and the clusters' reports.

It answers (HTTP status, value) and does as the real one does, with its oddities: services under a
name that exists are reset, a failure to create is told in a 200, scheduling goes on after the answer,
and an undeployment of all instances forgets every other one. All functions: any thread.
"""

import copy
import itertools
import threading
import time
from typing import Any, Optional

from e2e.oakestra import scheduler, schema
from e2e.oakestra.clusters import Cluster
from e2e.oakestra.network import AddressRefused, Network
from e2e.oakestra.traps import Traps

Document = dict[str, Any]
Reply = tuple[int, Any]
WAITING = "Waiting for scheduling decision"


class SlaRefused(Exception):
    pass


class Root:
    def __init__(self, version: str, network: Network, clusters: list[Cluster], traps: Traps,
                 decide_s: float = 0.05):
        self.version, self.network, self.clusters, self.traps = version, network, clusters, traps
        self._decide_s = decide_s
        self._lock = threading.RLock()
        self._serial: dict[str, threading.Lock] = {}
        self._ids = itertools.count(1)
        self._schema = schema.sla(version)
        self.apps: dict[str, Document] = {}
        self.jobs: dict[str, Document] = {}

    def new_id(self) -> str:
        return f"{int(time.time()):08x}{next(self._ids):016x}"

    # Applications

    def create_app(self, user: str, body: Document) -> Reply:
        if self._refusal(body):
            return 422, None
        with self._lock:
            for application in body["applications"]:
                code, answer = self._create_one(user, body["sla_version"], application)
                if code != 200:
                    return code, answer
            return self.user_apps(user)

    def user_apps(self, user: str) -> Reply:
        with self._lock:
            return 200, [with_oid(it) for it in self.apps.values() if it["userId"] == user]

    def all_apps(self) -> Reply:
        with self._lock:
            return 200, [with_oid(it) for it in self.apps.values()]

    def get_app(self, user: str, app_id: str) -> Reply:
        """A known one is `null`: so says the real one."""
        return (200, None) if self._app(user, app_id) else (404, None)

    def delete_app(self, user: str, app_id: str) -> Reply:
        with self._lock:
            app = self._app(user, app_id)
            if not app:
                return 501, None
            for job_id in list(app["microservices"]):
                self.delete_service(user, job_id)
            del self.apps[app_id]
            return 200, {"message": "Application Deleted"}

    # Services

    def create_services(self, user: str, body: Document) -> Reply:
        """Whatever is wrong with the request is a 400; what is wrong with a service, a 200."""
        with self._lock:
            try:
                wrong = self._refusal(body)
                app = self._app(user, body["applications"][0]["applicationID"])
            except (KeyError, IndexError, TypeError):
                return 400, None
            if wrong or not app:
                return 400, None
            return self._create_services_in(user, app, body["applications"][0]["microservices"])

    def services_of(self, user: str, app_id: str) -> Reply:
        with self._lock:
            if not self._app(user, app_id):
                return 404, None
            return 200, [self._shown(it) for it in self.jobs.values() if it["applicationID"] == app_id]

    def all_services(self) -> Reply:
        with self._lock:
            return 200, [self._shown(it) for it in self.jobs.values()]

    def get_service(self, user: str, job_id: str) -> Reply:
        with self._lock:
            job = self.jobs.get(job_id)
            return (200, self._shown(job)) if job and self._app_of(user, job_id) else (404, None)

    def delete_service(self, user: str, job_id: str) -> Reply:
        with self._lock:
            app = self._app_of(user, job_id)
            if not app:
                return 500, None
            self.scale_down(user, job_id, -1)
            app["microservices"].remove(job_id)
            self.jobs.pop(job_id, None)
            self.network.leave(job_id)
            return 200, {"message": "Job deleted"}

    # Instances

    def scale_up(self, user: str, job_id: str) -> Reply:
        """Received, in any case; the scheduler decides later."""
        with self._lock:
            if job_id in self.jobs and self._app_of(user, job_id):
                self.jobs[job_id].update(status="REQUESTED", status_detail=WAITING)
                serial = self._serial.setdefault(job_id, threading.Lock())
                threading.Thread(target=self._schedule, args=(job_id, serial), daemon=True).start()
        return 200, {"message": "ok"}

    def scale_down(self, user: str, job_id: str, number: int) -> Reply:
        with self._lock:
            job = self.jobs.get(job_id)
            if job and self._app_of(user, job_id):
                instances = job["instance_list"]
                for it in instances:  # which loses every other one, as it takes from what it walks along
                    if number in (-1, it["instance_number"]):
                        self.network.leave_instance(job_id, number)
                        self._tell_undeploy(it["cluster_id"], job_id, it["instance_number"])
                        instances.remove(it)
        return 200, {"message": "ok"}

    # Clusters

    def cluster_list(self, only_active: bool = False) -> list[Document]:
        shown = [self._cluster_document(it) for it in self.clusters]
        return [it for it in shown if it["active"] or not only_active]

    def take_report(self, cluster: Cluster, jobs: list[Document]) -> None:
        with self._lock:
            for told in jobs:
                job = self.jobs.get(told["_id"])
                if not job:
                    cluster.undeploy(told["_id"], -1)
                    continue
                for it in told["instance_list"]:
                    self._take_instance(job, it)
                if not self.traps.odds().get("stale_status"):
                    job["status"] = told["status"]

    # Below

    def _refusal(self, body: Document) -> Optional[str]:
        """Raises KeyError for a version that does not exist, as a lookup of its validator does."""
        version = body["sla_version"]
        if version != "v2.0":
            raise KeyError(version)
        return schema.check(body, self._schema)

    def _app(self, user: str, app_id: str) -> Optional[Document]:
        app = self.apps.get(app_id)
        return app if app and app["userId"] == user else None

    def _app_of(self, user: str, job_id: str) -> Optional[Document]:
        for app in self.apps.values():
            if app["userId"] == user and job_id in app["microservices"]:
                return app
        return None

    def _create_one(self, user: str, version: str, application: Document) -> Reply:
        key = ("application_name", "application_namespace")
        if any(it["userId"] == user and all(it[k] == application[k] for k in key) for it in self.apps.values()):
            return 409, None
        app_id = self.new_id()
        kept = {k: v for k, v in application.items() if k not in ("action", "_id")}
        app = {**kept, "_id": app_id, "applicationID": app_id, "userId": user, "microservices": []}
        self.apps[app_id] = app
        if application["microservices"]:
            return self._create_services_in(user, app, application["microservices"])
        return 200, None

    def _create_services_in(self, user: str, app: Document, services: list[Document]) -> Reply:
        good, bad, job_id = [], [], ""
        for microservice in services:
            name = microservice["microservice_name"]
            job_id = self._insert(app, microservice)
            try:
                if self.traps.springs("doubled_names"):
                    self.network.join(self.jobs[job_id], job_id)
                    job_id = self._insert(app, microservice, anew=True)
                if self.traps.springs("failed_services"):
                    raise AddressRefused("the network component does not answer")
                self.network.join(self.jobs[job_id], job_id)
                good.append({"service_name": name, "status": 200})
            except AddressRefused:
                self.delete_service(user, job_id)
                bad.append({"service_name": name, "message": "failed to deploy service", "status": 500})
        return 200, {"job_id": job_id, "deployed_services": good, "failed_services": bad}

    def _insert(self, app: Document, microservice: Document, anew: bool = False) -> str:
        """A job of that name is reset, and keeps its id; unless two requests did not see each other."""
        job = job_document(app, microservice)
        same = [it["_id"] for it in self.jobs.values() if it["job_name"] == job["job_name"]]
        job_id = same[0] if same and not anew else self.new_id()
        self.jobs[job_id] = {**self.jobs.get(job_id, {}), **job, "_id": job_id, "microserviceID": job_id}
        app["microservices"].append(job_id)
        return job_id

    def _schedule(self, job_id: str, serial: threading.Lock) -> None:
        """One after the other, unless the root has threads that know nothing of each other."""
        if self.traps.springs("lost_instances"):
            self._decide(job_id)
            return
        with serial:
            self._decide(job_id)

    def _decide(self, job_id: str) -> None:
        with self._lock:
            job = copy.deepcopy(self.jobs.get(job_id))
        if job is None:
            return
        time.sleep(self._decide_s)
        choice = scheduler.choose(self.version, job, self.cluster_list())
        with self._lock:
            current = self.jobs.get(job_id)
            if current is None:
                return
            if isinstance(choice, str):
                current["status"] = choice
            else:
                self._place(current, job, choice)

    def _place(self, current: Document, seen: Document, cluster: Document) -> None:
        """Written back as it was seen, which is a while ago."""
        number = seen["next_instance_progressive_number"]
        instance = {"instance_number": number, "cluster_id": cluster["_id"],
                    "cluster_location": cluster["candidate_location"] or "location-unknown"}
        if self.version != "0.4.402":
            instance["status"] = "CLUSTER_SCHEDULED"
        lost = self.traps.odds().get("lost_instances", 0) > 0
        others = seen["instance_list"] if lost else current["instance_list"]
        current.update(status="CLUSTER_SCHEDULED", next_instance_progressive_number=number + 1,
                       instance_list=[*others, instance])
        address = self.network.join_instance(current["_id"], number, cluster["_id"])
        for it in self.clusters:
            if it.id == cluster["_id"]:
                it.deploy(copy.deepcopy(current), number, address)

    def _tell_undeploy(self, cluster_id: str, job_id: str, number: int) -> None:
        for it in self.clusters:
            if it.id == cluster_id:
                it.undeploy(job_id, number)

    def _take_instance(self, job: Document, told: Document) -> None:
        for instance in job["instance_list"]:
            if instance["instance_number"] == told["instance_number"]:
                instance.update(told, last_modified_timestamp=time.time())

    def _shown(self, job: Document) -> Document:
        return with_oid(copy.deepcopy(job))

    def _cluster_document(self, cluster: Cluster) -> Document:
        spec, active = cluster.spec, cluster.is_active()
        return {"_id": cluster.id, "candidate_name": spec.name, "candidate_location": spec.location,
                "active": active, "active_nodes": spec.nodes, "vcpus": spec.vcpus, "vgpus": 0,
                "memory": spec.memory, "memory_percent": 1.0, "cpu_percent": 1.0, "gpu_percent": 0,
                "virtualization": ["docker"], "supported_addons": list(spec.addons),
                "csi_drivers": list(spec.csi), "ip": "127.0.0.1", "port": "10100",
                "last_modified_timestamp": time.time()}


def with_oid(document: Document) -> Document:
    return {**document, "_id": {"$oid": document["_id"]}}


def job_document(app: Document, microservice: Document) -> Document:
    job = {**copy.deepcopy(microservice), "applicationID": app["_id"], "app_name": app["application_name"],
           "app_ns": app["application_namespace"], "service_name": microservice["microservice_name"],
           "service_ns": microservice["microservice_namespace"], "image": microservice["code"],
           "next_instance_progressive_number": 0, "instance_list": []}
    job["job_name"] = ".".join(job[key] for key in ("app_name", "app_ns", "service_name", "service_ns"))
    if job["virtualization"] == "container":
        job["virtualization"] = "docker"
    addresses = job.get("addresses")
    if addresses is not None:
        job.update(RR_ip=addresses.get("rr_ip"), RR_ip_v6=addresses.get("rr_ip_v6"))
    return job


OLD_NAMES = {"candidate_name": "cluster_name", "candidate_location": "cluster_location",
             "cpu_percent": "aggregated_cpu_percent", "memory": "memory_in_mb", "vcpus": "total_cpu_cores",
             "vgpus": "total_gpu_cores"}


def cluster_on_wire(version: str, cluster: Document) -> Document:
    """Old roots had other names for some of it; new ones say both."""
    old = {OLD_NAMES.get(key, key): value for key, value in cluster.items() if key != "csi_drivers"}
    return old if version == "0.4.402" else {**old, **cluster}
