#!/usr/bin/env python3
"""images.py KUBECONFIG: docker-registry, skopeo and umoci judge `flops image`.

Debian's docker-registry runs three times, on loopback: open, behind TLS with names and passwords, and with
tokens from a service that is part of this script.  It takes our pushes and gives our pulls; skopeo and umoci
read what we wrote, and we read what they wrote.  The control plane's own registry is the third party.  Prints
a line a check and "N passed, N failed" at the end; fails when any failed.
"""

import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import urllib.parse
import urllib.request
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import crypt  # for what htpasswd would do

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
FLOPS = os.path.join(ROOT, "bin", "flops")
sys.path.insert(0, os.path.join(ROOT, "e2e", "local"))

from ports import free_port  # noqa: E402

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DEADLINE_S = 120
USER, PASSWORD = "ada", "lovelace: 1843"

checks = []


def check(test):
    """Registers a check; its docstring is its name."""
    checks.append(test)
    return test


def want(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what} is {got!r}, wanted {wanted!r}")


def want_in(text, words):
    if words not in text:
        raise AssertionError(f"{words!r} is not in {text!r}")


def run(*words, ok=True, env=None, text=None):
    """A program to its end; its output and what it complained."""
    done = subprocess.run([str(w) for w in words], capture_output=True, timeout=DEADLINE_S, text=True, input=text,
                          env={**os.environ, **(env or {})}, check=False)
    if (done.returncode == 0) != ok:
        raise AssertionError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stderr.strip()}")
    if PASSWORD in done.stdout + done.stderr:
        raise AssertionError(f"{words[0]} has printed the password")
    return done.stdout if ok else done.stderr


