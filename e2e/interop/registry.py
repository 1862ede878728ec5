#!/usr/bin/env python3
"""registry.py KUBECONFIG: unmodified clients of registries judge a `flops up`: the specification's own
conformance program, skopeo, buildah, umoci and curl.

Started by registry.sh. Everything is made on the spot. Prints a line a check and "N passed, N failed" at
the end; fails when any failed."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "e2e", "local"))

from rig import Judge  # noqa: E402

POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
# Not of version 1.1 of the specification (tag parameters), or refused on purpose: content is named by
# SHA-256 alone, and what a manifest names must be there.
LEFT_OUT = {"Manifest put with tag params", "Blobs sha512", "Digest Algorithm sha512", "Sparse Manifests", "Tag Param",
            "Tag Param sha512"}


class World:
    """A place for files, and an administrator's password for the server of the kubeconfig."""

    def __init__(self, kubeconfig):
        self.judge = Judge()
        self.data_dir = os.path.dirname(kubeconfig)
        self.dir = tempfile.mkdtemp(prefix="flops-registry-")
        text = subprocess.check_output([os.path.join(ROOT, "bin", "flops"), "kubeconfig", "--data-dir",
                                        self.data_dir, "--user", "registry-judge", "--group",
                                        "system:masters", "--token"], text=True)
        self.host = re.search(r"server: https://(\S+)", text).group(1)
        self.token = re.search(r'token: "?([^"\s]+)', text).group(1)
        self.certs = self.path("certs")
        os.mkdir(self.certs)
        self.ca = os.path.join(self.certs, "ca.crt")
        with open(self.ca, "wb") as file:
            file.write(base64.b64decode(re.search(r"certificate-authority-data: (\S+)", text).group(1)))
        with open(self.path("policy.json"), "w") as file:
            json.dump(POLICY, file)
        self.wait_known()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def wait_known(self):
        """The server reads a new token's line within a second or two."""
        until = time.monotonic() + 30
        while self.curl("/v2/")[0] != 200:
            if time.monotonic() > until:
                raise RuntimeError("the server does not know its new user")
            time.sleep(0.1)

    def run(self, *command, env=None, timeout=120):
        """Exit status and all that was said."""
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.dir,
                              env={**os.environ, **(env or {})}, timeout=timeout)
        return done.returncode, done.stdout

    def works(self, name, *command, **options):
        status, said = self.run(*command, **options)
        self.judge.check(name, status == 0, said[-1500:])
        return said

    def curl(self, path, *options, password=None):
        """Status, headers by lower-case name, body. The password goes by a file, as it should."""
        config = self.path("curl.conf")
        with open(config, "w") as file:
            file.write(f'user = "anybody:{password or self.token}"\n')
        body = self.path("body")
        open(body, "wb").close()
        said = subprocess.run(["curl", "-sS", "--cacert", self.ca, "-K", config, "-D", "-", "-o", body, *options,
                               f"https://{self.host}{path}"], stdout=subprocess.PIPE, cwd=self.dir, timeout=60).stdout.decode()
        head = [part for part in said.split("\r\n\r\n") if part][-1].split("\r\n") if said else [""]
        status = int(head[0].split()[1]) if len(head[0].split()) > 1 else 0
        headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in head[1:] if ":" in line}
        return status, headers, open(body, "rb").read()

    def image(self, repository, tag):
        return f"docker://{self.host}/{repository}:{tag}"

    def digest(self, repository, reference):
        return self.curl(f"/v2/{repository}/manifests/{reference}")[1].get("docker-content-digest", "")


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


# The specification's own program

def conformance(world):
    status, said = world.run(
        os.path.join(ROOT, "build", "tools", "registry-judge"),
        env={"OCI_REGISTRY": world.host, "OCI_TLS": "enabled", "SSL_CERT_FILE": world.ca, "OCI_USERNAME": "anybody",
             "OCI_PASSWORD": world.token, "OCI_VERSION": "1.1", "OCI_RESULTS_DIR": world.path("results"),
             "OCI_DATA_SHA512": "false", "OCI_API_BLOBS_UPLOAD_CANCEL": "true", "OCI_API_BLOBS_DIGEST_HEADER": "true",
             "OCI_API_MANIFESTS_DIGEST_HEADER": "true"})
    summary = said[said.rfind("OCI Conformance Result:"):]
    results = re.findall(r"^  ([A-Z][^.\n]*?)\.+: +(\w+)$", summary, re.M)
    for name, result in results:
        if not result.isdigit() and name not in LEFT_OUT:
            world.judge.check(f"conformance: {name}", result == "Pass", result)
    passed = {name: int(result) for name, result in results if result.isdigit()}
    world.judge.check("the conformance program is content", status == 0 and passed.get("FAIL") == 0 and
                      passed.get("Error") == 0 and passed.get("Pass", 0) > 600, said[-1500:])


