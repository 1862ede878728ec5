"""Ends process groups when the process that made them has ended in whatever way.

It reads lines from its standard input: +GROUP to watch over one, -GROUP to forget it; the end of the input is
the end of whoever wrote there. As a class, the writing side of it.
"""

import os
import signal
import subprocess
import sys
import threading


class Guardian:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen([sys.executable, os.path.abspath(__file__)], stdin=subprocess.PIPE, text=True,
                                         stdout=subprocess.DEVNULL, start_new_session=True)

    def watch(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        with self._lock:
            assert self._process.stdin
            self._process.stdin.write(line)
            self._process.stdin.flush()


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


if __name__ == "__main__":
    main()
