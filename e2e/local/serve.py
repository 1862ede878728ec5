"""`flops serve` as its clients meet it: each protocol, its limits, bad input, slow and vanishing clients, a drain and
changes of the model under load."""

import hashlib
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

from rig import Judge
from serve_rig import Serve, Softmax, is_close, slow_model, v2_body, wait_until

JUDGE = Judge()
FIRST, SECOND = Softmax([2, 3], 4, 1), Softmax([2, 3], 4, 2)
ROWS = [[1, 2, 3, 4, 5, 6], [0.5, -1.25, 0, 1e-3, 2.5, -0.1]]
NESTED = [[row[:3], row[3:]] for row in ROWS]
WANTED = [FIRST.answer(row) for row in ROWS]
INFER = "/v2/models/model/infer"


def same_rows(got, wanted=None):
    wanted = wanted or WANTED
    return isinstance(got, list) and len(got) == len(wanted) and all(map(is_close, got, wanted))


def same_flat(got):
    return is_close(got, [x for row in WANTED for x in row])


def protocols(serve):
    columns = ["a", "b", "c", "d", "e", "f"]
    forms = {
        "instances": {"instances": ROWS},
        "instances, nested": {"instances": NESTED},
        "instances, named": {"instances": [{"input": row} for row in NESTED]},
        "inputs": {"inputs": ROWS},
        "inputs, named": {"inputs": {"input": NESTED}},
        "dataframe_split": {"dataframe_split": {"columns": columns, "index": [0, 1], "data": ROWS}},
        "dataframe_records": {"dataframe_records": [dict(zip(columns, row)) for row in ROWS]},
    }
    for name, body in forms.items():
        status, headers, answer = serve.call("POST", "/invocations", body)
        JUDGE.check(f"/invocations: {name}", status == 200 and same_rows(answer["predictions"]), answer)
    JUDGE.check("an answer names its model", headers["X-Model-Digest"] == FIRST.digest)
    csv = ",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)
    status, _, answer = serve.call("POST", "/invocations", csv, {"Content-Type": "text/csv; charset=utf-8"})
    JUDGE.check("/invocations: CSV", status == 200 and same_rows(answer["predictions"]), answer)
    status, _, answer = serve.call("POST", "/v1/models/model:predict", {"instances": ROWS})
    JUDGE.check("KServe v1: predict", status == 200 and same_rows(answer["predictions"]), answer)
    status, _, answer = serve.call("POST", "/v1/models/model%3Apredict", {"instances": ROWS})
    JUDGE.check("an escaped path is the same path", status == 200, answer)
    status, _, answer = serve.call("POST", INFER, v2_body(ROWS, [2, 3], id="seven"))
    output = answer["outputs"][0]
    JUDGE.check("v2: infer", status == 200 and same_flat(output["data"]) and answer["id"] == "seven", answer)
    JUDGE.check("v2: what it says of its output", (output["name"], output["datatype"], output["shape"]) ==
                ("probabilities", "FP32", [2, 4]) and answer["model_name"] == "model", answer)
    for version in ("1", FIRST.digest):
        status, _, answer = serve.call("POST", f"/v2/models/model/versions/{version}/infer", v2_body(ROWS, [2, 3]))
        JUDGE.check(f"v2: version {version[:8]}", status == 200 and answer["model_version"] == FIRST.digest, answer)


def binary(serve):
    tensor = struct.pack("<12f", *[x for row in ROWS for x in row])
    head = json.dumps({"inputs": [{"name": "input", "shape": [2, 2, 3], "datatype": "FP32",
                                   "parameters": {"binary_data_size": len(tensor)}}],
                       "parameters": {"binary_data_output": True}}).encode()
    for name, header, body in (("with a header", str(len(head)), head + tensor), ("nothing but bytes", "0", tensor)):
        status, headers, answer = serve.call("POST", INFER, body, {"Inference-Header-Content-Length": header})
        length = int(headers["Inference-Header-Content-Length"])
        said = json.loads(answer[:length])["outputs"][0]
        numbers = struct.unpack("<8f", answer[length:])
        JUDGE.check(f"v2: binary, {name}", status == 200 and same_flat(numbers) and
                    said["parameters"]["binary_data_size"] == 32 and "data" not in said, said)


