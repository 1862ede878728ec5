"""Ports that a test gives to a program which binds them later, and again after each death."""

import fcntl
import os
import random
import socket
import tempfile

# Below those that the kernel gives to whoever asks for any port, and that the local orchestrator gives.
FIRST, LAST = 20000, 29999
_held = []


def _reserve(port):
    """True: no other test takes it while this process lives."""
    folder = os.path.join(tempfile.gettempdir(), f"flops-test-ports-{os.getuid()}")
    os.makedirs(folder, exist_ok=True)
    lock = open(os.path.join(folder, str(port)), "ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    _held.append(lock)
    return True


def free_port():
    """One on 127.0.0.1 that stays free for its taker: a port of the kernel's choice may be chosen again meanwhile."""
    for port in random.sample(range(FIRST, LAST + 1), 1000):
        if _can_bind(port) and _reserve(port):
            return port
    raise RuntimeError(f"none of 1,000 ports from {FIRST} to {LAST} is free")


def _can_bind(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    print(free_port())
