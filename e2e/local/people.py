#!/usr/bin/env python3
"""people.py [CASE...]: what people type and look at, with a real control plane and real trainings.

`flops top` and `flops rounds --watch` draw on a terminal that is emulated here; the same commands go
into pipes; `flops doctor` looks at this machine and at one that lacks something; a model is listed,
shown, exported and asked. Standard library only; $FLOPS is the program."""

import codecs
import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import unicodedata

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rig  # noqa: E402

API = "/apis/flops.dev/v1alpha1"
NS = API + "/namespaces/default"
MERGE = {"Content-Type": "application/merge-patch+json"}
DEADLINE_S = 60
LINES_MAX = 500
CLASSES, FEATURES, ROWS, LEARNERS = 3, 8, 400, 4
LEFT = b"\x1b[?25h\x1b[?1049l"  # how a screen is given back
judge = rig.Judge()


def wait(until, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if until():
            return True
        time.sleep(0.01)
    return bool(until())


# --- a terminal ---


def columns_of(text):
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


class Terminal:
    """Runs a command on a terminal of its own, and knows what is on the screen."""

    def __init__(self, *argv, rows=24, columns=80, **env):
        self.raw, self.lines, self.row = b"", {}, 1
        self.decoder, self.rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        self.alternate, self.status, self.lock = False, None, threading.Lock()
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        env = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "", **env}
        self.process = subprocess.Popen([rig.FLOPS, *argv], stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        env=env, start_new_session=True, preexec_fn=self.take_over)
        self.thread = threading.Thread(target=self.pump, daemon=True)
        self.thread.start()

    @staticmethod
    def take_over():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pump(self):
        while self.master >= 0:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if not ready:
                continue
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            with self.lock:
                self.raw += data
                self.feed(self.rest + self.decoder.decode(data))

    def feed(self, text):
        at, pattern = 0, re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|[^\x1b]+")
        for found in pattern.finditer(text):
            if found.start() != at:
                break
            at = found.end()
            if found.group(3):
                self.obey(found.group(1) + found.group(3), found.group(2))
            else:
                self.lines[self.row] = self.lines.get(self.row, "") + found.group(0)
        self.rest = text[at:]

    def obey(self, what, number):
        if what == "H":
            self.row = int(number.split(";")[0])
            self.lines[self.row] = ""
        elif what == "K" and columns_of(self.lines.get(self.row, "")) >= self.columns:
            self.lines[self.row] = self.lines[self.row][:-1]  # the cursor is still on the last one
        elif what == "J":
            self.lines = {} if number == "2" else {r: t for r, t in self.lines.items() if r < self.row}
        elif what in ("?h", "?l") and number == "1049":
            self.alternate = what == "?h"

    def text(self):
        with self.lock:
            return "\n".join(self.lines.get(row, "") for row in range(1, self.rows + 1))

    def shows(self, *patterns, deadline_s=DEADLINE_S):
        """Whether all of them come to be on the screen at once."""
        return wait(lambda: all(re.search(p, self.text()) for p in patterns), deadline_s)

    def fits(self):
        return all(columns_of(line) <= self.columns for line in self.text().split("\n")) and \
            max(self.lines, default=0) <= self.rows

    def type(self, keys):
        os.write(self.master, keys)

    def attributes(self):
        return termios.tcgetattr(self.slave)

    def is_given_back(self):
        return wait(lambda: self.attributes() == self.before and LEFT in self.raw and not self.alternate, 10)

    def end(self):
        """Its exit status, once all that it wrote was read."""
        try:
            status = self.process.wait(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "it does not end"
        quiet = -1
        while quiet != len(self.raw):
            quiet = len(self.raw)
            select.select([], [], [], 0.05)
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        master, self.master = self.master, -1
        self.thread.join(timeout=5)
        os.close(master)
        os.close(self.slave)


# --- a control plane with something to look at ---


def flops(server, *words, **options):
    return subprocess.run([rig.FLOPS, *words, "--data-dir", server.dir], capture_output=True, text=True,
                          timeout=DEADLINE_S, **options)


def push_data(server):
    """Clouds of points about three centres, the same every time."""
    chance = random.Random(7)
    path = os.path.join(server.dir, "toy.csv")
    with open(path, "w") as file:
        for i in range(ROWS):
            row = [chance.gauss(2.0 if f % CLASSES == i % CLASSES else 0.0, 1.0) for f in range(FEATURES)]
            file.write(",".join(f"{x:.5f}" for x in row) + f",{i % CLASSES}\n")
    for words in (["push", "toy", path, "--header", "no"], ["partition", "toy", "--learners", str(LEARNERS)]):
        done = flops(server, "data", *words)
        assert done.returncode == 0, done.stderr


def divide_machine(server):
    clusters = [{"name": c, "nodes": [{"name": c + n} for n in "12"]} for c in ("east", "west")]
    status, body = server.call("PATCH", API + "/orchestrators/local", {"spec": {"local": {"clusters": clusters}}},
                               MERGE)
    assert status == 200, body


def apply(server, name, rounds, tiers=0, **spec):
    both = [{"name": "edge", "groupBy": "Cluster"}, {"name": "site", "groupBy": "Node"}]
    own = {"source": {"builtin": {"trainer": "SoftmaxRegression"}}, "data": {"tags": ["toy"]},
           "learners": {"count": LEARNERS}, "topology": {"tiers": both[:tiers]},
           "training": {"rounds": rounds, "seed": 5, "local": {"learningRate": "0.1", "batchSize": 10},
                        "participation": {"minAvailable": LEARNERS, "quorum": 2, "deadline": "60s"}}, **spec}
    path = os.path.join(server.dir, name + ".json")
    with open(path, "w") as file:
        json.dump({"apiVersion": "flops.dev/v1alpha1", "kind": "FLProject", "metadata": {"name": name}, "spec": own},
                  file)
    done = flops(server, "apply", "-f", path)
    assert done.returncode == 0, done.stderr


def patch(server, name, change):
    status, body = server.call("PATCH", f"{NS}/flprojects/{name}", change, MERGE)
    assert status == 200, body


def remove(server, name):
    server.call("DELETE", f"{NS}/flprojects/{name}")
    gone = wait(lambda: server.call("GET", f"{NS}/flprojects/{name}")[0] == 404)
    judge.check(f"{name} is deleted", gone)


# --- cases ---


def doctor(server):
    done = flops(server, "doctor")
    judge.check("doctor: nothing is missing here", done.returncode == 0 and "ok       matrices" in done.stdout,
                done.stdout + done.stderr)
    done = flops(server, "doctor", "-o", "json")
    findings = {f["name"]: f for f in json.loads(done.stdout)}
    judge.check("doctor: as JSON, each that is not ok with what mends it", len(findings) >= 8 and
                all(f["verdict"] == "ok" or f["mend"] for f in findings.values()), done.stdout)
    done = flops(server, "doctor", env={**os.environ, "PATH": ""})
    lines = done.stdout.split("\n")
    for name, mend in (("kubectl", "hack/get-kubectl.sh"), ("containers", "apt-get install -y runc")):
        at = next((i for i, line in enumerate(lines) if re.match(rf"(warn|missing) +{name} ", line)), None)
        judge.check(f"doctor: says that {name} is not in PATH, and what mends it",
                    at is not None and mend in lines[at + 1], done.stdout)
    done = subprocess.run([rig.FLOPS, "doctor", "--data-dir", "/dev/null/state"], capture_output=True, text=True,
                          timeout=DEADLINE_S)
    judge.check("doctor: a folder that cannot be written is missing, and the exit says so",
                done.returncode == 1 and re.search(r"missing +data folder .*\n.*--data-dir", done.stdout), done.stdout)


def top_live(server):
    """A terminal, from nothing to a project that trains, over a control plane that dies."""
    top = Terminal("top", "--data-dir", server.dir, ASAN_OPTIONS="quarantine_size_mb=1")  # its memory is looked at
    try:
        judge.check("top: says that there is nothing yet", top.shows("Nothing is declared here yet", "connected"),
                    top.text())
        apply(server, "live", 100000, tiers=2, serve={"port": 0})
        judge.check("top: a project, its tiers and its learners come up",
                    top.shows(r"live +round \d+/100000", r"root +1/1 ●", r"edge +2/2 ●●", r"site +4/4 ●●●●",
                              r"learners +4/4 ●●●●"), top.text())
        judge.check("top: its round, its metric with a spark line, how fast it is",
                    top.shows(r"round \d+: \w+", r"accuracy 0\.\d+, best 0\.\d+ \(round \d+\) +[▁-█]{2}",
                              r"rounds/min"), top.text())
        judge.check("top: its server", top.shows(r"live +serves round \d+ +\w+", r"http://127\.0\.0\.1:\d+"),
                    top.text())
        before = int(re.search(r"live +round (\d+)/", top.text()).group(1))
        judge.check("top: goes on by itself", wait(
            lambda: int((re.search(r"live +round (\d+)/", top.text()) or [0, 0])[1]) > before + 2), top.text())
        top.type(b"w")
        judge.check("top: w shows each workload", top.shows(r"learners-edge-east-site-east-east1 +1/1 Running"),
                    top.text())
        judge.check("top: fits 80 columns", top.fits(), top.text())
        top.resize(14, 40)
        judge.check("top: another size of the window", wait(lambda: re.search(r"\d+-\d+ of \d+", top.text())) and
                    wait(top.fits, 10), top.text())
        top.type(b"\x1b[F")
        judge.check("top: the end key shows the end", top.shows(r"(\d+)-(\d+) of \2") and "live" not in
                    top.text().split("\n")[3], top.text())
        top.type(b"g")
        top.resize(40, 200)
        judge.check("top: a wide window", top.shows(r"live +round \d+/100000 {80}") and wait(top.fits, 10), top.text())
        lost_connection(server, top)
        stays_small(server, top)
        top.type(b"q")
        judge.check("top: q ends it well and gives the terminal back", top.end() == 0 and top.is_given_back(),
                    top.raw[-200:])
    finally:
        top.close()


def lost_connection(server, top):
    server.kill()
    judge.check("top: says that the connection is lost, and keeps what it knows",
                top.shows("reconnecting", "what is below is old", r"live +round \d+/100000"), top.text())
    server.start()
    judge.check("top: finds the control plane again", top.shows(" connected", r"live +round \d+/100000"), top.text())


def stays_small(server, top):
    """Changes come and go, and nothing of them stays."""
    def rss_kb():
        with open(f"/proc/{top.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    session, before = server.session(), rss_kb()
    for i in range(300):
        server.call("PATCH", f"{NS}/flprojects/live", {"metadata": {"annotations": {"note": f"{i} " + "x" * 2000}}},
                    MERGE, session)
    session.close()
    grown = rss_kb() - before
    judge.check("top: 300 changes of an object leave nothing behind", grown < 8192, f"{grown} KiB more")


def top_ends(server):
    """Every way out gives the terminal back."""
    def started(**env):
        top = Terminal("top", "--data-dir", server.dir, **env)
        judge.check("top: begins again", top.shows(r"live +round"), top.text())
        return top

    for name, act, expected in (("Ctrl-C", lambda t: t.type(b"\x03"), 130),
                                ("SIGTERM", lambda t: t.process.terminate(), 143),
                                ("SIGHUP", lambda t: t.process.send_signal(signal.SIGHUP), 129),
                                ("a crash", lambda t: t.process.send_signal(signal.SIGABRT), -signal.SIGABRT)):
        top = started()
        try:
            act(top)
            status = top.end()
            judge.check(f"top: after {name} the terminal is as it was", status == expected and top.is_given_back(),
                        f"{status} {top.raw[-200:]}")
        finally:
            top.close()
    top = started(LC_ALL="C", NO_COLOR="1")
    try:
        suspend(top)
        top.type(b"q")
        top.end()
        judge.check("top: plain signs where the locale has no UTF-8", top.raw.isascii() and b"****" in top.raw,
                    top.raw[:2000])
        judge.check("top: NO_COLOR is honoured", not re.search(rb"\x1b\[[1-9][0-9]*m", top.raw), top.raw[:2000])
    finally:
        top.close()


def suspend(top):
    def state():
        with open(f"/proc/{top.process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    top.type(b"\x1a")
    judge.check("top: Ctrl-Z stops it and gives the terminal back", wait(lambda: state() == "T", 10) and
                top.is_given_back(), state())
    top.process.send_signal(signal.SIGCONT)
    judge.check("top: and it goes on where it was", wait(lambda: top.alternate, 10) and top.shows(r"live +round"),
                top.text())


def top_lines(server):
    """The same into a pipe."""
    done = flops(server, "top", "-A", "--workloads")
    judge.check("top: one picture in plain lines", done.returncode == 0 and "\x1b" not in done.stdout and
                re.search(r"^default/live  round \d+/100000  \w+$", done.stdout, re.M) and
                "learners-edge-east-site-east-east1 1/1 Running" in done.stdout, done.stdout + done.stderr)
    changes = subprocess.Popen([rig.FLOPS, "top", "-w", "--data-dir", server.dir], stdout=subprocess.PIPE, text=True)
    try:
        told = until(changes.stdout, r"^round \d+ of live: Committed, 4/4 updates, accuracy ", r"^project live: ")
        judge.check("top: --watch has a picture, then a line for each change", told[0].startswith("flops top ") and
                    len(told) < LINES_MAX, told)
    finally:
        changes.kill()
        changes.communicate()
    done = subprocess.run([rig.FLOPS, "top", "--kubeconfig", nobody(server)], capture_output=True, text=True,
                          timeout=DEADLINE_S)
    judge.check("top: where nobody answers it says so and fails", done.returncode == 1 and
                re.match("flops top: https://127.0.0.1:1: ", done.stderr), done.stderr)


def until(stream, *patterns):
    """Its lines, until each pattern has been found, or there are too many."""
    lines, missing = [], list(patterns)
    while missing and len(lines) < LINES_MAX:
        lines.append(stream.readline())
        missing = [p for p in missing if not re.search(p, lines[-1])]
    return lines


def nobody(server):
    """A kubeconfig of an address where no one listens."""
    path = os.path.join(server.dir, "nobody")
    with open(os.path.join(server.dir, "kubeconfig")) as file:
        text = re.sub(r"server: \S+", "server: https://127.0.0.1:1", file.read())
    with open(path, "w") as file:
        file.write(text)
    return path


def rounds(server):
    """A project followed to its end: by lines, on a terminal, and too late."""
    apply(server, "short", 8, tiers=1, suspend=True, serve={"port": 0})
    done = flops(server, "rounds", "short", "-w", "--timeout", "200ms")
    judge.check("rounds: --watch ends at its deadline with status 3", done.returncode == 3 and
                "not complete in time" in done.stderr, f"{done.returncode} {done.stdout} {done.stderr}")
    lines = subprocess.Popen([rig.FLOPS, "rounds", "short", "-w", "--data-dir", server.dir], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    live = Terminal("rounds", "short", "--watch", "--data-dir", server.dir)
    try:
        judge.check("rounds: a live view before there is a round", live.shows(r"short +round 0/8 +Suspended"),
                    live.text())
        patch(server, "short", {"spec": {"suspend": False}})
        text, err = lines.communicate(timeout=DEADLINE_S)
        told = re.findall(r"^round (\d+)/8  accuracy 0\.\d+  loss \S+  learners 4/4  \S+  Committed$", text, re.M)
        judge.check("rounds: a line for each round, in order", told == [str(i) for i in range(1, 9)], text + err)
        judge.check("rounds: ends well when the project is complete", lines.returncode == 0 and
                    text.rstrip().split("\n")[-1].startswith("short: Complete"), text + err)
        status = live.end()
        after = live.raw[live.raw.rfind(LEFT):].decode()
        judge.check("rounds: so does the live view, and leaves table and curve", status == 0 and
                    live.is_given_back() and len(re.findall("Committed", after)) == 8 and "└ round 1 … 8" in after,
                    after)
    finally:
        live.close()
    done = flops(server, "rounds", "short", "--chart")
    table = [line.split() for line in done.stdout.split("\n")]
    judge.check("rounds: the table's columns, with learners through all tiers", table[0][:3] ==
                ["round", "attempt", "learners"] and [row[2] for row in table[1:9]] == ["4/4"] * 8, done.stdout)
    judge.check("rounds: and the curve where it is asked for", "└ round 1 … 8" in done.stdout, done.stdout)
    done = flops(server, "rounds", "absent", "-w")
    judge.check("rounds: a project that is not there", done.returncode == 1 and "absent is not there" in done.stderr,
                done.stderr)
    apply(server, "stuck", 3, data={"tags": ["nobody-has-this"]},
          training={"rounds": 3, "participation": {"minAvailable": LEARNERS, "availableWithin": "1s"}})
    done = flops(server, "rounds", "stuck", "-w", "--timeout", "40s")
    judge.check("rounds: one that is stalled fails, with the cause", done.returncode == 1 and  # of a slow machine, too
                re.search("stuck is stalled: (WaitingForLearners|StartingAggregators): .", done.stderr),
                f"{done.returncode} {done.stderr}")
    remove(server, "stuck")


def models(server):
    """What was trained is listed, shown, exported; what is served is asked."""
    done = flops(server, "models", "ls", "short")
    judge.check("models: ls", done.returncode == 0 and re.search(r"^short\S* .*\b8\b.*latest", done.stdout, re.M),
                done.stdout + done.stderr)
    done = flops(server, "models", "get", "short:best")
    judge.check("models: get tells where it is from", done.returncode == 0 and "sha256:" in done.stdout and
                "short" in done.stdout, done.stdout + done.stderr)
    for form, head in (("safetensors", None), ("onnx", None), ("mlflow", "MLmodel")):
        path = os.path.join(server.dir, "exported-" + form)
        done = flops(server, "models", "export", "short:latest", "--format", form, "-o", path)
        there = os.path.exists(os.path.join(path, head) if head else path)
        judge.check(f"models: export as {form}", done.returncode == 0 and there, done.stdout + done.stderr)
    url = wait_for_url(server)
    done = flops(server, "predict", url, "--data", "toy")
    found = re.search(r"v2: (\d+) of 400 right, accuracy (0\.\d+)", done.stdout)
    judge.check("predict: a served model is right about its data", done.returncode == 0 and found and
                float(found.group(2)) > 0.8, done.stdout + done.stderr)
    done = flops(server, "predict", url, "--data", "absent")
    judge.check("predict: a data set that is not there", done.returncode == 1 and "absent" in done.stderr, done.stderr)


def wait_for_url(server):
    done = flops(server, "wait", "infs/short", "--for=condition=Ready", "--timeout=40s")
    judge.check("the model is served", done.returncode == 0, done.stdout + done.stderr)
    return flops(server, "get", "infs", "short", "-o", "jsonpath={.status.url}").stdout


CASES = {"doctor": [doctor], "top": [top_live, top_ends, top_lines], "rounds": [rounds, models]}
MADE = {"top": "live", "rounds": "short"}


def main():
    server = rig.Server().start()
    try:
        push_data(server)
        divide_machine(server)
        for name in sys.argv[1:] or CASES:
            began = time.monotonic()
            for case in CASES[name]:
                case(server)
            if name in MADE:
                remove(server, MADE[name])
            print(f"# {name} took {time.monotonic() - began:.1f} s")
        judge.check("the control plane ends well", server.stop() == 0, server.errors()[-500:])
    finally:
        server.remove()
    judge.end()


main()
