#!/usr/bin/env python3
"""`flops seal` without a server: what it seals, what it leaves alone, and that nothing is written
where something cannot be sealed."""

import base64
import json
import os
import subprocess
import tempfile

from rig import FLOPS, Judge

# The base point of the curve: a valid public key whose private one is of no interest here.
KEY = "flops-seal-key-v1:" + base64.b64encode(bytes([9]) + bytes(31)).decode()
MIXED = """# a comment
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {answer: "yes", number: "012"}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: team}
type: Opaque
stringData: {user: joe-the-user}
data: {password: aHVudGVyMg==}
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: more}, stringData: {a: in-a-list}}
"""


def seal(*words, text=MIXED):
    env = {"HOME": "/nowhere", **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
    done = subprocess.run([FLOPS, "seal", *words], input=text.encode(), env=env, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def objects(text):
    """The output of -o json: documents one behind the other."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


def judge_output(judge):
    status, out, err = seal("--key", KEY, "-n", "team", "-o", "json")
    docs = objects(out)
    judge.check("all documents are written", status == 0 and [d["kind"] for d in docs] == ["ConfigMap", "Secret", "List"], err)
    judge.check("other objects are as they were", docs[0]["data"] == {"answer": "yes", "number": "012"}, docs[0])
    values = docs[1]["stringData"]
    judge.check("values of both fields are sealed", sorted(values) == ["password", "user"] and "data" not in docs[1] and
                all(v.startswith("flops-sealed-v1:") for v in values.values()), docs[1])
    judge.check("those in a List too", docs[2]["items"][0]["stringData"]["a"].startswith("flops-sealed-v1:"), docs[2])
    judge.check("nothing of them is left", not any(s in out for s in ("joe-the-user", "hunter2", "aHVudGVyMg", "in-a-list")), out)
    status, yaml, err = seal("--key", KEY, "-n", "team")
    judge.check("YAML by default", status == 0 and yaml.count("\n---\n") == 2 and "flops-sealed-v1:" in yaml, err)
    status, twice, err = seal("--key", KEY, "-n", "team", text=yaml)
    judge.check("what is sealed stays, byte for byte", status == 0 and twice == yaml, err)


def judge_inputs(judge):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("key", KEY + "\n"), ("secret.yaml", MIXED)):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        status, out, err = seal("--key", os.path.join(folder, "key"), "-n", "team", "-f",
                                os.path.join(folder, "secret.yaml"), text="")
        judge.check("key and manifests from files", status == 0 and "flops-sealed-v1:" in out, err)
    refused = [
        ("no namespace", ["--key", KEY], MIXED, 1, "names no namespace"),
        ("a bad key", ["--key", "flops-seal-key-v1:AAAA", "-n", "team"], MIXED, 1, "no public key"),
        ("a key file that is not there", ["--key", "/nowhere/key", "-n", "team"], MIXED, 1, "/nowhere/key"),
        ("no server", ["--request-timeout", "5s", "-n", "team"], MIXED, 1, ""),
        ("a file that is not there", ["--key", KEY, "-n", "team", "-f", "/nowhere/x"], "", 1, "/nowhere/x"),
        ("nothing at all", ["--key", KEY, "-n", "team"], "", 1, "nothing in it"),
        ("broken YAML behind a good Secret", ["--key", KEY, "-n", "team"], MIXED + "---\n{", 1, "line"),
        ("a Secret without a name", ["--key", KEY, "-n", "team"], "{apiVersion: v1, kind: Secret, stringData: {a: hidden-text}}", 1,
         "no name"),
        ("an unknown form", ["--key", KEY, "-o", "xml"], MIXED, 2, "yaml or json"),
    ]
    for name, words, text, wanted, message in refused:
        status, out, err = seal(*words, text=text)
        judge.check(f"refused, and nothing written: {name}", status == wanted and not out and message in err and
                    "hunter2" not in err and "hidden-text" not in err, (status, out, err))


def main():
    judge = Judge()
    judge_output(judge)
    judge_inputs(judge)
    judge.end()


if __name__ == "__main__":
    main()
