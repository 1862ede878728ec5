#!/usr/bin/env python3
"""A test double of an Oakestra root, its network component and its clusters, on loopback only.

    python3 -m e2e.oakestra.double --version 0.4.411 --clusters east,west --image '*=bin/flops'

It prints one line of JSON when it is ready: {"root": port, "network": port, "admin": port}. Services' commands
run as real processes, which end with it. Python's standard library only. admin.py says what tests can do.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Optional

from e2e.oakestra.admin import Admin, Counts
from e2e.oakestra.clusters import Cluster, Spec, Timing, World
from e2e.oakestra.guardian import Guardian
from e2e.oakestra.network import LOOPBACK, REAL, Network
from e2e.oakestra.processes import Images
from e2e.oakestra.root import Root
from e2e.oakestra.routes import Api, Dispatcher, NetworkApi, Users
from e2e.oakestra.tokens import Tokens
from e2e.oakestra.traps import TRAPS, Traps
from e2e.oakestra.wire import Answer, Handle, Listener, Request, refusal

STEP_S = 0.02
OUTSIDE = ("root", "network")
VERSIONS = ("0.4.402", "0.4.411")


class Double:
    def __init__(self, options: argparse.Namespace):
        self._folder = Path(options.dir or tempfile.mkdtemp(prefix="oakestra-double-")).absolute()
        self._own_folder = not options.dir
        self.traps = Traps(options.traps, options.seed)
        self.tokens = Tokens(options.token_lifetime)
        self.counts = Counts()
        timing = Timing(options.report, options.start, options.fresh or 2 * options.report)
        world = World(Images(options.image, options.env), self._folder, Guardian(), timing, self.traps)
        clusters = [Cluster(Spec.parse(text), f"c1{index:022x}", world)
                    for index, text in enumerate(options.clusters.split(","))]
        network = Network(REAL if options.real_addresses else LOOPBACK)
        self.root = Root(options.version, network, clusters, self.traps, options.decide)
        api = Api(self.root, Users(options.user or ["Admin:Admin"]), self.tokens)
        net = NetworkApi(network, options.version)
        admin = Admin(self.root, self.traps, self.counts, self.tokens.expire_all, self.take_down)
        self.listeners = {"root": Listener(options.port, self._trapped(Dispatcher(api.routes, self.tokens))),
                          "network": Listener(options.network_port, self._trapped(Dispatcher(net.routes, self.tokens))),
                          "admin": Listener(options.admin_port, admin.handle)}
        self._back_at: Optional[float] = None
        self._end = threading.Event()

    def start(self) -> dict[str, int]:
        return {name: it.open().port for name, it in self.listeners.items()}

    def run(self) -> None:
        while not self._end.wait(STEP_S):
            self.step(time.monotonic())

    def stop(self, *_: object) -> None:
        self._end.set()

    def finish(self) -> None:
        for it in self.listeners.values():
            it.close()
        for cluster in self.root.clusters:
            cluster.stop_all()
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def step(self, now: float) -> None:
        for cluster in self.root.clusters:
            cluster.step(now)
            if self._back_at is None:
                jobs = cluster.report(now)
                if jobs is not None:
                    self.root.take_report(cluster, jobs)
        if self._back_at is not None and now >= self._back_at:
            self._come_back(now)

    def take_down(self, seconds: float, keep_key: bool = False) -> None:
        """The root and its network component; clusters go on, and report when it is back."""
        self._back_at = time.monotonic() + seconds
        for name in OUTSIDE:
            self.listeners[name].close()
        if not keep_key:
            self.tokens.new_key()

    def _come_back(self, now: float) -> None:
        self._back_at = None
        try:
            for name in OUTSIDE:
                self.listeners[name].open()
        except OSError:  # somebody has the port for a moment
            self._back_at = now + 0.1

    def _trapped(self, dispatcher: Dispatcher) -> Handle:
        def handle(request: Request) -> Answer:
            found, ids = dispatcher.find(request)
            self.counts.add(f"{request.method} {found.template if found else '?'}")
            if self.traps.springs("slow"):
                time.sleep(self.traps.between("slow", 0.1, 1.0))
            if self.traps.springs("token_expiry"):
                self.tokens.expire_all()
            if self.traps.springs("root_restart"):
                threading.Thread(target=self.take_down, daemon=True,
                                 args=(self.traps.between("root_restart", 0.5, 3.0),)).start()
            if self.traps.springs("errors"):
                return refusal(500)
            answer = dispatcher.run(found, ids, request)
            lost = request.method != "GET" and self.traps.springs("lost_answers")
            return refusal(500) if lost else answer
        return handle


def options_of(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="double", description=__doc__.splitlines()[0], epilog="Traps: " + "; ".join(
        f"{name}: {what}" for name, (_, what) in TRAPS.items()))
    for name in ("port", "network-port", "admin-port"):
        parser.add_argument(f"--{name}", type=int, default=0, help="0: a free one")
    parser.add_argument("--version", choices=VERSIONS, default=VERSIONS[1])
    parser.add_argument("--clusters", default="east,west", help=Spec.__doc__)
    parser.add_argument("--image", action="append", default=[], metavar="IMAGE=PROGRAM", help="IMAGE *: any other")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of all images")
    parser.add_argument("--user", action="append", metavar="NAME:PASSWORD", help="the first is the administrator")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traps", default="none", help="all, none, or names with commas between")
    parser.add_argument("--token-lifetime", type=float, default=600.0, metavar="S")
    parser.add_argument("--report", type=float, default=0.3, metavar="S", help="period of clusters' reports; real: 15")
    parser.add_argument("--fresh", type=float, metavar="S", help="a cluster silent for longer is not active")
    parser.add_argument("--decide", type=float, default=0.05, metavar="S", help="time a placement takes; real: 0.5")
    parser.add_argument("--start", type=float, default=0.1, metavar="S", help="from placement to start")
    parser.add_argument("--real-addresses", action="store_true", help="give out 10.30.x.y instead of 127.30.x.y")
    parser.add_argument("--dir", help="where programs' folders and output are kept; unset: removed at the end")
    return parser.parse_args(words)


def main() -> int:
    try:
        double = Double(options_of(sys.argv[1:]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, double.stop)
    try:
        print(json.dumps(double.start()), flush=True)
        double.run()
    finally:
        double.finish()
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