# --- images


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI image layout, made by hand."""

    def __init__(self, path):
        self.path = path
        self.images = []
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        with open(os.path.join(path, "oci-layout"), "w", encoding="utf-8") as f:
            f.write('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, media_type, data, **more):
        digest = digest_of(data)
        with open(os.path.join(self.path, "blobs", "sha256", digest[7:]), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def document(self, media_type, value, **more):
        return self.blob(media_type, json.dumps({"schemaVersion": 2, "mediaType": media_type, **value}).encode(), **more)

    def name(self, image, tag):
        self.images.append({**image, "annotations": {"org.opencontainers.image.ref.name": tag}})
        with open(os.path.join(self.path, "index.json"), "w", encoding="utf-8") as f:
            json.dump({"schemaVersion": 2, "manifests": self.images}, f)


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def image(layout, architecture, compression, size, subject=None):
    tar = tar_of({"etc/arch": architecture.encode(), "data": random.Random(architecture + str(size)).randbytes(size)})
    if compression == "zstd":
        layer = subprocess.run(["zstd", "-q", "-1"], input=tar, capture_output=True, check=True).stdout
    else:
        layer = gzip.compress(tar, 1, mtime=0)
    config = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/true"]},
              "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]}}
    return layout.document(
        MANIFEST,
        {"config": layout.blob(CONFIG, json.dumps(config).encode()),
         "layers": [layout.blob(f"{LAYER}+{compression}", layer)], **({"subject": subject} if subject else {})},
        platform={"os": "linux", "architecture": architecture})


# --- registries


class Registry:
    """One docker-registry, which ends with the block."""

    def __init__(self, folder, name, http="", auth=""):
        self.folder = os.path.join(folder, name)
        self.host = f"127.0.0.1:{free_port()}"
        os.makedirs(self.folder)
        with open(os.path.join(self.folder, "config.yml"), "w", encoding="utf-8") as f:
            f.write(f"version: 0.1\nlog: {{level: warn}}\n"
                    f"storage:\n  filesystem: {{rootdirectory: {self.folder}/data}}\n  delete: {{enabled: true}}\n"
                    f"http:\n  addr: {self.host}\n{http}{auth}")
        self.process = None

    def __enter__(self):
        with open(os.path.join(self.folder, "log"), "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", os.path.join(self.folder, "config.yml")],
                                            stdout=log, stderr=log)
        until = time.monotonic() + DEADLINE_S
        address = ("127.0.0.1", int(self.host.split(":")[1]))
        while True:
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=5):
                return self
            if self.process.poll() is not None or time.monotonic() > until:
                with open(os.path.join(self.folder, "log"), encoding="utf-8") as log:
                    raise AssertionError(f"docker-registry does not start: {log.read()[-2000:]}")
            time.sleep(0.05)

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait(timeout=DEADLINE_S)

    def __str__(self):
        return self.host


class Tokens:
    """A token service as docker-registry trusts one: JSON web tokens signed with a key of ours."""

    def __init__(self, folder):
        self.key, self.cert = os.path.join(folder, "token.key"), os.path.join(folder, "token.crt")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens", "-days", "2",
            "-keyout", self.key, "-out", self.cert)
        self.asked = []  # (scopes, Authorization)
        tokens = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
                tokens.asked.append((query.get("scope", []), self.headers.get("Authorization")))
                body = json.dumps({"token": tokens.sign(query.get("scope", [])), "expires_in": 300}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format, *args):  # pylint: disable=redefined-builtin
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sign(self, scopes):
        def part(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        with open(self.cert, encoding="utf-8") as f:
            der = "".join(f.read().strip().splitlines()[1:-1])
        access = [{"type": kind, "name": name, "actions": actions.split(",")}
                  for kind, name, actions in (scope.split(":") for scope in scopes)]
        now = int(time.time())
        claims = {"iss": "tokens", "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 10, "iat": now,
                  "jti": str(len(self.asked)), "access": access}
        text = part(json.dumps({"typ": "JWT", "alg": "RS256", "x5c": [der]}).encode()) + "." + part(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(),
                                   capture_output=True, check=True).stdout
        return text + "." + part(signature)


class World:
    """What the checks have in common."""

    def __init__(self, folder, kubeconfig):
        self.folder = folder
        self.kubeconfig = kubeconfig
        os.makedirs(os.path.join(folder, "home"))
        self.layout = Layout(os.path.join(folder, "made"))
        self.single = image(self.layout, "amd64", "gzip", 1000)
        self.large = image(self.layout, "amd64", "gzip", 40_000_000)  # several chunks
        self.index = self.layout.document(INDEX, {"manifests": [
            image(self.layout, "amd64", "gzip", 2000), image(self.layout, "arm64", "gzip", 3000)]})
        self.zstd = image(self.layout, "amd64", "zstd", 4000)
        self.signature = image(self.layout, "none", "gzip", 10, {k: self.single[k] for k in ("mediaType", "digest", "size")})
        for tag in ("single", "large", "index", "zstd", "signature"):
            self.layout.name(getattr(self, tag), tag)

    def path(self, name):
        return os.path.join(self.folder, name)

    def flops(self, *words, **more):
        env = {"HOME": self.path("home"), "XDG_RUNTIME_DIR": self.path("none"), "TMPDIR": self.path("tmp"),
               "KUBECONFIG": self.kubeconfig, **more.pop("env", {})}
        os.makedirs(self.path("tmp"), exist_ok=True)
        out = run(FLOPS, "image", *words, env=env, **more)
        want("what is left in the temporary folder", os.listdir(self.path("tmp")), [])
        return out

    def load(self, tag, where, *more, **options):
        return self.flops("load", self.layout.path, where, "--name", tag, *more, **options)


def raw_digest(reference, *options):
    """Of the manifest as skopeo gets it."""
    done = subprocess.run(["skopeo", "inspect", "--raw", *options, reference], capture_output=True, check=False,
                          timeout=DEADLINE_S)
    if done.returncode != 0:
        raise AssertionError(f"skopeo inspect {reference}: {done.stderr.decode()}")
    return digest_of(done.stdout)


# --- checks


@check
def pushes_are_taken(w):
    """docker-registry takes single images, indexes, gzip and zstd layers; skopeo finds what we have pushed"""
    for tag in ("single", "large", "index", "zstd"):
        w.load(tag, f"{w.open}/team/{tag}:v1", "--plain-http")
        want(tag, raw_digest(f"docker://{w.open}/team/{tag}:v1", "--tls-verify=false"), getattr(w, tag)["digest"])
    found = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{w.open}/team/single:v1"))
    want("architecture", found["Architecture"], "amd64")


@check
def skopeo_copies_all(w):
    """skopeo copies what we have pushed, both platforms and all layers, and checks every digest"""
    for tag in ("large", "index", "zstd"):
        run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{w.open}/team/{tag}:v1",
            f"oci:{w.path('skopeo')}:{tag}")
        want(tag, raw_digest(f"oci:{w.path('skopeo')}:{tag}"), getattr(w, tag)["digest"])


@check
def pulls_are_given(w):
    """docker-registry gives them back, and they are the same"""
    for tag in ("single", "large", "index", "zstd"):
        w.flops("save", f"{w.open}/team/{tag}:v1", w.path("saved"), "--name", tag, "--plain-http")
        want(tag, raw_digest(f"oci:{w.path('saved')}:{tag}"), getattr(w, tag)["digest"])
    w.flops("save", f"{w.open}/team/index@{w.index['digest']}", w.path("by-digest"), "--name", "x", "--plain-http")


@check
def one_platform(w):
    """one platform of an index can be had alone, and one that it lacks cannot"""
    w.flops("save", f"{w.open}/team/index:v1", w.path("arm"), "--platform", "linux/arm64", "--plain-http")
    found = json.loads(run("skopeo", "inspect", f"oci:{w.path('arm')}:v1"))
    want("architecture", found["Architecture"], "arm64")
    said = w.flops("save", f"{w.open}/team/index:v1", w.path("none"), "--platform", "linux/s390x", "--plain-http", ok=False)
    want_in(said, "linux/arm64")


@check
def umoci_unpacks(w):
    """umoci unpacks a layout that we have written"""
    run("umoci", "unpack", "--rootless", "--image", f"{w.path('saved')}:single", w.path("bundle"))
    with open(os.path.join(w.path("bundle"), "rootfs", "etc", "arch"), encoding="utf-8") as f:
        want("its content", f.read(), "amd64")


@check
def layouts_of_others(w):
    """we read layouts that skopeo and umoci have written"""
    w.flops("load", w.path("skopeo"), f"{w.open}/from/skopeo:v1", "--name", "index", "--plain-http")
    want("skopeo's", raw_digest(f"docker://{w.open}/from/skopeo:v1", "--tls-verify=false"), w.index["digest"])
    run("umoci", "init", "--layout", w.path("umoci"))
    run("umoci", "new", "--image", f"{w.path('umoci')}:empty")
    run("umoci", "insert", "--rootless", "--image", f"{w.path('umoci')}:empty", w.layout.path, "/layout")
    w.flops("load", w.path("umoci"), f"{w.open}/from/umoci:v1", "--plain-http")
    run("skopeo", "inspect", "--tls-verify=false", f"docker://{w.open}/from/umoci:v1")


@check
def what_skopeo_pushed(w):
    """we pull what skopeo has pushed, also in Docker's formats"""
    for form in ("oci", "v2s2"):
        run("skopeo", "copy", "--format", form, "--dest-tls-verify=false", f"oci:{w.layout.path}:single",
            f"docker://{w.open}/skopeo/{form}:v1")
        digest = raw_digest(f"docker://{w.open}/skopeo/{form}:v1", "--tls-verify=false")
        w.flops("copy", f"{w.open}/skopeo/{form}:v1", f"{w.open}/copied/{form}:v2", "--plain-http")
        want(form, raw_digest(f"docker://{w.open}/copied/{form}:v2", "--tls-verify=false"), digest)