# skopeo and umoci

def make_layout(world):
    """An OCI layout with one gzip layer."""
    os.makedirs(world.path("tree", "sub"))
    write(world.path("tree", "random"), os.urandom(3_000_000))
    write(world.path("tree", "sub", "text"), b"hello\n" * 1000)
    for command in (["init", "--layout", "layout"], ["new", "--image", "layout:v1"],
                    ["config", "--image", "layout:v1", "--author", "judge", "--config.cmd", "/bin/true"],
                    ["insert", "--image", "layout:v1", "tree", "/tree"]):
        status, said = world.run("umoci", *command)
        if status != 0:
            raise RuntimeError(said)


def skopeo(world):
    judge, policy = world.judge, ["--policy", "policy.json"]
    source, target = world.image("team/app", "v1"), world.image("team/copy", "v1")
    login = ["--authfile", "auth.json"]
    world.works("skopeo logs in", "skopeo", "login", *login, "--cert-dir", world.certs, "-u", "anybody", "-p",
                world.token, world.host)
    judge.check("skopeo is refused with another password", world.run(
        "skopeo", "login", "--authfile", "bad.json", "--cert-dir", world.certs, "-u", "anybody", "-p", "x",
        world.host)[0] != 0)
    make_layout(world)
    world.works("skopeo pushes", "skopeo", *policy, "copy", *login, "--dest-cert-dir", world.certs, "oci:layout:v1",
                source)
    world.works("skopeo pulls", "skopeo", *policy, "copy", *login, "--src-cert-dir", world.certs, source,
                "oci:back:v1")
    world.works("umoci unpacks what was pulled", "umoci", "unpack", "--rootless", "--image", "back:v1", "bundle")
    judge.check("it is what was pushed", open(world.path("bundle", "rootfs", "tree", "random"), "rb").read() ==
                open(world.path("tree", "random"), "rb").read())
    world.works("skopeo copies within the registry", "skopeo", *policy, "copy", *login, "--src-cert-dir", world.certs,
                "--dest-cert-dir", world.certs, source, target)
    judge.check("the copy is the same", world.digest("team/app", "v1") == world.digest("team/copy", "v1") != "")
    world.works("skopeo pushes as Docker's schema 2", "skopeo", *policy, "copy", *login, "--format", "v2s2",
                "--dest-cert-dir", world.certs, "oci:layout:v1", world.image("team/app", "docker"))
    said = world.works("skopeo inspects", "skopeo", "inspect", *login, "--cert-dir", world.certs, source)
    judge.check("what it sees is right", world.digest("team/app", "v1") in said, said)
    said = world.works("skopeo lists tags", "skopeo", "list-tags", *login, "--cert-dir", world.certs,
                       f"docker://{world.host}/team/app")
    judge.check("both are there", json.loads(said)["Tags"] == ["docker", "v1"], said)
    world.works("skopeo deletes", "skopeo", "delete", *login, "--cert-dir", world.certs, target)
    judge.check("it is gone", world.curl("/v2/team/copy/manifests/v1")[0] == 404)
    judge.check("the other one is not", world.curl("/v2/team/app/manifests/v1")[0] == 200)


def certificate(world):
    """The administrator's certificate instead of a password."""
    folder = world.path("client")
    shutil.copytree(world.certs, folder)
    for name, file in (("client.cert", "admin.crt"), ("client.key", "admin.key")):
        shutil.copy(os.path.join(world.data_dir, "pki", file), os.path.join(folder, name))
    said = world.works("skopeo shows a certificate", "skopeo", "list-tags", "--cert-dir", folder, "--no-creds",
                       f"docker://{world.host}/team/app")
    world.judge.check("and is known by it", '"v1"' in said, said)


