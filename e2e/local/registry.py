#!/usr/bin/env python3
"""The registry while things fail: killed at random in the middle of pushes, transfers that break, a disk that is
full. What was acknowledged is there, nothing is there in half, and what broke off goes on.

  registry.py [--rounds N] [--seed N]    (the part with the full disk needs the right to mount)"""

import argparse
import hashlib
import http.client
import json
import os
import random
import ssl
import subprocess
import threading
import time

from rig import Judge, Server

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PUSHERS = 4
CHUNK = 200_000


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]}")
        self.status, self.body = status, body


class Client:
    """One connection, which is made anew when it broke."""

    def __init__(self, server):
        self.server, self.session = server, None

    def call(self, method, path, body=b"", headers=None, wanted=(200, 201, 202, 204, 206)):
        if not self.session:
            self.session = self.server.session()
        try:
            self.session.request(method, path, body, headers or {})
            answer = self.session.getresponse()
            data = answer.read()
        except Exception:
            self.close()
            raise
        if answer.status not in wanted:
            raise Refused(answer.status, data)
        return answer, data

    def close(self):
        if self.session:
            self.session.close()
        self.session = None

    def push_blob(self, repository, data, chunk=CHUNK):
        location = self.call("POST", f"/v2/{repository}/blobs/uploads/")[0].getheader("Location")
        for at in range(0, len(data), chunk):
            part = data[at:at + chunk]
            self.call("PATCH", location, part, {"Content-Range": f"{at}-{at + len(part) - 1}"})
        self.call("PUT", f"{location}?digest={digest_of(data)}")
        return {"mediaType": "application/octet-stream", "digest": digest_of(data), "size": len(data)}

    def push_manifest(self, repository, reference, config, layers):
        text = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()
        self.call("PUT", f"/v2/{repository}/manifests/{reference}", text, {"Content-Type": MANIFEST})
        return digest_of(text)

    def upload_size(self, location):
        last = int(self.call("GET", location)[0].getheader("Range").split("-")[1])
        return last + 1 if last else 0

    def get(self, path):
        return self.call("GET", path)[1]


BROKEN = (OSError, http.client.HTTPException, ssl.SSLError)


class Pusher(threading.Thread):
    """Pushes images into a repository of its own until it is told to stop; writes down what was acknowledged."""

    def __init__(self, server, name, seed):
        super().__init__(daemon=True)
        self.client, self.repository = Client(server), f"kills/{name}"
        self.random = random.Random(seed)
        self.stopped = threading.Event()
        self.blobs, self.manifests = {}, set()
        self.tags, self.tried = {}, {}  # acknowledged; begun after that
        self.errors = []

    def push_image(self, n):
        layers = []
        for i in range(self.random.randrange(1, 3)):
            data = self.random.randbytes(self.random.randrange(1, 1_000_000)) + b"%d %d" % (n, i)
            layers.append(self.client.push_blob(self.repository, data))
            self.blobs[layers[-1]["digest"]] = len(data)
        config = self.client.push_blob(self.repository, b'{"n": %d}' % n)
        self.blobs[config["digest"]] = config["size"]
        tag = f"t{n % 3}"
        text = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()
        self.tried.setdefault(tag, set()).add(digest_of(text))
        digest = self.client.push_manifest(self.repository, tag, config, layers)
        self.manifests.add(digest)
        self.tags[tag], self.tried[tag] = digest, set()

    def run(self):
        n = 0
        while not self.stopped.is_set():
            try:
                self.push_image(n)
            except BROKEN:
                time.sleep(0.05)  # it was killed; it comes again
            except Refused as error:
                if b"BLOB_UPLOAD_UNKNOWN" not in error.body:  # an upload goes with its server
                    self.errors.append(str(error))
            except Exception as error:  # whatever it is, it is told
                self.errors.append(repr(error))
            n += 1


def check_acknowledged(client, pusher, problems):
    base = f"/v2/{pusher.repository}"
    for digest, size in pusher.blobs.items():
        try:
            data = client.get(f"{base}/blobs/{digest}")
            if digest_of(data) != digest or len(data) != size:
                problems.append(f"{digest} has other content")
        except Refused as error:
            problems.append(f"{digest}: {error}")
    for digest in pusher.manifests:
        try:
            if digest_of(client.get(f"{base}/manifests/{digest}")) != digest:
                problems.append(f"manifest {digest} has other content")
        except Refused as error:
            problems.append(f"manifest {digest}: {error}")
    for tag, digest in pusher.tags.items():
        found = digest_of(client.get(f"{base}/manifests/{tag}"))
        if found != digest and found not in pusher.tried[tag]:
            problems.append(f"tag {tag} leads to {found}, not {digest}")


def check_whole(client, problems):
    """Whatever is seen is there with all that it names."""
    seen = 0
    for repository in json.loads(client.get("/v2/_catalog"))["repositories"]:
        for tag in json.loads(client.get(f"/v2/{repository}/tags/list"))["tags"]:
            manifest = json.loads(client.get(f"/v2/{repository}/manifests/{tag}"))
            for part in [manifest["config"], *manifest["layers"]]:
                data = client.get(f"/v2/{repository}/blobs/{part['digest']}")
                seen += 1
                if len(data) != part["size"] or digest_of(data) != part["digest"]:
                    problems.append(f"{repository}:{tag}: {part['digest']}")
    return seen