@check
def nothing_twice(w):
    """what is there is not sent again, and within one registry it is mounted"""
    want_in(w.load("large", f"{w.open}/team/large:v2", "--plain-http"), "0 sent (0.0 MB)")
    want_in(w.flops("copy", f"{w.open}/team/large:v1", f"{w.open}/other/large:v1", "--plain-http"), "1 sent (0.0 MB)")


@check
def names(w):
    """tags are listed, given and taken away"""
    w.flops("tag", f"{w.open}/team/single:v1", f"{w.open}/team/single:v2", "--plain-http")
    listed = w.flops("ls", "-q", f"{w.open}/team/single", "--plain-http").split()
    want("the list", sorted(listed), [f"{w.open}/team/single:v1", f"{w.open}/team/single:v2"])
    want_in(w.flops("inspect", f"{w.open}/team/index:v1", "--plain-http"), "linux/arm64")
    found = json.loads(w.flops("inspect", f"{w.open}/team/index:v1", "-o", "json", "--plain-http"))
    want("its manifests", len(found["manifests"]), 2)
    # It deletes by digest only, with all tags.
    want_in(w.flops("rm", f"{w.open}/other/large:v1", "--plain-http", ok=False), w.large["digest"])
    w.flops("rm", f"{w.open}/other/large@{w.large['digest']}", "--plain-http")
    want_in(w.flops("inspect", f"{w.open}/other/large:v1", "--plain-http", ok=False), "404")