def buildah(world):
    """Rootless it needs ranges of users that not every machine gives: then it is left out, and said."""
    if os.geteuid() != 0:
        print("1 skipped")
        return
    store = ["buildah", "--root", world.path("storage"), "--runroot", world.path("run"), "--storage-driver", "vfs"]
    access = ["--signature-policy", "policy.json", "--cert-dir", world.certs, "--creds", f"anybody:{world.token}"]
    image = world.image("team/built", "1")
    write(world.path("file"), b"built\n")
    container = world.works("buildah begins from nothing", *store, "from", "scratch").strip()
    world.works("buildah adds a file", *store, "copy", container, "file", "/file")
    world.works("buildah commits", *store, "commit", "--signature-policy", "policy.json", container, "built:1")
    world.works("buildah pushes", *store, "push", *access, "built:1", image)
    world.works("buildah forgets", *store, "rmi", "--all", "--force")
    world.works("buildah pulls", *store, "pull", *access, image)
    container = world.works("buildah begins from it", *store, "from", "--signature-policy", "policy.json",
                            f"{world.host}/team/built:1").strip().split("\n")[-1]
    mount = world.works("buildah mounts it", *store, "mount", container).strip()
    try:
        content = open(os.path.join(mount, "file"), "rb").read()
    except OSError as error:
        content = str(error)
    world.judge.check("the file is in it", content == b"built\n", content)


# curl

def chunks(world):
    data = os.urandom(1_000_000)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    location = world.curl("/v2/curl/blob/blobs/uploads/", "-X", "POST")[1]["location"]
    for first in range(0, len(data), 300_000):
        write(world.path("chunk"), data[first:first + 300_000])
        last = min(first + 300_000, len(data)) - 1
        status, headers, _ = world.curl(location, "-X", "PATCH", "--data-binary", "@chunk", "-H",
                                        f"Content-Range: {first}-{last}", "-H",
                                        "Content-Type: application/octet-stream")
        world.judge.check(f"curl's chunk {first}-{last}", status == 202 and headers["range"] == f"0-{last}", headers)
        location = headers.get("location", location)
    status = world.curl(location, "-X", "PATCH", "--data-binary", "@chunk", "-H", "Content-Range: 0-99999")[0]
    world.judge.check("a chunk out of order", status == 416, status)
    status, headers, _ = world.curl(f"{location}?digest={digest}", "-X", "PUT", "-H", "Content-Length: 0")
    world.judge.check("the upload ends", status == 201 and headers["docker-content-digest"] == digest, headers)
    body = world.curl(headers["location"], "-r", "500000-")[2]
    world.judge.check("a part of it comes back", body == data[500000:])


def push(world, repository, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    write(world.path("blob"), data)
    world.curl(f"/v2/{repository}/blobs/uploads/?digest={digest}", "-X", "POST", "--data-binary", "@blob")
    return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}


def referrers(world):
    subject = world.digest("team/app", "v1")
    size = int(world.curl("/v2/team/app/manifests/v1")[1]["content-length"])
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/spdx+json", "annotations": {"made.by": "curl"},
        "config": {**push(world, "team/app", b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"},
        "layers": [push(world, "team/app", b'{"spdxVersion": "SPDX-2.3"}')],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": size},
    }).encode()
    write(world.path("manifest"), manifest)
    own = "sha256:" + hashlib.sha256(manifest).hexdigest()
    status, headers, body = world.curl(f"/v2/team/app/manifests/{own}", "-X", "PUT", "--data-binary", "@manifest", "-H",
                                       "Content-Type: application/vnd.oci.image.manifest.v1+json")
    world.judge.check("a referrer is taken", status == 201 and headers.get("oci-subject") == subject, (status, body))
    body = world.curl(f"/v2/team/app/referrers/{subject}?artifactType=application%2Fspdx%2Bjson")[2]
    found = json.loads(body)["manifests"]
    world.judge.check("and found", [item["digest"] for item in found] == [own] and
                      found[0]["annotations"] == {"made.by": "curl"}, body)
    body = world.curl(f"/v2/team/app/referrers/{subject}?artifactType=other")[2]
    world.judge.check("by its type only", json.loads(body)["manifests"] == [], body)


def rights(world):
    status, headers, body = world.curl("/v2/", password="wrong")
    world.judge.check("a wrong password is asked for again", status == 401 and
                      headers["www-authenticate"] == 'Basic realm="flops"' and
                      json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED", (status, headers, body))
    for path in ("/v2/a/../b/tags/list", "/v2/%2e%2e/tags/list", "/v2/A/tags/list"):
        status, _, body = world.curl(path, "--path-as-is")
        world.judge.check(f"{path} is no repository", status == 400 and b"NAME_INVALID" in body, (status, body))


def main():
    world = World(sys.argv[1])
    try:
        for part in (conformance, skopeo, certificate, buildah, chunks, referrers, rights):
            began = time.monotonic()
            part(world)
            print(f"# {part.__name__}: {time.monotonic() - began:.1f} s")
    finally:
        shutil.rmtree(world.dir, ignore_errors=True)
    world.judge.end()


if __name__ == "__main__":
    main()
