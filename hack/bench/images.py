"""images.py: what `flops build` (compose) takes for the image of a scikit-learn learner, and beside it in the same run
buildah with a Containerfile that does the same from the same files: the same Debian base, the same requirements by pip,
the same code, one layer each, into an OCI layout. Prints a table.

Cold: neither has anything, but buildah gets the base as an image, while compose fetches and makes its own, too; both
fetch the packages from where pip gets them. Warm rows are the best of TURNS, into a layout that has what the last build
wrote there, as a registry would. Where build/cross holds the program for linux/arm64, compose builds for both platforms,
and buildah always for this machine's alone.

  TURNS=3  CODE=examples/code/sklearn-mnist  FLOPS=bin/flops"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOPS = os.environ.get("FLOPS", os.path.join(ROOT, "bin", "flops"))
CODE = os.environ.get("CODE", os.path.join(ROOT, "examples", "code", "sklearn-mnist"))
TURNS = int(os.environ.get("TURNS", "3"))
REQUIREMENTS = "numpy>=1.24\nscikit-learn>=1.2\n"  # as the example's conda.yaml has them
CERTIFICATES = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
HERE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]
CONTAINERFILE = """FROM oci:{base}:latest
USER 0:0
COPY pip.whl requirements.txt /opt/build/
RUN --mount=type=secret,id=ca --mount=type=secret,id=pip ["python3", "-c", "{pip}", "install", "--no-cache-dir", \
"--no-compile", "--quiet", "-r", "/opt/build/requirements.txt"]
COPY code /opt/flops/code
USER 65532:65532
"""
PIP = ("import os, sys; os.environ['PIP_CONFIG_FILE'] = '/run/secrets/pip'; "
       "os.execv(sys.executable, [sys.executable, '/opt/build/pip.whl/pip'] + sys.argv[1:])")


def run(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        sys.exit(f"images.py: {' '.join(words[:4])}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def timed(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def layout_size(layout):
    """Compressed bytes of the layers of this machine's image."""
    def document(descriptor):
        with open(os.path.join(layout, "blobs", *descriptor["digest"].split(":")), encoding="utf-8") as file:
            return json.load(file)

    with open(os.path.join(layout, "index.json"), encoding="utf-8") as file:
        found = document(json.load(file)["manifests"][-1])
    if "manifests" in found:
        found = document(next(item for item in found["manifests"] if HERE.endswith(item["platform"]["architecture"])))
    return sum(layer["size"] for layer in found["layers"])


class Compose:
    def __init__(self, folder):
        self.data, self.layout = os.path.join(folder, "data"), os.path.join(folder, "layout")
        cross = os.path.join(ROOT, "build", "cross", "linux-arm64", "flops")
        self.platforms = ["linux/amd64", "linux/arm64"] if os.path.exists(cross) else [HERE]

    def build(self, code, layout=None, *more):
        layout = layout or self.layout
        words = [word for name in self.platforms for word in ("--platform", name)]
        return run(FLOPS, "build", code, "-q", "--data-dir", self.data, "-o", layout, *words, *more)


class Buildah:
    def __init__(self, folder, base):
        self.folder, self.layout, self.context = folder, os.path.join(folder, "layout"), os.path.join(folder, "context")
        os.makedirs(self.context)
        self.file = os.path.join(folder, "Containerfile")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(CONTAINERFILE.format(base=base, pip=PIP))
        with open(os.path.join(self.context, "requirements.txt"), "w", encoding="utf-8") as file:
            file.write(REQUIREMENTS)
        with open(os.path.join(folder, "pip"), "w", encoding="utf-8") as file:
            file.write("[global]\ncert = /run/secrets/ca\nbreak-system-packages = true\n")
            for name, option in (("PIP_INDEX_URL", "index-url"), ("PIP_EXTRA_INDEX_URL", "extra-index-url")):
                if name in os.environ:
                    file.write(f"{option} = {os.environ[name]}\n")
        run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "pip")
        wheel = next(name for name in os.listdir(folder) if name.endswith(".whl"))
        os.rename(os.path.join(folder, wheel), os.path.join(self.context, "pip.whl"))

    def program(self, *words):
        return run("buildah", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", *words,
                   env={**os.environ, "TMPDIR": self.folder})

    def build(self, code):
        shutil.rmtree(os.path.join(self.context, "code"), ignore_errors=True)
        shutil.copytree(code, os.path.join(self.context, "code"))
        self.program("build", "--isolation", "chroot", "--layers", "--timestamp", "0", "--format", "oci", "--secret",
                     f"id=ca,src={CERTIFICATES}", "--secret", f"id=pip,src={self.folder}/pip", "--tag", "localhost/bench",
                     "--file", self.file, self.context)
        self.program("push", "-q", "localhost/bench", f"oci:{self.layout}:latest")