@check
def referrers(w):
    """what refers to an image is found by the tag for it, as docker-registry keeps no list"""
    w.load("signature", f"{w.open}/team/single:signature", "--plain-http")
    tag = w.single["digest"].replace(":", "-")
    request = urllib.request.Request(f"http://{w.open}/v2/team/single/manifests/{tag}", headers={"Accept": INDEX})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        index = json.load(answer)
    want("who refers", [m["digest"] for m in index["manifests"]], [w.signature["digest"]])


@check
def our_registry(w):
    """images go from docker-registry to the control plane's registry and back; skopeo finds them there"""
    w.flops("pull", f"{w.open}/team/index:v1", "--plain-http")
    want_in(w.flops("ls"), "team/index")
    w.flops("push", "team/index:v1", f"{w.open}/returned/index:v3", "--plain-http")
    want("what came back", raw_digest(f"docker://{w.open}/returned/index:v3", "--tls-verify=false"), w.index["digest"])
    certs = w.path("certs")
    os.makedirs(certs)
    with open(w.kubeconfig, encoding="utf-8") as f:
        text = f.read()
    for key, name in (("certificate-authority-data", "ca.crt"), ("client-certificate-data", "me.cert"),
                      ("client-key-data", "me.key")):
        with open(os.path.join(certs, name), "wb") as f:
            f.write(base64.b64decode(text.split(key + ":")[1].split()[0]))
    server = text.split("server:")[1].split()[0].strip('"').removeprefix("https://")
    want("in ours", raw_digest(f"docker://{server}/team/index:v1", "--cert-dir", certs), w.index["digest"])
    w.flops("rm", "team/index:v1")
    want_in(w.flops("inspect", "team/index:v1", ok=False), "404")


@check
def our_registry_in_chunks(w):
    """the control plane's registry takes large blobs in chunks, mounts them, and keeps referrers itself"""
    w.load("large", "team/large:v1")
    want_in(w.flops("copy", "team/large:v1", "other/large:v1"), "1 sent (0.0 MB)")
    w.flops("save", "other/large:v1", w.path("ours"))
    want("what came back", raw_digest(f"oci:{w.path('ours')}:v1"), w.large["digest"])
    w.load("single", "team/single:v1")
    w.load("signature", "team/single:signature")
    want("its tags", sorted(w.flops("ls", "-q", "team/single").split()), ["team/single:signature", "team/single:v1"])


@check
def viewers_cannot_push(w):
    """who may only look is refused by the control plane's registry"""
    viewer = os.environ["VIEWER_KUBECONFIG"]
    want_in(w.load("single", "team/mine:v1", ok=False, env={"KUBECONFIG": viewer}), "403")


@check
def tls(w):
    """certificates are checked, against the authority that is named"""
    want_in(w.load("single", f"{w.closed}/a:v1", ok=False), "certificate")
    said = w.load("single", f"{w.closed}/a:v1", "--ca", w.tokens.cert, ok=False)
    want_in(said, "certificate")


@check
def passwords(w):
    """names and passwords: from standard input, from where skopeo keeps them, and none"""
    ca = ("--ca", w.path("ca.crt"))
    want_in(w.load("single", f"{w.closed}/a:v1", *ca, ok=False), "password")
    stdin = ("--username", USER, "--password-stdin")
    want_in(w.load("single", f"{w.closed}/a:v1", *ca, *stdin, text="wrong\n", ok=False), "refused")
    w.load("large", f"{w.closed}/a:v1", *ca, *stdin, text=PASSWORD + "\n")
    auth = w.path("auth.json")
    run("skopeo", "login", "--authfile", auth, "--cert-dir", w.path("trust"), "--username", USER,
        "--password-stdin", w.closed, text=PASSWORD)
    w.flops("copy", f"{w.closed}/a:v1", f"{w.closed}/b:v1", *ca, env={"REGISTRY_AUTH_FILE": auth})
    run("skopeo", "inspect", "--raw", "--authfile", auth, "--cert-dir", w.path("trust"), f"docker://{w.closed}/b:v1")


