"""While users' code runs: says so to the learner, and hears when the result is not wanted any more.

A thread of its own sends PROGRESS as long as the process, or a child of it, really works: code that waits for
something that never comes uses no processor time, so the learner hears nothing and ends it. Code that goes round in
circles works; that is ended by the round's deadline.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from flops_trainer import protocol
from flops_trainer.failure import Cancelled, say

if TYPE_CHECKING:
    from flops_trainer.protocol import Channel, Frame

BEAT_S = 1.0
WORK_SHARE = 0.01  # of a processor, below which nothing goes on
TOLD_S = 0.1
SIGNAL = signal.SIGUSR1


def _children_time() -> float:
    """Processor time of living children, in seconds; a child that has ended is counted by os.times."""
    ticks, total = os.sysconf("SC_CLK_TCK"), 0
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                for child in file.read().split():
                    with open(f"/proc/{child}/stat") as stat:
                        fields = stat.read().rpartition(")")[2].split()
                    total += int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        pass  # it ended just now
    return total / ticks


class Watch:
    """Is entered around users' code. Frames that come meanwhile are kept for who receives next."""

    def __init__(self, channel: Channel, beat_s: float = BEAT_S) -> None:
        self.channel, self.beat_s = channel, beat_s
        self.kept: deque[Frame] = deque()
        self.cancelled = False
        self._id = 0
        self._done = self._of = 0
        self._told = 0.0
        self._running = False
        self._main = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._stop_read, self._stop_write = (protocol.move_away(fd) for fd in os.pipe())
        signal.signal(SIGNAL, self._interrupt)
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        """A child that the code forked must not keep the connection open when this process dies."""
        signal.signal(SIGNAL, signal.SIG_DFL)
        self.channel.close()

    def _interrupt(self, *_: object) -> None:
        if self._running:
            self._running = False
            raise Cancelled()

    def begin(self, number: int) -> None:
        """`number`: of the request that is worked on; 0 where there is none yet."""
        self._id, self._done, self._of, self.cancelled = number, 0, 0, False
        self._thread = threading.Thread(target=self._run, name="flops-trainer", daemon=True)
        self._running = True
        self._thread.start()

    def end(self) -> None:
        self._running = False
        if self._thread:
            os.write(self._stop_write, b".")
            self._thread.join()
            self._thread = None

    def progress(self, done: int, of: int) -> None:
        """Code may tell of each of a million batches; the learner hears of ten in a second, and of the last."""
        self._done, self._of = max(0, done), max(0, done, of)
        now = time.monotonic()
        if self._id and (now - self._told >= TOLD_S or done >= of):
            self._told = now
            self.channel.send(protocol.PROGRESS, self._id, {"done": self._done, "of": self._of})

    def _work(self) -> float:
        return time.process_time() - time.thread_time() + _children_time() + sum(os.times()[2:4])

    def _run(self) -> None:
        before, due = self._work(), time.monotonic() + self.beat_s
        try:
            while not self._is_ended(max(0.0, due - time.monotonic())):
                if time.monotonic() < due:
                    continue
                now = self._work()
                if now - before >= self.beat_s * WORK_SHARE:
                    self.progress(self._done, self._of)
                before, due = now, time.monotonic() + self.beat_s
        except protocol.Gone:
            os._exit(0)  # nobody waits for the result
        except (protocol.ProtocolError, OSError, ValueError) as error:
            say(str(error))
            os._exit(1)

    def _is_ended(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._stop_read, self.channel.fileno()], [], [], wait_s)
        if self._stop_read in ready:
            os.read(self._stop_read, 1)
            return True
        if ready:
            self._take(self.channel.receive())
        return False

    def _take(self, frame: Frame) -> None:
        if frame.type != protocol.CANCEL:
            self.kept.append(frame)
            self._id = self._id or frame.id  # it waits for what is under way
        elif frame.head.get("id") == self._id and self._id:
            self.cancelled = True
            signal.pthread_kill(self._main, SIGNAL)
