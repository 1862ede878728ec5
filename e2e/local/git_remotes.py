#!/usr/bin/env python3
"""Real remotes for the fetch of the Git source: `flops git-fetch` is driven directly, with a request
on its standard input, against repositories over file, ssh (a private sshd on loopback, run as who
runs this) and https (git's http-backend behind TLS, a password and an authority of its own)."""

import base64
import getpass
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

from gitops import GitServer, Repository
from ports import free_port
from rig import FLOPS, Judge

LONG_MS = 120000
HUGE_BYTES = 200 * 1024 * 1024


class Fetcher:
    """Asks `flops git-fetch`, in an environment that would do harm if it were looked at."""

    def __init__(self, base):
        self.base, self.home = base, os.path.join(base, "bad-home")
        os.makedirs(os.path.join(self.home, ".ssh"))
        with open(os.path.join(self.home, ".gitconfig"), "w") as file:
            file.write('[url "file:///nowhere/"]\n insteadOf = file://\n[url "https://nowhere/"]\n insteadOf = https://\n'
                       "[http]\n sslVerify = false\n proxy = http://127.0.0.1:1\n")
        with open(os.path.join(self.home, ".ssh", "known_hosts"), "w") as file:
            file.write("")

    def ask(self, key="key", **request):
        request = {"dir": os.path.join(self.base, "data", "git", key), "dataDir": os.path.join(self.base, "data"),
                   "timeoutMs": LONG_MS, **request}
        os.makedirs(request["dir"], exist_ok=True)
        env = {"HOME": self.home, "https_proxy": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1",
               "GIT_DIR": "/nowhere", "SSH_AUTH_SOCK": "/nowhere",
               **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        done = subprocess.run([FLOPS, "git-fetch"], input=json.dumps(request).encode(), env=env, capture_output=True,
                              timeout=10 * LONG_MS / 1000)
        self.returncode = done.returncode
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"done": False, "exit": done.returncode, "output": (done.stdout + done.stderr).decode()[-2000:]}

    def files(self, key="key"):
        path = os.path.join(self.base, "data", "git", key, "snapshot")
        with open(path, "rb") as file:
            return [f["path"] for f in json.loads(file.readline())["files"]]


class Judged:
    """A remote under one URL and its credentials."""

    def __init__(self, judge, fetcher, name, url, **credentials):
        self.judge, self.fetcher, self.name, self.url, self.credentials = judge, fetcher, name, url, credentials

    def ask(self, **more):
        return self.fetcher.ask(self.name, **{"url": self.url, **self.credentials, **more})

    def good(self, what, revision, **more):
        answer = self.ask(**more)
        self.judge.check(f"{self.name}: {what}", answer.get("done") and answer.get("revision") == revision, answer)

    def bad(self, what, code, words, reason="FetchFailed", **more):
        answer = self.ask(**more)
        text = json.dumps(answer)
        secret = [s for s in (self.credentials.get("password"), more.get("password"), "PRIVATE KEY") if s and s in text]
        self.judge.check(f"{self.name}: {what}", answer.get("code") == code and answer.get("reason") == reason and
                         words in answer.get("message", "") and not secret, answer)


# --- what holds for every kind of remote ---

def follows_references(remote, repo):
    first = repo.commit({"a.yaml": "a: 1\n", "x/b.yaml": "b: 1\n"})
    repo.git("tag", "light")
    repo.git("tag", "-a", "-m", "x", "heavy")
    repo.git("push", "-q", "-f", "origin", "light", "heavy")
    remote.good("the default branch", f"main@sha1:{first}")
    second = repo.commit({"a.yaml": "a: 2\n"})
    repo.git("push", "-q", "-f", "origin", "main:side/way")
    remote.good("a branch, after a new commit", f"main@sha1:{second}", branch="main")
    remote.good("a branch with a slash", f"side/way@sha1:{second}", branch="side/way")
    remote.good("a tag", f"light@sha1:{first}", tag="light")
    remote.good("an annotated tag", f"heavy@sha1:{first}", tag="heavy")
    remote.good("a commit in the history", f"sha1:{first}", commit=first)
    remote.bad("a branch that is not there", "NotFound", "has no branch nope", "RevisionNotFound", branch="nope")
    remote.bad("a commit that is not there", "NotFound", "with the commit 0123", "RevisionNotFound",
               commit="0123456789" * 4)