def change(code, turn):
    with open(os.path.join(code, "model_manager.py"), "a", encoding="utf-8") as file:
        file.write(f"# change {turn}\n")


def make_base(folder):
    """The Debian base that compose makes, with program and code of next to nothing above it."""
    code = os.path.join(folder, "nothing")
    os.makedirs(code)
    with open(os.path.join(code, "trainer.py"), "w", encoding="utf-8") as file:
        file.write("class Trainer:\n" + "".join(f"    def {name}(self): pass\n" for name in (
            "get_parameters", "set_parameters", "fit", "evaluate")))
    layout = os.path.join(folder, "base")
    run(FLOPS, "build", code, "-q", "--data-dir", os.path.join(folder, "base-data"), "-o", layout, "--platform", HERE)
    # Buildah reads a layout's tag.
    index = os.path.join(layout, "index.json")
    with open(index, encoding="utf-8") as file:
        document = json.load(file)
    document["manifests"][-1]["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(index, "w", encoding="utf-8") as file:
        json.dump(document, file)
    return layout


def measure(builder, code):
    cold = timed(lambda: builder.build(code))
    changed, same = [], []
    for turn in range(TURNS):
        change(code, f"{id(builder)} {turn}")
        changed.append(timed(lambda: builder.build(code)))
        same.append(timed(lambda: builder.build(code)))
    return [cold, min(changed), min(same)]


def row(name, ours, theirs, aim, unit):
    ratio = f"{theirs / ours:7.1f}" if theirs else "       "
    other = f"{theirs:10.2f} {unit}" if theirs else " " * 11 + " " * len(unit)
    print(f"{name:34} {ours:10.2f} {unit} {other} {ratio}   {aim}")


def main():
    if os.geteuid() != 0 or not shutil.which("buildah"):
        sys.exit("images.py: needs root and buildah (hack/deps.sh)")
    folder = tempfile.mkdtemp(prefix="flops-bench-images-")
    try:
        code = os.path.join(folder, "code")
        shutil.copytree(CODE, code)
        compose = Compose(os.path.join(folder, "compose"))
        base = make_base(folder)
        ours = measure(compose, code)
        buildah = Buildah(os.path.join(folder, "buildah"), base)
        theirs = measure(buildah, code)
        aggregator = os.path.join(folder, "aggregator")
        compose.build(code, aggregator, "--target", "Aggregator")
        print(f"images: compose for {', '.join(compose.platforms)}; buildah for {HERE}; load {os.getloadavg()[0]:.1f}")
        print(f"{'':34} {'compose':>12} {'buildah':>12} {'ratio':>7}   aim")
        for name, i, aim in (("cold build", 0, ""), ("user code changed", 1, "< 1 s"), ("nothing changed", 2, "< 0.1 s")):
            row(name, ours[i], theirs[i], aim, "s")
        row("scikit-learn learner, compressed", layout_size(compose.layout) / 1e6, layout_size(buildah.layout) / 1e6,
            "< 130 MB", "MB")
        row("aggregator, compressed", layout_size(aggregator) / 1e6, None, "< 25 MB", "MB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