@check
def docker_logins(w):
    """Docker's file is read, and a helper that it names is not run"""
    folder = w.path("docker")
    os.makedirs(folder)
    entry = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for config in ({"auths": {str(w.closed): {"auth": entry}}}, {"credHelpers": {str(w.closed): "pass"}}):
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        said = w.flops("ls", f"{w.closed}/a", "--ca", w.path("ca.crt"), env={"DOCKER_CONFIG": folder}, ok="auths" in config)
    want_in(said, "docker-credential-pass")


@check
def tokens(w):
    """tokens are fetched for what is to be done, and the password goes only to a host that is named for it"""
    stdin = ("--plain-http", "--username", USER, "--password-stdin")
    w.tokens.asked.clear()
    w.load("large", f"{w.guarded}/a/b:v1", *stdin, text=PASSWORD)
    want("scope", w.tokens.asked[0][0][0], "repository:a/b:pull,push")
    want("tokens for one push", len(w.tokens.asked), 1)
    want("the password", w.tokens.asked[0][1], None)
    w.tokens.asked.clear()
    w.flops("copy", f"{w.guarded}/a/b:v1", f"{w.guarded}/c:v1", *stdin, "--token-host", w.tokens.host, text=PASSWORD)
    entry = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    want("who asked", {who for _, who in w.tokens.asked}, {entry})
    w.flops("save", f"{w.guarded}/c:v1", w.path("from-guarded"), "--plain-http")
    want("what came", raw_digest(f"oci:{w.path('from-guarded')}:v1"), w.large["digest"])


@check
def interrupts(w):
    """who is interrupted leaves nothing behind"""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        env = {**os.environ, "HOME": w.path("home"), "TMPDIR": w.path("tmp")}
        with subprocess.Popen([FLOPS, "image", "save", f"{host}/a:v1", w.path("never"), "--plain-http"], env=env,
                              stderr=subprocess.PIPE, text=True) as process:
            silent.settimeout(DEADLINE_S)
            connection, _ = silent.accept()  # it is on its way, and gets no answer
            with connection:
                process.send_signal(signal.SIGINT)
                said = process.communicate(timeout=DEADLINE_S)[1]
    want("exit", process.returncode, 1)
    want_in(said, "broken off")
    want("what is left in the temporary folder", os.listdir(w.path("tmp")), [])
    want("what it wrote", os.path.exists(w.path("never")), False)


# --- all of it


def certificates(w):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", w.path("tls.key"),
        "-out", w.path("ca.crt"))
    os.makedirs(w.path("trust"))
    shutil.copy(w.path("ca.crt"), w.path("trust"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hashed = crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
    with open(w.path("htpasswd"), "w", encoding="utf-8") as f:
        f.write(f"{USER}:{hashed}\n")


def start(stack, w):
    certificates(w)
    w.tokens = Tokens(w.folder)
    w.open = stack.enter_context(Registry(w.folder, "open"))
    w.closed = stack.enter_context(Registry(
        w.folder, "closed", f"  tls: {{certificate: {w.path('ca.crt')}, key: {w.path('tls.key')}}}\n",
        f"auth:\n  htpasswd: {{realm: here, path: {w.path('htpasswd')}}}\n"))
    w.guarded = stack.enter_context(Registry(
        w.folder, "guarded", "", f"auth:\n  token: {{realm: 'http://{w.tokens.host}/token', service: registry, "
        f"issuer: tokens, rootcertbundle: {w.tokens.cert}}}\n"))


def main():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="flops-images-") as folder, contextlib.ExitStack() as stack:
        w = World(folder, sys.argv[-1])
        start(stack, w)
        for number, test in enumerate(checks, 1):
            try:
                test(w)
                print(f"ok {number} - {test.__doc__}", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {number} - {test.__doc__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