def descriptions(serve):
    status, _, answer = serve.call("GET", "/v2")
    JUDGE.check("v2: server", status == 200 and "binary_tensor_data" in answer["extensions"], answer)
    status, _, answer = serve.call("GET", "/v2/models/model")
    JUDGE.check("v2: model", answer["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2, 3]}] and
                answer["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]}] and
                answer["platform"] == "flops_softmaxregression" and answer["versions"] == [FIRST.digest], answer)
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/model/ready", "/ping", "/health", "/version",
                 "/v1/models", "/v1/models/model", "/metrics"):
        status, headers, answer = serve.call("GET", path)
        JUDGE.check(f"GET {path}", status == 200 and headers["X-Model-Digest"] == FIRST.digest, answer)


def wrong(serve):
    cases = [
        ("POST", INFER, {"inputs": [{"name": "x"}]}, 400, 'inputs[0].name: is "x"; "input" is expected'),
        ("POST", INFER, {"inputs": [{"name": "input", "datatype": "INT64"}]}, 400, "FP32 is expected"),
        ("POST", INFER, v2_body([ROWS[0][:5]], [5]), 400, "has the shape [1,5]; [-1,2,3] is expected"),
        ("POST", INFER, "{", 400, "byte 1: "),
        ("POST", INFER, {"inputs": [], "outputs": [{"name": "logits"}]}, 400, 'the model gives "probabilities"'),
        ("POST", "/v2/models/other/infer", {}, 404, "no such path"),
        ("POST", "/v2/models/model/versions/2/infer", {}, 404, "no such path"),
        ("GET", INFER, None, 405, "another method"),
        ("POST", "/v1/models/model:predict", {"instances": [[1]]}, 400, "instances has the shape [1,1]"),
        ("POST", "/v1/models/model:explain", {}, 404, "no such path"),
        ("POST", "/invocations", [1], 400, "an object is expected"),
        ("POST", "/invocations", {"inputs": [["a"]]}, 400, "inputs: byte 13: a number"),
        ("POST", INFER, v2_body([[3e38, -3e38, 3e38, -3e38, 3e38, -3e38]], [2, 3]), 400, "too large"),
        ("DELETE", "/ping", None, 405, "another method"),
    ]
    for method, path, body, wanted, says in cases:
        status, headers, answer = serve.call(method, path, body)
        mlflow = path in ("/invocations", "/ping")
        text = answer["message" if mlflow else "error"]
        JUDGE.check(f"{method} {path}: {wanted} {says[:40]}",
                    status == wanted and says in text and ("error_code" in answer) == mlflow and
                    headers["X-Model-Digest"] == FIRST.digest, (status, answer))
    status, _, answer = serve.call("POST", "/invocations", "<a/>", {"Content-Type": "text/xml"})
    JUDGE.check("another content type: 415", status == 415 and answer["error_code"] == "BAD_REQUEST", answer)
    status, _, answer = serve.call("POST", INFER, b"\x1f\x8b", {"Content-Encoding": "gzip"})
    JUDGE.check("a content coding: 415", status == 415 and "identity" in answer["error"], answer)


def limits():
    serve = Serve("--max-rows", "3", "--max-body", "4096", model=FIRST.bytes)
    try:
        serve.start()
        status, _, answer = serve.call("POST", INFER, v2_body(ROWS * 2, [2, 3]))
        JUDGE.check("too many rows: 413", status == 413 and "more than 3 rows" in answer["error"], answer)
        status, _, answer = serve.call("POST", "/invocations", {"inputs": [[0] * 6] * 3})
        JUDGE.check("just as many as allowed", status == 200, answer)
        status, _, answer = serve.call("POST", "/invocations", "x" * 4097)
        JUDGE.check("too many bytes: 413 in MLflow's form",
                    status == 413 and "4096 are allowed" in answer["message"], answer)
        # Told before the body is sent.
        with socket.create_connection(("127.0.0.1", serve.port), timeout=30) as raw:
            raw.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n".encode())
            JUDGE.check("too many bytes: before they come", b" 413 " in raw.recv(4096))
        with socket.create_connection(("127.0.0.1", serve.port), timeout=30) as raw:
            raw.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            raw.sendall(b"1388\r\n" + b" " * 5000 + b"\r\n")
            answer = raw.recv(4096)
            JUDGE.check("too many bytes in chunks: both forms", b" 413 " in answer and b'"error":' in answer and
                        b'"message":' in answer, answer)
    finally:
        serve.remove()


def together(count, work):
    """Runs it in many threads; what each returned."""
    results = [None] * count

    def run(i):
        results[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def overload():
    slow = slow_model(64, 1200)
    body = json.dumps({"inputs": [[0.5] * 64] * 40})
    for name, options, refusal in (("at a time", ["--max-concurrency", "2"], 429),
                                   ("in the queue", ["--max-waiting", "40", "--batch-size", "40"], 503)):
        serve = Serve("--threads", "1", *options, model=slow)
        try:
            serve.start()
            seen = []

            def ask(_):
                connection = serve.connect()
                for _ in range(12):
                    status, headers, _ = serve.call("POST", "/invocations", body, connection=connection)
                    seen.append((status, headers["Retry-After"]))

            together(8, ask)
            codes = {status for status, _ in seen}
            JUDGE.check(f"too many {name}: {refusal}, others are answered", codes == {200, refusal}, codes)
            JUDGE.check(f"{refusal} says when to come again", all(again for status, again in seen if status == refusal))
            JUDGE.check(f"nothing is left under way after {refusal}",
                        wait_until(lambda: serve.metric("flops_serve_in_flight") == 0))
        finally:
            serve.remove()


def batching():
    serve = Serve("--threads", "1", "--batch-size", "16", model=slow_model(64, 1200))
    try:
        serve.start()
        body = json.dumps({"inputs": [[0.5] * 64]})

        def ask(_):
            connection = serve.connect()
            return all(serve.call("POST", "/invocations", body, connection=connection)[0] == 200 for _ in range(20))

        JUDGE.check("many at a time are answered", all(together(12, ask)))
        runs, rows = serve.metric("flops_serve_batch_rows_count"), serve.metric("flops_serve_batch_rows_sum")
        JUDGE.check("many requests are one run", rows == 240 and runs < 200, (runs, rows))
    finally:
        serve.remove()


def slow_clients(serve):
    """Half a header, half a body: nobody else notices."""
    dawdlers = []
    for text in (b"POST /invocations HTT", b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"):
        for _ in range(20):
            raw = socket.create_connection(("127.0.0.1", serve.port), timeout=30)
            raw.sendall(text)
            dawdlers.append(raw)
    oks = [serve.call("POST", INFER, v2_body(ROWS, [2, 3]))[0] == 200 for _ in range(50)]
    JUDGE.check("clients that dawdle hold nobody up", all(oks))
    body = json.dumps({"instances": ROWS}).encode()
    with socket.create_connection(("127.0.0.1", serve.port), timeout=30) as raw:
        for byte in b"POST /v1/models/model:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body:
            raw.sendall(bytes([byte]))
        JUDGE.check("a byte at a time is a request too", b" 200 OK" in raw.recv(4096))
    for raw in dawdlers:
        raw.close()


def disconnects():
    serve = Serve("--threads", "1", "--batch-size", "8", model=slow_model(64, 2000))
    try:
        serve.start()
        body = json.dumps({"inputs": [[0.5] * 64] * 8}).encode()
        request = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for _ in range(5):
            raws = [socket.create_connection(("127.0.0.1", serve.port), timeout=30) for _ in range(20)]
            for raw in raws:
                raw.sendall(request)
            for raw in raws[::2]:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.close()
            JUDGE.check("who stays is answered", all(b" 200 OK" in raw.recv(65536) for raw in raws[1::2]))
            for raw in raws[1::2]:
                raw.close()
        JUDGE.check("nothing of those who left is left",
                    wait_until(lambda: serve.metric("flops_serve_in_flight") == 0 and
                               serve.metric("flops_serve_connections") == 0))
        JUDGE.check("it ends well", serve.stop() == 0, serve.errors()[-500:])
    finally:
        serve.remove()


class Load:
    """Clients with connections of their own, until told to stop or the server refuses connections."""

    def __init__(self, serve, count, model_of):
        self.serve, self.model_of = serve, model_of
        self.stop = threading.Event()
        self.done, self.failures, self.digests = 0, [], set()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def ask(self, connection, chance):
        row = [chance.uniform(-1, 1) for _ in range(6)]
        if chance.random() < 0.5:
            status, headers, answer = self.serve.call("POST", INFER, v2_body([row], [2, 3]), connection=connection)
            got = answer["outputs"][0]["data"] if status == 200 else None
        else:
            status, headers, answer = self.serve.call("POST", "/invocations", {"inputs": [row]}, connection=connection)
            got = answer["predictions"][0] if status == 200 else None
        digest = headers["X-Model-Digest"]
        good = status == 200 and is_close(got, self.model_of[digest].answer(row))
        with self.lock:
            self.done += 1
            self.digests.add(digest)
            if not good:
                self.failures.append((status, digest, answer))
        return headers.get("Connection", "") != "close"

    def run(self, i):
        chance, connection = random.Random(i), None
        while not self.stop.is_set():
            if not connection:
                connection = self.serve.connect()
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
            try:
                keep = self.ask(connection, chance)
            except Exception as problem:  # a request that was sent and has no answer
                with self.lock:
                    self.failures.append(repr(problem))
                return
            if not keep:
                connection.close()
                connection = None

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def drain():
    models = {FIRST.digest: FIRST}
    for _ in range(3):
        serve = Serve(model=FIRST.bytes)
        try:
            serve.start()
            load = Load(serve, 8, models)
            wait_until(lambda load=load: load.done > 300)
            serve.process.send_signal(signal.SIGTERM)
            status = serve.wait()
            load.end()
            JUDGE.check("told to stop under load: no request fails, exit 0",
                        status == 0 and not load.failures and load.done > 300, (status, load.failures[:3]))
        finally:
            serve.remove()


def drain_slow():
    """What waits is answered, and health says that no more should come."""
    serve = Serve("--threads", "1", "--batch-size", "64", model=slow_model(64, 2500))
    try:
        serve.start()
        body = json.dumps({"inputs": [[0.5] * 64] * 64})
        watcher = serve.connect()
        watcher.connect()

        def ask(_):
            return serve.call("POST", "/invocations", body)[0]

        results = []
        asking = threading.Thread(target=lambda: results.extend(together(16, ask)))
        asking.start()
        answered = 'flops_serve_request_duration_seconds_count{protocol="MLflow",code="200"}'
        wait_until(lambda: serve.metric("flops_serve_in_flight") + serve.metric(answered) == 16)
        serve.process.send_signal(signal.SIGTERM)
        told = wait_until(lambda: serve.call("GET", "/v2/health/ready", connection=watcher)[0] == 503)
        asking.join()
        JUDGE.check("not ready while it drains", told)
        JUDGE.check("what waits is answered first", results == [200] * 16, results)
        JUDGE.check("then it ends well", serve.wait() == 0, serve.errors()[-500:])
    finally:
        serve.remove()


def hot_reload():
    models = {FIRST.digest: FIRST, SECOND.digest: SECOND}
    serve = Serve(model=FIRST.bytes)
    try:
        paths = {m.digest: serve.put(f"model-{i}", m.bytes) for i, m in enumerate((FIRST, SECOND))}
        serve.start()
        load = Load(serve, 6, models)
        took = []
        for i in range(20):
            model = (SECOND, FIRST)[i % 2]
            seen = load.done
            status, _, answer = serve.admin("PUT", "/v1/admin/model",
                                            {"path": paths[model.digest], "digest": model.digest})
            took.append(status == 200 and answer["digest"] == model.digest)
            wait_until(lambda seen=seen: load.done > seen + 20)
        JUDGE.check("each change of the model is answered when it serves", all(took), took)
        status, _, answer = serve.admin("PUT", "/v1/admin/model",
                                        {"path": paths[FIRST.digest], "digest": "sha256:" + "0" * 64})
        JUDGE.check("another digest: refused", status == 422 and "is expected" in answer["error"]["message"], answer)
        status, _, answer = serve.admin("PUT", "/v1/admin/model",
                                        {"path": serve.dir + "/none", "digest": "sha256:" + "0" * 64})
        JUDGE.check("no such file: refused", status == 404, answer)
        for body in ({}, {"path": "a"}, {"path": "a", "url": "b", "digest": FIRST.digest},
                     {"path": "a", "digest": "md5:1"}, "{"):
            status, _, answer = serve.admin("PUT", "/v1/admin/model", body)
            JUDGE.check(f"a wish that is none: {str(body)[:30]}", status == 400, answer)
        status, _, answer = serve.admin("GET", "/v1/admin/model")
        JUDGE.check("it says what it serves, and what failed", answer["digest"] == FIRST.digest and
                    answer["ready"] and "error" in answer, answer)
        seen = load.done
        wait_until(lambda: load.done > seen + 50)
        load.end()
        JUDGE.check("no request fails, each answer is that of the model it names", not load.failures and
                    load.done > 400, (load.done, load.failures[:3]))
        JUDGE.check("both models answered", load.digests == set(models), load.digests)
        JUDGE.check("another model's version is not there any more",
                    serve.call("POST", f"/v2/models/model/versions/{SECOND.digest}/infer", {})[0] == 404)
    finally:
        serve.remove()


class Store(http.server.ThreadingHTTPServer):
    """A content store that notes whom it was shown as."""

    def __init__(self, content, failures=0):
        store = self
        self.shown, self.left = [], failures

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                store.shown.append(self.headers["Authorization"])
                store.left -= 1
                code = 503 if store.left >= 0 else 200 if self.path in content else 404
                self.send_response(code)
                body = content[self.path] if code == 200 else b"no"
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


def fetching():
    store = Store({"/a": FIRST.bytes, "/b": SECOND.bytes}, failures=2)
    other = Store({"/b": SECOND.bytes})
    serve = Serve("--model-url", store.url("/a"), "--digest", FIRST.digest)
    try:
        with open(os.path.join(serve.dir, "token"), "w") as file:
            file.write("fetch-secret\n")
        serve.options += ["--token-file", os.path.join(serve.dir, "token")]
        serve.start()
        JUDGE.check("a model by URL and digest, after some tries", len(store.shown) == 3 and
                    set(store.shown) == {"Bearer fetch-secret"}, store.shown)
        status, _, _ = serve.admin("PUT", "/v1/admin/model", {"url": other.url("/b"), "digest": SECOND.digest})
        JUDGE.check("another host is not shown the token", status == 200 and other.shown == [None], other.shown)
        status, _, _ = serve.admin("PUT", "/v1/admin/model", {"url": store.url("/a"), "digest": FIRST.digest})
        JUDGE.check("the first one is", status == 200 and store.shown[-1] == "Bearer fetch-secret")
        status, _, answer = serve.admin("PUT", "/v1/admin/model", {"url": store.url("/c"), "digest": SECOND.digest})
        JUDGE.check("what the store has not is refused", status == 404, answer)
        JUDGE.check("the old model serves on", serve.call("POST", "/invocations", {"inputs": ROWS})[0] == 200)
        JUDGE.check("no token is in the log", "fetch-secret" not in serve.errors())
    finally:
        serve.remove()


def kept():
    """Models that were fetched are on disk: who is started again does not ask, and does not need anybody."""
    models = [FIRST, SECOND, Softmax([2, 3], 4, 3)]
    store = Store({f"/{i}": model.bytes for i, model in enumerate(models)})
    folder = tempfile.mkdtemp(prefix="flops-kept-")
    serve = Serve("--model-url", store.url("/0"), "--digest", FIRST.digest, "--folder", folder)

    def files():
        """Whole ones: while one is written it has another name."""
        return [os.path.join(path, name) for path, _, names in os.walk(folder) for name in names
                if len(name) == 64 and not set(name) - set("0123456789abcdef")]

    def digests():
        try:
            return sorted("sha256:" + hashlib.sha256(open(path, "rb").read()).hexdigest() for path in files())
        except FileNotFoundError:  # which went meanwhile
            return []

    def again(name, asked):
        before = len(store.shown)
        serve.process.kill()
        serve.wait()
        serve.start()
        status, _, answer = serve.call("POST", "/invocations", {"inputs": ROWS})
        JUDGE.check(f"kept: {name}", status == 200 and same_rows(answer["predictions"]) and
                    len(store.shown) - before == asked, (answer, len(store.shown) - before))
        JUDGE.check(f"kept: {name}: it is there", wait_until(files), files())

    try:
        serve.start()
        JUDGE.check("kept: a fetched model is on disk", wait_until(lambda: len(files()) == 1), files())
        again("killed and started again it asks nobody", 0)
        with open(files()[0], "r+b") as file:
            file.seek(len(FIRST.bytes) - 4)
            file.write(b"\0\0\0\1")
        again("what is not what it should be is fetched", 1)
        for i in (1, 2):
            serve.admin("PUT", "/v1/admin/model", {"url": store.url(f"/{i}"), "digest": models[i].digest})
        JUDGE.check("kept: the last two", wait_until(lambda: digests() == sorted(
            model.digest for model in models[1:])), files())
        store.shutdown()
        store.server_close()
        serve.options[1:4] = [store.url("/2"), "--digest", models[2].digest]
        serve.process.kill()
        serve.wait()
        serve.start()
        status, headers, _ = serve.call("POST", "/invocations", {"inputs": ROWS})
        JUDGE.check("kept: it serves while nobody can be asked", status == 200 and
                    headers["X-Model-Digest"] == models[2].digest, status)
    finally:
        serve.remove()
        shutil.rmtree(folder)


def secrets():
    serve = Serve(model=FIRST.bytes)
    try:
        for name in ("client", "admin"):
            serve.options += [f"--{name}-token-file", serve.put(name, name.encode() + b"-secret\n")]
        serve.start()
        status, headers, answer = serve.call("POST", "/invocations", {"inputs": ROWS})
        JUDGE.check("no token: 401", status == 401 and headers["WWW-Authenticate"] == "Bearer" and
                    answer["error_code"] == "UNAUTHENTICATED", answer)
        for token, wanted in (("wrong", 401), ("client-secret", 200), ("client-secreT", 401)):
            status = serve.call("POST", "/invocations", {"inputs": ROWS}, {"Authorization": f"Bearer {token}"})[0]
            JUDGE.check(f"the token {token}: {wanted}", status == wanted, status)
        JUDGE.check("health needs none", serve.call("GET", "/ping")[0] == 200)
        JUDGE.check("the admin needs its own", serve.admin("GET", "/v1/admin/model")[0] == 401 and serve.admin(
            "GET", "/v1/admin/model", headers={"Authorization": "Bearer admin-secret"})[0] == 200)
        JUDGE.check("the admin is not on the clients' port", serve.call(
            "PUT", "/v1/admin/model", {}, {"Authorization": "Bearer client-secret"})[0] == 404)
    finally:
        serve.remove()


def encrypted():
    serve = Serve(model=FIRST.bytes)
    cert, key = os.path.join(serve.dir, "cert.pem"), os.path.join(serve.dir, "key.pem")
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=serve", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                        "-out", cert], check=True, capture_output=True)
        serve.options += ["--tls-cert", cert, "--tls-key", key]
        serve.start(ready=False)
        context = ssl.create_default_context(cafile=cert)
        connection = http.client.HTTPSConnection("127.0.0.1", serve.port, context=context, timeout=30)
        JUDGE.check("TLS: ready", wait_until(
            lambda: serve.call("GET", "/v2/health/ready", connection=connection)[0] == 200))
        status, _, answer = serve.call("POST", "/invocations", {"inputs": ROWS}, connection=connection)
        JUDGE.check("TLS: a prediction", status == 200 and same_rows(answer["predictions"]), answer)
        JUDGE.check("TLS: plain text is told so", serve.call("GET", "/ping")[0] == 400)
        connection.close()
        JUDGE.check("TLS: it ends well", serve.stop() == 0, serve.errors()[-500:])
    finally:
        serve.remove()


def beginnings():
    """What cannot be served is told, at once, with exit 1."""
    cases = [
        ("another digest", FIRST.bytes, ["--digest", "sha256:" + "0" * 64], 1, "is expected"),
        ("no model at all", b"<html>", [], 1, "no safetensors"),
        ("half a model", FIRST.bytes[:-10], [], 1, "cannot be served"),
        ("no such address", FIRST.bytes, ["--listen", "192.0.2.1:1"], 1, "192.0.2.1"),
        ("an admin for everybody", FIRST.bytes, ["--admin", "0.0.0.0:0"], 2, "--admin-token-file"),
        ("an unknown protocol", FIRST.bytes, ["--protocols", "gRPC"], 2, "--protocols"),
    ]
    for name, model, options, wanted, says in cases:
        serve = Serve(model=model, admin=False)
        serve.options += options
        try:
            status = serve.launch().wait()
            JUDGE.check(f"{name}: exit {wanted}", status == wanted and says in serve.errors(), serve.errors()[-300:])
        finally:
            serve.remove()
    serve = Serve("--protocols", "MLflow", model=FIRST.bytes)
    try:
        serve.start()
        JUDGE.check("protocols that are not spoken are not there", serve.call("POST", INFER, {})[0] == 404 and
                    serve.call("GET", "/v1/models")[0] == 404 and
                    serve.call("POST", "/invocations", {"inputs": ROWS})[0] == 200)
    finally:
        serve.remove()


def main():
    serve = Serve(model=FIRST.bytes)
    try:
        serve.start()
        for part in (protocols, binary, descriptions, wrong, slow_clients):
            part(serve)
        text = serve.admin("GET", "/metrics")[2].decode()
        JUDGE.check("latency is counted by protocol and code", all(
            f'flops_serve_request_duration_seconds_count{{protocol="{p}",code="{c}"}}' in text
            for p, c in (("OpenInference", 200), ("MLflow", 400), ("KServeV1", 200), ("OpenInference", 405))))
        JUDGE.check("it ends well", serve.stop() == 0, serve.errors()[-500:])
    finally:
        serve.remove()
    for part in (limits, overload, batching, disconnects, drain, drain_slow, hot_reload, fetching, kept, secrets, encrypted,
                 beginnings):
        part()
    JUDGE.end()


if __name__ == "__main__":
    main()