def kills(judge, rounds, seed):
    chance = random.Random(seed)
    server = Server("--no-controllers", "--no-audit").start()
    pushers = [Pusher(server, f"p{i}", seed * 100 + i) for i in range(PUSHERS)]
    problems, seen = [], 0
    try:
        for pusher in pushers:
            pusher.start()
        for _ in range(rounds):
            time.sleep(chance.uniform(0.1, 0.9))
            server.kill()
            server.start()
        time.sleep(0.5)
        for pusher in pushers:
            pusher.stopped.set()
        for pusher in pushers:
            pusher.join(60)
        server.kill()
        server.start()
        client = Client(server)
        for pusher in pushers:
            check_acknowledged(client, pusher, problems)
        seen = check_whole(client, problems)
        client.close()
        count = sum(len(pusher.manifests) for pusher in pushers)
        judge.check(f"{count} images and {sum(len(p.blobs) for p in pushers)} blobs survived {rounds + 1} kills",
                    not problems and count > rounds and seen, problems[:5])
        judge.check("nothing else was refused", not any(pusher.errors for pusher in pushers),
                    [pusher.errors[:2] for pusher in pushers])
        judge.check("no file of an upload was left behind", os.listdir(os.path.join(server.dir, "content", "new")) ==
                    [], os.listdir(os.path.join(server.dir, "content", "new")))
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        server.remove()


def raw_patch(server, location, length, data):
    """A chunk whose connection ends before its data do."""
    sock = server.connect()
    sock.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + data)
    return sock


def wait_for_size(client, location, size):
    end = time.monotonic() + 30
    while client.upload_size(location) != size:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def breaks(judge):
    server = Server("--no-controllers", "--no-audit").start()
    client, data = Client(server), os.urandom(1_000_000)
    try:
        location = client.call("POST", "/v2/breaks/blobs/uploads/")[0].getheader("Location")
        sock = raw_patch(server, location, len(data), data[:300_000])
        came = wait_for_size(client, location, 300_000)
        sock.close()
        judge.check("what came before the break is there", came, client.upload_size(location))
        stalled = raw_patch(server, location, 700_000, data[300_000:400_000])
        came = wait_for_size(client, location, 400_000)
        client.call("PATCH", location, data[400_000:], {"Content-Range": "400000-999999"})
        judge.check("a stalled transfer is gone on with by another", came and
                    client.upload_size(location) == len(data), client.upload_size(location))
        stalled.close()
        client.call("PUT", f"{location}?digest={digest_of(data)}")
        judge.check("it is whole", client.get(f"/v2/breaks/blobs/{digest_of(data)}") == data)
        other = os.urandom(1000)
        location = client.call("POST", "/v2/breaks/blobs/uploads/")[0].getheader("Location")
        answer = client.call("PUT", f"{location}?digest={digest_of(other)}", data, wanted=(400,))[1]
        judge.check("a wrong digest is refused", b"DIGEST_INVALID" in answer, answer)
        answer = client.call("GET", f"/v2/breaks/blobs/{digest_of(other)}", wanted=(404,))[1]
        judge.check("and nothing is there", b"BLOB_UNKNOWN" in answer, answer)
        client.close()
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        server.remove()


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


def push_until_full(client, location, data):
    """The status of the chunk that was not taken any more."""
    for at in range(0, len(data), 1_000_000):
        try:
            client.call("PATCH", location, data[at:at + 1_000_000])
        except Refused as error:
            return error.status
        except BROKEN:
            return 0
    return 200


def full_disk(judge):
    server = Server("--no-controllers", "--no-audit")
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=24m", "flops-e2e", server.dir])
    filler = os.path.join(server.dir, "filler")
    try:
        client, data = Client(server.start()), os.urandom(8_000_000)
        config = client.push_blob("full", b"{}")
        client.push_manifest("full", "before", config, [])
        location = client.call("POST", "/v2/full/blobs/uploads/")[0].getheader("Location")
        client.call("PATCH", location, data[:3_000_000])
        fill(filler)
        status = push_until_full(client, location, data[3_000_000:])
        judge.check("a full disk is said", status == 503, status)
        size = client.upload_size(location)
        judge.check("what was acknowledged of the upload is kept", 3_000_000 <= size < len(data), size)
        status = client.call("POST", f"/v2/full/blobs/uploads/?digest={digest_of(data)}", data[:100_000],
                             wanted=(503, 500, 400))[0].status
        judge.check("a blob is refused", status == 503, status)
        layer = {"mediaType": "application/octet-stream", "digest": config["digest"], "size": 2}
        refused = 0
        for i in range(20):
            try:
                client.push_manifest("full", f"during{i}", config, [layer] * 100)
            except Refused as error:
                refused = error.status
                break
        judge.check("a manifest is refused", refused == 503, refused)
        judge.check("reads are served", json.loads(client.get("/v2/full/manifests/before"))["config"] == config)
        judge.check("it did not end", server.process.poll() is None, server.errors()[-500:])
        os.unlink(filler)
        size = client.upload_size(location)
        client.call("PATCH", location, data[size:], {"Content-Range": f"{size}-{len(data) - 1}"})
        client.call("PUT", f"{location}?digest={digest_of(data)}")
        judge.check("with room again it goes on", client.get(f"/v2/full/blobs/{digest_of(data)}") == data)
        client.push_manifest("full", "after", config, [])
        problems = []
        judge.check("all that is seen is whole", check_whole(client, problems) and not problems, problems[:5])
        client.close()
        server.kill()
        client = Client(server.start())
        judge.check("also after a kill", check_whole(client, problems) and not problems, problems[:5])
        client.close()
        judge.check("it ends in good order", server.stop() == 0, server.errors()[-500:])
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        subprocess.call(["umount", server.dir])
        server.remove()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options = options.parse_args()
    judge = Judge()
    print(f"# seed {options.seed}")
    kills(judge, options.rounds, options.seed)
    breaks(judge)
    if os.geteuid() == 0:
        full_disk(judge)
    judge.end()


if __name__ == "__main__":
    main()
