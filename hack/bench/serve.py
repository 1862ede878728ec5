"""serve.py: what `flops serve` takes for one JSON row, and beside it in the same run FastAPI (uvicorn, two workers) with
scikit-learn and the same weights; prints a table with ratios, where more than 1 is better for us.

Both get the same requests from wrk (Debian), one thread of it, turn by turn. wrk shares the processors with the server
it measures. CPU a request is that of the server's processes and depends least on what else the machine does.

  SECONDS_EACH=5  TURNS=2  FLOPS=bin/flops"""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "e2e", "local"))
from ports import free_port  # noqa: E402
from serve_rig import Softmax, v2_body  # noqa: E402

FLOPS = os.environ.get("FLOPS", os.path.join(ROOT, "bin", "flops"))
SECONDS = os.environ.get("SECONDS_EACH", "5")
TURNS = int(os.environ.get("TURNS", "2"))
VENV = os.path.join(ROOT, "build", "tools", "bench-serve")
PACKAGES = ["fastapi", "uvicorn[standard]", "scikit-learn"]
PATH = "/v2/models/model/infer"
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def set_up():
    if not shutil.which("wrk"):
        sys.exit("bench-serve: wrk is missing: apt-get install wrk")
    done = os.path.join(VENV, "ready")
    if not os.path.exists(done):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([os.path.join(VENV, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
                       check=True)
        open(done, "w").close()


def family(pid):
    """A process and all below it."""
    pids = [pid]
    for each in pids:
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                pids += map(int, open(f"/proc/{each}/task/{task}/children").read().split())
        except OSError:
            pass
    return pids


def cpu_us(pid):
    total = 0
    for each in family(pid):
        fields = open(f"/proc/{each}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_US


def pss_mb(pid):
    return sum(int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{each}/smaps_rollup").read(), re.MULTILINE).group(1))
               for each in family(pid)) / 1024


def ask(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", PATH, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text
    return json.loads(text)["outputs"][0]["data"]


class Side:
    def __init__(self, name, argv, env=None):
        self.name, self.port = name, free_port()
        self.process = subprocess.Popen([arg.replace("PORT", str(self.port)) for arg in argv],
                                        env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def wait(self, body):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                return ask(self.port, body)
            except (OSError, AssertionError):
                time.sleep(0.1)
        sys.exit(f"bench-serve: {self.name} does not answer")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def measure(side, script, connections):
    before = cpu_us(side.process.pid)
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", script,
                          f"http://127.0.0.1:{side.port}{PATH}"], capture_output=True, text=True, check=True).stdout
    spent = cpu_us(side.process.pid) - before
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"bench-serve: {side.name} failed requests:\n{out}")
    count = int(re.search(r"(\d+) requests in", out).group(1))
    return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50_us": 1e3 * milliseconds(re.search(r"^\s+50%\s+(\S+)", out, re.MULTILINE).group(1)),
            "p99_us": 1e3 * milliseconds(re.search(r"^\s+99%\s+(\S+)", out, re.MULTILINE).group(1)), "cpu_us": spent / max(count, 1)}


def best(runs):
    """Of several turns the one in which the machine was least disturbed."""
    return {key: (max if key == "rate" else min)(run[key] for run in runs) for key in runs[0]}


def row(name, ours, theirs, more_is_better):
    ratio = ours / theirs if more_is_better else theirs / ours
    print(f"{name:44} {ours:12.1f} {theirs:12.1f} {ratio:8.1f}")


def bench(folder, width, classes):
    model = Softmax([width], classes, 1)
    path, weights, script = (os.path.join(folder, name) for name in ("model", "weights.json", "post.lua"))
    open(path, "wb").write(model.bytes)
    json.dump({"weight": [list(model.weight[c * width:(c + 1) * width]) for c in range(classes)],
               "bias": list(model.bias)}, open(weights, "w"))
    body = json.dumps(v2_body([[round((i * 37 % 256) / 255, 4) if i % 3 else 0.0 for i in range(width)]], [width]))
    open(script, "w").write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                            f"wrk.body = [[{body}]]\n")
    sides = [Side("flops", [FLOPS, "serve", "--model", path, "--listen", "127.0.0.1:PORT"]),
             Side("fastapi", [os.path.join(VENV, "bin", "uvicorn"), "serve_twin:app", "--port", "PORT", "--workers", "2",
                              "--no-access-log", "--log-level", "error", "--app-dir", os.path.join(ROOT, "hack", "bench")],
                  {"TWIN_WEIGHTS": weights, "OMP_NUM_THREADS": "1"})]
    try:
        answers = [side.wait(body) for side in sides]
        assert all(abs(a - b) < 1e-4 for a, b in zip(*answers)), answers
        print(f"\nsoftmax regression {width} -> {classes}, one row of JSON ({len(body)} bytes)\n"
              f"{'':44} {'flops':>12} {'fastapi':>12} {'ratio':>8}")
        for connections in (1, 16):
            runs = [[measure(side, script, connections) for side in sides] for _ in range(TURNS)]
            ours, theirs = (best([turn[i] for turn in runs]) for i in (0, 1))
            name = f", {connections} connection{'s' * (connections > 1)}"
            row("requests/s" + name, ours["rate"], theirs["rate"], True)
            row("p50, us" + name, ours["p50_us"], theirs["p50_us"], False)
            row("p99, us" + name, ours["p99_us"], theirs["p99_us"], False)
            row("server CPU a request, us" + name, ours["cpu_us"], theirs["cpu_us"], False)
        row("memory, MB (PSS)", pss_mb(sides[0].process.pid), pss_mb(sides[1].process.pid), False)
    finally:
        for side in sides:
            side.stop()


def main():
    set_up()
    print(f"{os.cpu_count()} processors, load average before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        for width, classes in ((784, 10), (30, 2)):
            bench(folder, width, classes)


if __name__ == "__main__":
    main()
