"""The side of the double that tests see, on a port of its own: what exists, what was asked, and what
shall happen. Plain JSON; nothing here is of Oakestra's.

    GET  /state                 applications, services, programs, addresses in use, traps and how often they sprung
    GET  /counts                requests by "METHOD /template": {"total": …, "by_minute": [since start], …}
    POST /traps     {NAME: odds from 0 to 1 or true, …}
    POST /signal    {"service": job name or id, "instance": n, "signal": 9}
    POST /cluster   {"name": …, "gone_s": seconds, "programs_too": bool}  (gone_s 0: it is back)
    POST /root      {"down_s": seconds, "keep_key": bool}
    POST /expire    {}          all tokens
"""

import threading
import time
from typing import Any, Callable

from e2e.oakestra.clusters import Cluster
from e2e.oakestra.root import Root
from e2e.oakestra.traps import TRAPS, Traps
from e2e.oakestra.wire import Answer, Request, plain

Document = dict[str, Any]


class Counts:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._by_route: dict[str, dict[int, int]] = {}

    def add(self, route: str) -> None:
        minute = int((time.monotonic() - self._began) // 60)
        with self._lock:
            minutes = self._by_route.setdefault(route, {})
            minutes[minute] = minutes.get(minute, 0) + 1

    def told(self) -> Document:
        with self._lock:
            last = int((time.monotonic() - self._began) // 60)
            return {"seconds": round(time.monotonic() - self._began, 3), "requests": {
                name: {"total": sum(minutes.values()), "by_minute": [minutes.get(m, 0) for m in range(last + 1)]}
                for name, minutes in sorted(self._by_route.items())}}


class Admin:
    def __init__(self, root: Root, traps: Traps, counts: Counts, expire: Callable[[], None],
                 take_down: Callable[[float, bool], None]):
        self._root, self._traps, self._counts = root, traps, counts
        self._expire, self._take_down = expire, take_down

    def handle(self, request: Request) -> Answer:
        if request.method == "GET" and request.path == "/state":
            return plain(self._state())
        if request.method == "GET" and request.path == "/counts":
            return plain(self._counts.told())
        acts: dict[str, Callable[[Document], None]] = {
            "/traps": self._set_traps, "/signal": self._signal, "/cluster": self._cluster, "/root": self._down,
            "/expire": lambda _: self._expire()}
        if request.method != "POST" or request.path not in acts:
            return plain({"error": "no such thing"}, 404)
        try:
            acts[request.path](request.json())
        except (KeyError, TypeError, ValueError) as error:
            return plain({"error": repr(error)}, 400)
        return plain({})

    def _state(self) -> Document:
        root = self._root
        return {"applications": root.all_apps()[1], "services": root.all_services()[1],
                "programs": [it for cluster in root.clusters for it in cluster.programs()],
                "addresses": root.network.used(),
                "clusters": {it.spec.name: it.is_active() for it in root.clusters},
                "traps": self._traps.odds(), "sprung": self._traps.sprung}

    def _set_traps(self, odds: Document) -> None:
        for name, value in odds.items():
            self._traps.set(name, TRAPS[name][0] if value is True else float(value))

    def _signal(self, body: Document) -> None:
        for cluster in self._root.clusters:
            for it in cluster.programs():
                if body["service"] in (it["job"], it.get("id")) and it.get("instance") == body.get("instance", 0):
                    cluster.signal(it["id"], it["instance"], int(body.get("signal", 9)))
                    return
        raise KeyError(body["service"])

    def _cluster(self, body: Document) -> None:
        cluster = self._named(body["name"])
        if body["gone_s"]:
            cluster.go(float(body["gone_s"]), bool(body.get("programs_too")))
        else:
            cluster.come_back()

    def _named(self, name: str) -> Cluster:
        return {it.spec.name: it for it in self._root.clusters}[name]

    def _down(self, body: Document) -> None:
        self._take_down(float(body["down_s"]), bool(body.get("keep_key")))