def follows_a_force_push(remote, repo):
    repo.git("checkout", "-q", "--orphan", "fresh")
    repo.git("rm", "-rfq", ".")
    repo.write({"only.yaml": "a: 1\n"})
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "another history")
    repo.git("push", "-q", "-f", "origin", "fresh:main")
    remote.good("a force push", f"main@sha1:{repo.git('rev-parse', 'HEAD')}", branch="main")
    remote.judge.check(f"{remote.name}: the files are those of the new history",
                       remote.fetcher.files(remote.name) == ["only.yaml"], remote.fetcher.files(remote.name))
    repo.git("checkout", "-q", "main")
    repo.git("reset", "-q", "--hard", "fresh")
    repo.git("branch", "-q", "-D", "fresh")


def reads_a_thousand_files(remote, repo):
    commit = repo.commit({f"many/{i}.yaml": f"n: {i}\n" for i in range(1000)})
    began = time.monotonic()
    remote.good("a repository of 1,000 files", f"main@sha1:{commit}", branch="main")
    took = time.monotonic() - began
    again = time.monotonic()
    remote.good("and again, when nothing is new", f"main@sha1:{commit}", branch="main")
    remote.judge.check(f"{remote.name}: all files are there", len(remote.fetcher.files(remote.name)) == 1001)
    print(f"# {remote.name}: 1,000 files in {took:.2f} s, nothing new in {time.monotonic() - again:.2f} s")


def judge_remote(remote, repo):
    follows_references(remote, repo)
    follows_a_force_push(remote, repo)
    reads_a_thousand_files(remote, repo)


# --- file ---

def judge_file(judge, fetcher, base):
    os.makedirs(os.path.join(base, "file"))
    repo = Repository(os.path.join(base, "file"))
    remote = Judged(judge, fetcher, "file", "file://" + repo.bare)
    judge_remote(remote, repo)
    with open(os.path.join(repo.work, "huge.bin"), "wb") as file:
        file.write(os.urandom(HUGE_BYTES))
    commit = repo.commit({"big.yaml": "#" * (3 * 1024 * 1024 + 1)})
    remote.bad("a manifest that is too large, by name", "RequestEntityTooLarge", "big.yaml", branch="main")
    remote.good("a huge file that is none", f"main@sha1:{commit}", branch="main", exclude=["big.yaml"])
    remote.bad("what is kept for others is not given out", "Forbidden", "own data",
               url="file://" + os.path.join(base, "data", "git", "file", "repository"))
    remote.bad("no such repository", "NotFound", "No such file", url="file:///nowhere/x.git")


# --- ssh ---

class Sshd:
    """A private sshd that lets in one key per type and does nothing but git."""

    def __init__(self, base):
        self.base = base
        for name, kind in (("host", "ed25519"), ("other-host", "ed25519"), ("user", "ed25519"), ("stranger", "ed25519"),
                           ("rsa", "rsa")):
            options = ["-b", "3072"] if kind == "rsa" else []
            subprocess.run(["ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-f", self.path(name)], check=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-m", "PEM", "-N", "", "-f",
                        self.path("pem")], check=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", self.path("locked")], check=True)
        with open(self.path("authorized"), "w") as file:
            for name in ("user", "rsa", "pem", "locked"):
                file.write(open(self.path(name) + ".pub").read())
        self.port = free_port()
        self._start()

    def path(self, name):
        return os.path.join(self.base, name)

    def text(self, name):
        return open(self.path(name)).read()

    def _start(self):
        with open(self.path("config"), "w") as file:
            file.write(f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.path('host')}\nPidFile none\n"
                       f"AuthorizedKeysFile {self.path('authorized')}\nStrictModes no\nUsePAM no\n"
                       "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n")
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # where it puts those whom it does not trust yet
        self.log = open(self.path("log"), "wb")
        self.process = subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-e", "-f",
                                         self.path("config")], stderr=self.log)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("sshd: " + open(self.path("log")).read())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()

    def known_hosts(self, key="host"):
        kind, data = self.text(key + ".pub").split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {data}\n"

    def hashed_hosts(self):
        with open(self.path("hosts"), "w") as file:
            file.write(self.known_hosts())
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", self.path("hosts")], check=True, capture_output=True)
        return self.text("hosts")


