"""The command flops-trainer."""

from __future__ import annotations

import os
import stat
import sys

HELP = """Usage: flops-trainer [--code DIR] [--entrypoint MODULE:OBJECT] [--data FILE]...

Trains with a user's Python code for `flops learner`, which starts it:
    flops learner … -- flops-trainer --code DIR

      --code DIR            folder of the code (default /opt/flops/code)
      --entrypoint M:O      the class or object in it (default: trainer:Trainer, model_manager:ModelManager or
                            the Flower app of pyproject.toml, whichever is there)
      --data FILE           data of its own (.safetensors, .npz, .parquet, a folder of Hugging Face's datasets)
                            instead of the learner's
      --help
"""
LEARNER_FD = 3


def _parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    options, paths, rest = {"--code": "/opt/flops/code"}, [], list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in ("--code", "--entrypoint", "--data"):
            raise ValueError(f"{name}: there is no such option")
        if not equals:
            if not rest:
                raise ValueError(f"{name} needs a value")
            value = rest.pop(0)
        if name == "--data":
            paths.append(os.path.realpath(value))
        else:
            options[name] = value
    return options, paths


def _is_driven() -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(LEARNER_FD).st_mode)
    except OSError:
        return False


def main(words: list[str]) -> int:
    if "--help" in words or "-h" in words:
        print(HELP, end="")
        return 0
    try:
        options, paths = _parse(words)
    except ValueError as error:
        print(f"flops-trainer: {error} (see --help)", file=sys.stderr)
        return 2
    if not _is_driven():
        print("flops-trainer: it is started by `flops learner … -- flops-trainer`, which drives it by a socket as "
              "descriptor 3 (see --help)", file=sys.stderr)
        return 2
    from flops_trainer import code, service

    folder = os.path.realpath(options["--code"])
    code.prepare_path(folder)
    if os.path.isdir(folder):
        os.chdir(folder)
    return service.serve(LEARNER_FD, folder, options.get("--entrypoint"), paths)
