"""The network component: service addresses, given on request or on their own, and who has which.

A real root's service addresses are 10.30.x.y. On one machine they are 127.30.x.y, which every program
reaches; texts that have the former get the latter before a program sees them (`on_loopback`), unless
the machine, or this process's part of it, has the former as its own.
"""

import functools
import re
import socket
import threading
from typing import Any, Iterator, Optional

Document = dict[str, Any]
REAL = "10.30."
LOOPBACK = "127.30."


class AddressRefused(Exception):
    pass


@functools.cache
def has_real_ones() -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((f"{REAL}255.254", 0))
        except OSError:
            return False
    return True


def on_loopback(text: str) -> str:
    if has_real_ones():
        return text
    return re.sub(r"(?<![\d.])10\.(30|31)\.(\d{1,3})\.(\d{1,3})(?!\.?\d)", r"127.\1.\2.\3", text)


class Network:
    """`prefix`: of the addresses given out and taken: "127.30." or "10.30."."""

    def __init__(self, prefix: str = LOOPBACK):
        self._lock = threading.Lock()
        self.prefix = prefix
        self._last = 0
        self._services: dict[str, Document] = {}

    def free(self, count: int) -> list[str]:
        """The next free ones. They are not reserved: who asks twice gets the same."""
        with self._lock:
            pool = self._pool()
            return [next(pool) for _ in range(count)]

    def join(self, service: Document, job_id: str) -> None:
        """A new service, with the address that it asks for or another."""
        with self._lock:
            wanted = service.get("RR_ip")
            address = next(self._pool()) if wanted is None else self._check(str(wanted), service["job_name"])
            self._services[job_id] = {
                "applicationID": service["applicationID"], "app_ns": service["app_ns"],
                "app_name": service["app_name"], "service_ns": service["service_ns"],
                "service_name": service["service_name"], "service_job_id": job_id,
                "job_name": service["job_name"], "instance_list": [],
                "service_ip_list": [{"IpType": "RR", "Address": address, "Address_v6": f"fdff:2000::{job_id[-4:]}"}]}

    def leave(self, job_id: str) -> None:
        with self._lock:
            self._services.pop(job_id, None)

    def join_instance(self, job_id: str, number: int, cluster_id: str) -> str:
        """The address where the instance's program listens: the service's own for the first one that
        lives, since nobody here spreads connections; one beside it for others."""
        with self._lock:
            service = self._services.get(job_id)
            address = self._instance_address(service, number)
            if service:
                service["instance_list"].append({"cluster_id": cluster_id, "instance_number": number,
                                                 "instance_ip": address, "instance_ip_v6": None})
            return address

    def leave_instance(self, job_id: str, number: int) -> None:
        with self._lock:
            service = self._services.get(job_id)
            if service:
                service["instance_list"] = [] if number == -1 else [
                    it for it in service["instance_list"] if it["instance_number"] != number]

    def find(self, name: Optional[str] = None, address: Optional[str] = None) -> Optional[Document]:
        with self._lock:
            for service in self._services.values():
                if service["job_name"] == name or service["service_ip_list"][0]["Address"] == address:
                    return {key: value for key, value in service.items() if key != "job_name"}
            return None

    def used(self) -> list[str]:
        with self._lock:
            return sorted(self._taken())

    def _instance_address(self, service: Optional[Document], number: int) -> str:
        if service and not service["instance_list"]:
            return str(service["service_ip_list"][0]["Address"])
        self._last = self._last % 65000 + 1
        return f"{self.prefix[:-2]}1.{self._last // 250}.{self._last % 250 + 1}"

    def _taken(self) -> dict[str, str]:
        return {it["service_ip_list"][0]["Address"]: it["job_name"] for it in self._services.values()}

    def _pool(self) -> Iterator[str]:
        taken = self._taken()
        for high in range(256):
            for low in range(1, 255):
                if f"{self.prefix}{high}.{low}" not in taken:
                    yield f"{self.prefix}{high}.{low}"

    def _check(self, address: str, job_name: str) -> str:
        parts = address.split(".")
        if len(parts) != 4:
            raise AddressRefused("Invalid RR_ip address length")
        if ".".join(parts[:2]) + "." not in (self.prefix, REAL):
            raise AddressRefused(f"RR ip address must be in the form {self.prefix}x.y")
        if self._taken().get(address, job_name) != job_name:
            raise AddressRefused("RR ip address already used by another service")
        return address