def judge_ssh(judge, fetcher, base):
    folder = os.path.join(base, "ssh")
    os.makedirs(folder)
    repo, sshd = Repository(folder), Sshd(folder)
    user = getpass.getuser()
    url = f"ssh://{user}@127.0.0.1:{sshd.port}{repo.bare}"
    remote = Judged(judge, fetcher, "ssh", url, identity=sshd.text("user"), knownHosts=sshd.known_hosts())
    try:
        judge_remote(remote, repo)
        head = f"main@sha1:{repo.git('rev-parse', 'HEAD')}"
        remote.good("hashed known_hosts", head, knownHosts=sshd.hashed_hosts())
        remote.good("several known hosts", head, knownHosts="other ssh-ed25519 " + sshd.known_hosts("other-host").split()[2] +
                    "\n# a comment\n" + sshd.known_hosts())
        remote.good("the user from the credentials", head, url=url.replace(user + "@", ""), username=user)
        # libssh2 before 1.11 knows ssh-rsa with SHA-1 only, which servers refuse by now.
        for key in ("rsa", "pem"):
            answer = remote.ask(identity=sshd.text(key))
            told = answer.get("done") or ("Ed25519" in answer.get("message", "") and answer.get("code") == "Unauthorized")
            judge.check(f"ssh: an RSA key ({key}) does, or it is told why not", told, answer)
            print(f"# ssh: RSA ({key}): {'accepted' if answer.get('done') else 'refused'}")
        remote.bad("another key of the host", "Forbidden", "not the one in known_hosts", knownHosts=sshd.known_hosts("other-host"))
        remote.bad("a host that is not known", "Forbidden", "not the one in known_hosts",
                   knownHosts="example.org " + " ".join(sshd.known_hosts().split()[1:]) + "\n")
        remote.bad("the same host on another port", "Forbidden", "not the one in known_hosts",
                   knownHosts=sshd.known_hosts().replace(str(sshd.port), "2"))
        remote.bad("no known_hosts", "Invalid", "put known_hosts", knownHosts="")
        remote.bad("no identity", "Invalid", "put identity", identity="")
        remote.bad("a key that may not", "Unauthorized", "refused the key", identity=sshd.text("stranger"))
        remote.bad("a key with a passphrase", "Unauthorized", "passphrase", identity=sshd.text("locked"))
        remote.bad("no key at all", "Unauthorized", "identity cannot be used", identity="nonsense")
        remote.bad("no such repository", "ServiceUnavailable", "", url=url + "x")
    finally:
        sshd.stop()
    remote.bad("nobody is there", "ServiceUnavailable", "Connection refused")


# --- https ---

