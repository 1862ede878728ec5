#!/usr/bin/env python3
"""GitOps, as a user does it: commits to a bare repository and files in a watched folder become what
runs, and stay so. The repository is reached over file and over https with a password and an
authority of its own (git's http-backend behind a small server)."""

import base64
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from rig import FLOPS, Judge, Server

SYNCS = "/apis/flops.dev/v1alpha1/namespaces/%s/gitsyncs"
SYSTEM = "flops-system"  # where a GitSync may read what is on the control plane's machine
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = {"Content-Type": "application/merge-patch+json"}
DEADLINE_S = 60


def wait_for(what, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while True:
        value = what()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


def settings(name, value, more=""):
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{more}data:\n  value: {json.dumps(value)}\n"


class Repository:
    """A bare repository and a clone to work in."""

    def __init__(self, base):
        self.bare, self.work = os.path.join(base, "repo.git"), os.path.join(base, "work")
        self.env = {"PATH": os.environ["PATH"], "HOME": base, "GIT_CONFIG_NOSYSTEM": "1",
                    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
                    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}
        self.run("init", "-q", "--bare", "-b", "main", self.bare)
        self.run("clone", "-q", self.bare, self.work)
        self.run("-C", self.work, "checkout", "-q", "-b", "main")

    def run(self, *words):
        return subprocess.run(["git", *words], env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def git(self, *words):
        return self.run("-C", self.work, *words)

    def write(self, files):
        for path, text in files.items():
            full = os.path.join(self.work, path)
            if text is None:
                os.unlink(full)
                continue
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w") as file:
                file.write(text)

    def commit(self, files, *options):
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change", "--allow-empty", *options)
        self.git("push", "-q", "--force", "origin", "main")
        return self.git("rev-parse", "HEAD")

    def signing_key(self, name):
        path = os.path.join(self.env["HOME"], name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
        return path, open(path + ".pub").read().strip()

    def sign_with(self, path):
        for key, value in (("gpg.format", "ssh"), ("user.signingkey", path)):
            self.git("config", key, value)


class GitServer(http.server.BaseHTTPRequestHandler):
    """Git's own http-backend, behind TLS and a password."""

    root, authorization = "", ""

    def log_message(self, *_):
        pass

    def handle_git(self):
        if self.headers.get("Authorization") != self.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {"GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
               "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)), "PATH": os.environ["PATH"], "REMOTE_USER": "u",
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((int(v.split()[0]) for k, v in lines if k == "Status"), 200)
        self.send_response(status)
        for key, value in lines:
            if key != "Status":
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = handle_git


def serve_https(base):
    """A server for what is below `base`; its port and its authority's certificate."""
    cert, key = os.path.join(base, "tls.pem"), os.path.join(base, "tls.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", "/CN=git", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    handler = type("Handler", (GitServer,), {
        "root": base, "authorization": "Basic " + base64.b64encode(b"user:pass word").decode()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, open(cert).read()


class User:
    def __init__(self, server):
        self.server = server

    def path(self, name):
        return SYNCS % ("default" if name in ("web", "sly") else SYSTEM)

    def sync(self, name, url, **spec):
        body = {"apiVersion": "flops.dev/v1alpha1", "kind": "GitSync", "metadata": {"name": name},
                "spec": {"url": url, "interval": "1h", "retryInterval": "200ms", "targetNamespace": "default", **spec}}
        status, answer = wait_for(lambda: self.created(self.path(name), body))
        assert status == 201, answer

    def created(self, path, body):
        """None as long as the namespace is not there."""
        status, answer = self.server.call("POST", path, body)
        return None if status == 404 else (status, answer)

    def get(self, name):
        status, answer = self.server.call("GET", f"{self.path(name)}/{name}")
        return answer if status == 200 else None

    def patch(self, name, patch):
        status, answer = self.server.call("PATCH", f"{self.path(name)}/{name}", patch, MERGE)
        assert status == 200, answer

    def delete(self, name):
        return self.server.call("DELETE", f"{self.path(name)}/{name}")[0]

    def ask(self, name):
        """The annotation that asks at once; waits until it was acted on."""
        now = str(time.time_ns())
        self.patch(name, {"metadata": {"annotations": {"flops.dev/reconcile": now}}})
        return wait_for(lambda: (self.get(name) or {}).get("status", {}).get("lastHandledReconcileAt") == now)

    def ready(self, name):
        conditions = (self.get(name) or {}).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def wait_reason(self, name, reason):
        return wait_for(lambda: self.ready(name).get("reason") == reason)

    def wait_live(self, name, commit):
        return wait_for(lambda: commit in (self.get(name) or {}).get("status", {}).get("lastAppliedRevision", ""))

    def value(self, name):
        status, answer = self.server.call("GET", f"{MAPS}/{name}")
        return answer["data"].get("value") if status == 200 else None

    def wait_value(self, name, value):
        return wait_for(lambda: self.value(name) == value)


def follows_commits(judge, user, repository):
    first = repository.commit({"a.yaml": settings("a", "1"), "sub/b.yaml": settings("b", "1"), "note.txt": "no yaml"})
    user.sync("main", "file://" + repository.bare, ref={"branch": "main"})
    judge.check("a commit is applied", user.wait_live("main", first) and user.value("a") == user.value("b") == "1",
                user.get("main"))
    judge.check("and Ready says so", user.wait_reason("main", "Applied"), user.get("main"))
    status = user.get("main")["status"]
    judge.check("inventory and counts", len(status["inventory"]) == 2 and status["objects"]["summary"] == "2/2", status)
    second = repository.commit({"a.yaml": settings("a", "2"), "sub/b.yaml": None, "c.yaml": settings("c", "1")})
    judge.check("asked", user.ask("main"), user.get("main"))
    judge.check("a change, an addition and a removal are followed", user.wait_live("main", second)
                and user.wait_value("a", "2") and user.wait_value("c", "1") and user.wait_value("b", None), user.get("main"))
    repository.git("revert", "--no-edit", "HEAD")
    third = repository.commit({})
    user.ask("main")
    judge.check("a revert is followed", user.wait_live("main", third) and user.wait_value("a", "1")
                and user.wait_value("b", "1") and user.wait_value("c", None), user.get("main"))
    repository.git("reset", "-q", "--hard", first)
    forced = repository.commit({"forced.yaml": settings("forced", "1")})
    user.ask("main")
    judge.check("a force push is followed", user.wait_live("main", forced) and user.wait_value("forced", "1"),
                user.get("main"))


def keeps_what_is_declared(judge, user, repository):
    user.server.call("PATCH", f"{MAPS}/a", {"data": {"value": "drifted"}}, MERGE)
    user.server.call("DELETE", f"{MAPS}/b")
    user.ask("main")
    judge.check("drift is corrected", user.wait_value("a", "1") and user.wait_value("b", "1"), user.get("main"))
    user.server.call("POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign"},
                                    "data": {"value": "mine"}})
    head = repository.commit({"keep.yaml": settings("keep", "1", "  annotations:\n    flops.dev/prune: disabled\n"),
                              "gone.yaml": settings("gone", "1")})
    user.ask("main")
    judge.check("two more", user.wait_live("main", head) and user.value("keep") == "1" == user.value("gone"), "")
    head = repository.commit({"keep.yaml": None, "gone.yaml": None})
    user.ask("main")
    judge.check("what left is pruned, what says otherwise stays, what is another's stays", user.wait_live("main", head)
                and user.wait_value("gone", None) and user.value("keep") == "1" and user.value("foreign") == "mine",
                user.get("main"))


def survives_faults(judge, user, repository):
    before = user.get("main")["status"]["lastAppliedRevision"]
    broken = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [broken\n"
    repository.commit({"forced.yaml": broken, "good.yaml": settings("good", "1")})
    user.ask("main")
    judge.check("a broken file is named, the rest is applied", user.wait_value("good", "1") and user.wait_reason(
        "main", "ApplyFailed") and "forced.yaml" in json.dumps(user.get("main")["status"].get("errors")),
        user.get("main"))
    fault = next((e for e in user.get("main")["status"].get("errors", []) if e.get("file") == "forced.yaml"), {})
    judge.check("by its line", fault.get("line", 0) >= 1, fault)
    judge.check("what it held before stays", user.value("forced") == "1", user.value("forced"))
    repository.commit({"good.yaml": None})
    user.ask("main")
    judge.check("it holds back its own, and what has left another file goes", user.wait_value("good", None)
                and user.value("forced") == "1", user.get("main"))
    repository.write({"forced.yaml": None})
    os.symlink("a.yaml", os.path.join(repository.work, "forced.yaml"))
    repository.commit({"good.yaml": settings("good", "1")})
    user.ask("main")
    judge.check("a link is a fault, and what was there stays", user.wait_value("good", "1") and "is a link" in
                json.dumps(user.get("main")["status"].get("errors")) and user.value("forced") == "1", user.get("main"))
    repository.write({"forced.yaml": None})
    repository.commit({"forced.yaml": broken})
    user.ask("main")
    judge.check("the last applied revision stays what it was",
                user.get("main")["status"]["lastAppliedRevision"] == before, user.get("main")["status"])
    user.patch("main", {"spec": {"onError": "ApplyNothing"}})
    repository.commit({"a.yaml": settings("a", "refused")})
    user.ask("main")
    judge.check("with ApplyNothing nothing is applied", user.wait_reason("main", "ApplyFailed")
                and user.value("a") == "1", user.get("main"))
    fixed = repository.commit({"forced.yaml": settings("forced", "2"), "a.yaml": settings("a", "3")})
    user.ask("main")
    judge.check("mended", user.wait_live("main", fixed) and user.wait_value("forced", "2") and user.wait_value("a", "3"),
                user.get("main"))
    os.rename(repository.bare, repository.bare + ".away")
    user.ask("main")
    judge.check("an unreachable remote is said", user.wait_reason("main", "FetchFailed"), user.get("main"))
    judge.check("what is live stays", user.value("a") == "3", user.value("a"))
    judge.check("and is tried again, ever later", wait_for(lambda: user.get("main")["status"].get("failures", 0) >= 3),
                user.get("main")["status"])
    os.rename(repository.bare + ".away", repository.bare)
    judge.check("back again by itself", user.wait_reason("main", "Applied"), user.get("main"))


def checks_signatures(judge, user, repository):
    good, good_public = repository.signing_key("good")
    bad, _ = repository.signing_key("bad")
    repository.sign_with(good)
    signed = repository.commit({"signed.yaml": settings("signed", "1")}, "-S")
    user.sync("strict", "file://" + repository.bare, ref={"branch": "main"}, path=".",
              exclude=["a.yaml", "sub/**", "forced.yaml", "good.yaml"], verify={"allowedSigners": [good_public]})
    # The two declare the same objects otherwise.
    user.patch("main", {"spec": {"exclude": ["signed.yaml"]}})
    judge.check("a commit with a good signature is applied", user.wait_live("strict", signed)
                and user.wait_value("signed", "1"), user.get("strict"))
    judge.check("its signer is said", "good" in user.get("strict")["status"].get("signer", ""), user.get("strict"))
    repository.commit({"signed.yaml": settings("signed", "unsigned")})
    user.ask("strict")
    judge.check("an unsigned one is not", user.wait_reason("strict", "NotSigned") and user.value("signed") == "1",
                user.get("strict"))
    repository.sign_with(bad)
    repository.commit({"signed.yaml": settings("signed", "forged")}, "-S")
    user.ask("strict")
    judge.check("nor one of another key", user.wait_reason("strict", "NotSigned") and user.value("signed") == "1",
                user.get("strict"))
    user.server.call("PATCH", f"{MAPS}/signed", {"data": {"value": "drifted"}}, MERGE)
    user.ask("strict")
    judge.check("the last good one is kept right meanwhile", user.wait_value("signed", "1"), user.get("strict"))
    judge.check("the last good revision is what status says", signed in
                user.get("strict")["status"]["lastAppliedRevision"], user.get("strict")["status"])
    repository.sign_with(good)
    head = repository.commit({"signed.yaml": settings("signed", "2")}, "-S")
    user.ask("strict")
    judge.check("a good one again is applied", user.wait_live("strict", head) and user.wait_value("signed", "2"),
                user.get("strict"))
    user.delete("strict")
    judge.check("deleted with all that it applied", wait_for(lambda: user.get("strict") is None)
                and user.wait_value("signed", None) and user.value("a") == "3", user.get("strict"))


def reaches_https(judge, user, repository, base):
    server, authority = serve_https(base)
    port = server.server_address[1]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"},
              "stringData": {"username": "user", "password": "wrong", "ca.crt": authority}}
    judge.check("a secret", user.server.call("POST", "/api/v1/namespaces/default/secrets", secret)[0] == 201, "")
    head = repository.commit({"web/web.yaml": settings("web", "1")})
    user.sync("web", f"https://localhost:{port}/repo.git", path="web", credentialsSecret={"name": "git"})
    judge.check("https: a wrong password is said, and not shown", user.wait_reason("web", "FetchFailed")
                and "pass word" not in json.dumps(user.get("web")), user.get("web"))
    user.server.call("PATCH", "/api/v1/namespaces/default/secrets/git", {"stringData": {"password": "pass word"}}, MERGE)
    judge.check("https: the right one is found by itself", user.wait_live("web", head) and user.wait_value("web", "1"),
                user.get("web"))
    server.shutdown()
    server.server_close()
    user.ask("web")
    judge.check("https: gone, the last state stays", user.wait_reason("web", "FetchFailed") and user.value("web") == "1",
                user.get("web"))
    hole = socket.create_server(("127.0.0.1", port))
    user.patch("web", {"spec": {"timeout": "1s"}})
    user.ask("web")
    judge.check("https: a server that never answers ends at the deadline", wait_for(
        lambda: user.ready("web").get("reason") == "FetchFailed"
        and user.get("web")["status"].get("observedGeneration") == user.get("web")["metadata"]["generation"]),
        user.get("web"))
    hole.close()
    judge.check("suspended and deleted", user.delete("web") == 200 and wait_for(
        lambda: user.get("web") is None and user.value("web") is None), user.get("web"))


def opens_sealed_values(judge, user, repository):
    plain = ("apiVersion: v1\nkind: Secret\nmetadata:\n  name: sealed\n  namespace: default\n"
             "stringData:\n  password: the real one\n")
    done = subprocess.run([FLOPS, "seal", "--data-dir", user.server.dir], input=plain, capture_output=True, text=True)
    judge.check("flops seal", done.returncode == 0 and "the real one" not in done.stdout, done.stderr)
    head = repository.commit({"secret.yaml": done.stdout})
    user.ask("main")
    user.wait_live("main", head)
    _, answer = user.server.call("GET", "/api/v1/namespaces/default/secrets/sealed")
    value = base64.b64decode((answer.get("data") or {}).get("password", "")).decode(errors="replace")
    judge.check("a sealed secret is opened when it is applied", value == "the real one", user.get("main"))
    moved = done.stdout.replace("name: sealed", "name: moved")
    repository.commit({"secret.yaml": moved})
    user.ask("main")
    judge.check("and not under another name", user.wait_reason("main", "ApplyFailed") and user.server.call(
        "GET", "/api/v1/namespaces/default/secrets/moved")[0] == 404, user.get("main"))


def takes_a_thousand(judge, user, repository):
    files = {f"many/{i // 100}/m{i}.yaml": settings(f"many-{i}", str(i)) for i in range(1000)}
    head = repository.commit({"secret.yaml": None, **files})
    began = time.monotonic()
    user.ask("main")
    judge.check("a thousand manifests", user.wait_live("main", head) and user.wait_value("many-999", "999"),
                user.get("main")["status"].get("objects"))
    took = time.monotonic() - began
    print(f"# a thousand manifests took {took:.2f} s from asking to applied")
    head = repository.commit({path: None for path in files})
    user.ask("main")
    judge.check("and pruned", user.wait_live("main", head) and user.wait_value("many-0", None)
                and user.wait_value("many-999", None), user.get("main")["status"].get("objects"))


def survives_restarts(judge, user, repository):
    head = repository.commit({"late.yaml": settings("late", "1")})
    user.server.kill()
    user.server.start()
    judge.check("a commit made before a restart is found", user.wait_live("main", head) and user.wait_value("late", "1"),
                user.get("main"))
    user.delete("main")
    user.server.kill()
    user.server.start()
    judge.check("a deletion interrupted by a kill ends", wait_for(lambda: user.get("main") is None)
                and user.wait_value("late", None) and user.wait_value("a", None), user.get("main"))
    judge.check("what is another's is still there", user.value("foreign") == "mine" and user.value("keep") == "1", "")


def watches_a_folder(judge, user, folder):
    def write(name, text):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)

    judge.check("a folder: what was there at the start is applied", user.wait_value("dir-a", "1"), "")
    write("b.yaml", settings("dir-b", "1"))
    judge.check("a new file is applied", user.wait_value("dir-b", "1"), "")
    write("new", settings("dir-b", "2"))
    os.rename(os.path.join(folder, "new"), os.path.join(folder, "b.yaml"))
    judge.check("an atomic rename is seen", user.wait_value("dir-b", "2"), "")
    half = settings("dir-b", "3")
    with open(os.path.join(folder, "b.yaml"), "w") as file:
        file.write(half[:40])
        file.flush()
        time.sleep(0.5)
        judge.check("half a file removes nothing", user.value("dir-b") == "2", user.value("dir-b"))
        file.write(half[40:])
    judge.check("the whole of it is applied", user.wait_value("dir-b", "3"), "")
    os.makedirs(os.path.join(folder, "deep", "er"))
    write("deep/er/c.yaml", settings("dir-c", "1"))
    judge.check("a new folder is seen", user.wait_value("dir-c", "1"), "")
    shutil.rmtree(os.path.join(folder, "deep"))
    judge.check("and its removal", user.wait_value("dir-c", None), "")
    os.unlink(os.path.join(folder, "b.yaml"))
    judge.check("a removed file is pruned", user.wait_value("dir-b", None), "")
    os.rename(folder, folder + ".away")
    os.makedirs(folder)
    user.server.kill()
    user.server.start()
    judge.check("a folder that is not mounted prunes nothing", user.wait_reason("manifests", "PruneFailed")
                and user.value("dir-a") == "1", user.get("manifests"))
    os.rmdir(folder)
    os.rename(folder + ".away", folder)
    user.ask("manifests")
    judge.check("and is read when it is there", user.wait_reason("manifests", "Applied") and user.value("dir-a") == "1",
                user.get("manifests"))
    judge.check("its state is seen as a GitSync's", (user.get("manifests") or {}).get("status", {}).get(
        "lastAppliedRevision", "").startswith("sha256:"), user.get("manifests"))


def answers_beside_silence(judge, user, repository):
    """Remotes that hang, more than are asked at once, do not hold up one that answers."""
    hole = socket.create_server(("127.0.0.1", 0), backlog=64)
    for i in range(12):
        user.sync(f"hung-{i}", f"http://127.0.0.1:{hole.getsockname()[1]}/x", timeout="10m")
    head = repository.commit({"quick/quick.yaml": settings("quick", "1")})
    user.sync("quick", "file://" + repository.bare, path="quick")
    judge.check("remotes that hang hold up nobody", user.wait_live("quick", head) and user.wait_value("quick", "1"),
                user.get("quick"))
    for i in range(12):
        user.delete(f"hung-{i}")
    user.delete("quick")
    judge.check("and can be deleted meanwhile", wait_for(lambda: not any(user.get(f"hung-{i}") for i in range(12))), "")
    hole.close()


def grants_nothing(judge, user, repository):
    """Who may write a GitSync in a namespace gets no more by it."""
    user.sync("sly", "file://" + repository.bare)
    judge.check("file:// is not for everybody", wait_for(lambda: user.ready("sly").get("status") == "False")
                and not user.get("sly")["status"].get("lastAppliedRevision"), user.get("sly"))
    user.delete("sly")


def main():
    judge, base = Judge(), tempfile.mkdtemp(prefix="flops-git-")
    folder = os.path.join(base, "manifests")
    os.makedirs(folder)
    with open(os.path.join(folder, "a.yaml"), "w") as file:
        file.write(settings("dir-a", "1"))
    repository = Repository(base)
    user = User(Server("--no-audit", "--manifests", folder).start())
    try:
        follows_commits(judge, user, repository)
        keeps_what_is_declared(judge, user, repository)
        survives_faults(judge, user, repository)
        checks_signatures(judge, user, repository)
        reaches_https(judge, user, repository, base)
        opens_sealed_values(judge, user, repository)
        takes_a_thousand(judge, user, repository)
        survives_restarts(judge, user, repository)
        watches_a_folder(judge, user, folder)
        answers_beside_silence(judge, user, repository)
        grants_nothing(judge, user, repository)
        judge.check("it ends in good order", user.server.stop() == 0, user.server.errors()[-500:])
    finally:
        user.server.remove()
        shutil.rmtree(base, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
