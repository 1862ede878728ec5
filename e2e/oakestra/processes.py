"""Programs of instances: each in a process group of its own, with an environment of its own and nothing
of this process's. They end with the double, however that ends (guardian.py)."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Optional

from e2e.oakestra.guardian import Guardian

KILL_AFTER_S = 5.0
LOG_BYTES = 4000


class CannotStart(Exception):
    """The words that a node would say."""


class Images:
    """Which local program stands for which image, and the environment that images have."""

    def __init__(self, pairs: list[str], environment: list[str]):
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin",
                            **dict(it.partition("=")[::2] for it in environment)}
        self._programs: dict[str, str] = {}
        for pair in pairs:
            image, found, program = pair.rpartition("=")
            if not found or not os.access(program, os.X_OK):
                raise ValueError(f"--image {pair!r}: not IMAGE=PROGRAM with a program that runs")
            self._programs[image] = os.path.abspath(program)

    def argv(self, image: str, command: list[str]) -> list[str]:
        """An image has one program, known by its file's name; without a command it is run as it is."""
        program = self._programs.get(image) or self._programs.get("*")
        if not program:
            raise CannotStart(f"failed to resolve reference {image!r}: not found")
        if not command:
            return [program]
        if os.path.basename(command[0]) != os.path.basename(program):
            raise CannotStart(f"exec: {command[0]!r}: executable file not found in $PATH")
        return [program, *command[1:]]


class Program:
    """`folder`: where it runs, new for each start, as a container's files are. Its output is beside it."""

    def __init__(self, argv: list[str], environment: dict[str, str], folder: Path, guardian: Guardian):
        self._guardian = guardian
        self.log = folder.parent / "output.log"
        folder.mkdir(parents=True)
        with open(self.log, "ab") as log:
            try:
                self._process = subprocess.Popen(
                    argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True)
            except OSError as error:
                raise CannotStart(f"{argv[0]}: {error.strerror}") from error
        self.pid = self._process.pid
        self._guardian.watch(self.pid)
        self._ended = False
        self._kill_at: Optional[float] = None

    def exit_code(self) -> Optional[int]:
        """None while it runs; killed by a signal: 128 and the signal's number."""
        code = self._process.poll()
        if code is None and self._kill_at is not None and time.monotonic() > self._kill_at:
            self.signal(signal.SIGKILL)
        if code is not None:
            self._end_group()
        return code if code is None or code >= 0 else 128 - code

    def stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + KILL_AFTER_S
            self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._end_group()

    def signal(self, number: int) -> None:
        """Nothing once it has ended and its group with it: the number may be somebody else's by then."""
        if self._ended:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def log_tail(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES))
            return log.read().decode(errors="replace")

    def _end_group(self) -> None:
        """What it left behind in its group goes with it."""
        if not self._ended:
            self.signal(signal.SIGKILL)
            self._ended = True
            self._guardian.forget(self.pid)