class WebServer(GitServer):
    """The same with what goes wrong with servers."""

    elsewhere, seen = "", []

    def handle_git(self):
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/away/"):
            return self.redirect(self.elsewhere + self.path.removeprefix("/away"))
        if self.path.startswith("/moved/"):
            return self.redirect(self.path.removeprefix("/moved"))
        if self.path.startswith("/broken/"):
            return self.nonsense()
        if self.path.startswith("/slow/"):
            time.sleep(600)
        return super().handle_git()

    do_GET = do_POST = handle_git

    def redirect(self, where):
        self.send_response(301)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def nonsense(self):
        data = b"001e# service=git-upload-pack\n0000\xff\xff\xff\xffnonsense"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def authority(folder, name):
    cert, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", "/CN=" + name, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def certificate(folder, name, issuer, names, days="2"):
    cert, key, extra = (os.path.join(folder, name + end) for end in (".pem", ".key", ".ext"))
    with open(extra, "w") as file:
        file.write("subjectAltName=" + names)
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=" + name, "-keyout", key, "-out", cert + ".csr"], check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-req", "-in", cert + ".csr", "-CA", issuer[0], "-CAkey", issuer[1],
                    "-CAcreateserial", "-days", days, "-extfile", extra, "-out", cert], check=True, capture_output=True)
    return cert, key


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that hangs up on a wrong certificate is what is wanted."""


def serve(handler, pair=None):
    server = QuietServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def judge_https(judge, fetcher, base):
    folder = os.path.join(base, "https")
    os.makedirs(folder)
    repo = Repository(folder)
    basic = "Basic " + base64.b64encode(b"joe:pass word").decode()
    handler = type("Handler", (WebServer,), {"root": folder, "authorization": basic, "seen": []})
    other = type("Other", (WebServer,), {"root": folder, "authorization": basic, "seen": []})
    ca, stranger = authority(folder, "ca"), authority(folder, "stranger")
    port = serve(handler, certificate(folder, "good", ca, "DNS:localhost,IP:127.0.0.1"))
    handler.elsewhere = f"https://127.0.0.1:{serve(other, certificate(folder, 'other', ca, 'IP:127.0.0.1'))}"
    url = f"https://localhost:{port}/repo.git"
    remote = Judged(judge, fetcher, "https", url, username="joe", password="pass word", ca=open(ca[0]).read())
    judge_remote(remote, repo)
    head = f"main@sha1:{repo.git('rev-parse', 'HEAD')}"
    remote.good("by address", head, url=url.replace("localhost", "127.0.0.1"))
    remote.good("a redirect on the host", head, url=url.replace("/repo", "/moved/repo"))
    remote.bad("a redirect to another host", "ServiceUnavailable", "cannot redirect", url=url.replace("/repo", "/away/repo"))
    judge.check("https: the other host was never asked", not other.seen, other.seen)
    remote.bad("a wrong password", "Unauthorized", "refused the user name or password", password="wrong password")
    remote.bad("a wrong name", "Unauthorized", "refused the user name or password", username="jane")
    remote.bad("no password", "Unauthorized", "there are none for it", username=None, password=None)
    remote.bad("another authority", "Forbidden", "certificate", ca=open(stranger[0]).read())
    remote.bad("an authority that is unreadable", "Invalid", "no PEM certificates", ca="nonsense")
    remote.bad("no authority: those of the machine", "Forbidden", "certificate", ca=None)
    before = len(handler.seen)
    remote.bad("the password is not sent where the certificate is wrong", "Forbidden", "certificate", ca=None)
    judge.check("https: nothing was asked there", len(handler.seen) == before, handler.seen[before:])
    wrong = serve(handler, certificate(folder, "wrong", ca, "DNS:example.org"))
    remote.bad("a certificate of another name", "Forbidden", "hostname mismatch", url=url.replace(str(port), str(wrong)))
    remote.bad("no such repository", "NotFound", "no such repository", url=url.replace("/repo", "/nope"))
    remote.bad("a server that talks nonsense", "ServiceUnavailable", "", url=url.replace("/repo", "/broken/repo"))
    hangs(judge, fetcher, remote, url)
    plain = serve(handler)
    remote.good("http on loopback", head, url=f"http://127.0.0.1:{plain}/repo.git", ca=None)
    remote.bad("http elsewhere", "Invalid", "not encrypted", url="http://example.org/repo.git")


def hangs(judge, fetcher, remote, url):
    """Nobody looks after the child here: it ends by itself."""
    began = time.monotonic()
    answer = remote.ask(url=url.replace("/repo", "/slow/repo"), timeoutMs=1000)
    judge.check("https: a server that hangs is given up", not answer.get("done") and fetcher.returncode == -14 and
                time.monotonic() - began < 60, (answer, fetcher.returncode))
    answer = remote.ask()
    judge.check("https: and what is kept is as good as before", answer.get("done"), answer)


# --- one that grows and is killed ---

def judge_kills(judge, fetcher, base):
    """Killed at any moment, what is kept is whole or made anew, and the next fetch is good."""
    folder = os.path.join(base, "kill")
    os.makedirs(folder)
    repo = Repository(folder)
    bad = 0
    for i in range(20):
        commit = repo.commit({f"{i}/{j}.yaml": f"n: {i * j}\n" * 100 for j in range(100)})
        request = {"url": "file://" + repo.bare, "dir": os.path.join(base, "data", "git", "kill"), "timeoutMs": LONG_MS}
        os.makedirs(request["dir"], exist_ok=True)
        child = subprocess.Popen([FLOPS, "git-fetch"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        child.stdin.write(json.dumps(request).encode())
        child.stdin.close()
        time.sleep(0.004 * i)  # which moment it is does not matter
        child.kill()
        child.wait()
        answer = fetcher.ask("kill", url="file://" + repo.bare)
        bad += not answer.get("done") or answer["revision"] != f"main@sha1:{commit}"
    judge.check("file: killed 20 times on the way", bad == 0, bad)


def main():
    judge = Judge()
    base = tempfile.mkdtemp(prefix="flops-git-")
    try:
        fetcher = Fetcher(base)
        judge_file(judge, fetcher, base)
        judge_ssh(judge, fetcher, base)
        judge_https(judge, fetcher, base)
        judge_kills(judge, fetcher, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    judge.end()


if __name__ == "__main__":
    main()
