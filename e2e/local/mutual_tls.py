#!/usr/bin/env python3
"""mutual_tls.py: a federation whose members know each other by certificates, on loopback.

A root, a tier below it and learners, each with a certificate of one authority: the models are those of a
federation without TLS, to the bit. Then everybody tries what is not his: another's name, no certificate, one
of another authority, one that has ended, the control interface, another's upload, models. Certificates are
made with openssl; standard library only; $FLOPS is the program."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time

from federation import (EXAMPLES, FLOPS, World, ask, ask_json, base_model, connect, digest, get_model, make_data,
                        put_model, spec, wait_for, wait_for_learners)
from rig import Judge

LEARNERS, ROUNDS = 2, 2
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
TOKEN = "correct-horse-battery-staple"


class Authority:
    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.cert, self.key = self.path("ca.pem"), self.path("ca.key")
        openssl("req", "-x509", *EC, "-days", "2", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    def path(self, name):
        return os.path.join(self.folder, f"{self.name}-{name}")

    def issue(self, subject, days="1"):
        """Certificate and key of "/CN=…"."""
        stem = self.path(subject.strip("/").replace("/", "-").replace("=", "-").replace(":", "-"))
        cert, key = stem + ".pem", stem + ".key"
        with open(stem + ".ext", "w") as file:
            file.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl("req", *EC, "-subj", subject, "-keyout", key, "-out", stem + ".csr")
        openssl("x509", "-req", "-in", stem + ".csr", "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                "-days", days, "-extfile", stem + ".ext", "-out", cert)
        return cert, key

    def context(self, subject=None, issuer=None, days="1"):
        """Of a client who trusts this authority, with a certificate of `issuer`."""
        context = ssl.create_default_context(cafile=self.cert)
        if subject:
            context.load_cert_chain(*(issuer or self).issue(subject, days))
        return context


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


def identity(authority, subject):
    cert, key = authority.issue(subject)
    return ["--ca", authority.cert, "--cert", cert, "--key", key]


def server(authority, subject):
    cert, key = authority.issue(subject)
    return ["--tls-cert", cert, "--tls-key", key, "--client-ca", authority.cert]


def build(world, data_dir, authority=None, token_file=None):
    """Root, tier and learners, with TLS where there is an authority."""
    def serves(name, *more):
        return [*(server(authority, f"/CN={name}") if authority else []), *more]

    def calls(name):
        return identity(authority, f"/CN={name}") if authority else []

    root = world.aggregator("root", None, *serves("root", *(["--token-file", token_file] if token_file else [])))
    secure(root, authority)
    tier = world.aggregator("tier", root, *serves("tier", *calls("tier")))
    secure(tier, authority)
    trainer = ["--trainer", "SoftmaxRegression"]
    learners = [world.learner(f"learner-{i}", above, data_dir, f"toy.{i}", *trainer, *calls(f"learner-{i}"))
                for i, above in enumerate((root, tier))]
    for process in (root, tier, *learners):
        process.start()
    wait_for_learners(root, LEARNERS)
    return root


def secure(process, authority):
    if authority:
        process.scheme, process.context = "https", authority.context("/O=flops:controllers/CN=controller")


def train(root):
    model, size = put_model(root, base_model())
    for number in range(1, ROUNDS + 1):
        wait_for_learners(root, LEARNERS)
        ask_json(root, "PUT", f"/v1/rounds/{number}", spec(number, model, size, 2))
        state = wait_for(root, number)
        assert state["phase"] == "Committed" and state["examples"] == EXAMPLES, state
        model, size = get_model(root, state)
    return model


def status_of(root, context, method, path, body=None, token=None):
    connection = connect(root, context)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


def requests_of(name):
    """All that a learner may ask for, in this name."""
    return [("POST", "/v1/join", {"protocol": 1, "learner": name, "examples": 10}),
            ("GET", f"/v1/task?learner={name}&after=0", None),
            ("POST", "/v1/progress", {"learner": name, "project": "toy", "round": 1, "attempt": 1}),
            ("POST", "/v1/updates", {"learner": name, "project": "toy", "round": 1, "attempt": 1, "work": "x",
                                     "base": digest(b""), "digest": digest(b""), "size": 10, "examples": 10}),
            ("POST", "/v1/evaluations", {"learner": name, "project": "toy", "round": 1, "model": digest(b"")}),
            ("POST", "/v1/leave", {"learner": name})]


def control_requests(model):
    return [("PUT", "/v1/rounds/3", spec(3, model, 100, 2)), ("GET", "/v1/rounds/2", None),
            ("POST", "/v1/rounds/2/abort", {}), ("PUT", "/v1/children", {"children": {}}),
            ("POST", "/v1/stop", {}), ("PUT", f"/v1/models/{digest(b'x')}", b"x")]


def refusals(judge, root, authority, folder, model):
    stranger = Authority(folder, "stranger")
    learner = authority.context("/CN=learner-0")
    nobodies = {"without a certificate": authority.context(),
                "with a certificate of another authority": authority.context("/CN=learner-0", stranger),
                "with a certificate that has ended": authority.context("/CN=learner-0", days="-1")}

    for who, context in nobodies.items():
        answers = [status_of(root, context, *request) for request in requests_of("learner-0") + control_requests(model)]
        answers.append(status_of(root, context, "GET", f"/v1/models/{model}"))
        judge.check(f"{who} nothing is to be had", set(answers) == {401}, answers)
    answers = [status_of(root, learner, *request) for request in requests_of("learner-1")]
    judge.check("nobody speaks in another's name", set(answers) == {403}, answers)
    subjects = {"a learner": learner, "another organization": authority.context("/O=flops:controllersx/CN=controller"),
                "that name as a common name": authority.context("/CN=flops:controllers")}
    for who, context in subjects.items():
        answers = [status_of(root, context, *request) for request in control_requests(model)]
        judge.check(f"the control interface is not for {who}", set(answers) == {403}, answers)
    judge.check("a learner gets the model that is served", status_of(root, learner, "GET", f"/v1/models/{model}") == 200)
    answer = status_of(root, learner, "GET", f"/v1/models/{digest(b'other')}")
    judge.check("and no other", answer == 404, answer)
    answer = status_of(root, learner, "HEAD", "/v1/uploads/1")
    judge.check("an upload that nobody awaits is refused", answer == 410, answer)
    plain = http_in_clear(root)
    judge.check("no HTTP without TLS", plain in (None, 400), plain)


def http_in_clear(root):
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", root.port, timeout=30)
    try:
        connection.request("GET", "/v1/status")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def tokens(judge, root, authority):
    nobody = authority.context()
    answers = [status_of(root, nobody, "GET", "/v1/status", None, token) for token in (TOKEN, TOKEN + "x", TOKEN[:-1], "")]
    judge.check("the token opens the control interface, another does not", answers == [200, 401, 401, 401], answers)
    judge.check("the token is not in the log", TOKEN not in root.errors())


def impostors(judge, world, root, data_dir, authority, folder):
    """Learners as processes: they go on asking, say why nothing comes of it, and are never members."""
    stranger = Authority(folder, "other")
    cases = {"a learner under another's name": ("learner-9", identity(authority, "/CN=learner-0"), "learner-0's"),
             "a learner without a certificate": ("learner-8", ["--ca", authority.cert], "certificate"),
             "a learner who trusts somebody else": ("learner-7", identity(stranger, "/CN=learner-7"), "certificate")}
    for who, (name, options, words) in cases.items():
        learner = world.learner(name, root, data_dir, "toy.0", "--trainer", "SoftmaxRegression", *options).start()
        end = time.monotonic() + 30
        while words not in learner.errors() and time.monotonic() < end:
            time.sleep(0.05)
        judge.check(f"{who} is told why", words in learner.errors(), learner.errors())
        members = ask_json(root, "GET", "/v1/status")
        judge.check(f"{who} is no member", members["learners"] == LEARNERS and members["members"] == 2, members)
        learner.kill()


def command_lines(judge, folder, authority):
    cert, key = authority.issue("/CN=root")
    cases = {"--client-ca needs --tls-cert": ["--client-ca", authority.cert],
             "--tls-cert and --tls-key belong together": ["--tls-cert", cert],
             "beyond loopback": ["--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key]}
    for words, options in cases.items():
        done = subprocess.run([FLOPS, "aggregator", "--folder", os.path.join(folder, "none"), *options],
                              capture_output=True, text=True, timeout=60)
        judge.check(f"refused: {words}", done.returncode == 2 and words in done.stderr, done.stderr)


def main():
    folder = tempfile.mkdtemp(prefix="flops-tls-")
    judge, authority = Judge(), Authority(folder, "ca")
    token_file = os.path.join(folder, "token")

    with open(token_file, "w") as file:
        file.write(TOKEN + "\n")
    make_data(folder, LEARNERS)
    with World() as world:
        in_clear = train(build(world, folder))
    with World() as world:
        root = build(world, folder, authority, token_file)
        model = train(root)
        judge.check("the same model with TLS and without", model == in_clear, (model, in_clear))
        refusals(judge, root, authority, folder, model)
        tokens(judge, root, authority)
        impostors(judge, world, root, folder, authority, folder)
        state = ask_json(root, "GET", "/v1/status")
        judge.check("nothing of it had an effect", (state["committed"], state["learners"], state.get("stopped", False)) ==
                    (ROUNDS, LEARNERS, False), state)
    command_lines(judge, folder, authority)
    shutil.rmtree(folder)
    judge.end()


if __name__ == "__main__":
    main()
