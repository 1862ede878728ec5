#!/usr/bin/env python3
"""attest.py: other people's programs judge what is attached to an image: openssl the signatures, spdx-tools the list
of its parts, cosign all of it where it is at hand. The image is in Debian's docker-registry, which keeps no list of
referrers. Prints a line a check and "N passed, N failed" at the end; fails when any failed."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import urllib.request

from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from images import FLOPS, Registry, check, checks, run, want, want_in

INTOTO = "application/vnd.in-toto+json"
TYPES = {"sbom": "application/spdx+json", "provenance": INTOTO,
         "signature": "application/vnd.dev.cosign.artifact.sig.v1+json"}
COSIGN = shutil.which("cosign")
skipped = []


class World:
    def __init__(self, folder, registry):
        self.folder, self.registry = folder, registry
        self.data = self.path("data")
        self.key = os.path.join(self.data, "signing.pub")
        self.name = f"{registry.host}/team/aggregator"
        self.digest = run(FLOPS, "build", "--target", "Aggregator", "--data-dir", self.data, "-t", f"{self.name}:v1",
                          "--plain-http", "-q").strip()
        index = self.get("manifests/" + self.digest.replace(":", "-"))
        self.referrers = {item["artifactType"]: item["digest"] for item in index["manifests"]}

    def path(self, name):
        return os.path.join(self.folder, name)

    def fetch(self, what):
        request = urllib.request.Request(f"http://{self.registry.host}/v2/team/aggregator/{what}", headers={
            "Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def get(self, what):
        return json.loads(self.fetch(what))

    def attached(self, kind):
        """The manifest and the bytes of its only layer."""
        manifest = self.get("manifests/" + self.referrers[TYPES[kind]])
        want("its subject", manifest["subject"]["digest"], self.digest)
        return manifest, self.fetch("blobs/" + manifest["layers"][0]["digest"])

    def openssl_says(self, signed, signature):
        with open(self.path("signed"), "wb") as file:
            file.write(signed)
        with open(self.path("signature"), "wb") as file:
            file.write(base64.b64decode(signature))
        done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", self.key, "-rawin", "-in",
                               self.path("signed"), "-sigfile", self.path("signature")], capture_output=True,
                              check=False)
        return done.returncode == 0


@check
def openssl_checks_the_signature(w):
    """openssl finds the image's signature good, and no other text's"""
    manifest, payload = w.attached("signature")
    signature = manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"]
    want("what is signed", json.loads(payload)["critical"]["image"]["docker-manifest-digest"], w.digest)
    want("the signature is good", w.openssl_says(payload, signature), True)
    want("it is for another text", w.openssl_says(payload + b" ", signature), False)


@check
def openssl_checks_the_envelope(w):
    """openssl finds the provenance's envelope signed as DSSE says"""
    _, text = w.attached("provenance")
    envelope = json.loads(text)
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    want("the type", kind.decode(), INTOTO)
    want("the signature is good", w.openssl_says(signed, envelope["signatures"][0]["sig"]), True)
    want("the payload alone is signed", w.openssl_says(payload, envelope["signatures"][0]["sig"]), False)


@check
def the_statement_is_one(w):
    """the provenance names the image and the list of its parts, with the fields that SLSA asks for"""
    statement = json.loads(base64.b64decode(json.loads(w.attached("provenance")[1])["payload"]))
    manifest, _ = w.attached("sbom")
    predicate = statement["predicate"]
    want("the type", statement["_type"], "https://in-toto.io/Statement/v1")
    want("the predicate", statement["predicateType"], "https://slsa.dev/provenance/v1")
    want("the subject", "sha256:" + statement["subject"][0]["digest"]["sha256"], w.digest)
    want("the list", "sha256:" + predicate["runDetails"]["byproducts"][0]["digest"]["sha256"],
         manifest["layers"][0]["digest"])
    for field in ("buildType", "externalParameters", "internalParameters", "resolvedDependencies"):
        want_in(json.dumps(list(predicate["buildDefinition"])), field)
    want("packages without a digest",
         [item for item in predicate["buildDefinition"]["resolvedDependencies"] if not item["digest"]], [])


@check
def spdx_tools_read_the_list(w):
    """spdx-tools find the list of parts valid, and in it the packages that are in the image"""
    with open(w.path("image.spdx.json"), "wb") as file:
        file.write(w.attached("sbom")[1])
    document = parse_file(w.path("image.spdx.json"))
    want("what is wrong", [str(m.validation_message) for m in validate_full_spdx_document(document, "SPDX-2.3")], [])
    names = {package.name for package in document.packages}
    want("libc6 is listed", "libc6" in names and len(names) > 20, True)


@check
def our_own_verdict_is_the_same(w):
    """flops image verify agrees, and refuses another key"""
    want_in(run(FLOPS, "image", "verify", f"{w.name}:v1", "--key", w.key, "--plain-http"), w.digest)
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", w.path("other.key"))
    run("openssl", "pkey", "-in", w.path("other.key"), "-pubout", "-out", w.path("other.pub"))
    want_in(run(FLOPS, "image", "verify", f"{w.name}:v1", "--key", w.path("other.pub"), "--plain-http", ok=False),
            "not signed with this key")


@check
def cosign_agrees(w):
    """cosign verifies signature and provenance, and refuses another key"""
    if not COSIGN:
        skipped.append("cosign is not here")
        return
    words = ["--insecure-ignore-tlog=true", "--allow-http-registry", f"{w.name}:v1"]
    env = {"HOME": w.folder}
    want_in(run(COSIGN, "verify", "--key", w.key, *words, env=env), w.digest)
    run(COSIGN, "verify-attestation", "--type", "slsaprovenance1", "--key", w.key, *words, env=env)
    run(COSIGN, "verify", "--key", w.path("other.pub"), *words, env=env, ok=False)


def main():
    failed = 0
    with tempfile.TemporaryDirectory(prefix="flops-attest-") as folder, contextlib.ExitStack() as stack:
        w = World(folder, stack.enter_context(Registry(folder, "open")))
        for number, test in enumerate(own, 1):
            before = len(skipped)
            try:
                test(w)
                print(f"ok {number} - {test.__doc__}{' # SKIP ' + skipped[-1] if len(skipped) > before else ''}",
                      flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {number} - {test.__doc__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(own) - failed - len(skipped)} passed, {failed} failed")
    if skipped:
        print(f"{len(skipped)} skipped")
    return 1 if failed else 0


own = [test for test in checks if test.__module__ == __name__]  # images.py has its own in the same list

if __name__ == "__main__":
    sys.exit(main())
